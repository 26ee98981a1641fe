//! From changes in memory to calls ready to go: read the records' present state, and let the
//! engine decide.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use integration_engine::delivery::address_owner::{Claims, Place};
use integration_engine::delivery::call::{CallKind, Decision, Item, Work};
use integration_engine::delivery::outcome::Verdict;
use integration_engine::delivery::settlement::{InFlight, LinkEntry, Outcome};
use integration_engine::limits::retry::Retry;
use integration_engine::queue::Handle;
use integration_engine::record::mapping::SourceMap;
use integration_engine::record::once::Once;
use integration_engine::record::{Lane, RecordRef, SourceId, Target};
use integration_mailchimp as mailchimp;
use pgrx::spi::SpiResult;

use crate::store::crm::trouble;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::lane::Road;
use crate::worker::lane::address_owner::{self, Block, Wait};
use crate::worker::lane::load_facts;
use crate::worker::mailchimp::objections;
use crate::worker::mailchimp::words;
use crate::worker::target::{PlannedCall, TargetWorker, ToldWords};

/// Records read and planned at once, so that memory stays bounded whatever they hold.
const BLOCK: usize = 1_000;

/// Records looked at for one round of calls: many may turn out to need none.
const MOST_SEEN: usize = 20 * BLOCK;

/// What planning has come to so far.
pub struct Draft<S: Road> {
    /// Records to be sent, in the order in which items number them.
    pub flights: Vec<InFlight>,
    pub sends: Vec<(S::Kind, Item)>,
    pub planning: Planning,
    /// Where records are about to be sent to, and which.
    pub claims: Claims,
    /// Records looked at.
    pub seen: usize,
    /// Records that could not be read, for their tables cannot be read at present.
    pub unread: Vec<Handle>,
    pub barred: BTreeSet<SourceId>,
}

impl<S: Road> Default for Draft<S> {
    fn default() -> Draft<S> {
        Draft {
            flights: Vec::new(),
            sends: Vec::new(),
            planning: Planning::default(),
            claims: Claims::default(),
            seen: 0,
            unread: Vec::new(),
            barred: BTreeSet::new(),
        }
    }
}

/// What planning has come to besides calls.
#[derive(Default)]
pub struct Planning {
    /// Records that need no call.
    pub outcomes: Vec<Outcome>,
    /// Links whose row has another key by now.
    pub moves: Vec<Move>,
    /// Mailchimp's audiences whose fields have to be known first.
    pub audiences: BTreeSet<String>,
    /// Records that have to be sent again, for another row left them its link.
    pub heirs: Once<Retry>,
    /// Rows with one address, and which of them are opted out.
    pub objections: objections::Notes,
    /// Words in consent columns that nobody knows.
    pub unheard: ToldWords,
}

/// A row that took another row's place: it is the same record to the service.
pub struct Move {
    pub from: RecordRef,
    pub to: LinkEntry,
}

/// Takes records out of the queue and plans calls for them. Returns what else came of it.
///
/// Records that turn out to need no call make room for others, so that calls leave full.
pub fn plan<S: Road>(
    worker: &mut TargetWorker,
    context: &Context,
    batches: usize,
) -> SpiResult<Planning> {
    let wanted = (batches * worker.batch()).min(at_a_time::<S>());
    let mut draft = Draft::<S>::default();
    let mut at_once = first_glance::<S>(worker, batches).min(wanted);
    while draft.sends.len() < wanted && draft.calls() < batches && draft.seen < MOST_SEEN {
        if worker.holds_changed() {
            worker.note_holds(context)?;
        }
        let handles = worker.queue.take(at_once.min(wanted - draft.sends.len()));
        if handles.is_empty() {
            break;
        }
        plan_block(worker, context, handles, &mut draft)?;
        give_back_unread(worker, &mut draft)?;
        at_once = at_once.saturating_mul(4);
    }
    let (mut planning, calls) = assemble(worker, context, draft);
    words::tell(std::mem::take(&mut planning.unheard), &mut worker.words)?;
    let records: usize = calls.iter().map(|planned| planned.flights.len()).sum();
    if let Some(average) = records.checked_div(calls.len()) {
        worker.records_a_call = average.max(1);
    }
    worker.planned.extend(calls);
    Ok(planning)
}

