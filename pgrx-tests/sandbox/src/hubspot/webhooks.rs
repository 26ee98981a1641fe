//! Webhook events: queued as changes happen, delivered signed, at most 100 a request.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::definitions::{Definition, Sensitivity};
use super::signature::{signature_v1, signature_v3};
use super::types::ObjectType;
use super::write::Moment;
use crate::clock::Millis;
use crate::config::{HubSpotConfig, Subscriptions};
use crate::delivery::Delivery;

use super::store::ChangeSource;

/// HubSpot: at most 100 events per request.
const MAX_EVENTS: usize = 100;

/// HubSpot: what stands in events instead of a sensitive value.
const REDACTED: &str = "REDACTED";

/// A change that somebody subscribed to.
#[derive(Debug, Clone)]
struct Event {
    number: u64,
    at: Millis,
    object: ObjectType,
    id: u64,
    source: ChangeSource,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Creation,
    Deletion {
        privacy: bool,
    },
    Restore,
    Property {
        name: Box<str>,
        value: Box<str>,
        is_sensitive: bool,
    },
    Merge {
        primary: u64,
        merged: u64,
        moved: usize,
    },
    Association {
        to_type: ObjectType,
        to: u64,
        type_id: u32,
        removed: bool,
        primary: bool,
    },
}

impl What {
    fn kind(&self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::Deletion { privacy: false } => "deletion",
            Self::Deletion { privacy: true } => "privacyDeletion",
            Self::Restore => "restore",
            Self::Property { .. } => "propertyChange",
            Self::Merge { .. } => "merge",
            Self::Association { .. } => "associationChange",
        }
    }
}

/// Events that wait for delivery.
#[derive(Debug)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    capacity: usize,
    last_number: u64,
    pub dropped: u64,
}

impl Events {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            capacity,
            last_number: 4_101_286_000,
            dropped: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn creation(
        &mut self,
        object: ObjectType,
        id: u64,
        moment: &Moment,
        wanted: &Subscriptions,
    ) {
        self.push(object, id, moment, wanted, "creation", None, || {
            What::Creation
        });
    }

    pub(crate) fn property(
        &mut self,
        object: ObjectType,
        id: u64,
        definition: &Definition,
        value: &str,
        moment: &Moment,
        wanted: &Subscriptions,
    ) {
        let is_sensitive = definition.sensitivity != Sensitivity::NonSensitive;
        let name = &*definition.name;
        self.push(
            object,
            id,
            moment,
            wanted,
            "propertyChange",
            Some(name),
            || What::Property {
                name: name.into(),
                value: if is_sensitive { REDACTED } else { value }.into(),
                is_sensitive,
            },
        );
    }

    pub(crate) fn deletion(
        &mut self,
        object: ObjectType,
        id: u64,
        erase: bool,
        moment: &Moment,
        wanted: &Subscriptions,
    ) {
        self.push(object, id, moment, wanted, "deletion", None, || {
            What::Deletion { privacy: false }
        });
        // HubSpot sends deletion events for privacy deletions as well.
        if erase {
            self.push(object, id, moment, wanted, "privacyDeletion", None, || {
                What::Deletion { privacy: true }
            });
        }
    }

    pub(crate) fn restore(
        &mut self,
        object: ObjectType,
        id: u64,
        moment: &Moment,
        wanted: &Subscriptions,
    ) {
        self.push(object, id, moment, wanted, "restore", None, || {
            What::Restore
        });
    }

    /// `ids`: winner, loser, survivor.
    pub(crate) fn merge(
        &mut self,
        object: ObjectType,
        ids: [u64; 3],
        moved: usize,
        moment: &Moment,
        wanted: &Subscriptions,
    ) {
        let [primary, merged, survivor] = ids;
        self.push(object, survivor, moment, wanted, "merge", None, || {
            What::Merge {
                primary,
                merged,
                moved,
            }
        });
    }

