//! What a worker is woken for.

use integration_engine::record::{Lane, Target};

/// Each lane has this many bits of a [`Wake`] word.
const LANES: u32 = 5;

/// What a worker was woken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake(pub(super) u32);

impl Wake {
    /// Events were imported.
    pub const INBOX: Wake = Wake(1 << 16);
    /// The configuration, a pause, a job: anything in our tables besides queue and inbox.
    pub const CONFIG: Wake = Wake(1 << 17);
    /// A transaction with queue rows was prepared: it will commit without telling us.
    pub const PREPARED: Wake = Wake(1 << 18);
    /// Somebody waits for a connection test.
    pub const TEST: Wake = Wake(1 << 24);
    /// Another process is to take the worker's place.
    pub const RELOAD: Wake = Wake(1 << 25);
    /// Tables, triggers or schemas were altered or dropped.
    pub const CATALOG: Wake = Wake(1 << 26);
    pub const NONE: Wake = Wake(0);
    /// What a worker that begins has to look at.
    pub(super) const START: Wake = Wake(!(Wake::TEST.0 | Wake::RELOAD.0));

    pub fn changes(target: Target, lane: Lane) -> Wake {
        Wake(1 << ((target.number() as u32 - 1) * LANES + lane as u32))
    }

    pub fn has(self, other: Wake) -> bool {
        self.0 & other.0 != 0
    }

    pub fn union(self, other: Wake) -> Wake {
        Wake(self.0 | other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
