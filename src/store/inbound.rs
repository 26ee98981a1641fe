//! What the services report: received events, marketing activity, webhooks.

pub mod activity;
pub mod engagement;
pub mod inbox;
pub mod webhooks;
