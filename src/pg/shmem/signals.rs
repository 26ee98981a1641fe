//! Waiting to be woken, and handling signals.

use std::time::Duration;

use pgrx::pg_sys;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There is something to do, or the time is over.
    Up,
    /// The server asks the process to stop.
    Stop,
}

/// Waits for this process's latch, for bytes on a socket, or for the time to pass.
pub fn wait(socket: Option<i32>, time: Option<Duration>) -> Woken {
    if stop_asked() {
        return Woken::Stop;
    }
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH;
    events |= if socket.is_some() {
        pg_sys::WL_SOCKET_READABLE
    } else {
        0
    };
    events |= if time.is_some() {
        pg_sys::WL_TIMEOUT
    } else {
        0
    };
    let millis = time.map_or(-1, |time| {
        i64::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(i64::MAX)
    });
    // SAFETY: main thread of a process with a latch; the socket, if any, is open.
    unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            socket.unwrap_or(-1),
            millis,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    if stop_asked() {
        return Woken::Stop;
    }
    pgrx::check_for_interrupts!();
    Woken::Up
}

/// Handles a SIGTERM as a request to end in order, from here on.
pub fn end_orderly() {
    // SAFETY: a flag that is read on the main thread.
    unsafe { (&raw mut pg_sys::ProcDiePending).write_volatile(0) };
}

/// Lets a SIGTERM end this process wherever it can be interrupted, also in the middle of a
/// statement. Call it before the signals of a background worker are unblocked.
pub fn end_on_sigterm() {
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as pqsignal;
    // SAFETY: the handler only does what PostgreSQL's own one does, and sets a flag.
    unsafe { pqsignal(pg_sys::SIGTERM as i32, Some(handle_sigterm)) };
}

unsafe extern "C-unwind" fn handle_sigterm(signal: i32) {
    // SAFETY: a flag that is read on the main thread, and PostgreSQL's own handler, which keeps `errno`.
    unsafe {
        (&raw mut pg_sys::ShutdownRequestPending).write_volatile(1);
        pg_sys::die(signal);
    }
}

/// Returns whether a SIGTERM has come; it stays so.
pub fn stop_asked() -> bool {
    // SAFETY: a plain flag that signal handlers set.
    unsafe { pg_sys::ShutdownRequestPending != 0 }
}

/// Runs `start` with every signal blocked, so that threads it starts never get one: handlers call
/// PostgreSQL, which only the main thread may.
pub fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are initialised by the calls before they are read, and the old mask is restored.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let started = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        started
    }
}
