//! What people do in the services, with records and members.

use super::Sandbox;
use crate::hubspot::ObjectType;
use crate::mailchimp::MemberAction;

impl Sandbox {
    /// A person sets one property in HubSpot.
    pub fn set_property(
        &self,
        object: ObjectType,
        id: u64,
        name: &str,
        value: &str,
    ) -> Result<(), String> {
        self.shared
            .world()
            .hubspot
            .person_sets(object, id, &[(name.to_owned(), value.to_owned())])
    }

    /// A person creates a record in HubSpot.
    pub fn create_record(
        &self,
        object: ObjectType,
        properties: &[(&str, &str)],
    ) -> Result<u64, String> {
        let properties: Vec<_> = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.shared
            .world()
            .hubspot
            .person_creates(object, &properties)
    }

    /// A person deletes a record in HubSpot; it can be restored.
    pub fn delete_record(&self, object: ObjectType, id: u64) -> Result<(), String> {
        self.shared
            .world()
            .hubspot
            .person_deletes(object, id, false)
    }

    /// A person deletes a record for good.
    pub fn erase_record(&self, object: ObjectType, id: u64) -> Result<(), String> {
        self.shared.world().hubspot.person_deletes(object, id, true)
    }

    pub fn restore_record(&self, object: ObjectType, id: u64) -> Result<(), String> {
        self.shared.world().hubspot.person_restores(object, id)
    }

    /// A person merges `other` into `primary`; returns the new id that both old ones lead to.
    pub fn merge_records(
        &self,
        object: ObjectType,
        primary: u64,
        other: u64,
    ) -> Result<u64, String> {
        self.shared
            .world()
            .hubspot
            .person_merges(object, primary, other)
    }

    pub fn associate(&self, from: (ObjectType, u64), to: (ObjectType, u64)) -> Result<(), String> {
        self.shared.world().hubspot.person_associates(from, to)
    }

    /// A person gives an associated pair a label of their own, known by its number.
    pub fn label_association(
        &self,
        from: (ObjectType, u64),
        to: (ObjectType, u64),
        label: u32,
    ) -> Result<(), String> {
        self.shared.world().hubspot.person_labels(from, to, label)
    }

    /// Something happens to a member of the configured audience.
    pub fn member_does(&self, email: &str, action: MemberAction) -> Result<(), String> {
        let mut world = self.shared.world();
        let list = world.config.mailchimp.list_id.clone();
        world.mailchimp.act(&list, email, action)
    }

    /// Something happens to a member of any audience.
    pub fn member_of_does(
        &self,
        list_id: &str,
        email: &str,
        action: MemberAction,
    ) -> Result<(), String> {
        self.shared.world().mailchimp.act(list_id, email, action)
    }
}
