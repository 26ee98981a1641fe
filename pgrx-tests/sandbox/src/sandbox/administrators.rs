//! What administrators do: definitions, owners, audiences, and what else an account has.

use super::Sandbox;
use crate::hubspot::{NewObject, ObjectType};
use crate::mailchimp::AudienceField;

impl Sandbox {
    /// Makes a custom object.
    pub fn make_object(&self, new: NewObject) -> ObjectType {
        self.shared.world().hubspot.admin_makes_object(new)
    }

    /// Deletes a custom object, with its records.
    pub fn delete_object(&self, object: ObjectType) {
        self.shared.world().hubspot.admin_deletes_object(object);
    }

    /// Defines a property, as the API's `POST /crm/properties/{V}/{type}` takes it.
    pub fn define_property(
        &self,
        object: ObjectType,
        definition: serde_json::Value,
    ) -> Result<(), String> {
        self.shared
            .world()
            .hubspot
            .admin_defines(object, definition)
    }

    /// Deletes a property that is not HubSpot's own.
    pub fn delete_property(&self, object: ObjectType, name: &str) -> Result<(), String> {
        self.shared.world().hubspot.admin_deletes(object, name)
    }

    /// Changes a property: `{"options":[{"value":…,"label":…}]}` replaces them all, `{"readOnly":true}`.
    pub fn change_property(
        &self,
        object: ObjectType,
        name: &str,
        change: serde_json::Value,
    ) -> Result<(), String> {
        let change = serde_json::from_value(change).map_err(|error| error.to_string())?;
        self.shared
            .world()
            .hubspot
            .admin_changes(object, name, change)
    }

    /// A new user of the account; gives the owner id.
    pub fn add_owner(&self, email: &str) -> u64 {
        self.shared.world().hubspot.admin_adds_owner(email)
    }

    /// A new pipeline with stages of these labels; gives its id and theirs.
    pub fn add_pipeline(
        &self,
        object: ObjectType,
        label: &str,
        stages: &[&str],
    ) -> (String, Vec<String>) {
        let stages: Vec<String> = stages.iter().map(|stage| (*stage).to_owned()).collect();
        self.shared
            .world()
            .hubspot
            .admin_adds_pipeline(object, label, &stages)
    }

    /// All OAuth access tokens given out so far are expired from now on.
    pub fn expire_tokens(&self) {
        self.shared.world().hubspot.expire_tokens();
    }

    /// Sends a campaign to everybody who is subscribed to the configured audience; `sent_at` in
    /// milliseconds since 1970, or now.
    pub fn send_campaign(&self, id: &str, sent_at: Option<i64>) -> Result<(), String> {
        let mut world = self.shared.world();
        let list = world.config.mailchimp.list_id.clone();
        world.mailchimp.send_campaign(&list, id, sent_at)
    }

    /// Somebody defines a merge field of an audience, or changes it.
    pub fn define_field(&self, list_id: &str, field: &AudienceField) -> Result<(), String> {
        self.shared.world().mailchimp.admin_defines(list_id, field)
    }

    /// Somebody deletes a merge field of an audience.
    pub fn drop_field(&self, list_id: &str, tag: &str) -> Result<(), String> {
        self.shared.world().mailchimp.admin_drops(list_id, tag)
    }

    /// Somebody adds a category of interest groups to an audience.
    pub fn define_groups(&self, list_id: &str, title: &str, names: &[&str]) -> Result<(), String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mailchimp = &mut self.shared.world().mailchimp;
        mailchimp.admin_groups(list_id, title, &names)
    }

    /// Somebody turns on marketing permissions in an audience.
    pub fn define_permissions(&self, list_id: &str, texts: &[&str]) -> Result<(), String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        self.shared.world().mailchimp.admin_permits(list_id, &texts)
    }

    /// Somebody gives a member a tag in the web app, or takes it away.
    pub fn tag_member(
        &self,
        list_id: &str,
        email: &str,
        tag: &str,
        active: bool,
    ) -> Result<(), String> {
        let mailchimp = &mut self.shared.world().mailchimp;
        mailchimp.admin_tags(list_id, email, tag, active)
    }

    /// Somebody deletes an audience, with all its members.
    pub fn delete_audience(&self, list_id: &str) {
        self.shared.world().mailchimp.delete_audience(list_id);
    }
}
