//! Black-box tests: a PostgreSQL with the extension, its worker, and the sandbox. A file a promise.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

mod access;
mod addresses;
mod association_refusals;
mod associations;
mod audience_events;
mod audience_moves;
mod audiences;
mod backfill;
mod backfill_stops;
mod bad_batches;
mod bad_input;
mod bad_values;
mod bulk;
mod capture;
mod capture_histories;
mod consent;
mod consent_histories;
mod copies;
mod crash;
mod crash_reverts;
mod daily;
mod deletions;
mod delivery;
mod engagement;
mod erasure;
mod erasure_reach;
mod erasure_stops;
mod failures;
mod fence;
mod groups;
mod harness;
mod histories;
mod holds;
mod hubspot_limits;
mod identity;
mod inbound;
mod intents;
mod lifecycle;
mod limits;
mod mailchimp_events;
mod mandrill;
mod many_tables;
mod merge_fields;
mod oauth;
mod official_clients;
mod operate;
mod opt_outs;
mod poison;
mod prepared;
mod reconcile;
mod reconcile_members;
mod rights;
mod rings;
mod scopes;
mod secrets;
mod sensitive;
mod shapes;
mod standing;
mod swaps;
mod values;
mod versions;
mod webhook_registration;
