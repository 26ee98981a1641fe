//! Mailchimp: members, their audiences, fields and labels.

pub mod addresses;
mod events;
mod groups;
mod limits;
mod merge_field_definitions;
pub mod merge_fields;
mod moves;
mod rings;
pub mod several;
mod webhook_registration;
