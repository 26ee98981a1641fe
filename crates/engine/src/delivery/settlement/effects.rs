//! What settling comes to: everything that is stored, and what becomes of the records in the queue.

use crate::{
    consent::{Party, standing::Remembered},
    delivery::{call::Link, outcome::Category},
    limits::retry::Retry,
    queue::Handle,
    record::{
        Op, RecordRef, RemoteId, Timestamp,
        consent::MemberStatus,
        once::{Keyed, Once},
    },
};

/// What verdicts come to; collected first, so that every table is written once.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Links after a write that the service confirmed.
    pub pushed: Once<LinkEntry>,
    /// Links of which something was learnt in another way; stored after those above.
    pub noted: Once<LinkEntry>,
    pub unlinked: Vec<RecordRef>,
    /// Removed records that the service keeps in its recycle bin.
    pub archived: Vec<(RecordRef, RemoteId)>,
    /// Records that are another remote record than before.
    pub readopted: Vec<RecordRef>,
    pub retries: Once<Retry>,
    /// Records of which nothing is left to be done.
    pub done: Vec<RecordRef>,
    /// Nothing is to be sent for them, nor are their associations.
    pub withheld: Vec<RecordRef>,
    /// Records whose open dead letters a delivery has overtaken.
    pub superseded: Vec<RecordRef>,
    pub dead_letters: Vec<DeadLetter>,
    pub consent: Vec<ConsentChange>,
    pub remembered: Vec<Remembered>,
    pub address_changes: Vec<AddressChange>,
    pub writebacks: Vec<ConsentWriteback>,
    /// What is noted has to be safe on disk before the next call leaves.
    pub durable: bool,
    pub queue: Vec<QueueStep>,
}

impl Effects {
    /// Returns no effects, with room for those of so many deliveries.
    pub fn with_capacity(deliveries: usize) -> Effects {
        Effects {
            pushed: Once::with_capacity(deliveries),
            done: Vec::with_capacity(deliveries),
            superseded: Vec::with_capacity(deliveries),
            queue: Vec::with_capacity(deliveries),
            ..Effects::default()
        }
    }
}

/// What becomes of a record in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueStep {
    /// It leaves the queue, and its rows with it.
    Leave(Handle),
    /// It is planned again at once, in calls of at most so many records.
    Again(Handle, Option<usize>),
    /// As before it was taken.
    PutBack(Handle),
}

/// A link as it is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkEntry {
    pub record: RecordRef,
    pub link: Link,
}

impl Keyed for LinkEntry {
    type Key = RecordRef;

    fn key(&self) -> RecordRef {
        self.record.clone()
    }

    /// Each is a whole link, made from what was known by then.
    fn merge(&mut self, later: LinkEntry) {
        *self = later;
    }
}

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempted {
    Write(Op),
    /// HubSpot: its association by one column.
    Associate,
}

impl Attempted {
    /// As column `op` of `integration.dlq` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Attempted::Write(op) => op.name(),
            Attempted::Associate => "associate",
        }
    }
}

/// A change given up on.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub record: RecordRef,
    pub attempted: Attempted,
    pub category: Category,
    pub status: Option<u16>,
    pub why: String,
    /// What was sent for the record, JSON.
    pub request: Option<String>,
    pub attempts: u32,
    pub enqueued_at: Timestamp,
    /// A conflict: the record of ours that has what this one wants.
    pub holder: Option<RecordRef>,
    /// The column whose association it is about.
    pub column: Option<String>,
}

/// A change of a person's consent, for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsentChange {
    pub record: RecordRef,
    /// The address it is about; kept as a hash.
    pub address: Option<String>,
    pub by: Party,
    pub before: Option<MemberStatus>,
    pub after: MemberStatus,
    pub at: Timestamp,
    /// The event it was reported by; `None`: an answer to a write of ours.
    pub event: Option<i64>,
    pub reason: Option<String>,
}

/// A change of address at Mailchimp that no webhook told of: it is applied as if one had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressChange {
    /// The audience.
    pub list: String,
    pub old: String,
    pub new: String,
    /// When what led to it was changed: it is one change however often it is found out.
    pub changed_at: Timestamp,
}

/// What the CRM has to be told about a person's consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentWriteback {
    pub record: RecordRef,
    pub status: MemberStatus,
}
