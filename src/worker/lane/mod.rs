//! The road of records: one for every service.
//!
//! [`read_queue`]: what is waiting → [`load_facts`]: rows, links, and what the service has to know
//! besides → [`plan`]: decisions become calls → guard → [`intents`]: what may be the case from now
//! on is stored → [`serve`]: calls leave → [`answer`]: verdicts → [`settle`]: effects. What differs
//! from service to service is a [`Road`]. Each room knows those before it.

pub mod address_owner;
pub mod answer;
mod intents;
mod load_facts;
mod opt_outs;
pub mod plan;
pub mod preview;
pub mod read_queue;
mod serve;
pub mod settle;

use std::borrow::Cow;

use integration_engine::delivery::call::{Call, Decision, Reading, Work};
use integration_engine::delivery::outbound::Outbound;
use integration_engine::delivery::settlement::InFlight;
use integration_engine::record::RecordRef;
use integration_engine::wire::{Reply, TransportError};
use pgrx::spi::SpiResult;

use crate::services;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::lane::plan::Planning;
use crate::worker::target::TargetWorker;

/// What a service adds to the road of its records.
pub trait Road: Outbound {
    /// Whether what is planned leaves in the turn that planned it, or is planned anew: what a row
    /// says of consent is read when its call leaves.
    const LEAVES_AT_ONCE: bool;

    /// One of its calls, as one of any service's.
    fn any(call: Call<Self>) -> services::Call;

    /// What planning, and reading answers, goes by.
    fn settings<'c>(worker: &TargetWorker, context: &'c Context) -> Cow<'c, Self::Settings>;

    /// Adds to records of one table what the service has to know of them besides their rows and
    /// links.
    fn load_facts(
        worker: &TargetWorker,
        context: &Context,
        source: &Source,
        records: (&mut [InFlight], &mut [Work]),
        planning: &mut Planning,
    ) -> SpiResult<()>;

    /// Takes note of records with a record's address that are about to be sent: the `first` in its
    /// own audience, with how to call it, and those `elsewhere`. Returns whether the record has to
    /// wait for what the answer about the first one says.
    fn waits_for_claimed<'c>(
        source: &Source,
        record: (&mut InFlight, &mut Work),
        first: Option<(&'c RecordRef, &str)>,
        elsewhere: impl Iterator<Item = &'c RecordRef>,
        planning: &mut Planning,
    ) -> bool;

    /// What is decided about a record, in the light of what keeps it from being sent at present.
    fn check(
        worker: &TargetWorker,
        source: &Source,
        flight: &InFlight,
        decision: Decision<Self>,
        planning: &mut Planning,
    ) -> Decision<Self>;

    /// Takes in what an answer says besides. `outdated`: it is about another credential. Returns
    /// whether its signal concerns some kinds of call alone.
    fn hear(
        worker: &mut TargetWorker,
        context: &Context,
        answered: Answered<'_, Self>,
        reading: &mut Reading,
    ) -> bool;
}

/// A call whose answer is in.
pub struct Answered<'a, S: Outbound> {
    pub call: &'a Call<S>,
    pub flights: &'a [InFlight],
    pub result: &'a Result<Reply, TransportError>,
    pub outdated: bool,
}
