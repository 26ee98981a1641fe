//! CPU time of a process: unlike rates, it says little of what else the machine is doing.

use std::fs;
use std::path::Path;

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
        CpuTime::of_threads(Path::new(&format!("/proc/{pid}/task")), pid)
    }

    /// What the threads of process `pid`, a folder each, have used so far.
    fn of_threads(folder: &Path, pid: i32) -> Result<CpuTime> {
        let mut used = CpuTime::default();
        for thread in fs::read_dir(folder)? {
            let thread = thread?;
            let microseconds = thread_time(&thread.path())?;
            match thread.file_name().to_str() == Some(&pid.to_string()) {
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

/// Returns the microseconds of a thread, from the more exact of the two files that tell them; not
/// every kernel has it.
fn thread_time(folder: &Path) -> Result<f64> {
    match fs::read_to_string(folder.join("schedstat")) {
        Ok(schedstat) => run_time(&schedstat),
        Err(_) => ticks(&fs::read_to_string(folder.join("stat"))?),
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

/// Microseconds of a user's and of the kernel's code: fields 14 and 15, in hundredths of a second
/// on every Linux. The name, field 2, is in parentheses and may hold spaces and parentheses.
fn ticks(stat: &str) -> Result<f64> {
    let after_name = stat.rsplit_once(')').map(|(_, fields)| fields);
    let mut fields = after_name.unwrap_or_default().split_whitespace().skip(11);
    let (Some(user), Some(kernel)) = (fields.next(), fields.next()) else {
        return Err("the kernel does not tell how long threads have run".into());
    };
    Ok((user.parse::<f64>()? + kernel.parse::<f64>()?) * 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says() -> Result<()> {
        assert_eq!(run_time("1234567 89 10\n")?, 1234.567);
        assert!(run_time("").is_err());
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 90 0 0 0 3 2 0 0 20 0 1 0 55 100 200";
        assert_eq!(ticks(stat)?, 50_000.0);
        assert!(ticks("7 (a) S 1").is_err());
        Ok(())
    }

    #[test]
    fn adds_up_threads() -> Result<()> {
        let process = tempfile::tempdir()?;
        for (thread, file, text) in [
            ("7", "schedstat", "5000000 1 2"),
            ("8", "stat", "8 (a) S 1 7 7 0 -1 4194560 90 0 0 0 3 2 0 0"),
        ] {
            let folder = process.path().join(thread);
            fs::create_dir(&folder)?;
            fs::write(folder.join(file), text)?;
        }
        let used = CpuTime::of_threads(process.path(), 7)?;
        assert_eq!((used.main, used.others), (5_000.0, 50_000.0));
        assert_eq!(used.total(), 55_000.0);
        Ok(())
    }

    #[test]
    fn time_of_each_record() -> Result<()> {
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
