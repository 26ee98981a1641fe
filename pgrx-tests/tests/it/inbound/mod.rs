//! What happens at the services comes back, once, and in order.

mod bad_events;
mod engagement;
mod locks;
mod lossy;
mod mailchimp_events;
mod mandrill;
pub mod webhooks;
