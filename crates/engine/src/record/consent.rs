//! What the CRM and a member's status say of consent.

pub mod words;

/// What the CRM says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consent {
    OptedIn,
    OptedOut,
    /// NULL or a text nobody knows: the same as no consent.
    Unknown,
}

/// What a member's status at Mailchimp is known to be, and who made it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberStatus {
    Subscribed,
    Pending,
    /// Opted out in the CRM; we told Mailchimp.
    UnsubscribedByCrm,
    /// Opted out at Mailchimp: link, form, complaint, or by hand in its application.
    UnsubscribedByMember,
    Cleaned,
    /// Permanently deleted; only a form of Mailchimp's own brings the person back.
    Forgotten,
    Archived,
}
