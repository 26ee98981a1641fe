//! Queue rows are written straight into the heap: no parser, no planner, no executor, no rights of
//! the writing user needed, and no function of anybody else's is called.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};

use super::buffer::{Buffer, Chunk};
use crate::latch::{self, Wake};

const COLUMNS: usize = 10;

thread_local! {
    static BUFFER: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
    /// Transaction of the rows written last, and how many it has.
    static WRITTEN: Cell<(u64, i32)> = const { Cell::new((0, 0)) };
    /// What to tell the worker at commit: lanes, and keys per target.
    static TELL: Cell<(Wake, [i64; 2])> = const { Cell::new((Wake::NONE, [0; 2])) };
    /// Whether a worker has to be started at commit.
    static LAUNCH: Cell<bool> = const { Cell::new(false) };
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Uses the session's buffer; full chunks are written at once.
pub fn buffered(fill: impl FnOnce(&mut dyn FnMut(&super::buffer::Shape, &str))) {
    watch_transactions();
    // SAFETY: a plain query of this process's transaction state.
    let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
    let mut full = Vec::new();
    BUFFER.with_borrow_mut(|buffer| {
        fill(&mut |shape, key| full.extend(buffer.add(shape, subtransaction, key)));
    });
    if !full.is_empty() {
        write(full);
    }
}

/// Writes what the buffer holds.
pub fn flush() {
    let chunks = BUFFER.with_borrow_mut(Buffer::take);
    if !chunks.is_empty() {
        write(chunks);
    }
}

/// Wakes the worker when the present transaction commits.
pub fn tell_at_commit(what: Wake) {
    watch_transactions();
    let (wake, keys) = TELL.get();
    TELL.set((wake.and(what), keys));
}

/// Has the launcher look for databases without a worker when the present transaction commits.
pub fn launch_at_commit() {
    watch_transactions();
    LAUNCH.set(true);
}

fn write(chunks: Vec<Chunk>) {
    let Some(table) = storage() else {
        // The schema is there (the trigger is), the queue is not: somebody is dropping the extension.
        return;
    };
    // SAFETY: the table's columns are those of `sql/queue.sql`, in that order; the relation stays
    // open while it is used, its lock until the transaction ends.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32);
        if (*(*relation).rd_att).natts as usize == COLUMNS {
            for chunk in chunks {
                insert(relation, &chunk);
            }
        }
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
    }
}

fn storage() -> Option<pg_sys::Oid> {
    // SAFETY: look-ups in the system caches inside a transaction.
    let table = unsafe {
        let schema = pg_sys::get_namespace_oid(c"integration".as_ptr(), true);
        pg_sys::get_relname_relid(c"_change".as_ptr(), schema)
    };
    (table != pg_sys::InvalidOid).then_some(table)
}

/// # Safety
/// `relation` is `integration._change`, open for writing.
unsafe fn insert(relation: pg_sys::Relation, chunk: &Chunk) {
    let shape = &chunk.shape;
    // SAFETY: inside a transaction.
    let (xid, now) = unsafe {
        (
            pg_sys::GetTopFullTransactionId().value,
            pg_sys::GetCurrentStatementStartTimestamp(),
        )
    };
    let (last, count) = WRITTEN.get();
    let seq = if last == xid { count + 1 } else { 0 };
    WRITTEN.set((xid, seq));
    let keys = chunk.keys.as_slice().into_datum();
    let changed = shape
        .changed
        .as_ref()
        .and_then(|set| set.bytes().into_datum());
    let mut values: [pg_sys::Datum; COLUMNS] = [
        (xid as i64).into(),
        now.into(),
        seq.into(),
        shape.source.into(),
        (chunk.records as i32).into(),
        shape.targets.bits().into(),
        (shape.lane as i16).into(),
        (shape.kind.letter() as i8).into(),
        keys.unwrap_or(pg_sys::Datum::from(0)),
        changed.unwrap_or(pg_sys::Datum::from(0)),
    ];
    let mut nulls = [false; COLUMNS];
    nulls[COLUMNS - 1] = changed.is_none();
    // SAFETY: values match the table's column types one by one.
    unsafe {
        let tuple =
            pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::CatalogTupleInsert(relation, tuple);
        pg_sys::heap_freetuple(tuple);
    }
    let (wake, mut told) = TELL.get();
    let mut wake = wake;
    for target in shape.targets.iter() {
        told[usize::from(target.number().unsigned_abs()) - 1] += i64::from(chunk.records);
        wake = wake.and(Wake::changes(target, shape.lane));
    }
    TELL.set((wake, told));
}

fn watch_transactions() {
    if !WATCHING.replace(true) {
        // SAFETY: registered once a session; both functions are guarded and take no argument.
        unsafe {
            pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut());
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_transaction_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    match event {
        // Rows of triggers whose statement trigger did not run (a partition written directly, a
        // replication worker).
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT | pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => {
            flush_with_snapshot()
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT => publish(Wake::NONE),
        pg_sys::XactEvent::XACT_EVENT_PREPARE => publish(Wake::PREPARED),
        pg_sys::XactEvent::XACT_EVENT_ABORT => {
            TELL.set((Wake::NONE, [0; 2]));
            LAUNCH.set(false);
            BUFFER.with_borrow_mut(|buffer| drop(buffer.take()));
        }
        _ => {}
    }
}

fn flush_with_snapshot() {
    if BUFFER.with_borrow(Buffer::is_empty) {
        return;
    }
    // SAFETY: still inside the transaction; the snapshot is popped again.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        flush();
        pg_sys::PopActiveSnapshot();
    }
}

/// The transaction is committed (or prepared): nothing here may fail.
fn publish(also: Wake) {
    if LAUNCH.replace(false) {
        latch::call_launcher();
    }
    let (wake, keys) = TELL.replace((Wake::NONE, [0; 2]));
    if wake.is_empty() {
        return;
    }
    if let Some(slot) = latch::my_slot() {
        for (gauges, keys) in slot.targets.iter().zip(keys) {
            gauges
                .arrived
                .fetch_add(keys, std::sync::atomic::Ordering::Relaxed);
        }
        slot.wake(wake.and(also));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: u32,
    _parent: u32,
    _argument: *mut std::ffi::c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        BUFFER.with_borrow_mut(|buffer| buffer.roll_back(subtransaction));
    }
}
