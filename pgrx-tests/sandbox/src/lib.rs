//! A stateful stand-in for HubSpot (CRM API: dated versions, v3, v4) and Mailchimp (Marketing
//! API 3.0), in memory, on plain HTTP. It follows the services' documented rules and refuses
//! what they refuse. Tests use [`Sandbox`]; shell scripts drive the binary by `/_sandbox/…`.
//!
//! What a test may rely on: an upsert is believed only if the services would believe it
//! too, results come in random order, every input of a batch gets its own verdict when all of
//! them carry a trace id, and two writes of one record under way at once are counted in
//! [`Stats::overlaps`] (give answers a delay, so that there is time to overlap in).

mod call;
mod clock;
mod config;
mod control;
mod delivery;
mod faults;
mod hubspot;
mod json;
mod mailchimp;
mod mandrill;
mod post;
mod query;
mod reply;
mod sandbox;
mod server;
mod world;

pub mod official;

pub use config::{
    Config, HubSpotConfig, MailchimpConfig, MailchimpHook, Rate, Service, Subscriptions,
};
pub use delivery::Delivery;
pub use faults::{ActiveFault, Fault, FaultBody, FaultKind, Matcher, When};
pub use hubspot::signature::{signature_v1, signature_v3};
pub use hubspot::{Association, HubSpotRecord, NewObject, ObjectType};
pub use mailchimp::webhooks::signature as mailchimp_signature;
pub use mailchimp::{
    Actor, AudienceField, Engagement, ListMember, MemberAction, Status, Subscribed,
};
pub use mandrill::mandrill_webhook;
pub use sandbox::Sandbox;
pub use world::{LoggedRequest, Seen, Stats};
