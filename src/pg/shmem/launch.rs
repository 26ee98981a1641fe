//! What backends, workers and the launcher tell each other about which workers are to run.

use std::sync::atomic::Ordering;
use std::time::Duration;

use integration_engine::server::roster::Presence;
use pgrx::pg_sys;

use super::{Slot, Wake, claim_slot, my_slot, set_latch, shared};

/// A worker that has not ended what it is doing after so long is interrupted.
const PATIENCE: Duration = Duration::from_millis(500);

/// Makes this process the launcher.
pub fn enter_launcher() {
    if let Some(shared) = shared() {
        // SAFETY: a plain global of this process.
        let latch = unsafe { pg_sys::MyLatch } as usize;
        shared.launcher_latch.store(latch, Ordering::Release);
    }
}

/// Returns the databases that ask for something about their worker.
pub fn seats() -> Vec<(u32, Presence)> {
    let slots = shared().into_iter().flat_map(|shared| &shared.slots);
    slots
        .map(|slot| (slot.database.load(Ordering::Acquire), slot.presence()))
        .filter(|(database, _)| *database != 0)
        .collect()
}

fn slot_of(database: u32) -> Option<&'static Slot> {
    let mut slots = shared()?.slots.iter();
    slots.find(|slot| slot.database.load(Ordering::Acquire) == database)
}

/// Returns what a database asks for about its worker, if anything.
pub fn seat(database: u32) -> Option<Presence> {
    slot_of(database).map(Slot::presence)
}

/// Notes that a process is about to be started for a database: requests from here on count again.
pub fn take_note_of_start(database: u32) {
    if let Some(slot) = slot_of(database) {
        slot.change_presence(Presence::Wanted, Presence::Starting);
    }
}

/// Notes that the process could not be started, or ended before it was a worker.
pub fn take_note_of_failure(database: u32) {
    if let Some(slot) = slot_of(database) {
        slot.change_presence(Presence::Starting, Presence::Down);
    }
}

/// Notes that this process is about to connect to a database as its worker, and reads its settings
/// then.
pub fn begin_start(database: u32) {
    if let Some(slot) = slot_of(database).filter(|slot| slot.worker().is_none()) {
        slot.restart.store(false, Ordering::SeqCst);
        slot.wake.fetch_and(!Wake::RELOAD.0, Ordering::SeqCst);
    }
}

/// Frees the slots of databases that no longer exist. (A worker that is not wanted any more leaves
/// by itself.)
pub fn keep_slots(databases: &[u32]) {
    let slots = shared().into_iter().flat_map(|shared| &shared.slots);
    for slot in slots {
        let database = slot.database.load(Ordering::Acquire);
        if database != 0 && !databases.contains(&database) && slot.worker().is_none() {
            slot.set_presence(Presence::Down);
            slot.database.store(0, Ordering::SeqCst);
        }
    }
}

/// Makes the launcher check which databases want a worker.
pub(super) fn tell_launcher() {
    if let Some(shared) = shared() {
        set_latch(shared.launcher_latch.load(Ordering::Acquire));
    }
}

/// Asks the launcher to look at all databases.
pub fn call_launcher() {
    ask_for_rescan();
    tell_launcher();
}

/// Notes the launcher's own reason to look at all databases.
pub fn ask_for_rescan() {
    if let Some(shared) = shared() {
        shared.rescan.store(true, Ordering::Release);
    }
}

/// Returns whether somebody asked for it since the last look.
pub fn rescan_asked() -> bool {
    shared().is_some_and(|shared| shared.rescan.swap(false, Ordering::AcqRel))
}

/// Ends this database's worker and starts another one; returns `false` if there was none.
pub fn reload() -> bool {
    let Some(slot) = claim_slot() else {
        return false;
    };
    slot.restart.store(true, Ordering::SeqCst);
    // A worker that is just starting may have read its settings before: it learns of this, too.
    slot.wake(Wake::RELOAD);
    let Some(pid) = slot.worker() else {
        slot.call();
        return false;
    };
    if slot.busy().is_some_and(|busy| busy.lasts > PATIENCE) {
        terminate(pid);
    }
    true
}

fn terminate(pid: i32) {
    // SAFETY: the process is our worker: its slot names it until it leaves.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}

/// Interrupts this database's worker, and so ends it; another one follows.
pub fn interrupt_worker() {
    if let Some((slot, pid)) = my_slot().and_then(|slot| Some((slot, slot.worker()?))) {
        slot.restart.store(true, Ordering::SeqCst);
        terminate(pid);
    }
}
