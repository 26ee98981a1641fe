//! Comparing a record with the remote one: which fields differ, and what puts that right.
//!
//! Values are compared in the form in which they are sent, so that what has just been written is
//! never a difference.

use std::collections::HashMap;

use crate::{
    record::{
        Timestamp,
        consent::{Consent, MemberStatus},
        mapping::{ConflictRule, Direction, Field, SourceMap},
    },
    service::Service,
    sync::{
        clock::{Agreed, ValueHash},
        conflict::{self, ConflictDecision},
    },
};

/// A record as the service holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub id: String,
    /// By the service's names; HubSpot: those that hold something.
    pub properties: HashMap<String, String>,
    /// When the present value of a property was written, as far as that is known.
    pub written: HashMap<String, Timestamp>,
}

/// Some records, and where the next page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub records: Vec<Record>,
    pub after: Option<String>,
}

/// A field that the two sides do not hold alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field's place in the map and in a row.
    pub index: usize,
    /// What the CRM would send; the column's text where it cannot be sent.
    pub crm: Option<String>,
    /// What the service holds, as it says it.
    pub remote: Option<String>,
    pub crm_hash: ValueHash,
    pub remote_hash: ValueHash,
}

/// What cannot be converted is equal to nothing; the two sides have a hash each for that.
const UNSENDABLE: ValueHash = ValueHash(u64::MAX);
const UNREADABLE: ValueHash = ValueHash(u64::MAX - 1);

/// The fields that differ. `remote` gives what the service holds, `None` for a field that is not
/// to be compared; `agreed` the field's entry in the record's clock.
pub fn differences<'a, S: Service>(
    map: &SourceMap,
    row: &[Option<String>],
    remote: impl Fn(&Field) -> Option<Option<&'a str>>,
    agreed: impl Fn(&Field) -> Option<Agreed>,
) -> Vec<Difference> {
    let compared = map.fields.iter().enumerate();
    compared
        .filter_map(|(index, field)| {
            let remote = remote(field)?.filter(|text| !text.trim().is_empty());
            let difference = difference::<S>(map, row, index, remote)?;
            let agreed = agreed(field);
            // The column holds less than the service does, and that is known.
            let (crm, remote) = (difference.crm_hash, difference.remote_hash);
            if agreed.is_some_and(|agreed| agreed.is_between(crm, remote)) {
                return None;
            }
            let silent = difference.crm_hash == ValueHash::of(None) && agreed.is_none();
            (!(silent && says_nothing_when_empty(field))).then_some(difference)
        })
        .collect()
}

/// An empty field that was never agreed on is not sent: the service may know more. Unless its
/// value may come here, that is how it is meant to be.
fn says_nothing_when_empty(field: &Field) -> bool {
    field.direction == Direction::Push || field.conflict == ConflictRule::CrmWins
}

fn difference<S: Service>(
    map: &SourceMap,
    row: &[Option<String>],
    index: usize,
    remote: Option<&str>,
) -> Option<Difference> {
    let field = map.fields.get(index)?;
    let text = row.get(index).and_then(Option::as_deref);
    let (crm, crm_hash) = match S::to_remote(map, row, index) {
        Ok(sent) => {
            let hash = ValueHash::of(sent.as_deref());
            (sent.map(|sent| sent.into_owned()), hash)
        }
        Err(_) => (text.map(str::to_owned), UNSENDABLE),
    };
    let remote_hash = match S::canonical(map, field, remote) {
        Ok(held) => ValueHash::of(held.as_deref()),
        Err(_) => UNREADABLE,
    };
    let same = crm_hash == remote_hash || S::same(field, crm.as_deref(), remote);
    (!same).then(|| Difference {
        index,
        crm,
        remote: remote.map(str::to_owned),
        crm_hash,
        remote_hash,
    })
}

/// What is to be done about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The CRM takes the service's value.
    Pull,
    /// The service is sent the CRM's value.
    Push,
    /// The rules let neither side have its way.
    Leave,
}

/// Decides as for news of the service ([`conflict::decide`]), but for this: the value is there,
/// whenever it was written. One that is older than what was agreed on since gives way to the CRM's;
/// a field that only travels here has no other source.
pub fn remedy(
    field: &Field,
    remote_at: Timestamp,
    remote: ValueHash,
    crm: ValueHash,
    agreed: Option<&Agreed>,
    crm_changed_at: Option<Timestamp>,
) -> Remedy {
    let decision = conflict::decide(
        field.conflict,
        field.direction,
        remote_at,
        remote,
        crm,
        agreed,
        crm_changed_at,
    );
    match (decision, field.direction) {
        (ConflictDecision::AlreadyEqual, _) => Remedy::Leave,
        (ConflictDecision::Apply, _) => Remedy::Pull,
        (ConflictDecision::KeepCrm | ConflictDecision::Older, Direction::Pull) => {
            match field.conflict {
                ConflictRule::CrmWins => Remedy::Leave,
                ConflictRule::RemoteWins | ConflictRule::LastWriteWins => Remedy::Pull,
            }
        }
        (
            ConflictDecision::KeepCrm | ConflictDecision::Older,
            Direction::Push | Direction::Both,
        ) => Remedy::Push,
    }
}

/// Whether the decision depends on when the service's value was written.
pub fn depends_on_time(field: &Field) -> bool {
    field.direction != Direction::Push
}

/// What is to be done about a member whose status is not what the CRM says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentRemedy {
    /// The person left there, and the CRM does not know.
    TellCrm,
    /// The person left here, and the service does not know.
    TellService,
    /// Whatever was done would lead to more mail, or is not ours to decide.
    Leave,
}

/// Consent only ever moves in the direction of less mail here. `known`: the status as it was last
/// known; `None` for the result: there is nothing to put right.
pub fn consent_remedy(
    crm: Consent,
    held: MemberStatus,
    known: Option<MemberStatus>,
) -> Option<ConsentRemedy> {
    use MemberStatus::{
        Archived, Cleaned, Forgotten, Pending, Subscribed, UnsubscribedByCrm, UnsubscribedByMember,
    };
    match (crm, held) {
        (Consent::OptedIn, Subscribed | Pending) | (Consent::Unknown, Pending) => None,
        (Consent::OptedIn, UnsubscribedByMember | UnsubscribedByCrm | Cleaned) => {
            Some(match known {
                None | Some(Subscribed | Pending) => ConsentRemedy::TellCrm,
                // Somebody opted in again here. Only the person can do so there.
                Some(_) => ConsentRemedy::Leave,
            })
        }
        (Consent::OptedIn, Archived | Forgotten) => Some(ConsentRemedy::Leave),
        (Consent::OptedOut, Subscribed | Pending) | (Consent::Unknown, Subscribed) => {
            Some(ConsentRemedy::TellService)
        }
        (
            Consent::OptedOut | Consent::Unknown,
            UnsubscribedByMember | UnsubscribedByCrm | Cleaned | Archived | Forgotten,
        ) => None,
    }
}

#[cfg(test)]
mod tests;
