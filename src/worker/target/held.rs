//! Held tables, as one target sees them: their changes are parked, those of others go on.

use integration_engine::delivery::target_state::TargetState;
use pgrx::spi::SpiResult;

use super::{TargetStatus, TargetWorker};
use crate::store::holds;
use crate::store::sources::Source;
use crate::worker::Context;

/// What was last taken note of.
#[derive(Default)]
pub struct Noted {
    generation: u64,
    /// In words, which tables are held, and what is left out of others.
    reason: Option<String>,
    /// None is left that is not.
    all: bool,
}

/// Tables and columns named in a state's reason.
const MOST_NAMED: usize = 5;

impl TargetWorker {
    /// Whether something has been held or released since [`TargetWorker::note_holds`].
    pub fn holds_changed(&self) -> bool {
        self.noted_holds.generation != holds::generation()
    }

    /// Takes note of which tables are held: nothing is planned of them, and what was planned is
    /// taken back. What waits of released ones is read. In a transaction.
    pub fn note_holds(&mut self, context: &Context) -> SpiResult<()> {
        let held = holds::held(self.target);
        let sent = |source: &&Source| source.maps.contains_key(&self.target);
        let (mut named, mut left_out) = (Vec::new(), Vec::new());
        for source in context.sources.values() {
            let wrong = holds::wrong(source.id, self.target);
            if !wrong.held.is_empty() {
                named.push(format!(
                    "{} is held: {}",
                    source.name,
                    wrong.held.join("; ")
                ));
            }
            let whose = |what: &String| format!("{}: {what}", source.name);
            left_out.extend(wrong.left_out.iter().map(whose));
        }
        named.sort();
        let all = !named.is_empty() && named.len() == context.sources.values().filter(sent).count();
        left_out.sort();
        named.extend(left_out);
        let more = named.len().saturating_sub(MOST_NAMED);
        named.truncate(MOST_NAMED);
        if more > 0 {
            named.push(format!("and {more} more, see integration.table_status"));
        }
        self.noted_holds = Noted {
            generation: holds::generation(),
            reason: (!named.is_empty()).then(|| named.join("\n")),
            all,
        };
        let released = self.queue.hold(held);
        for planned in std::mem::take(&mut self.planned) {
            let mut flights = planned.flights.iter();
            match flights.any(|flight| self.queue.holds(flight.record.source)) {
                true => self.give_back(planned),
                false => self.planned.push_back(planned),
            }
        }
        for source in &released {
            self.parked.release(*source);
            self.collisions.forget(*source);
        }
        match released.is_empty() {
            true => Ok(()),
            false => self.look_up_retries(context.now),
        }
    }

    /// In words, which tables are held, and what is left out of others; `None`: nothing.
    pub fn held_tables(&self) -> Option<&str> {
        self.noted_holds.reason.as_deref()
    }

    /// The state of a target none of whose tables may be sent.
    pub fn all_held(&self) -> Option<TargetStatus> {
        let reason = self.held_tables().filter(|_| self.noted_holds.all)?;
        Some(TargetStatus::because(TargetState::Held, reason))
    }

    /// Whether it listens for changes though it sends nothing: they may come with what makes one of
    /// its tables well again.
    pub fn listens(&self) -> bool {
        self.noted_holds.all
    }
}
