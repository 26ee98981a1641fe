//! The sandbox of a test, with what the tests ask it again and again.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

pub use integration_sandbox::{
    Actor, AudienceField, Config, Delivery, Engagement, Fault, FaultBody, FaultKind, HubSpotRecord,
    ListMember, LoggedRequest, MemberAction, NewObject, ObjectType, Rate, Sandbox, Service, Status,
    Subscribed, When, mandrill_webhook, signature_v3,
};

use crate::contract::Contract;

pub type Fields = BTreeMap<String, String>;

/// The key of a record's row, without what makes it unique in the portal.
pub fn crm_key(fields: &Fields) -> Option<&str> {
    fields.get("crm_id")?.rsplit(':').next()
}

/// A sandbox without limits: a test that is about limits sets them.
pub fn unlimited() -> Config {
    let mut config = Config::default();
    config.hubspot.rate = None;
    config.hubspot.daily_limit = None;
    config
}

/// Clones share one sandbox. When the last one goes, so does a test whose requests were not all
/// documented ones.
#[derive(Clone)]
pub struct Remote(Arc<Watched>);

struct Watched {
    sandbox: Sandbox,
    contract: Contract,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let broken = self.contract.take_broken();
        // The first failure is the one to look at.
        if !std::thread::panicking() {
            assert!(
                broken.is_empty(),
                "requests that the services do not document:\n{}",
                broken.join("\n")
            );
        }
    }
}

impl Deref for Remote {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.0.sandbox
    }
}

impl Remote {
    pub fn start(config: Config) -> Remote {
        let (sandbox, contract) = (Sandbox::start(config), Contract::default());
        contract.watch(&sandbox);
        Remote(Arc::new(Watched { sandbox, contract }))
    }

    /// What was wrong with requests so far, for a test that makes such; it is forgiven by that.
    pub fn take_broken(&self) -> Vec<String> {
        self.0.contract.take_broken()
    }

    /// The first record of a row with this key.
    pub fn by_key(&self, object: ObjectType, key: &str) -> Option<HubSpotRecord> {
        let mut records = self.records(object).into_iter();
        records.find(|record| crm_key(&record.properties) == Some(key))
    }

    pub fn contacts(&self) -> Vec<(u64, Fields)> {
        self.all(ObjectType::Contact)
    }

    pub fn companies(&self) -> Vec<(u64, Fields)> {
        self.all(ObjectType::Company)
    }

    fn all(&self, object: ObjectType) -> Vec<(u64, Fields)> {
        self.records(object)
            .into_iter()
            .map(|record| (record.id, record.properties))
            .collect()
    }

    pub fn contact(&self, email: &str) -> Option<(u64, Fields)> {
        self.find(ObjectType::Contact, "email", email)
            .map(|record| (record.id, record.properties))
    }

    pub fn status_of(&self, email: &str) -> Option<Status> {
        self.member(email).map(|member| member.status)
    }

    pub fn requests_to(&self, service: Service) -> Vec<LoggedRequest> {
        self.requests()
            .into_iter()
            .filter(|request| request.service == service)
            .collect()
    }

    /// Requests so far that were meant to change records (HubSpot reads by POST as well).
    pub fn writes_to(&self, service: Service) -> usize {
        let writes = |request: &LoggedRequest| {
            request.method != "GET"
                && !["/batch/read", "/search", "/properties/"]
                    .iter()
                    .any(|part| request.path.contains(part))
        };
        self.requests_to(service)
            .iter()
            .filter(|request| writes(request))
            .count()
    }

    /// The same for both services.
    pub fn writes(&self) -> usize {
        self.writes_to(Service::HubSpot) + self.writes_to(Service::Mailchimp)
    }

    /// A person in HubSpot sets a property of a contact.
    pub fn person_sets(&self, contact: u64, property: &str, value: &str) {
        self.set_property(ObjectType::Contact, contact, property, value)
            .unwrap();
    }

    pub fn person_unsubscribes(&self, email: &str) {
        self.member_does(email, MemberAction::Unsubscribe { abuse: false })
            .unwrap();
    }

    /// Webhooks of one service that wait; those of the other are gone as well.
    pub fn webhooks_of(&self, service: Service) -> Vec<Delivery> {
        self.take_webhooks()
            .into_iter()
            .filter(|delivery| delivery.service == service)
            .collect()
    }
}

/// The last segment of the URL that Mailchimp was given.
pub fn path_secret(delivery: &Delivery) -> &str {
    delivery.uri.rsplit('/').next().unwrap()
}
