//! Whether this library and the extension's tables fit together. While they don't, the worker says
//! so and waits: it would fail at the first statement that names a column which is not there.

use std::time::Duration;

use integration_engine::delivery::target_state::TargetState;
use integration_engine::record::Target;
use pgrx::spi::SpiResult;

use super::process;
use super::target::TargetStatus;
use crate::capture;
use crate::pg::shmem::{self, Woken};
use crate::store::{self, server::session, state};

/// Versions of the extension's tables that this library works with: its own, and the one before.
const TABLES: [&str; 1] = [env!("CARGO_PKG_VERSION")];

/// How often is looked whether somebody has put it right.
const LOOK: Duration = Duration::from_secs(10);

/// Why the library cannot work with the tables. `None`: it can.
pub fn misfit() -> SpiResult<Option<String>> {
    let version = session::tables_version()?;
    let why = match TABLES.contains(&version.as_str()) {
        true => capture::misfit(),
        false => Some(format!(
            "the extension's tables are of version {version}, the library is of version {}",
            env!("CARGO_PKG_VERSION")
        )),
    };
    Ok(why.map(|why| format!("{why}. {}", capture::MISFIT_HINT)))
}

/// Waits until library and tables fit together; `Woken::Stop` when the worker has to end first.
pub fn wait() -> SpiResult<Woken> {
    let mut said = None;
    while let Some(why) = store::transaction(misfit)? {
        if said.as_ref() != Some(&why) {
            pgrx::warning!("integration worker waits: {why}");
            store::transaction(|| tell(&why))?;
            said = Some(why);
        }
        if shmem::wait(None, Some(LOOK)) == Woken::Stop {
            return Ok(Woken::Stop);
        }
    }
    Ok(Woken::Up)
}

fn tell(why: &str) -> SpiResult<()> {
    let guarded = state::guarded()?;
    let states = Target::ALL.map(|target| {
        let state = TargetStatus::because(TargetState::Unconfigured, why);
        (target, state, guarded.contains(&target))
    });
    process::tell_states(&states)
}
