//! Records on their way to a target: what is known of them, what is to be done, and in which call.

use std::time::Duration;

use crate::{
    consent::{membership::Membership, standing::Standing},
    delivery::{
        given::Given,
        outcome::{TargetSignal, Verdict},
        own::Own,
    },
    limits::{BudgetReport, rate::Rate},
    record::{Entity, RecordKey, RemoteId, SourceId, Timestamp, consent::MemberStatus},
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

/// How records of one kind travel together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// `POST …/batch/upsert`, at most 100.
    HubSpotUpsert { entity: Entity, id_property: String },
    /// `POST …/batch/update` by record id, at most 100.
    HubSpotUpdate { entity: Entity },
    /// `POST …/batch/update` that takes the records' e-mail addresses away, at most 100: others
    /// want them, and they want others'.
    HubSpotGiveWay { entity: Entity },
    /// `PATCH …/{id}`, one record: HubSpot resolves the id of a record that was merged into another
    /// one here, but not in batches.
    HubSpotPatch { entity: Entity, id: RemoteId },
    /// `POST …/batch/archive` by record id, at most 100.
    HubSpotArchive { entity: Entity },
    /// `POST …/contacts/gdpr-delete` by record id, one contact: there is no batch of it.
    HubSpotErase { entity: Entity },
    /// `POST …/batch/read` by a unique property: does it exist, and under which id? At most 100.
    HubSpotFind { entity: Entity, id_property: String },
    /// `POST …/search` by a property that is not unique: which records hold these values? At most
    /// 50 values, for HubSpot refuses bodies above 3,000 characters.
    HubSpotMatch { entity: Entity, property: String },
    /// `POST /lists/{id}`, at most 500.
    MailchimpBulk { list: String },
    /// `PUT /lists/{id}/members/{hash}`: the hash in the path is the old address's.
    MailchimpPut { list: String, hash: String },
    /// `PATCH /lists/{id}/members/{hash}`.
    MailchimpPatch { list: String, hash: String },
    /// `POST /lists/{id}/members/{hash}/tags`: gives tags and takes them back.
    MailchimpTags { list: String, hash: String },
    /// `DELETE /lists/{id}/members/{hash}`: archive.
    MailchimpArchive { list: String, hash: String },
    /// `GET /lists/{id}`: is there such an audience? Asked before anybody is moved there.
    MailchimpMeet { list: String },
    /// `GET /lists/{id}/members/{hash}`: how is the member, who is about to leave this audience?
    MailchimpLook {
        list: String,
        hash: String,
        leaving: Leaving,
        /// When the CRM opted them out, if that was our last word.
        opted_out: Option<Timestamp>,
    },
    /// `DELETE /lists/{id}/members/{hash}`: archive, because the record moves to another audience.
    MailchimpLeave { list: String, hash: String },
    /// `DELETE /lists/{id}/members/{hash}`: archive what a call of ours created under an address that
    /// the member had left.
    MailchimpDiscard { list: String, hash: String },
    /// `POST …/actions/delete-permanent` in an audience that the member was archived in.
    MailchimpErase { list: String, hash: String },
}

/// Why a member leaves an audience, or an address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaving {
    /// Its row names another one.
    Elsewhere,
    /// As before, but it was coming back here: if it is archived, that was us.
    ElsewhereAgain,
    /// Mail to its address bounced, and its row has another one.
    Bounced,
    /// Its row is gone.
    ForGood,
    /// It has left the address by itself, or is gone: a call of ours created another one there.
    Displaced,
}

/// Whose limits a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowance {
    /// The target's general limit, which its answers tell of.
    General,
    /// HubSpot: 5 searches a second for the whole account, outside the general limit, and without
    /// headers that tell of it.
    Search,
}

impl Allowance {
    /// The limit of its own, where it has one.
    pub const fn own_rate(self) -> Option<Rate> {
        match self {
            Allowance::General => None,
            Allowance::Search => Some(Rate {
                limit: 5,
                interval: Duration::from_secs(1),
            }),
        }
    }
}

/// HubSpot: what a credential is allowed, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Read(Entity),
    Write(Entity),
    /// To associate records of the first kind with those of the second.
    Associate(Entity, Entity),
}

impl CallKind {
    /// The audience that it is about.
    pub fn list(&self) -> Option<&str> {
        match self {
            CallKind::MailchimpBulk { list }
            | CallKind::MailchimpPut { list, .. }
            | CallKind::MailchimpPatch { list, .. }
            | CallKind::MailchimpTags { list, .. }
            | CallKind::MailchimpArchive { list, .. }
            | CallKind::MailchimpMeet { list }
            | CallKind::MailchimpLook { list, .. }
            | CallKind::MailchimpLeave { list, .. }
            | CallKind::MailchimpDiscard { list, .. }
            | CallKind::MailchimpErase { list, .. } => Some(list),
            CallKind::HubSpotUpsert { .. }
            | CallKind::HubSpotUpdate { .. }
            | CallKind::HubSpotGiveWay { .. }
            | CallKind::HubSpotPatch { .. }
            | CallKind::HubSpotArchive { .. }
            | CallKind::HubSpotErase { .. }
            | CallKind::HubSpotFind { .. }
            | CallKind::HubSpotMatch { .. } => None,
        }
    }

    /// What the credential has to be allowed for it.
    pub const fn scope(&self) -> Option<Scope> {
        match self {
            CallKind::HubSpotUpsert { entity, .. }
            | CallKind::HubSpotUpdate { entity }
            | CallKind::HubSpotGiveWay { entity }
            | CallKind::HubSpotPatch { entity, .. }
            | CallKind::HubSpotArchive { entity } => Some(Scope::Write(*entity)),
            CallKind::HubSpotFind { entity, .. } | CallKind::HubSpotMatch { entity, .. } => {
                Some(Scope::Read(*entity))
            }
            _ => None,
        }
    }

    pub const fn allowance(&self) -> Allowance {
        match self {
            CallKind::HubSpotMatch { .. } => Allowance::Search,
            _ => Allowance::General,
        }
    }
}

/// A call ready to go.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub kind: CallKind,
    pub request: Request,
    pub items: Vec<Item>,
}

/// What is to be done about one record.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing to send; this is how it ends.
    Settled(Verdict),
    /// Put it into a call of this kind.
    Send(CallKind, Item),
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

/// Everything about a target that planning needs.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetSettings {
    HubSpot(HubSpotSettings),
    Mailchimp(MailchimpSettings),
}

#[derive(Clone, Debug, PartialEq)]
pub struct HubSpotSettings {
    /// `2026-09`, another dated version, or `v3`.
    pub api_version: String,
    /// Name of our unique property.
    pub external_id_property: String,
    /// Entities on which that property is known to exist.
    pub external_id_ready: Vec<Entity>,
    /// Entities of which the portal holds records that others named: an address says nothing about
    /// whose a record is.
    pub external_id_shared: Vec<Entity>,
    pub on_delete: HubSpotOnDelete,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MailchimpSettings {
    /// The audience of records that name none.
    pub list: String,
    /// Whether rows may name others.
    pub several: bool,
    pub resubscribe: Resubscribe,
    pub double_opt_in: bool,
    pub on_delete: OnDelete,
}

/// What to do when the CRM says a person who opted out at Mailchimp has opted in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resubscribe {
    Never,
    Pending,
}

/// What becomes of a HubSpot record whose CRM row was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubSpotOnDelete {
    /// It goes to the recycle bin.
    Archive,
    /// A contact is erased for good (HubSpot: no other kind of record can be); others are archived.
    Gdpr,
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    Archive,
    Permanent,
    Ignore,
}
