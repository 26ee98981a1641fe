//! Queue rows are written straight into the heap: no parser, no planner, no executor, no rights of
//! the writing user needed, and no function of anybody else's is called.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};

use super::buffer::{Buffer, Chunk};
use super::{tell, transaction};
use crate::config;
use crate::latch;

const COLUMNS: usize = 10;

thread_local! {
    static BUFFER: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
    /// Transaction of the rows written last, and how many it has.
    static WRITTEN: Cell<(u64, i32)> = const { Cell::new((0, 0)) };
}

/// Uses the session's buffer; full chunks are written at once.
pub fn buffered(fill: impl FnOnce(&mut dyn FnMut(&super::buffer::Shape, &str))) {
    transaction::watch();
    let subtransaction = transaction::subtransaction();
    let mut full = Vec::new();
    BUFFER.with_borrow_mut(|buffer| {
        fill(&mut |shape, key| full.extend(buffer.add(shape, subtransaction, key)));
    });
    if !full.is_empty() {
        write(full);
    }
}

/// Writes what the present subtransaction has collected. What those around it have stays: a
/// rollback of this one must not take it along.
pub fn flush() {
    let subtransaction = transaction::subtransaction();
    let chunks = BUFFER.with_borrow_mut(|buffer| buffer.take(subtransaction));
    if !chunks.is_empty() {
        write(chunks);
    }
}

/// Writes what is left at the end of the transaction: rows of triggers whose statement trigger did
/// not run (a partition written directly, a replication worker).
pub fn flush_rest() {
    if !BUFFER.with_borrow(Buffer::is_empty) {
        transaction::with_snapshot(flush);
    }
}

/// A subtransaction is about to end well. What its parent has no room for is written while it
/// lasts.
pub fn flush_surplus(subtransaction: u32, parent: u32) {
    if !BUFFER.with_borrow(Buffer::is_empty) {
        let surplus = BUFFER.with_borrow_mut(|buffer| buffer.take_surplus(subtransaction, parent));
        if !surplus.is_empty() {
            transaction::with_snapshot(|| write(surplus));
        }
    }
}

/// A subtransaction has ended well. Cannot fail.
pub fn release(subtransaction: u32, parent: u32) {
    BUFFER.with_borrow_mut(|buffer| buffer.release(subtransaction, parent));
}

/// A subtransaction is rolled back. Cannot fail.
pub fn roll_back(subtransaction: u32) {
    BUFFER.with_borrow_mut(|buffer| buffer.roll_back(subtransaction));
}

/// The transaction is rolled back. Cannot fail.
pub fn forget() {
    BUFFER.with_borrow_mut(Buffer::clear);
}

fn write(chunks: Vec<Chunk>) {
    // A clone of a database that is in step: nobody knows of it yet.
    if latch::preloaded() && latch::my_slot().is_none() && config::wants_my_database() {
        tell::launch_at_commit();
    }
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
    tell::written(shape, chunk.records);
}
