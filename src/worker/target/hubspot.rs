//! What a HubSpot target knows of its portal.

use std::collections::HashMap;
use std::time::Instant;

use integration_engine::record::SourceId;
use integration_hubspot::collisions::Tally;
use integration_hubspot::scopes::Scope;

use super::TargetWorker;

/// What is known of others.
#[derive(Debug, Default)]
pub struct Others {
    /// `None`: nothing yet.
    pub shared: Option<bool>,
    pub asked: bool,
    pub again_at: Option<Instant>,
}

impl Others {
    /// Whether a contact that has an address may be somebody else's.
    pub fn share(&self) -> bool {
        self.shared == Some(true)
    }

    /// It has to be asked again, for the answer did not count.
    pub fn forget_question(&mut self) {
        self.asked = false;
    }
}

/// Whose records turned out to be, since a table was last released.
#[derive(Default)]
pub struct Collisions {
    pub tallies: HashMap<SourceId, Tally>,
}

impl Collisions {
    /// Somebody has looked at it.
    pub fn forget(&mut self, source: SourceId) {
        self.tallies.remove(&source);
    }
}

/// What is told and owed at present of scopes that are missing.
#[derive(Default)]
pub struct ScopeAlerts {
    /// `None`: what was told before this worker began has not been looked at.
    pub message: Option<Option<String>>,
    /// What is allowed again: dead letters are to be sent again.
    pub granted: Vec<Scope>,
}

/// Associations that have been noted since the table was last read.
pub struct AssociationsOwed {
    pub count: usize,
    /// The table may hold something new, since then.
    pub since: Option<Instant>,
}

impl AssociationsOwed {
    /// An earlier worker may have left some.
    pub fn new(now: Instant) -> AssociationsOwed {
        AssociationsOwed {
            count: 0,
            since: Some(now),
        }
    }

    pub fn add(&mut self, count: usize, now: Instant) {
        if count > 0 {
            self.count += count;
            self.since.get_or_insert(now);
        }
    }
}

impl TargetWorker {
    /// Another credential: whatever was refused is tried again.
    pub(super) fn forget_missing_scopes(&mut self) {
        let refused = self.missing_scopes.forget();
        self.missing_scopes_told.granted.extend(refused);
    }
}
