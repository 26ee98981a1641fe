//! What happens at the services comes back, once, and in order.

mod bad_events;
mod engagement;
mod engagement_polls;
mod locks;
mod lossy;
mod mailchimp_events;
mod mandrill;
mod retries;
pub mod webhooks;