/// Records planned before some are sent. Where each call leaves as soon as it is ready, one call's:
/// so the answers don't come all at once either.
const fn at_a_time<S: Road>() -> usize {
    match S::LEAVES_AT_ONCE {
        true => S::BATCH,
        false => BLOCK,
    }
}

/// Records to begin with. Where most of them need a call of their own, as few as there is room for
/// calls: the others would only wait, and what they were planned by would grow old.
fn first_glance<S: Road>(worker: &TargetWorker, batches: usize) -> usize {
    match S::LEAVES_AT_ONCE {
        true => worker.records_a_call.saturating_mul(2 * batches).max(16),
        false => usize::MAX,
    }
}

/// As [`plan`], for opt-outs alone, one call's worth. Returns the calls, too.
pub fn plan_opt_outs<S: Road>(
    worker: &mut TargetWorker,
    context: &Context,
) -> SpiResult<(Planning, Vec<PlannedCall>)> {
    let mut draft = Draft::<S>::default();
    if worker.holds_changed() {
        worker.note_holds(context)?;
    }
    let handles = worker.queue.take_in(Lane::OptOut, worker.batch());
    plan_block(worker, context, handles, &mut draft)?;
    give_back_unread(worker, &mut draft)?;
    let (mut planning, calls) = assemble(worker, context, draft);
    words::tell(std::mem::take(&mut planning.unheard), &mut worker.words)?;
    Ok((planning, calls))
}

impl<S: Road> Draft<S> {
    /// How many calls it will be that carry a single record.
    fn calls(&self) -> usize {
        let kinds = self.sends.iter().map(|(kind, _)| kind);
        kinds.filter(|kind| kind.most() == 1).count()
    }
}

/// What could not be read waits until its table can be: nothing more of it is planned.
fn give_back_unread<S: Road>(worker: &mut TargetWorker, draft: &mut Draft<S>) -> SpiResult<()> {
    if draft.barred.is_empty() {
        return Ok(());
    }
    for handle in std::mem::take(&mut draft.unread) {
        worker.queue.put_back(handle);
    }
    trouble::hold_what_was_found()?;
    let barred = std::mem::take(&mut draft.barred);
    let held = worker.queue.held().chain(barred).collect();
    worker.queue.hold(held);
    Ok(())
}

pub fn plan_block<S: Road>(
    worker: &TargetWorker,
    context: &Context,
    handles: Vec<Handle>,
    draft: &mut Draft<S>,
) -> SpiResult<()> {
    let mut by_source: BTreeMap<SourceId, Vec<Handle>> = BTreeMap::new();
    for handle in handles {
        if let Some(record) = worker.queue.record(handle) {
            by_source.entry(record.source).or_default().push(handle);
        }
    }
    for (source, handles) in by_source {
        let source = context.sources.get(&source);
        match source.filter(|source| source.maps.contains_key(&worker.target)) {
            Some(source) => plan_source(worker, context, source, handles, draft)?,
            None => {
                // The table is tracked no longer.
                let gone = handles
                    .into_iter()
                    .filter_map(|handle| load_facts::unsent(worker, handle, Verdict::Unchanged));
                draft.planning.outcomes.extend(gone);
            }
        }
    }
    Ok(())
}

