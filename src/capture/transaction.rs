//! What happens to collected keys when the writer's transaction, or a part of it, ends.
//!
//! A key belongs to the subtransaction in which its row was changed. It is written in that one (by
//! the statement trigger, or because its queue row is full), or passed to the parent when the
//! subtransaction ends well, or forgotten with it.
#![allow(unsafe_code)]

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{tell, write};
use crate::pg::shmem::Wake;

thread_local! {
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Returns the present subtransaction. Later ones have higher numbers.
pub fn subtransaction() -> u32 {
    // SAFETY: a plain query of this process's transaction state.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// Runs `work`, which writes, where no statement has set a snapshot.
pub fn with_snapshot(work: impl FnOnce()) {
    // SAFETY: still inside the transaction; the snapshot is popped again. An error ends the
    // (sub)transaction, which pops it by itself.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        work();
        pg_sys::PopActiveSnapshot();
    }
}

/// Registers for the ends of this session's transactions.
pub fn watch() {
    if !WATCHING.replace(true) {
        // SAFETY: registered once a session; both functions are guarded and take no argument.
        unsafe {
            pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut());
        }
    }
}

/// At `PRE_COMMIT` and `PRE_PREPARE`, deferred triggers have been fired and every subtransaction
/// has ended.
#[pg_guard]
unsafe extern "C-unwind" fn at_transaction_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT | pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => {
            write::flush_rest();
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT => tell::publish(Wake::NONE),
        pg_sys::XactEvent::XACT_EVENT_PREPARE => tell::publish(Wake::PREPARED),
        pg_sys::XactEvent::XACT_EVENT_ABORT => {
            tell::forget();
            write::forget();
        }
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: u32,
    parent: u32,
    _argument: *mut std::ffi::c_void,
) {
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_PRE_COMMIT_SUB => {
            write::flush_surplus(subtransaction, parent);
        }
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            write::release(subtransaction, parent);
            tell::release(subtransaction, parent);
        }
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
            write::roll_back(subtransaction);
            tell::roll_back(subtransaction);
        }
        _ => {}
    }
}
