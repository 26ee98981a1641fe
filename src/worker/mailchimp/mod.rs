//! Mailchimp in the worker: its records on their road.

pub mod deciders;
pub mod objections;
mod suppressions;
pub mod words;

use std::borrow::Cow;

use integration_engine::delivery::call::{Call, Decision, Reading, Work};
use integration_engine::delivery::outcome::Verdict;
use integration_engine::delivery::settlement::InFlight;
use integration_engine::record::{RecordRef, Target};
use integration_mailchimp::{self as mailchimp, Mailchimp, MailchimpSettings};
use pgrx::spi::SpiResult;

use crate::services;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::lane::plan::Planning;
use crate::worker::lane::{Answered, Road};
use crate::worker::target::TargetWorker;

impl Road for Mailchimp {
    const LEAVES_AT_ONCE: bool = true;

    fn any(call: Call<Mailchimp>) -> services::Call {
        services::Call::Mailchimp(call)
    }

    fn settings<'c>(_: &TargetWorker, context: &'c Context) -> Cow<'c, MailchimpSettings> {
        Cow::Borrowed(&context.settings.mailchimp_api)
    }

    fn load_facts(
        worker: &TargetWorker,
        context: &Context,
        source: &Source,
        (flights, works): (&mut [InFlight], &mut [Work]),
        planning: &mut Planning,
    ) -> SpiResult<()> {
        let Some(map) = source.maps.get(&Target::Mailchimp) else {
            return Ok(());
        };
        suppressions::recall(context, map, works, flights)?;
        objections::recall(worker, context, source, (flights, works), planning)?;
        for work in works {
            words::note(map, work, &worker.words, &mut planning.unheard);
        }
        Ok(())
    }

    fn waits_for_claimed<'c>(
        source: &Source,
        (flight, work): (&mut InFlight, &mut Work),
        first: Option<(&'c RecordRef, &str)>,
        elsewhere: impl Iterator<Item = &'c RecordRef>,
        planning: &mut Planning,
    ) -> bool {
        if let Some(map) = source.maps.get(&Target::Mailchimp) {
            for other in first.map(|(first, _)| first).into_iter().chain(elsewhere) {
                planning.objections.meet(map, work, other);
            }
        }
        if let Some((first, name)) = first {
            work.rival.get_or_insert_with(|| name.to_owned());
            flight.holder.get_or_insert_with(|| first.clone());
        }
        false
    }

    /// A record for an audience whose fields have not been read waits until they have been.
    fn check(
        worker: &TargetWorker,
        _: &Source,
        flight: &InFlight,
        decision: Decision<Mailchimp>,
        planning: &mut Planning,
    ) -> Decision<Mailchimp> {
        let Some(list) = &flight.list else {
            return decision;
        };
        let known = worker.preflight.mailchimp.is_audience_known(list);
        if known || !mailchimp::needs_definitions(&decision) {
            return decision;
        }
        planning.audiences.insert(list.clone());
        Decision::Settled(Verdict::Again {
            relink: None,
            batch_cap: None,
            why: format!("the merge fields of audience {list} are being read"),
        })
    }

    fn hear(
        worker: &mut TargetWorker,
        _: &Context,
        answered: Answered<'_, Mailchimp>,
        _: &mut Reading,
    ) -> bool {
        let kind = &answered.call.kind;
        worker.audiences.hear(kind, answered.result);
        false
    }
}
