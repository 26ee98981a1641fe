//! The handle that tests hold.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::config::{Config, Service};
use crate::delivery::Delivery;
use crate::faults::{ActiveFault, Fault};
use crate::hubspot::{Association, HubSpotRecord, ObjectType};
use crate::mailchimp::{AudienceField, ListMember, MemberAction, Subscribed};
use crate::server::{self, Command, Shared};
use crate::world::{LoggedRequest, Seen, Stats, Watcher, World};

/// A running sandbox. It serves from a thread of its own and stops when dropped.
#[derive(Debug)]
pub struct Sandbox {
    shared: Shared,
    hubspot: SocketAddr,
    mailchimp: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts with the given configuration; fails if a port is taken.
    pub fn try_start(config: Config) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (commands, received) = mpsc::unbounded_channel();
        let (hubspot, mailchimp) = {
            // Sockets register with the runtime that will serve them.
            let _inside = runtime.enter();
            (
                server::listen(Service::HubSpot.port_in(&config))?,
                server::listen(Service::Mailchimp.port_in(&config))?,
            )
        };
        let (hubspot_at, mailchimp_at) = (hubspot.local_addr()?, mailchimp.local_addr()?);
        let shared = Shared::new(World::new(config), commands);
        let serving = shared.clone();
        let listeners = [
            (Service::HubSpot, hubspot, hubspot_at),
            (Service::Mailchimp, mailchimp, mailchimp_at),
        ];
        let thread = std::thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn(move || runtime.block_on(server::run(serving, listeners, received)))?;
        Ok(Self {
            shared,
            hubspot: hubspot_at,
            mailchimp: mailchimp_at,
            thread: Some(thread),
        })
    }

    /// Like [`Sandbox::try_start`]; panics if the ports can't be opened, which is what a test wants.
    pub fn start(config: Config) -> Self {
        match Self::try_start(config) {
            Ok(sandbox) => sandbox,
            Err(error) => panic!("the sandbox could not start: {error}"),
        }
    }

    /// Base URL to use instead of `https://api.hubapi.com`.
    pub fn hubspot_url(&self) -> String {
        format!("http://{}", self.hubspot)
    }

    /// Base URL to use instead of `https://us1.api.mailchimp.com`; paths below it begin `/3.0`.
    pub fn mailchimp_url(&self) -> String {
        format!("http://{}", self.mailchimp)
    }

    /// Closes the service's port and its connections; state and port number stay.
    pub fn go_down(&self, service: Service) {
        let (done, closed) = oneshot::channel();
        if self
            .shared
            .commands
            .send(Command::Down(service, done))
            .is_ok()
        {
            // An error means that the server has stopped, so the port is closed as well.
            let _ = closed.blocking_recv();
        }
    }

    /// Opens the service's port again.
    pub fn come_up(&self, service: Service) -> io::Result<()> {
        let (done, opened) = oneshot::channel();
        self.shared
            .commands
            .send(Command::Up(service, done))
            .map_err(|_| stopped())?;
        opened.blocking_recv().map_err(|_| stopped())?
    }

    /// Stops serving; the state can still be inspected.
    pub fn stop(&mut self) {
        // An error means that it has stopped already.
        let _ = self.shared.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the server was reported on stderr by its thread.
            let _ = thread.join();
        }
    }

    /// Blocks until the server ends; for the binary.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Changes settings while running; ports and what exists already stay.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        let mut world = self.shared.world();
        let mut config = world.config.clone();
        change(&mut config);
        world.configure(config);
    }

    /// Forgets records, faults, log, counters and webhooks.
    pub fn reset(&self) {
        self.shared.world().reset();
    }

    /// Empties the log and zeroes the counters.
    pub fn reset_log(&self) {
        self.shared.world().reset_log();
    }

    // What is there.

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

    // What people do.

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

    // What administrators do.

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

    /// A new pipeline of deals with stages of these labels; gives its id and theirs.
    pub fn add_pipeline(&self, label: &str, stages: &[&str]) -> (String, Vec<String>) {
        let stages: Vec<String> = stages.iter().map(|stage| (*stage).to_owned()).collect();
        self.shared
            .world()
            .hubspot
            .admin_adds_pipeline(label, &stages)
    }

    /// All OAuth access tokens given out so far are expired from now on.
    pub fn expire_tokens(&self) {
        self.shared.world().hubspot.expire_tokens();
    }

    /// Something happens to a member of the configured audience.
    pub fn member_does(&self, email: &str, action: MemberAction) -> Result<(), String> {
        let mut world = self.shared.world();
        let list = world.config.mailchimp.list_id.clone();
        world.mailchimp.act(&list, email, action)
    }

    /// Sends a campaign to everybody who is subscribed to the configured audience; `sent_at` in
    /// milliseconds since 1970, or now.
    pub fn send_campaign(&self, id: &str, sent_at: Option<i64>) -> Result<(), String> {
        let mut world = self.shared.world();
        let list = world.config.mailchimp.list_id.clone();
        world.mailchimp.send_campaign(&list, id, sent_at)
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

    // Trouble.

    /// Adds a fault; returns its number.
    pub fn add_fault(&self, fault: Fault) -> u64 {
        self.shared.world().faults.add(fault)
    }

    pub fn remove_fault(&self, number: u64) {
        self.shared.world().faults.remove(number);
    }

    pub fn clear_faults(&self) {
        self.shared.world().faults.clear();
    }

    pub fn faults(&self) -> Vec<ActiveFault> {
        self.shared.world().faults.list().to_vec()
    }

    // Webhooks.

    /// Takes the webhooks that wait, as signed requests ready to be delivered.
    pub fn take_webhooks(&self) -> Vec<Delivery> {
        self.shared.world().take_webhooks()
    }

    /// Forgets the webhooks that wait.
    pub fn clear_webhooks(&self) {
        self.shared.world().clear_webhooks();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop();
    }
}

fn stopped() -> io::Error {
    io::Error::other("the sandbox has stopped")
}
