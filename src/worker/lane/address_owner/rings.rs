//! Rows that want each other's e-mail addresses at Mailchimp, two or many in a ring.
//!
//! Mailchimp gives nobody an address that another member has, and lets no member be without one, so
//! none of them could go first. Nobody's address is changed there at all: each row takes over the
//! member that has the address it wants. What a person decided at Mailchimp stays with their
//! address, and no member is archived, added or subscribed for it.

use integration_engine::delivery::call::Link;
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::limits::retry::Retry;
use integration_engine::record::{Lane, Op, RecordRef, Target, Timestamp};
use integration_mailchimp as mailchimp;
use pgrx::spi::SpiResult;

use crate::store::links;
use crate::worker::Context;
use crate::worker::lane::address_owner::Block;
use crate::worker::lane::plan::{Move, Planning};
use crate::worker::target::TargetWorker;

/// Rings are followed so far, as many rows as are planned at once.
pub const LONGEST: usize = 1_000;

/// One row of a ring.
struct RingRow<'r> {
    record: &'r RecordRef,
    /// Its place among the records that are being planned.
    at: Option<usize>,
    link: Link,
}

/// Passes the members of a ring on: each of its rows wants the address of the next one, the last
/// that of the first. Rows that are not being planned are found in the tables, and sent again.
/// `false`: not now, for one of them is under way, or not to be touched.
pub fn turn(
    worker: &TargetWorker,
    context: &Context,
    block: &mut Block,
    ring: &[RecordRef],
    planning: &mut Planning,
) -> SpiResult<bool> {
    let mut members = Vec::with_capacity(ring.len());
    for record in ring {
        let at = block
            .flights
            .iter()
            .position(|flight| flight.record == *record);
        let link = match at {
            Some(at) => block.works[at].link.clone(),
            None if worker.queue.is_flying(record)
                || super::is_moving(&planning.moves, record)
                || super::is_erased(context, record)? =>
            {
                None
            }
            None => {
                let key = record.key.as_str();
                links::read(record.source, worker.target, &[key])?.remove(&record.key)
            }
        };
        let Some(link) = link else {
            return Ok(false);
        };
        members.push(RingRow { record, at, link });
    }
    let next = members.iter().cycle().skip(1);
    for (member, next) in members.iter().zip(next) {
        planning.moves.push(Move {
            from: next.record.clone(),
            to: LinkEntry {
                record: member.record.clone(),
                link: next.link.clone(),
            },
        });
        match member.at {
            Some(at) => take_over(context, block, at, &next.link),
            None if super::is_on_its_way(worker, member.record)? => {}
            None => planning.heirs.push(sent_again(
                member.record,
                next.record,
                context.now.timestamp,
            )),
        }
    }
    Ok(true)
}

fn take_over(context: &Context, block: &mut Block, at: usize, link: &Link) {
    let (flight, work) = (&mut block.flights[at], &mut block.works[at]);
    flight.link = Some(link.clone());
    work.link = Some(link.clone());
    if let Some(map) = block.source.maps.get(&Target::Mailchimp) {
        let settings = &context.settings.mailchimp_api;
        flight.list = Some(mailchimp::list_of(work, map, settings));
    }
}

fn sent_again(record: &RecordRef, from: &RecordRef, now: Timestamp) -> Retry {
    Retry {
        record: record.clone(),
        op: Op::Upsert,
        lane: Lane::Retry,
        attempts: 0,
        wait_ms: 0,
        why: format!(
            "it took over the member of record {}, whose e-mail address it has",
            from.key.as_str()
        ),
        enqueued_at: now,
    }
}
