//! Trigger functions: a changed row becomes a queued change, in the writer's transaction.
//!
//! The row trigger only collects keys; the statement trigger writes them, many to a queue row.
//! Nothing here waits, uses the network, or fails the user's statement because of a service.
#![allow(unsafe_code)]

mod buffer;
mod catalog;
mod ddl;
mod drops;
mod insert;
mod layout;
mod plan;
mod row;
mod table;
mod tell;
mod transaction;
mod write;

use std::cell::{Cell, RefCell};

use integration_engine::record::consent::Consent;
use integration_engine::record::{Lane, SourceId, Target};
use pgrx::pg_sys;
use pgrx::prelude::*;

use buffer::{ChangeKind, ColumnSet, Shape, Targets};
use plan::{CapturePlan, Watch};
use row::TriggerRow;

pub use drops::watch as watch_ddl;
pub use table::HINT as MISFIT_HINT;
pub use tell::{launch_at_commit, tell_at_commit};
pub use write::misfit;

/// Queues changes that no trigger saw: replayed dead letters, and values that won over the
/// service's.
pub fn enqueue<'a>(
    target: Target,
    source: SourceId,
    lane: Lane,
    keys: impl IntoIterator<Item = &'a str>,
) {
    let shape = Shape {
        source: source.0,
        targets: target.into(),
        lane,
        kind: ChangeKind::Upsert,
        changed: None,
    };
    write::buffered(|add| keys.into_iter().for_each(|key| add(&shape, key)));
    write::flush();
}

/// The version of the calling convention, which `CREATE FUNCTION … LANGUAGE c` requires.
#[unsafe(no_mangle)]
#[doc(hidden)]
pub extern "C" fn pg_finfo_integration_capture() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

/// The trigger function `integration._capture()`.
#[pg_guard]
#[unsafe(no_mangle)]
#[doc(hidden)]
pub unsafe extern "C-unwind" fn integration_capture(
    call: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: Postgres passes a valid call; its context says whether it is a trigger's.
    let data = unsafe {
        let context = (*call).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_TRIGGERED_ACTION_EXCEPTION,
                "integration._capture() is a trigger function"
            );
        }
        &*context.cast::<pg_sys::TriggerData>()
    };
    capture(data);
    pg_sys::Datum::from(0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TriggerEvent {
    Insert,
    Update,
    Delete,
    Truncate,
}

fn event(data: &pg_sys::TriggerData) -> TriggerEvent {
    match data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
        pg_sys::TRIGGER_EVENT_INSERT => TriggerEvent::Insert,
        pg_sys::TRIGGER_EVENT_UPDATE => TriggerEvent::Update,
        pg_sys::TRIGGER_EVENT_DELETE => TriggerEvent::Delete,
        _ => TriggerEvent::Truncate,
    }
}

fn capture(data: &pg_sys::TriggerData) {
    let event = event(data);
    let of_row = data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
    if !of_row && event != TriggerEvent::Truncate {
        write::flush();
        return;
    }
    let Some(plan) = plan_of(data) else { return };
    if event == TriggerEvent::Truncate {
        write::buffered_once(&whole(&plan, ChangeKind::Truncate), "");
        write::flush();
        return;
    }
    // SAFETY: a row trigger has a slot for the row, and for an update one for the new row.
    let (old, new) = unsafe {
        match event {
            TriggerEvent::Insert => (
                None,
                Some(TriggerRow::read(data.tg_trigslot, plan.last_column)),
            ),
            TriggerEvent::Delete => (
                Some(TriggerRow::read(data.tg_trigslot, plan.last_column)),
                None,
            ),
            _ => (
                Some(TriggerRow::read(data.tg_trigslot, plan.last_column)),
                Some(TriggerRow::read(data.tg_newslot, plan.last_column)),
            ),
        }
    };
    KEYS.with_borrow_mut(|[old_key, new_key]| {
        collect(&plan, old.as_ref(), new.as_ref(), old_key, new_key)
    });
}

thread_local! {
    static KEYS: RefCell<[String; 2]> = const { RefCell::new([String::new(), String::new()]) };
}

