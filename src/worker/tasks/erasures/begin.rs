//! An erasure begins: what the services hold is found out, and the traces here go.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use integration_engine::crypto::subscriber_hash;
use integration_engine::erasure as engine;
use integration_engine::erasure::ErasureFacts;
use integration_engine::record::{RecordRef, RemoteId, Target};
use pgrx::spi::SpiResult;

use super::{Erasures, RunningErasure};
use crate::pg::{self, SqlError};
use crate::store;
use crate::store::crm::people;
use crate::store::jobs::erasures::{self, Erasure};
use crate::store::links::{self, intents};
use crate::store::queue::dead_letters;
use crate::store::sources;
use crate::worker::Context;
use crate::worker::jobs::A_MOMENT;
use crate::worker::task::Turn;

const UNKNOWN: &str = "nothing was known of this record but its key";
const SHARED: &str =
    "the e-mail address is another record's as well, and was left to that one; erase it, too";

impl Erasures {
    /// Begins an erasure, or ends one that has nothing left to ask.
    pub(super) fn begin_erasure(&mut self, job: i64, turn: &mut Turn) -> SpiResult<()> {
        let Some(running) = self.find(job) else {
            return Ok(());
        };
        let (begun, record) = (running.erasure.begun, running.erasure.record.clone());
        let outcome = store::transaction(|| {
            for target in Target::ALL {
                intents::end_for(target, &record)?;
            }
            // Somebody may hold rows that have to go: that shall not stop the worker.
            let outcome = pg::guarded(AssertUnwindSafe(|| match begun {
                true => Ok(false),
                false => self.find_out(job, turn),
            }));
            Ok::<_, pgrx::spi::Error>(outcome.and_then(|told| {
                told.map_err(|why| SqlError {
                    code: pgrx::PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                    message: why.to_string(),
                })
            }))
        })?;
        match outcome {
            Ok(asks) => {
                if !asks {
                    self.end_erasure(job, turn.now())?;
                }
            }
            Err(why) => self.postpone(job, &why, turn.now()),
        }
        Ok(())
    }

    /// Finds out what has to be asked of the services; `false`: nothing.
    fn find_out(&mut self, job: i64, turn: &mut Turn) -> SpiResult<bool> {
        let Some(running) = self.find(job) else {
            return Ok(false);
        };
        let known = known(
            turn.context,
            &running.erasure,
            &audiences(turn.targets, turn.context),
        )?;
        let steps = engine::steps(&known);
        let remark = match (is_unknown(&known), known.shares()) {
            (true, _) => Some(UNKNOWN),
            (false, true) => Some(SHARED),
            (false, false) => None,
        };
        erasures::begin(job, &known, &steps, remark)?;
        for worker in turn.targets.iter_mut() {
            worker.look_up_retries(turn.context.now)?;
            turn.context
                .set_dead(worker.target, dead_letters::count(worker.target)?);
        }
        self.reload(turn.targets)?;
        Ok(!steps.is_empty())
    }
}

impl Erasures {
    /// It has to be tried again in a moment.
    pub(super) fn postpone(&mut self, job: i64, why: &SqlError, now: Instant) {
        if let Some(running) = self.find(job) {
            running.postpone(why, now);
        }
        self.look_in(A_MOMENT, now);
    }
}

impl RunningErasure {
    fn postpone(&mut self, why: &SqlError, now: Instant) {
        self.trouble = Some(format!(
            "waits, as its traces cannot be removed: {}",
            why.message
        ));
        self.retry_at = Some(now + A_MOMENT);
    }
}

/// Mailchimp's audiences that are or were written to.
fn audiences(targets: &[crate::worker::target::TargetWorker], context: &Context) -> Vec<String> {
    let default = &context.settings.mailchimp_api.list;
    targets
        .iter()
        .find(|worker| worker.target == Target::Mailchimp)
        .map(|worker| worker.audiences.in_use(default))
        .unwrap_or_default()
}

/// Whether there was nothing to go by.
fn is_unknown(known: &ErasureFacts) -> bool {
    known.hubspot.is_none()
        && known.mailchimp.is_none()
        && known.former_ids.is_empty()
        && known.addresses.is_empty()
        && known.hashes.is_empty()
}

