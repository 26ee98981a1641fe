//! What is remembered of people at Mailchimp: suppressions, changes of consent, shared addresses, audiences.

pub mod audiences;
pub mod consent_log;
pub mod objections;
pub mod suppressions;
