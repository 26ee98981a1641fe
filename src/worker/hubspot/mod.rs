//! HubSpot in the worker: its records on their road, and what it has to be asked for them.

pub mod adopt;
mod collisions;
pub mod missing_scopes;
pub mod sharing;

use std::borrow::Cow;

use integration_engine::delivery::call::{Call, Decision, Reading, Work};
use integration_engine::delivery::settlement::InFlight;
use integration_engine::record::RecordRef;
use integration_hubspot::{HubSpot, HubSpotSettings};
use pgrx::spi::SpiResult;

use crate::services;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::lane::plan::Planning;
use crate::worker::lane::{Answered, Road};
use crate::worker::target::TargetWorker;

impl Road for HubSpot {
    const LEAVES_AT_ONCE: bool = false;

    fn any(call: Call<HubSpot>) -> services::Call {
        services::Call::HubSpot(call)
    }

    fn settings<'c>(worker: &TargetWorker, context: &'c Context) -> Cow<'c, HubSpotSettings> {
        Cow::Owned(sharing::settings(worker, context))
    }

    fn load_facts(
        _: &TargetWorker,
        _: &Context,
        _: &Source,
        _: (&mut [InFlight], &mut [Work]),
        _: &mut Planning,
    ) -> SpiResult<()> {
        Ok(())
    }

    fn waits_for_claimed<'c>(
        _: &Source,
        _: (&mut InFlight, &mut Work),
        first: Option<(&'c RecordRef, &str)>,
        _: impl Iterator<Item = &'c RecordRef>,
        _: &mut Planning,
    ) -> bool {
        first.is_some()
    }

    /// Nothing can be decided about records of an object that may not be seen.
    fn check(
        worker: &TargetWorker,
        source: &Source,
        _: &InFlight,
        decision: Decision<HubSpot>,
        _: &mut Planning,
    ) -> Decision<HubSpot> {
        let hidden = missing_scopes::hidden(worker, source.entity);
        let forbidden = hidden.or_else(|| {
            let Decision::Send(kind, _) = &decision else {
                return None;
            };
            let why = worker.missing_scopes.lacks(kind.scope()?)?;
            Some(missing_scopes::forbidden(why.to_owned()))
        });
        forbidden.map_or(decision, Decision::Settled)
    }

    fn hear(
        worker: &mut TargetWorker,
        context: &Context,
        answered: Answered<'_, HubSpot>,
        reading: &mut Reading,
    ) -> bool {
        let kind = &answered.call.kind;
        let partial = !answered.outdated && missing_scopes::hear(worker, context, kind, reading);
        collisions::hear(worker, context, &answered, reading);
        partial
    }
}
