//! Object types: names, numbers and what differs between them.

/// Type of a CRM record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectType {
    Contact,
    Company,
    Deal,
    Ticket,
    Product,
    LineItem,
    Task,
    Note,
    Meeting,
    Call,
    Email,
}

impl ObjectType {
    pub const ALL: [Self; 11] = [
        Self::Contact,
        Self::Company,
        Self::Deal,
        Self::Ticket,
        Self::Product,
        Self::LineItem,
        Self::Task,
        Self::Note,
        Self::Meeting,
        Self::Call,
        Self::Email,
    ];

    /// (plural, singular, number, family of "contact information")
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Contact => ("contacts", "contact", "0-1"),
            Self::Company => ("companies", "company", "0-2"),
            Self::Deal => ("deals", "deal", "0-3"),
            Self::Ticket => ("tickets", "ticket", "0-5"),
            Self::Product => ("products", "product", "0-7"),
            Self::LineItem => ("line_items", "line_item", "0-8"),
            Self::Task => ("tasks", "task", "0-27"),
            Self::Note => ("notes", "note", "0-46"),
            Self::Meeting => ("meetings", "meeting", "0-47"),
            Self::Call => ("calls", "call", "0-48"),
            Self::Email => ("emails", "email", "0-49"),
        }
    }

    /// Reads a type as paths name it: plural, singular or number.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let (plural, singular, number) = kind.names();
            text.eq_ignore_ascii_case(plural)
                || text.eq_ignore_ascii_case(singular)
                || text == number
        })
    }

    pub fn plural(self) -> &'static str {
        self.names().0
    }

    pub fn singular(self) -> &'static str {
        self.names().1
    }

    /// `0-1` for contacts.
    pub fn number(self) -> &'static str {
        self.names().2
    }

    pub(crate) fn is_engagement(self) -> bool {
        matches!(
            self,
            Self::Task | Self::Note | Self::Meeting | Self::Call | Self::Email
        )
    }

    /// Name of the "last modified" property: contacts differ from everything else.
    pub(crate) fn modified_property(self) -> &'static str {
        if self == Self::Contact {
            "lastmodifieddate"
        } else {
            "hs_lastmodifieddate"
        }
    }

    /// Name of the "created" property: engagements differ.
    pub(crate) fn created_property(self) -> &'static str {
        if self.is_engagement() {
            "hs_createdate"
        } else {
            "createdate"
        }
    }

    /// What a read returns when no property is named.
    pub(crate) fn default_properties(self) -> &'static [&'static str] {
        match self {
            Self::Contact => &["email", "firstname", "lastname"],
            Self::Company => &["name", "domain"],
            Self::Deal => &["dealname", "amount", "closedate", "pipeline", "dealstage"],
            _ => &[],
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Webhooks of these types exist in the classic form (`contact.creation`).
    pub(crate) fn has_classic_events(self) -> bool {
        matches!(
            self,
            Self::Contact
                | Self::Company
                | Self::Deal
                | Self::Ticket
                | Self::Product
                | Self::LineItem
        )
    }
}
