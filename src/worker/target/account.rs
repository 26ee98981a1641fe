//! Whether a target's credential works and leads to the account it always led to. Asked before
//! the first record is sent, and again after the credential was refused or changed.

use std::time::{Duration, Instant};

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::limits::BudgetReport;
use integration_engine::limits::retry::backoff;
use integration_engine::record::Target;
use integration_engine::wire::{Reply, TransportError};
use integration_hubspot as hubspot;
use integration_mailchimp as mailchimp;
use pgrx::spi::SpiResult;

use super::{TargetStatus, TargetWorker};
use crate::services;
use crate::store::server::accounts;
use crate::worker::Context;

/// Between looks whether a refused credential works again: doubled each time, up to the latter.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// What is known about the account behind the credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccountState {
    #[default]
    Unknown,
    Asked,
    /// Records may be sent.
    Known,
    /// It is another account than ever before.
    Foreign,
}

/// See the module's documentation.
#[derive(Default)]
pub struct TargetAccount {
    pub state: AccountState,
    /// As stored.
    pub stored: Option<accounts::StoredAccount>,
    /// The credential was refused and has not been seen to work since.
    pub refused: Option<TargetStatus>,
    refusals: u32,
    /// When it is tried again.
    again_at: Option<Instant>,
}

impl TargetAccount {
    /// What the table says now.
    pub fn load(&mut self, stored: Option<accounts::StoredAccount>) {
        let other = |account: &Option<accounts::StoredAccount>| {
            account.as_ref().and_then(|account| account.other.clone())
        };
        if self.state == AccountState::Foreign && other(&stored).is_none() {
            self.state = AccountState::Unknown;
        }
        self.stored = stored;
    }

    /// The credential or the address is another one.
    pub fn doubt(&mut self) {
        self.state = AccountState::Unknown;
        self.refused = None;
        self.refusals = 0;
        self.again_at = None;
    }

    /// The credential was refused; returns how long to wait before it is tried again. Calls under way
    /// together are refused together: that counts once.
    pub fn refuse(&mut self, state: TargetStatus, now: Instant) -> Duration {
        self.state = AccountState::Unknown;
        self.refused = Some(state);
        if let Some(at) = self.again_at.filter(|at| now < *at) {
            return at.duration_since(now);
        }
        let wait = backoff(self.refusals, FIRST_WAIT, LONGEST_WAIT);
        self.refusals += 1;
        self.again_at = Some(now + wait);
        wait
    }

    /// A record was delivered.
    pub fn proven(&mut self) {
        self.refusals = 0;
    }

    pub fn known(&self) -> bool {
        self.state == AccountState::Known
    }

    /// Why nothing may be sent, if another account is behind the credential.
    pub fn foreign(&self, target: Target) -> Option<String> {
        let account = self.stored.as_ref()?;
        let other = account.other.as_ref()?;
        Some(format!(
            "the settings lead to {target} account {other}, but records have been sent to {} so far; correct them, or accept it: SELECT integration.resume('{target}');",
            account.account
        ))
    }
}

/// An account that a service named.
pub struct SeenAccount {
    pub account: String,
    pub detail: String,
    pub time_zone: Option<String>,
}

/// Reads the answer to `answers::probe`.
pub fn read(
    target: Target,
    context: &Context,
    result: &Result<Reply, TransportError>,
) -> Result<SeenAccount, String> {
    match target {
        Target::HubSpot => {
            hubspot::property::read_account(result.as_ref()).map(|account| SeenAccount {
                account: account.portal_id,
                detail: account.detail,
                time_zone: account.time_zone,
            })
        }
        Target::Mailchimp => mailchimp::read_account(result.as_ref()).map(|account| SeenAccount {
            // The same person is another member of another audience.
            account: format!(
                "{}, audience {}",
                account.account_id, context.settings.mailchimp_api.list
            ),
            detail: account.detail,
            time_zone: None,
        }),
    }
}

/// Reads who we are, and returns the account if it is to be compared with the known one.
pub fn hear(
    worker: &mut TargetWorker,
    context: &Context,
    result: &Result<Reply, TransportError>,
) -> Option<SeenAccount> {
    let signal = services::signal(worker.target, result);
    worker.hear(&signal, &BudgetReport::default(), context.now);
    if signal != TargetSignal::Healthy {
        worker.account.state = AccountState::Unknown;
        return None;
    }
    let seen = read(worker.target, context, result).ok();
    if seen.is_none() {
        // It does not say who we are; that alone is no reason to send nothing.
        worker.account.state = AccountState::Known;
        worker.account.refused = None;
    }
    seen
}

/// Compares the account with the one known, and stores what is new. In a transaction.
pub fn settle(worker: &mut TargetWorker, seen: &SeenAccount) -> SpiResult<()> {
    let (target, account) = (worker.target, &mut worker.account);
    account.refused = None;
    let known = account.stored.clone();
    match known {
        Some(known) if known.account != seen.account => {
            account.state = AccountState::Foreign;
            accounts::suspect(target, &seen.account)?;
        }
        Some(known)
            if known.other.is_none() && known.time_zone.is_some() == seen.time_zone.is_some() =>
        {
            account.state = AccountState::Known;
            return Ok(());
        }
        _ => {
            account.state = AccountState::Known;
            accounts::remember(
                target,
                &seen.account,
                &seen.detail,
                seen.time_zone.as_deref(),
            )?;
        }
    }
    account.stored = accounts::known(target)?;
    Ok(())
}
