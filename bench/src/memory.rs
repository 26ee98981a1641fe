//! The worker's memory, looked at while it works.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const LOOK: Duration = Duration::from_millis(5);

/// Samples a process's own memory (`RssAnon`: no shared buffers, no mapped files) until dropped.
pub struct MemoryWatch {
    stop: Arc<AtomicBool>,
    peak_kb: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    pub fn of(pid: i32) -> MemoryWatch {
        let (stop, peak_kb) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, peak) = (stop.clone(), peak_kb.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(now) = anonymous_kb(pid) else { return };
                peak.fetch_max(now, Ordering::Relaxed);
                thread::sleep(LOOK);
            }
        });
        MemoryWatch {
            stop,
            peak_kb,
            thread: Some(thread),
        }
    }

    /// The most there has been since the last time this was asked, in MB.
    pub fn take_peak_mb(&self) -> f64 {
        self.peak_kb.swap(0, Ordering::Relaxed) as f64 / 1024.0
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Had it panicked, that would have been said by itself.
            let _ = thread.join();
        }
    }
}

fn anonymous_kb(pid: i32) -> Option<u64> {
    value_kb(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        "RssAnon:",
    )
}

fn value_kb(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status_file() {
        let status = "VmHWM:\t  9000 kB\nRssAnon:\t    4321 kB\nRssFile:\t 12 kB\n";
        assert_eq!(value_kb(status, "RssAnon:"), Some(4321));
        assert_eq!(value_kb(status, "RssShmem:"), None);
    }

    #[test]
    fn sees_this_process() {
        let watch = MemoryWatch::of(std::process::id().cast_signed());
        thread::sleep(10 * LOOK);
        assert!(watch.take_peak_mb() > 0.1);
    }
}