#[expect(
    clippy::too_many_lines,
    reason = "one query a place where a person is known"
)]
fn known(context: &Context, erasure: &Erasure, audiences: &[String]) -> SpiResult<ErasureFacts> {
    let record = &erasure.record;
    let link = |target| {
        let links = links::read(record.source, target, &[record.key.as_str()]);
        links.map(|mut links| links.remove(&record.key))
    };
    let (hubspot, mailchimp) = (link(Target::HubSpot)?, link(Target::Mailchimp)?);
    let source = context.sources.get(&record.source);
    let mut addresses = erasure.addresses.clone();
    for link in [&hubspot, &mailchimp].into_iter().flatten() {
        addresses.extend(link.remote_key.clone());
        // A member that was created under an address they had left carries what we know of them.
        addresses.extend(link.membership.stray.clone());
    }
    if let Some(source) = source {
        addresses.extend(people::addresses(source, &record.key)?);
    }
    let is_contact = erasure.entity.is_person();
    let mut hashes: BTreeSet<String> = BTreeSet::new();
    if is_contact {
        hashes.extend(erasures::hashes(record)?);
        hashes.extend(erasures::former_names(record, Target::Mailchimp)?);
    } else {
        addresses.clear();
    }
    for address in &addresses {
        hashes.remove(&subscriber_hash(address));
    }
    let id = hubspot.as_ref().and_then(|link| link.remote_id.as_ref());
    let former_ids: Vec<RemoteId> = erasures::former_names(record, Target::HubSpot)?
        .iter()
        .map(|name| RemoteId::from(name.as_str()))
        .filter(|former| Some(former) != id)
        .collect();
    let former_ids = free(context, erasure, former_ids)?;
    let may_know = |target: Target, known: bool| {
        let sent = source.is_some_and(|source| source.maps.contains_key(&target));
        known || (sent && context.settings.endpoint(target).is_ok())
    };
    let at_hubspot = hubspot.is_some() || !former_ids.is_empty();
    let at_mailchimp = mailchimp.is_some() || !hashes.is_empty();
    let targets = [
        (Target::HubSpot, at_hubspot),
        (Target::Mailchimp, at_mailchimp),
    ];
    let default_list = context.settings.mailchimp_api.list.clone();
    let (taken, taken_members) = taken(erasure, &addresses, &hashes, &default_list)?;
    Ok(ErasureFacts {
        entity: erasure.entity,
        external_id: sources::external_ids(record.source)?.of(&record.key),
        targets: targets
            .into_iter()
            .filter(|(target, known)| may_know(*target, *known))
            .map(|(target, _)| target)
            .collect(),
        hubspot,
        mailchimp,
        former_ids,
        addresses,
        hashes,
        taken,
        taken_members,
        default_list,
        audiences: audiences.to_vec(),
    })
}

/// Those of some HubSpot records that are not another row's by now.
fn free(context: &Context, erasure: &Erasure, ids: Vec<RemoteId>) -> SpiResult<Vec<RemoteId>> {
    let mut free = Vec::new();
    for id in ids {
        if is_free(context, erasure, &id)? {
            free.push(id);
        }
    }
    Ok(free)
}

/// Whether a HubSpot record is not another row's.
pub(super) fn is_free(context: &Context, erasure: &Erasure, id: &RemoteId) -> SpiResult<bool> {
    let linked = links::by_remote_id(Target::HubSpot, id.as_str())?;
    // Ids are unique within an object type only.
    let another = |record: &RecordRef| {
        let source = context.sources.get(&record.source);
        *record != erasure.record && source.is_some_and(|source| source.entity == erasure.entity)
    };
    Ok(!linked.iter().any(|(record, _)| another(record)))
}

type Taken = (BTreeSet<String>, BTreeSet<(String, String)>);

/// What belongs to other rows as well: addresses at HubSpot, members by audience at Mailchimp.
fn taken(
    erasure: &Erasure,
    addresses: &BTreeSet<String>,
    hashes: &BTreeSet<String>,
    default_list: &str,
) -> SpiResult<Taken> {
    let record = &erasure.record;
    let all: Vec<String> = addresses.iter().cloned().collect();
    let others = |target| {
        let holders = links::holders(target, &all)?;
        let others = holders.into_iter().flat_map(|(address, holders)| {
            let others = holders
                .into_iter()
                .filter(|holder| holder.record != *record);
            others.map(move |holder| (address.clone(), holder.list))
        });
        Ok::<Vec<(String, Option<String>)>, pgrx::spi::Error>(others.collect())
    };
    let taken = others(Target::HubSpot)?
        .into_iter()
        .map(|(address, _)| address)
        .collect();
    let by_address = others(Target::Mailchimp)?
        .into_iter()
        .map(|(address, list)| (subscriber_hash(&address), list));
    let named: Vec<String> = hashes.iter().cloned().collect();
    let by_hash = erasures::taken_members(&named, record)?;
    let members = by_address
        .chain(by_hash)
        .map(|(hash, list)| (list.unwrap_or_else(|| default_list.to_owned()), hash))
        .collect();
    Ok((taken, members))
}