    /// One direction of an association; each change is told twice.
    pub(crate) fn association(
        &mut self,
        from: (ObjectType, u64),
        to: (ObjectType, u64),
        type_id: u32,
        removed: bool,
        moment: &Moment,
        wanted: &Subscriptions,
    ) {
        self.push(
            from.0,
            from.1,
            moment,
            wanted,
            "associationChange",
            None,
            || What::Association {
                to_type: to.0,
                to: to.1,
                type_id,
                removed,
                primary: matches!(type_id, 1 | 2 | 5 | 6),
            },
        );
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "private; the callers above are the interface"
    )]
    fn push(
        &mut self,
        object: ObjectType,
        id: u64,
        moment: &Moment,
        wanted: &Subscriptions,
        kind: &str,
        property: Option<&str>,
        what: impl FnOnce() -> What,
    ) {
        if !wanted.wants(object.singular(), kind, property) {
            return;
        }
        if self.queue.len() >= self.capacity {
            self.dropped += 1;
            return;
        }
        self.last_number += 1;
        self.queue.push_back(Event {
            number: self.last_number,
            at: moment.now.wall,
            object,
            id,
            source: moment.source,
            what: what(),
        });
    }

    /// Takes all waiting events as signed requests.
    pub(crate) fn take(&mut self, config: &HubSpotConfig, now: Millis) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while !self.queue.is_empty() {
            let count = self.queue.len().min(MAX_EVENTS);
            let events: Vec<Value> = self
                .queue
                .drain(..count)
                .map(|event| event.to_json(config))
                .collect();
            deliveries.push(signed(config, Value::from(events).to_string(), now));
        }
        deliveries
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.dropped = 0;
    }
}

impl Event {
    fn to_json(&self, config: &HubSpotConfig) -> Value {
        let generic =
            config.generic_events && !matches!(self.what, What::Deletion { privacy: true });
        let generic = generic || !self.object.has_classic_events();
        let class = if generic {
            "object"
        } else {
            self.object.singular()
        };
        let mut event = json!({
            "eventId": self.number, "subscriptionId": 7_562_680, "portalId": config.portal_id, "appId": config.app_id,
            "occurredAt": self.at, "subscriptionType": format!("{class}.{}", self.what.kind()),
            "attemptNumber": 0, "objectId": self.id, "changeSource": self.source.label(),
            "sourceId": match self.source {
                ChangeSource::Integration => config.app_id.to_string(),
                ChangeSource::CrmUi => "userId:7006".to_owned(),
            },
        });
        if generic {
            event["objectTypeId"] = json!(self.object.number());
        }
        for (name, value) in self.extra(generic) {
            event[name] = value;
        }
        event
    }

    fn extra(&self, generic: bool) -> Vec<(&'static str, Value)> {
        match &self.what {
            What::Creation => vec![("changeFlag", json!("CREATED"))],
            What::Deletion { .. } => vec![("changeFlag", json!("DELETED"))],
            What::Restore => Vec::new(),
            What::Property {
                name,
                value,
                is_sensitive,
            } => {
                let mut extra = vec![
                    ("propertyName", json!(name)),
                    ("propertyValue", json!(value)),
                ];
                if generic {
                    extra.push(("isSensitive", json!(is_sensitive)));
                }
                extra
            }
            What::Merge {
                primary,
                merged,
                moved,
            } => vec![
                ("primaryObjectId", json!(primary)),
                ("mergedObjectIds", json!([merged])),
                ("newObjectId", json!(self.id)),
                ("numberOfPropertiesMoved", json!(moved)),
            ],
            What::Association {
                to_type,
                to,
                type_id,
                removed,
                primary,
            } => {
                let mut extra = vec![
                    ("fromObjectId", json!(self.id)),
                    ("toObjectId", json!(to)),
                    ("associationRemoved", json!(removed)),
                    ("isPrimaryAssociation", json!(primary)),
                ];
                if generic {
                    extra.push(("fromObjectTypeId", json!(self.object.number())));
                    extra.push(("toObjectTypeId", json!(to_type.number())));
                    extra.push(("associationTypeId", json!(type_id)));
                    extra.push(("associationCategory", json!("HUBSPOT_DEFINED")));
                } else {
                    let name = format!("{}_TO_{}", self.object.singular(), to_type.singular())
                        .to_uppercase();
                    extra.push(("associationType", json!(name)));
                }
                extra
            }
        }
    }
}

/// A request with the signatures that the account is set up for.
fn signed(config: &HubSpotConfig, body: String, now: Millis) -> Delivery {
    let timestamp = now.to_string();
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("x-hubspot-request-timestamp".to_owned(), timestamp.clone()),
        (
            "x-hubspot-signature-v3".to_owned(),
            signature_v3(
                &config.client_secret,
                "POST",
                &config.webhook_uri,
                &body,
                &timestamp,
            ),
        ),
    ];
    if config.sign_v1 {
        headers.push((
            "x-hubspot-signature".to_owned(),
            signature_v1(&config.client_secret, &body),
        ));
        headers.push(("x-hubspot-signature-version".to_owned(), "v1".to_owned()));
    }
    Delivery {
        service: crate::Service::HubSpot,
        method: "POST".to_owned(),
        uri: config.webhook_uri.clone(),
        headers: headers.into_iter().collect(),
        body,
    }
}
