//! From changes in memory to calls ready to go: read the records' present state, and let the
//! engine decide.

mod gather;
mod preview;

pub use preview::{Preview, PreviewStep, preview};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use integration_engine::delivery::address_owner::Claims;
use integration_engine::delivery::call::{CallKind, Decision, HubSpotSettings, Item, Work};
use integration_engine::delivery::outcome::Verdict;
use integration_engine::delivery::settlement::{InFlight, LinkEntry, Outcome};
use integration_engine::limits::retry::Retry;
use integration_engine::queue::Handle;
use integration_engine::record::mapping::SourceMap;
use integration_engine::record::once::Once;
use integration_engine::record::{Lane, RecordRef, SourceId, Target};
use integration_hubspot as hubspot;
use integration_mailchimp as mailchimp;
use pgrx::spi::SpiResult;

use super::Context;
use super::address_owner::{self, Block, Wait};
use super::concurrency;
use super::missing_scopes;
use super::objections;
use super::sharing;
use super::suppressions;
use super::target::{PlannedCall, TargetWorker};
use super::words;
use crate::store::{crm::trouble, sources::Source};

/// Records read and planned at once, so that memory stays bounded whatever they hold.
const BLOCK: usize = 1_000;

/// Records looked at for one round of calls: many may turn out to need none.
const MOST_SEEN: usize = 20 * BLOCK;

/// What planning has come to so far.
#[derive(Default)]
struct Draft {
    /// Records to be sent, in the order in which items number them.
    flights: Vec<InFlight>,
    sends: Vec<(CallKind, Item)>,
    planning: Planning,
    /// Where records are about to be sent to, and which.
    claims: Claims,
    /// Records looked at.
    seen: usize,
    /// Records that could not be read, for their tables cannot be read at present.
    unread: Vec<Handle>,
    barred: BTreeSet<SourceId>,
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
    unheard: words::Told,
}

/// A row that took another row's place: it is the same record to the service.
pub struct Move {
    pub from: RecordRef,
    pub to: LinkEntry,
}

/// Takes records out of the queue and plans calls for them. Returns what else came of it.
///
/// Records that turn out to need no call make room for others, so that calls leave full.
pub fn plan(worker: &mut TargetWorker, context: &Context, batches: usize) -> SpiResult<Planning> {
    let wanted = (batches * worker.batch()).min(at_a_time(worker));
    let mut draft = Draft::default();
    let mut at_once = first_glance(worker, batches).min(wanted);
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

/// Records planned before some are sent. Mailchimp's calls are large: each leaves as soon as it is
/// ready, and so the answers don't come all at once either.
fn at_a_time(worker: &TargetWorker) -> usize {
    match worker.target {
        Target::HubSpot => BLOCK,
        Target::Mailchimp => concurrency::full(Target::Mailchimp),
    }
}

/// Records to begin with. Where most of them need a call of their own, as few as there is room for
/// calls: the others would only wait, and what they were planned by would grow old.
fn first_glance(worker: &TargetWorker, batches: usize) -> usize {
    match worker.target {
        Target::HubSpot => usize::MAX,
        Target::Mailchimp => worker.records_a_call.saturating_mul(2 * batches).max(16),
    }
}

/// As [`plan`], for opt-outs alone, one call's worth. Returns the calls, too.
pub fn plan_opt_outs(
    worker: &mut TargetWorker,
    context: &Context,
) -> SpiResult<(Planning, Vec<PlannedCall>)> {
    let mut draft = Draft::default();
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

impl Draft {
    /// About how many calls it will be: for Mailchimp, where members in bulk calls are one, and
    /// each of the others has one of its own.
    fn calls(&self) -> usize {
        let alone = |kind: &CallKind| {
            matches!(
                kind,
                CallKind::MailchimpPut { .. }
                    | CallKind::MailchimpPatch { .. }
                    | CallKind::MailchimpArchive { .. }
                    | CallKind::MailchimpLook { .. }
                    | CallKind::MailchimpLeave { .. }
                    | CallKind::MailchimpDiscard { .. }
                    | CallKind::MailchimpErase { .. }
            )
        };
        self.sends.iter().filter(|(kind, _)| alone(kind)).count()
    }
}

/// What could not be read waits until its table can be: nothing more of it is planned.
fn give_back_unread(worker: &mut TargetWorker, draft: &mut Draft) -> SpiResult<()> {
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

fn plan_block(
    worker: &TargetWorker,
    context: &Context,
    handles: Vec<Handle>,
    draft: &mut Draft,
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
                    .filter_map(|handle| gather::unsent(worker, handle, Verdict::Unchanged));
                draft.planning.outcomes.extend(gone);
            }
        }
    }
    Ok(())
}

