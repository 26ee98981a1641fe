//! Turns collected keys into queue rows. They are written straight into the heap, without parser,
//! planner, or rights of the writing user.
#![allow(unsafe_code)]

use std::cell::RefCell;

use pgrx::pg_sys;

use super::buffer::{Buffer, Chunk};
use super::{insert, layout, table, tell, transaction};
use crate::config;
use crate::pg::shmem;

thread_local! {
    static BUFFER: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
}

/// Adds to the session's buffer, and writes full chunks at once.
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

/// Adds a key unless the buffer has one of that shape.
pub fn buffered_once(shape: &super::buffer::Shape, key: &str) {
    let subtransaction = transaction::subtransaction();
    if !BUFFER.with_borrow(|buffer| buffer.has(shape, subtransaction)) {
        buffered(|add| add(shape, key));
    }
}

/// Writes what the present subtransaction has collected. Keys of the enclosing ones stay in the
/// buffer, for a rollback of this one must not take them along.
pub fn flush() {
    let subtransaction = transaction::subtransaction();
    let chunks = BUFFER.with_borrow_mut(|buffer| buffer.take(subtransaction));
    if !chunks.is_empty() {
        write(chunks);
    }
}

/// Writes what is left at the end of the transaction: keys from triggers whose statement trigger
/// did not run (a partition that was written directly, a replication worker).
pub fn flush_rest() {
    if !BUFFER.with_borrow(Buffer::is_empty) {
        transaction::with_snapshot(flush);
    }
}

/// Writes what does not fit into the parent's chunks, while the subtransaction lasts that is about
/// to end well.
pub fn flush_surplus(subtransaction: u32, parent: u32) {
    if !BUFFER.with_borrow(Buffer::is_empty) {
        let surplus = BUFFER.with_borrow_mut(|buffer| buffer.take_surplus(subtransaction, parent));
        if !surplus.is_empty() {
            transaction::with_snapshot(|| write(surplus));
        }
    }
}

/// Moves the rest to the parent: the subtransaction has ended well. Cannot fail.
pub fn release(subtransaction: u32, parent: u32) {
    BUFFER.with_borrow_mut(|buffer| buffer.release(subtransaction, parent));
}

/// Forgets a subtransaction that is rolled back. Cannot fail.
pub fn roll_back(subtransaction: u32) {
    BUFFER.with_borrow_mut(|buffer| buffer.roll_back(subtransaction));
}

/// Forgets everything: the transaction is rolled back. Cannot fail.
pub fn forget() {
    BUFFER.with_borrow_mut(Buffer::clear);
}

fn write(chunks: Vec<Chunk>) {
    // In a clone of a database that is in step, nobody knows about this database yet.
    if shmem::preloaded() && shmem::my_slot().is_none() && config::wants_my_database() {
        tell::launch_at_commit();
    }
    let Some(table) = table::find(c"_change") else {
        return;
    };
    super::watch_tables();
    // SAFETY: the relation stays open while it is used, its lock until the transaction ends; the
    // layout is looked at under that lock.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32);
        let layout = layout::of(relation).unwrap_or_else(|why| table::refuse(&why));
        insert::rows(relation, &layout, &chunks);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
    }
    for chunk in &chunks {
        tell::written(&chunk.shape, chunk.records);
    }
}

/// Returns why changes cannot be queued at present; `None`: they can.
pub fn misfit() -> Option<String> {
    let table = table::find(c"_change")?;
    super::watch_tables();
    // SAFETY: inside a transaction, whose end releases the lock.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let layout = layout::of(relation);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        layout.err()
    }
}
