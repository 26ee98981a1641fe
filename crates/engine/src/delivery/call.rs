//! Records on their way to a target: what is known of them, what is to be done, and in which call.

use std::{fmt, hash::Hash};

use crate::{
    consent::{membership::Membership, standing::Standing},
    delivery::{
        given::Given,
        outbound::Outbound,
        outcome::{TargetSignal, Verdict},
        own::Own,
    },
    limits::{BudgetReport, rate::Rate},
    record::{RecordKey, RemoteId, SourceId, Timestamp, consent::MemberStatus},
    sync::clock::{FieldClock, Tick},
    wire::Request,
};

/// What is known about a record's remote counterpart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// `None`: a create was under way when we last looked; the record may or may not exist.
    pub remote_id: Option<RemoteId>,
    /// E-mail address (lower case) it was last written under.
    pub remote_key: Option<String>,
    pub member_status: Option<MemberStatus>,
    pub clock: FieldClock,
    /// Mailchimp: which of its audiences it is in.
    pub membership: Membership,
    /// The stored link that was read, in whatever way the caller finds it again: until it is written
    /// anew, nothing has to be looked up for that.
    pub version: Option<u64>,
}

/// A record to bring in step with one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    pub source: SourceId,
    pub key: RecordKey,
    /// The row's mapped columns as text, in the order of the map's fields. `None`: no such row any more.
    pub row: Option<Vec<Option<String>>>,
    pub link: Option<Link>,
    /// When the CRM last changed it.
    pub changed_at: Timestamp,
    /// Never put more than this many records in a call with it.
    pub batch_cap: usize,
    /// Another record of ours that is known to the target (Mailchimp: in the same audience) under
    /// the same e-mail address.
    pub rival: Option<String>,
    /// HubSpot: other records wait for the e-mail address it is known under, and it waits for theirs
    /// ([`crate::delivery::address_owner::chain`]): it gives its own up first.
    pub gives_way: bool,
    /// Mailchimp: the audience its row names is known to exist.
    pub audience_met: bool,
    /// It is sent because it has been so all along, not because it has just changed.
    pub syncing: bool,
    /// Mailchimp: what is remembered of its address, and counts in its audience.
    pub standing: Option<Standing>,
    /// Mailchimp: another row with the same address that is opted out, or was when the member was
    /// unsubscribed for it.
    pub objection: Option<String>,
}

/// Somebody who had left Mailchimp and whom the CRM opts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaver {
    /// Not one of them.
    #[default]
    No,
    /// Asked whether they want to come back. That is noted before the call is made.
    Asked,
    /// Unsubscribed where they still get mail, and planned again then.
    Unheeded,
}

/// One record inside a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The caller's index of the [`Work`] this came from.
    pub work: usize,
    /// What the answer names it by: lower-cased e-mail, record id, or external id.
    pub name: String,
    /// Fields that the remote holds once the call succeeds.
    pub ticks: Vec<Tick>,
    /// The identity (lower-cased e-mail) it is written under, where it has one.
    pub remote_key: Option<String>,
    /// The status asked for, Mailchimp only.
    pub member_status: Option<MemberStatus>,
    /// The id it is known under at the target, where the answer's id is to be compared with it.
    pub expected: Option<RemoteId>,
    /// What becomes of it is uncertain until the answer is in, and that has to be stored before the
    /// call is made. Without a link: one with no id, for it may exist remotely from then on. With
    /// one (Mailchimp): no `member_status`, for the person may get mail from then on.
    pub intent: bool,
    /// Mailchimp only.
    pub leaver: Leaver,
    /// Never put more than this many records in a call with it; from [`Work::batch_cap`].
    pub batch_cap: usize,
    /// This record's part of the body, JSON.
    pub fragment: String,
    pub beside: Beside,
    /// HubSpot: by which a record that is found turns out to be somebody else's.
    pub own: Option<Box<Own>>,
}

/// What a call does besides writing fields, Mailchimp only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// What the member has of us afterwards, where it is written.
    pub given: Option<Given>,
    /// It changes, and that has to be stored before the call is made: what nobody knew of could not
    /// be taken back.
    pub note: bool,
    /// Once it is delivered, something is left that takes another call.
    pub more: bool,
}

/// How records of one kind travel together, in the words of a service.
pub trait CallKind: Clone + fmt::Debug + Eq + Hash {
    /// The audience that a call of this kind is about, where the service has several.
    fn list(&self) -> Option<&str>;

    /// Whose limits it counts against.
    fn allowance(&self) -> Allowance;

    /// Records in a call of this kind at most.
    fn most(&self) -> usize;
}

/// Whose limits a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowance {
    /// The target's general limit, which its answers tell of.
    General,
    /// One of its own, for the whole account, beside the general one; no answer tells of it.
    Own(Rate),
}

impl Allowance {
    /// The limit of its own, where it has one.
    pub const fn own_rate(self) -> Option<Rate> {
        match self {
            Allowance::General => None,
            Allowance::Own(rate) => Some(rate),
        }
    }
}

/// A call ready to go.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<S: Outbound> {
    pub kind: S::Kind,
    pub request: Request,
    pub items: Vec<Item>,
}

/// What is to be done about one record.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision<S: Outbound> {
    /// Nothing to send; this is how it ends.
    Settled(Verdict),
    /// Put it into a call of this kind.
    Send(S::Kind, Item),
}

/// What one answer means: a verdict for every item of the call, in the order of its items.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub verdicts: Vec<Verdict>,
    pub signal: TargetSignal,
    pub budget: BudgetReport,
    /// The service's own id of the request, for its support.
    pub correlation_id: Option<String>,
    /// One line for the request log; `None` when all went well.
    pub error: Option<String>,
}
