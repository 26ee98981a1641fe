//! What planning for Mailchimp goes by.

/// The settings.
#[derive(Clone, Debug, PartialEq)]
pub struct MailchimpSettings {
    /// The audience of records that name none.
    pub list: String,
    /// Whether rows may name others.
    pub several: bool,
    pub resubscribe: Resubscribe,
    pub double_opt_in: bool,
    pub on_delete: OnDelete,
}

/// What to do when the CRM says a person who opted out at Mailchimp has opted in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resubscribe {
    Never,
    Pending,
}

/// What becomes of a member whose row was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    Archive,
    Permanent,
    Ignore,
}
