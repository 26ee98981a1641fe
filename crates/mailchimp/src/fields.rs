//! What a member's fields hold, in the forms that Mailchimp takes and gives.

pub mod merge;
pub(crate) mod values;