fn collect(
    plan: &CapturePlan,
    old: Option<&TriggerRow>,
    new: Option<&TriggerRow>,
    old_key: &mut String,
    new_key: &mut String,
) {
    for (row, key) in [(old, &mut *old_key), (new, &mut *new_key)] {
        if let Some(row) = row {
            key.clear();
            row.key(&plan.key, key);
        }
    }
    match (old, new) {
        (None, Some(_)) => write::buffered(|add| add(&whole(plan, ChangeKind::Upsert), new_key)),
        (Some(_), None) => write::buffered(|add| add(&whole(plan, ChangeKind::Delete), old_key)),
        (Some(_), Some(_)) if old_key != new_key => write::buffered(|add| {
            add(&whole(plan, ChangeKind::Delete), old_key);
            add(&whole(plan, ChangeKind::Upsert), new_key);
        }),
        (Some(old), Some(new)) => collect_update(plan, old, new, new_key),
        (None, None) => {}
    }
}

/// Queues one change for all targets that watch a column that changed; those that have to be told
/// of an opt-out get it in a lane of its own.
fn collect_update(plan: &CapturePlan, old: &TriggerRow, new: &TriggerRow, key: &str) {
    let mut changed = ColumnSet::default();
    let (mut live, mut opt_out) = (Targets::default(), Targets::default());
    for watch in &plan.watches {
        let mut concerns = false;
        for column in watch
            .columns
            .iter()
            .filter(|column| !old.same(new, **column))
        {
            changed.add(column.noted);
            concerns = true;
        }
        match lane(watch, old, new) {
            Lane::OptOut if concerns => opt_out.add(watch.target),
            _ if concerns => live.add(watch.target),
            _ => {}
        }
    }
    if live.is_empty() && opt_out.is_empty() {
        return;
    }
    let shape = |targets, lane| Shape {
        source: plan.source,
        targets,
        lane,
        kind: ChangeKind::Upsert,
        changed: Some(changed.clone()),
    };
    write::buffered(|add| {
        if !opt_out.is_empty() {
            add(&shape(opt_out, Lane::OptOut), key);
        }
        if !live.is_empty() {
            add(&shape(live, Lane::Live), key);
        }
    });
}

/// Queues a change of the whole row, for all targets.
fn whole(plan: &CapturePlan, kind: ChangeKind) -> Shape {
    let mut targets = Targets::default();
    plan.watches
        .iter()
        .for_each(|watch| targets.add(watch.target));
    Shape {
        source: plan.source,
        targets,
        lane: Lane::Live,
        kind,
        changed: None,
    }
}

/// An opt-out overtakes everything else.
fn lane(watch: &Watch, old: &TriggerRow, new: &TriggerRow) -> Lane {
    match watch.consent {
        Some(column)
            if !old.same(new, column) && new.consent(column, &watch.words) != Consent::OptedIn =>
        {
            Lane::OptOut
        }
        _ => Lane::Live,
    }
}

thread_local! {
    static WATCHING_TABLES: Cell<bool> = const { Cell::new(false) };
}

/// Makes the session forget what it knows about tables when they change.
fn watch_tables() {
    if !WATCHING_TABLES.replace(true) {
        // SAFETY: registered once a session; the callback only clears maps of ours.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(table_changed), pg_sys::Datum::from(0))
        };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn table_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    plan::forget(relation);
    layout::forget(relation);
}

/// Called when a table is about to be truncated. The trigger for that is on the tracked table, and
/// does not fire when a partition alone is truncated.
pub fn truncated(relation: pg_sys::Oid) {
    // SAFETY: a plain global of this process.
    let replays = unsafe { pg_sys::SessionReplicationRole }
        == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32;
    if replays || !catalog::is_partition(relation) {
        return;
    }
    let concerned = catalog::stored_for(relation).and_then(|stored| plan::concerned(&stored));
    if let Some((source, all)) = concerned {
        let mut targets = Targets::default();
        all.into_iter().for_each(|target| targets.add(target));
        let shape = Shape {
            source,
            targets,
            lane: Lane::Live,
            kind: ChangeKind::Truncate,
            changed: None,
        };
        write::buffered_once(&shape, "");
    }
}

/// Makes every session read a table's plan again, once the present transaction commits.
pub fn forget_plan(table: pg_sys::Oid) {
    // SAFETY: inside a transaction; an unknown table is an ordinary error.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table) };
}

/// Returns the plan for the table that a trigger is on. The trigger's argument does not count:
/// whoever may create triggers could put anything there.
fn plan_of(data: &pg_sys::TriggerData) -> Option<std::rc::Rc<CapturePlan>> {
    watch_tables();
    // SAFETY: the relation is open for the call.
    let relation = unsafe { &*data.tg_relation };
    plan::of(relation.rd_id, &catalog::TriggerTable(relation))
}
