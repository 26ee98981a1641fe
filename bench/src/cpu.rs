//! CPU time of a process: unlike rates, it says little of what else the machine is doing.

use std::fs;

use crate::error::Result;

/// CPU time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// Of the main thread.
    pub main: f64,
    /// Of all other threads.
    pub others: f64,
}

impl CpuTime {
    /// What the threads of a process have used so far.
    pub fn of(pid: i32) -> Result<CpuTime> {
        let mut used = CpuTime::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            let microseconds = run_time(&fs::read_to_string(task.path().join("schedstat"))?)?;
            match task.file_name().to_str() == Some(&pid.to_string()) {
                true => used.main += microseconds,
                false => used.others += microseconds,
            }
        }
        Ok(used)
    }

    pub fn total(self) -> f64 {
        self.main + self.others
    }

    /// What was used since an earlier look, for each of so many records.
    pub fn each(self, earlier: CpuTime, records: u32) -> CpuTime {
        let each = |now: f64, before: f64| (now - before) / f64::from(records);
        CpuTime {
            main: each(self.main, earlier.main),
            others: each(self.others, earlier.others),
        }
    }
}

/// Microseconds on a processor; the file holds nanoseconds, and two other numbers.
fn run_time(schedstat: &str) -> Result<f64> {
    let nanoseconds = schedstat
        .split_whitespace()
        .next()
        .ok_or("the kernel does not tell how long threads have run")?;
    Ok(nanoseconds.parse::<f64>()? / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says() -> Result<()> {
        assert_eq!(run_time("1234567 89 10\n")?, 1234.567);
        assert!(run_time("").is_err());
        let before = CpuTime::of(std::process::id().cast_signed())?;
        assert!(before.total() > 0.0);
        let now = CpuTime {
            main: 50.0,
            others: 6.0,
        };
        let each = now.each(
            CpuTime {
                main: 10.0,
                others: 4.0,
            },
            2,
        );
        assert_eq!((each.main, each.others), (20.0, 1.0));
        Ok(())
    }
}
