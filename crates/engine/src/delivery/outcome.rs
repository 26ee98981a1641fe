//! What became of a record, and what an answer says about its target.

use std::time::Duration;

use crate::{
    record::{RemoteId, Timestamp, consent::MemberStatus},
    service::failure::Class,
    sync::clock::Tick,
};

/// Why a change was given up on; the `category` column of `integration.dlq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    Validation,
    /// Not what the service's definition of a field allows. The definition, or what is known of it
    /// here, may have changed since.
    Definition,
    NotFound,
    Conflict,
    /// HubSpot: the record that a row is known by is somebody else's.
    Taken,
    Consent,
    Permission,
    TooLarge,
    Exhausted,
    Unmappable,
}

impl Category {
    pub const fn name(self) -> &'static str {
        match self {
            Category::Validation | Category::Definition => "validation",
            Category::NotFound => "not_found",
            Category::Conflict | Category::Taken => "conflict",
            Category::Consent => "consent",
            Category::Permission => "permission",
            Category::TooLarge => "too_large",
            Category::Exhausted => "exhausted",
            Category::Unmappable => "unmappable",
        }
    }
}

/// How the identity of a record at the target is to be changed before anything else is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relink {
    /// The record is known remotely under this id; nothing is known about its fields.
    Adopt(RemoteId),
    /// The id we hold is dead.
    Forget,
    /// No record of other origin is this one: it may be created. The caller stores that, as a link
    /// without an id, before the call is made that does.
    Vacant,
    /// HubSpot: it has no e-mail address any more, for others want the one it had. With what is
    /// agreed about that.
    Unaddressed(Vec<Tick>),
    /// Mailchimp: the member was looked at, and may leave its audience. With `ask`, the person is
    /// to be asked where it arrives.
    Leave { ask: bool },
    /// Mailchimp: the member has left this audience: it was archived there, or gets no mail from
    /// there anyway, as `how` says if that was not our doing. With `ask` as above.
    Left {
        list: String,
        ask: bool,
        how: Option<MemberStatus>,
    },
    /// Mailchimp: the member gets no mail (any more), for it left in this way, whatever the CRM says.
    /// With what is agreed about that, if it was our call that opted it out.
    Unsubscribed { how: MemberStatus, ticks: Vec<Tick> },
    /// Mailchimp: the member was erased in this audience, which it had left before.
    ErasedIn(String),
    /// Mailchimp: nobody was known there under the address, so that a call of ours created another
    /// member, who gets no mail: ours has left the address, or is gone.
    Displaced,
    /// Mailchimp: the member was met under another address, which the CRM is to be told before
    /// anything is sent. With what is agreed about it.
    Found {
        address: String,
        status: MemberStatus,
        ticks: Vec<Tick>,
    },
    /// Mailchimp: the member is known by no name any more: it was removed, or never confirmed.
    Gone,
    /// Mailchimp: what a call of ours created under an address that the member had left is archived.
    Discarded,
}

/// The end, or the next step, of one record's attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The remote holds what was sent. `ticks` are the fields sent.
    Delivered {
        remote_id: Option<RemoteId>,
        /// The identity it was written under: e-mail address in lower case.
        remote_key: Option<String>,
        member_status: Option<MemberStatus>,
        ticks: Vec<Tick>,
        /// A record that had been there before was met under its address (HubSpot's `new: false`).
        /// If it was not known to be this one, it may turn out to be another row's.
        met: bool,
    },
    /// As `Delivered`, but the service kept a value of its own for one of the fields, and said
    /// nothing. `ticks` have what it kept.
    Overruled {
        remote_id: RemoteId,
        remote_key: Option<String>,
        ticks: Vec<Tick>,
        why: String,
    },
    /// Nothing had to be sent: the remote already holds this state.
    Unchanged,
    /// Nothing may be sent: the person has not opted in.
    NoConsent,
    /// Nothing may be sent: the record was erased, or deleted there on purpose, and nobody has
    /// allowed it again.
    Withheld,
    /// The record no longer exists remotely, as asked.
    Removed,
    /// Plan it again at once, after applying `relink`, in calls of at most `batch_cap` records.
    Again {
        relink: Option<Relink>,
        batch_cap: Option<usize>,
        /// For the log and, if it goes on for too long, the dead letter.
        why: String,
    },
    /// Transient: back off. `counted` is false while the target as a whole is failing.
    Retry {
        why: String,
        status: Option<u16>,
        wait: Option<Duration>,
        counted: bool,
    },
    /// Permanent: a dead letter.
    Dead {
        category: Category,
        status: Option<u16>,
        why: String,
        /// What the answer says about the person's consent, to be recorded in the CRM.
        member_status: Option<MemberStatus>,
    },
}

impl Verdict {
    /// Whether the call may have been carried out though nothing confirms it.
    pub const fn is_uncertain(&self) -> bool {
        match self {
            // No answer, one that makes no sense, or one of whoever stands in front.
            Verdict::Retry { status, .. } => {
                matches!(status, None | Some(200..=299 | 408 | 500..=599))
            }
            _ => false,
        }
    }
}

/// What an answer says about the target as a whole.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetSignal {
    /// It answered as it should.
    Healthy,
    /// It failed in a way that is not the records' fault; opens the breaker when repeated.
    Failing { why: String },
    /// Send nothing before `wait` has passed.
    Throttled { wait: Duration, why: String },
    /// The day's requests are used up.
    DailyLimit {
        until: Option<Timestamp>,
        why: String,
    },
    /// Too much at once: halve the concurrency.
    Crowded { wait: Duration, why: String },
    /// The credential does not work.
    Unauthorized { why: String },
    /// HubSpot: the credential may not do this. See [`crate::limits::missing_scopes`].
    Forbidden { why: String },
}

impl From<Class> for TargetSignal {
    /// Of an answer that is not about records.
    fn from(class: Class) -> TargetSignal {
        match class {
            Class::Answered | Class::Rejected | Class::NotFound => TargetSignal::Healthy,
            Class::Failing { why, .. } => TargetSignal::Failing { why },
            Class::Throttled { why, wait } => TargetSignal::Throttled { wait, why },
            Class::DailyLimit { why, until, .. } => TargetSignal::DailyLimit { until, why },
            Class::Crowded { why, wait, .. } => TargetSignal::Crowded { wait, why },
            Class::Unauthorized { why } => TargetSignal::Unauthorized { why },
            Class::Forbidden { why } => TargetSignal::Forbidden { why },
        }
    }
}