#[expect(
    clippy::too_many_lines,
    reason = "the phases of planning one source, in their order"
)]
fn plan_source(
    worker: &TargetWorker,
    context: &Context,
    source: &Source,
    handles: Vec<Handle>,
    draft: &mut Draft,
) -> SpiResult<()> {
    let handles = gather::without_withheld(worker, context, source, handles, draft)?;
    let Some((mut flights, mut works)) =
        gather::read_source(worker, context, source, handles, draft)?
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
    if let Some(map) = source.maps.get(&Target::Mailchimp)
        && worker.target == Target::Mailchimp
    {
        suppressions::recall(context, map, &mut works, &mut flights)?;
        let rows = (flights.as_slice(), works.as_mut_slice());
        objections::recall(worker, context, source, rows, &mut draft.planning)?;
        for work in &works {
            words::note(map, work, &worker.words, &mut draft.planning.unheard);
        }
    }
    let hubspot = sharing::planning_settings(worker, context);
    draft.sends.reserve(works.len());
    draft.flights.reserve(works.len());
    for (at, (work, mut flight)) in works.iter_mut().zip(flights).enumerate() {
        let index = draft.flights.len();
        let place = places.get(at).and_then(Option::as_ref);
        let first = address_owner::first_of(&draft.claims, work, place, context);
        if let Some(map) = source.maps.get(&Target::Mailchimp)
            && worker.target == Target::Mailchimp
        {
            let others = address_owner::elsewhere(&draft.claims, work, place, context);
            for other in first.into_iter().chain(others) {
                draft.planning.objections.meet(map, work, other);
            }
        }
        let name = first.map(|first| address_owner::describe(context, source, first));
        let mut wait = waits.get(&at).map(wait_for_the_address);
        match worker.target {
            Target::HubSpot => wait = wait.or(name.as_deref().map(wait_for_the_first)),
            Target::Mailchimp => {
                work.rival = work.rival.take().or(name);
                flight.holder = flight.holder.take().or_else(|| first.cloned());
            }
        }
        draft.seen += 1;
        let decision = match wait {
            Some(wait) => Decision::Settled(wait),
            // Nothing can be decided about records of an object that may not be seen.
            None => match missing_scopes::hidden(worker, source.entity) {
                Some(verdict) => Decision::Settled(verdict),
                None => {
                    let list = flight.list.as_deref();
                    let decision = decide(worker, context, &hubspot, work, index, list);
                    wait_for_definitions(worker, &flight, decision, &mut draft.planning)
                }
            },
        };
        match decision {
            Decision::Settled(verdict) => draft
                .planning
                .outcomes
                .push(Outcome::uncalled(flight, verdict)),
            Decision::Send(kind, _)
                if let Some(why) = kind
                    .scope()
                    .and_then(|scope| worker.missing_scopes.lacks(scope)) =>
            {
                let verdict = missing_scopes::forbidden(why.to_owned());
                draft
                    .planning
                    .outcomes
                    .push(Outcome::uncalled(flight, verdict));
            }
            Decision::Send(kind, item) => {
                draft.claims.note(&kind, &item, &flight.record);
                draft.sends.push((kind, item));
                draft.flights.push(flight);
            }
        }
    }
    Ok(())
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

/// A record for an audience whose fields have not been read waits until they have been.
fn wait_for_definitions(
    worker: &TargetWorker,
    flight: &InFlight,
    decision: Decision,
    planning: &mut Planning,
) -> Decision {
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

fn decide(
    worker: &TargetWorker,
    context: &Context,
    hubspot: &HubSpotSettings,
    work: &Work,
    index: usize,
    list: Option<&str>,
) -> Decision {
    let map = context
        .sources
        .get(&work.source)
        .and_then(|source| source.map_in(worker.target, list.unwrap_or_default()));
    let Some(map) = map else {
        return Decision::Settled(Verdict::Unchanged);
    };
    match worker.target {
        Target::HubSpot => hubspot::decide(work, index, map, hubspot),
        Target::Mailchimp => mailchimp::decide(work, index, map, &context.settings.mailchimp_api),
    }
}

/// Puts what is to be sent into calls.
fn assemble(
    worker: &mut TargetWorker,
    context: &Context,
    draft: Draft,
) -> (Planning, Vec<PlannedCall>) {
    let mut flights: Vec<Option<InFlight>> = draft.flights.into_iter().map(Some).collect();
    let mut planned = Vec::new();
    let calls = match worker.target {
        Target::HubSpot => hubspot::assemble(draft.sends, &context.settings.hubspot_api),
        Target::Mailchimp => mailchimp::assemble(draft.sends, &context.settings.mailchimp_api),
    };
    for call in calls {
        let carried = call
            .items
            .iter()
            .filter_map(|item| flights.get_mut(item.work)?.take())
            .collect();
        planned.push(PlannedCall {
            call,
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

/// Records in planned calls that no call was made for.
pub fn give_back(worker: &mut TargetWorker, planned: PlannedCall) {
    for flight in planned.flights {
        worker.queue.put_back(flight.handle);
    }
}
