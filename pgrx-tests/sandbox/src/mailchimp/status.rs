//! Which status changes Mailchimp allows.

use serde::{Deserialize, Serialize};

/// Status of a member, as answers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Subscribed,
    Unsubscribed,
    Cleaned,
    Pending,
    Transactional,
    /// Can be read and filtered by, but not sent.
    Archived,
}

/// Who made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// The person: link, form, complaint.
    User,
    /// Somebody in the web app.
    Admin,
    Api,
}

/// Ways to write members; they differ in how they treat people who left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Single,
    Bulk { resubscribes: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Set(Status),
    /// Answered as if nothing was wrong, but the status stays.
    Keep,
    /// 400 Member In Compliance State.
    Refuse,
}

impl Status {
    /// Statuses that may be sent.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "subscribed" => Self::Subscribed,
            "unsubscribed" => Self::Unsubscribed,
            "cleaned" => Self::Cleaned,
            "pending" => Self::Pending,
            "transactional" => Self::Transactional,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
            Self::Cleaned => "cleaned",
            Self::Pending => "pending",
            Self::Transactional => "transactional",
            Self::Archived => "archived",
        }
    }
}

/// The transition table for changes by API of a member that exists. `by` is who set the present
/// status.
pub(crate) fn decide(from: Status, by: Actor, to: Status, way: Way) -> Decision {
    use Status::{Archived, Cleaned, Pending, Subscribed, Transactional, Unsubscribed};
    match (from, to) {
        (from, to) if from == to => Decision::Keep,
        // Archived members take exactly the status that is sent.
        (Archived, to) => Decision::Set(to),
        (Unsubscribed, Subscribed | Transactional) if by == Actor::User => Decision::Refuse,
        (Unsubscribed, Subscribed)
            if way
                == (Way::Bulk {
                    resubscribes: false,
                }) =>
        {
            Decision::Keep
        }
        // Asking again is allowed: it sends a confirmation mail.
        (Unsubscribed, Pending) => Decision::Set(Pending),
        // Terminal, except for leaving altogether.
        (Cleaned, Subscribed | Pending | Transactional) => Decision::Refuse,
        (_, to) => Decision::Set(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        use Status::*;
        let single = |from, by, to| decide(from, by, to, Way::Single);
        assert_eq!(
            single(Subscribed, Actor::Api, Unsubscribed),
            Decision::Set(Unsubscribed)
        );
        assert_eq!(
            single(Subscribed, Actor::User, Pending),
            Decision::Set(Pending)
        );
        assert_eq!(
            single(Unsubscribed, Actor::User, Subscribed),
            Decision::Refuse
        );
        assert_eq!(
            single(Unsubscribed, Actor::User, Pending),
            Decision::Set(Pending)
        );
        assert_eq!(
            single(Unsubscribed, Actor::Admin, Subscribed),
            Decision::Set(Subscribed)
        );
        assert_eq!(
            single(Unsubscribed, Actor::Api, Subscribed),
            Decision::Set(Subscribed)
        );
        assert_eq!(
            decide(
                Unsubscribed,
                Actor::Api,
                Subscribed,
                Way::Bulk {
                    resubscribes: false
                }
            ),
            Decision::Keep
        );
        assert_eq!(single(Cleaned, Actor::User, Subscribed), Decision::Refuse);
        assert_eq!(single(Pending, Actor::Api, Pending), Decision::Keep);
        assert_eq!(
            single(Archived, Actor::Api, Subscribed),
            Decision::Set(Subscribed)
        );
        assert_eq!(
            single(Archived, Actor::Api, Unsubscribed),
            Decision::Set(Unsubscribed)
        );
    }
}