fn plan_source<S: Road>(
    worker: &TargetWorker,
    context: &Context,
    source: &Source,
    handles: Vec<Handle>,
    draft: &mut Draft<S>,
) -> SpiResult<()> {
    let handles = load_facts::without_withheld(worker, context, source, handles, draft)?;
    let Some((mut flights, mut works)) =
        load_facts::read_source(worker, context, source, handles, draft)?
    else {
        return Ok(());
    };
    let places = address_owner::places(worker.target, context, source, &works);
    let mut block = Block {
        source,
        places: &places,
        flights: &mut flights,
        works: &mut works,
    };
    let heirs = address_owner::bequeath(worker, context, &mut block, &mut draft.planning.moves)?;
    draft.planning.heirs.extend(heirs);
    let waits = address_owner::resolve(worker, context, &mut block, &mut draft.planning)?;
    S::load_facts(
        worker,
        context,
        source,
        (&mut flights, &mut works),
        &mut draft.planning,
    )?;
    let settings = S::settings(worker, context);
    draft.sends.reserve(works.len());
    draft.flights.reserve(works.len());
    for (at, (work, mut flight)) in works.iter_mut().zip(flights).enumerate() {
        let index = draft.flights.len();
        draft.seen += 1;
        let place = places.get(at).and_then(Option::as_ref);
        let mut wait = waits.get(&at).map(wait_for_the_address);
        if let Some(name) = claimed::<S>(context, source, draft, place, (&mut flight, work)) {
            wait.get_or_insert_with(|| wait_for_the_first(&name));
        }
        let list = flight.list.as_deref().unwrap_or_default();
        let map = source.map_in(worker.target, list);
        let decision = match (wait, map) {
            (Some(wait), _) => Decision::Settled(wait),
            (None, None) => Decision::Settled(Verdict::Unchanged),
            (None, Some(map)) => {
                let decision = S::decide(work, index, map, &settings);
                S::check(worker, source, &flight, decision, &mut draft.planning)
            }
        };
        match decision {
            Decision::Settled(verdict) => draft
                .planning
                .outcomes
                .push(Outcome::uncalled(flight, verdict)),
            Decision::Send(kind, item) => {
                draft.claims.note(kind.list(), &item, &flight.record);
                draft.sends.push((kind, item));
                draft.flights.push(flight);
            }
        }
    }
    Ok(())
}

/// Takes note of records that are about to be sent to where a record wants to be known. Returns
/// which one it has to wait for.
fn claimed<S: Road>(
    context: &Context,
    source: &Source,
    draft: &mut Draft<S>,
    place: Option<&Place>,
    (flight, work): (&mut InFlight, &mut Work),
) -> Option<String> {
    let first = address_owner::first_of(&draft.claims, work, place, context);
    let name = first.map(|first| address_owner::describe(context, source, first));
    let first = first.zip(name.as_deref());
    let place = place.filter(|place| !address_owner::is_known(place, work, context));
    let elsewhere = place
        .into_iter()
        .flat_map(|place| draft.claims.elsewhere(place));
    let record = (flight, work);
    let waits = S::waits_for_claimed(source, record, first, elsewhere, &mut draft.planning);
    name.filter(|_| waits)
}

/// Another row is giving up the e-mail address; the service has to hear of that first.
fn wait_for_the_address(wait: &Wait) -> Verdict {
    Verdict::Retry {
        why: format!(
            "record {} had this e-mail address, and the service has not been told of its change yet; see what holds that up",
            wait.holder
        ),
        status: None,
        wait: Some(Duration::from_millis(200)),
        counted: wait.counted,
    }
}

/// Another row with the same e-mail address is about to be sent: whether the contact is its, its
/// answer says.
fn wait_for_the_first(first: &str) -> Verdict {
    Verdict::Retry {
        why: format!("record {first} has the same e-mail address, and is on its way"),
        status: None,
        wait: Some(Duration::from_millis(200)),
        counted: false,
    }
}

/// The Mailchimp audience that a row belongs to.
pub fn named(context: &Context, map: &SourceMap, row: &[Option<String>]) -> Option<String> {
    let settings = &context.settings.mailchimp_api;
    (map.target == Target::Mailchimp)
        .then(|| mailchimp::audience_of(map, row, settings).ok())
        .flatten()
}

/// Puts what is to be sent into calls.
pub fn assemble<S: Road>(
    worker: &mut TargetWorker,
    context: &Context,
    draft: Draft<S>,
) -> (Planning, Vec<PlannedCall>) {
    let mut flights: Vec<Option<InFlight>> = draft.flights.into_iter().map(Some).collect();
    let mut planned = Vec::new();
    let settings = S::settings(worker, context);
    for call in S::assemble(draft.sends, &settings) {
        let carried = call
            .items
            .iter()
            .filter_map(|item| flights.get_mut(item.work)?.take())
            .collect();
        planned.push(PlannedCall {
            call: S::any(call),
            flights: carried,
            guarded: false,
            urgent: false,
        });
    }
    // A record that no call carries is planned again.
    for flight in flights.into_iter().flatten() {
        worker.queue.put_back(flight.handle);
    }
    (draft.planning, planned)
}
