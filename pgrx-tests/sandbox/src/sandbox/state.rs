//! What is there, and what was asked.

use super::Sandbox;
use crate::hubspot::{Association, HubSpotRecord, ObjectType};
use crate::mailchimp::{ListMember, Subscribed};
use crate::world::{LoggedRequest, Seen, Stats, Watcher};

impl Sandbox {
    /// Live records of a type, in the order of their ids.
    pub fn records(&self, object: ObjectType) -> Vec<HubSpotRecord> {
        self.shared.world().hubspot.look(object, false)
    }

    /// Records in the recycle bin.
    pub fn archived(&self, object: ObjectType) -> Vec<HubSpotRecord> {
        self.shared.world().hubspot.look(object, true)
    }

    /// A live or archived record.
    pub fn record(&self, object: ObjectType, id: u64) -> Option<HubSpotRecord> {
        self.shared.world().hubspot.look_at(object, id)
    }

    /// The first live record with this value.
    pub fn find(&self, object: ObjectType, property: &str, value: &str) -> Option<HubSpotRecord> {
        self.shared.world().hubspot.look_up(object, property, value)
    }

    pub fn associations(&self) -> Vec<Association> {
        self.shared.world().hubspot.look_at_associations()
    }

    /// Members of the configured audience, archived ones included.
    pub fn members(&self) -> Vec<ListMember> {
        let world = self.shared.world();
        world.mailchimp.look(&world.config.mailchimp.list_id)
    }

    /// A member by address or hash.
    pub fn member(&self, email: &str) -> Option<ListMember> {
        let world = self.shared.world();
        world
            .mailchimp
            .look_at(&world.config.mailchimp.list_id, email)
    }

    /// Members of any audience, archived ones included.
    pub fn members_of(&self, list_id: &str) -> Vec<ListMember> {
        self.shared.world().mailchimp.look(list_id)
    }

    /// A member of any audience by address or hash.
    pub fn member_of(&self, list_id: &str, email: &str) -> Option<ListMember> {
        self.shared.world().mailchimp.look_at(list_id, email)
    }

    /// Every time that somebody became subscribed, oldest first.
    pub fn subscribed(&self) -> Vec<Subscribed> {
        self.shared.world().mailchimp.subscribed.clone()
    }

    /// Whether the address was permanently deleted in any audience.
    pub fn is_forgotten_in(&self, list_id: &str, email: &str) -> bool {
        self.shared.world().mailchimp.is_forgotten(list_id, email)
    }

    /// Whether the address was permanently deleted.
    pub fn is_forgotten(&self, email: &str) -> bool {
        let world = self.shared.world();
        world
            .mailchimp
            .is_forgotten(&world.config.mailchimp.list_id, email)
    }

    /// The latest requests, oldest first.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.world().log.iter().cloned().collect()
    }

    /// Whether the log keeps request bodies; off at first.
    pub fn keep_bodies(&self, keep: bool) {
        self.shared.world().keep_bodies = keep;
    }

    /// Has every request told to this function as well, before it is answered.
    pub fn watch(&self, watcher: impl Fn(Seen<'_>) + Send + 'static) {
        self.shared.world().watcher = Watcher(Some(Box::new(watcher)));
    }

    pub fn stats(&self) -> Stats {
        self.shared.world().stats()
    }
}
