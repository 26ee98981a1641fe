//! The calls that carry records to HubSpot.

use std::time::Duration;

use integration_engine::{
    delivery::call::{Allowance, CallKind, Item, Link},
    limits::rate::Rate,
    record::{Entity, RemoteId},
};

use crate::{BATCH_MAX, scopes::Scope};

/// Values looked for in one search.
const MATCH_MAX: usize = 50;

/// HubSpot: 5 searches a second for the whole account, outside the general limit, and without
/// headers that tell of it.
pub const SEARCH: Allowance = Allowance::Own(Rate {
    limit: 5,
    interval: Duration::from_secs(1),
});

/// How records of one kind travel together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HubSpotCall {
    /// `POST …/batch/upsert`, at most 100.
    Upsert { entity: Entity, id_property: String },
    /// `POST …/batch/update` by record id, at most 100.
    Update { entity: Entity },
    /// `POST …/batch/update` that takes the records' e-mail addresses away, at most 100: others
    /// want them, and they want others'.
    GiveWay { entity: Entity },
    /// `PATCH …/{id}`, one record: HubSpot resolves the id of a record that was merged into another
    /// one here, but not in batches.
    Patch { entity: Entity, id: RemoteId },
    /// `POST …/batch/archive` by record id, at most 100.
    Archive { entity: Entity },
    /// `POST …/contacts/gdpr-delete` by record id, one contact: there is no batch of it.
    Erase { entity: Entity },
    /// `POST …/batch/read` by a unique property: does it exist, and under which id? At most 100.
    Find { entity: Entity, id_property: String },
    /// `POST …/search` by a property that is not unique: which records hold these values? At most
    /// 50 values, for HubSpot refuses bodies above 3,000 characters.
    Match { entity: Entity, property: String },
}

impl CallKind for HubSpotCall {
    fn list(&self) -> Option<&str> {
        None
    }

    fn allowance(&self) -> Allowance {
        match self {
            HubSpotCall::Match { .. } => SEARCH,
            _ => Allowance::General,
        }
    }

    fn most(&self) -> usize {
        match self {
            HubSpotCall::Match { .. } => MATCH_MAX,
            HubSpotCall::Patch { .. } | HubSpotCall::Erase { .. } => 1,
            _ => BATCH_MAX,
        }
    }
}

impl HubSpotCall {
    /// What the credential has to be allowed for it.
    pub const fn scope(&self) -> Option<Scope> {
        match self {
            HubSpotCall::Upsert { entity, .. }
            | HubSpotCall::Update { entity }
            | HubSpotCall::GiveWay { entity }
            | HubSpotCall::Patch { entity, .. }
            | HubSpotCall::Archive { entity } => Some(Scope::Write(*entity)),
            HubSpotCall::Find { entity, .. } | HubSpotCall::Match { entity, .. } => {
                Some(Scope::Read(*entity))
            }
            HubSpotCall::Erase { .. } => None,
        }
    }
}

/// What has to be stored of a record before a call leaves whose answer may get lost, if anything.
pub(crate) fn to_note(known: Option<&Link>, item: &Item, kind: &HubSpotCall) -> Option<Link> {
    let link = || match (known, kind) {
        // Others go on to wait for the address until it is certainly free.
        (Some(link), HubSpotCall::GiveWay { .. }) => {
            let mut link = link.clone();
            link.clock.doubt(&item.ticks);
            link
        }
        (Some(link), _) => link.clone(),
        (None, _) => Link::to_be(item.remote_key.clone(), None),
    };
    item.intent.then(link)
}
