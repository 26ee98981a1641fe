//! What the worker is told when the transaction commits. A subtransaction that is rolled back takes
//! its messages along.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use super::buffer::Shape;
use super::transaction;
use crate::pg::shmem::{self, Wake};

/// The messages of one subtransaction.
#[derive(Clone, Copy)]
struct Message {
    subtransaction: u32,
    wake: Wake,
    /// Keys queued, per target.
    keys: [i64; 2],
    /// Whether a worker has to be started.
    launch: bool,
}

impl Message {
    fn add(&mut self, other: Message) {
        self.wake = self.wake.union(other.wake);
        for (mine, theirs) in self.keys.iter_mut().zip(other.keys) {
            *mine += theirs;
        }
        self.launch |= other.launch;
    }
}

thread_local! {
    /// In the order in which the subtransactions began.
    static MESSAGES: RefCell<Vec<Message>> = const { RefCell::new(Vec::new()) };
}

/// Wakes the worker when the present transaction commits.
pub fn tell_at_commit(what: Wake) {
    note(what, [0; 2], false);
}

/// Starts a worker, if none runs here, when the present transaction commits.
pub fn launch_at_commit() {
    note(Wake::NONE, [0; 2], true);
}

/// Notes that a queue row was written.
pub fn written(shape: &Shape, records: u32) {
    let mut wake = Wake::NONE;
    let mut keys = [0; 2];
    for target in shape.targets.iter() {
        keys[usize::from(target.number().unsigned_abs()) - 1] = i64::from(records);
        wake = wake.union(Wake::changes(target, shape.lane));
    }
    note(wake, keys, false);
}

fn note(wake: Wake, keys: [i64; 2], launch: bool) {
    transaction::watch();
    let message = Message {
        subtransaction: transaction::subtransaction(),
        wake,
        keys,
        launch,
    };
    MESSAGES.with_borrow_mut(|messages| push(messages, message));
}

fn push(messages: &mut Vec<Message>, message: Message) {
    match messages.last_mut() {
        Some(last) if last.subtransaction == message.subtransaction => last.add(message),
        _ => messages.push(message),
    }
}

/// Passes the messages of a subtransaction that ended well to its parent. Cannot fail.
pub fn release(subtransaction: u32, parent: u32) {
    MESSAGES.with_borrow_mut(|messages| {
        if let Some(mut message) =
            messages.pop_if(|message| message.subtransaction == subtransaction)
        {
            message.subtransaction = parent;
            push(messages, message);
        }
    });
}

/// Forgets the messages of a subtransaction that is rolled back. Cannot fail.
pub fn roll_back(subtransaction: u32) {
    MESSAGES.with_borrow_mut(|messages| messages.retain(|one| one.subtransaction < subtransaction));
}

/// Forgets all messages: the transaction is rolled back. Cannot fail.
pub fn forget() {
    MESSAGES.with_borrow_mut(Vec::clear);
}

/// Sends the messages: the transaction is committed (or prepared), so nothing here may fail.
pub fn publish(also: Wake) {
    let all = MESSAGES.with_borrow_mut(|messages| {
        messages.drain(..).reduce(|mut all, message| {
            all.add(message);
            all
        })
    });
    let Some(all) = all else { return };
    let slot = if all.launch {
        shmem::claim_slot()
    } else {
        shmem::my_slot()
    };
    if let Some(slot) = slot {
        for (gauges, keys) in slot.targets.iter().zip(all.keys) {
            gauges.arrived.fetch_add(keys, Ordering::Relaxed);
        }
        slot.wake(all.wake.union(also));
        if all.launch {
            slot.call();
        }
    }
}
