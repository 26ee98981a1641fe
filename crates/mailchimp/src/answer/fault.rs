//! One of Mailchimp's refusals: what its text says, and what follows from it.
//!
//! Mailchimp tells refusals apart by their texts only (its error codes are two, one of them
//! «generic»), so the texts are matched loosely.

use std::time::Duration;

use serde_json::Value;

use integration_engine::{
    delivery::{
        call::{Item, Leaver},
        outcome::{Category, Relink, Verdict},
    },
    record::consent::MemberStatus,
    value::json::shortened,
    wire::Reply,
};

use crate::plan::opt_out::suppression;

/// An address that signed up to too many lists is refused for a while; nobody says how long.
const TOO_MANY_LISTS_WAIT: Duration = Duration::from_secs(86_400);
const QUOTED: usize = 500;

/// A refusal of one member.
#[derive(Debug, Default)]
pub(crate) struct MemberRefusal {
    /// Title and text, for matching.
    text: String,
    /// Text for people.
    said: String,
    /// Merge fields that are not as they should be: tag and message.
    merge_fields: Vec<(String, String)>,
}

/// What kind of refusal it is.
#[derive(Debug, PartialEq, Eq)]
enum RefusalKind {
    /// The person's own choice or their mail system's: only they can change it.
    Suppressed(MemberStatus),
    TooManyLists,
    /// There is a member with the new address already.
    Exists,
    /// The same address twice in one call.
    Repeated,
    /// Merge fields are not what the audience's definitions allow.
    MergeFields,
    Invalid,
}

impl MemberRefusal {
    /// An entry of a bulk answer's `errors`.
    pub(crate) fn of_member(error: &str, field: &str, field_message: &str) -> MemberRefusal {
        let mut said = error.to_owned();
        if !field.is_empty() || !field_message.is_empty() {
            said.push_str(&format!(" (field {field}: {field_message})"));
        }
        MemberRefusal {
            text: said.to_lowercase(),
            said,
            merge_fields: tag(field)
                .map(|tag| (tag.to_owned(), field_message.to_owned()))
                .into_iter()
                .collect(),
        }
    }

    /// The body of a 4xx answer: `title`, `detail` and perhaps `errors` with field and message.
    pub(crate) fn of_body(body: &[u8]) -> MemberRefusal {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return MemberRefusal::default();
        };
        let text = |value: &Value, name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let mut said = text(&body, "detail");
        let errors = body
            .get("errors")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let mut merge_fields = Vec::new();
        for error in errors {
            let (field, message) = (text(error, "field"), text(error, "message"));
            said.push_str(&format!(" (field {field}: {message})"));
            merge_fields.extend(tag(&field).map(|tag| (tag.to_owned(), message)));
        }
        MemberRefusal {
            text: format!("{} {said}", text(&body, "title")).to_lowercase(),
            said,
            merge_fields,
        }
    }

    fn kind(&self) -> RefusalKind {
        let has = |part: &str| self.text.contains(part);
        if !self.merge_fields.is_empty() {
            RefusalKind::MergeFields
        } else if has("compliance state") {
            RefusalKind::Suppressed(MemberStatus::UnsubscribedByMember)
        } else if has("permanently deleted") || has("forgotten email") {
            RefusalKind::Suppressed(MemberStatus::Forgotten)
        } else if has("bounce") || has("cleaned") {
            RefusalKind::Suppressed(MemberStatus::Cleaned)
        } else if has("unsubscribed") && has("cannot be") {
            RefusalKind::Suppressed(MemberStatus::UnsubscribedByMember)
        } else if has("a lot of lists") {
            RefusalKind::TooManyLists
        } else if has("member exists")
            || has("already a list member")
            || has("already in this list")
        {
            RefusalKind::Exists
        } else if has("duplicate") || has("more than once") {
            RefusalKind::Repeated
        } else {
            RefusalKind::Invalid
        }
    }

    /// Whether the body was one of Mailchimp's.
    pub(crate) fn is_readable(&self) -> bool {
        !self.text.trim().is_empty()
    }

    /// Whether it says that the person was erased before.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.kind() == RefusalKind::Suppressed(MemberStatus::Forgotten)
    }

    /// What it means for a record. `alone`: nothing else was in the call.
    pub(crate) fn verdict(&self, item: &Item, status: u16, alone: bool) -> Verdict {
        let dead = |category, why, member_status| Verdict::Dead {
            category,
            status: Some(status),
            why,
            member_status,
        };
        match self.kind() {
            RefusalKind::Suppressed(known) if item.leaver == Leaver::Unheeded => Verdict::Again {
                relink: Some(Relink::Unsubscribed {
                    how: known,
                    ticks: Vec::new(),
                }),
                batch_cap: None,
                why: "gets no mail from Mailchimp as it is".to_owned(),
            },
            // Leaving is what was asked for, and that is how it is.
            RefusalKind::Suppressed(known) if is_opt_out(item) => Verdict::Delivered {
                remote_id: None,
                remote_key: item.remote_key.clone(),
                member_status: Some(known),
                ticks: item.ticks.clone(),
                met: false,
            },
            RefusalKind::Suppressed(known) => {
                let why = format!("{} ({})", suppression(known), self.quoted());
                dead(Category::Consent, why, Some(known))
            }
            RefusalKind::TooManyLists => Verdict::Retry {
                why: format!("Mailchimp refuses the address for now: {}", self.quoted()),
                status: Some(status),
                wait: Some(TOO_MANY_LISTS_WAIT),
                counted: true,
            },
            RefusalKind::Repeated | RefusalKind::Exists if !alone => Verdict::Again {
                relink: None,
                batch_cap: Some(1),
                why: format!(
                    "Mailchimp refused the address beside others: {}",
                    self.quoted()
                ),
            },
            RefusalKind::Exists => dead(
                Category::Conflict,
                format!(
                    "Mailchimp has another member with the address {}; archive one of the two \
                     there, then retry ({})",
                    item.name,
                    self.quoted()
                ),
                None,
            ),
            RefusalKind::MergeFields => dead(Category::Definition, self.fields_told(), None),
            RefusalKind::Repeated | RefusalKind::Invalid => dead(
                Category::Validation,
                format!("Mailchimp refused: {}", self.quoted()),
                None,
            ),
        }
    }

    /// What is wrong with the merge fields, and what to do about it.
    fn fields_told(&self) -> String {
        let told = self.merge_fields.iter().map(|(tag, message)| {
            let lower = message.to_lowercase();
            let advice = if lower.contains("enter a value") || lower.contains("required") {
                "it is required in this audience: map a column to it, fill the column, or make it \
                 optional in Mailchimp"
            } else {
                "correct the value, or the field in the audience's settings"
            };
            format!("merge field {tag}: {message} ({advice})")
        });
        let all = told.collect::<Vec<_>>().join("; ");
        format!("Mailchimp refused {}", shortened(&all, QUOTED))
    }

    pub(crate) fn says(&self, part: &str) -> bool {
        self.text.contains(part)
    }

    /// The text for people.
    pub(crate) fn quoted(&self) -> String {
        match self.said.trim() {
            "" => "no reason given".to_owned(),
            said => shortened(said, QUOTED).into_owned(),
        }
    }
}

/// The merge tag that a field of an error names: `RADIO`, or `merge_fields.RADIO`.
fn tag(field: &str) -> Option<&str> {
    let tag = field.strip_prefix("merge_fields.").unwrap_or(field);
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (!tag.is_empty() && tag.bytes().all(plain)).then_some(tag)
}

/// What a refusal of something that is no member says, for people.
pub(crate) fn refusal(reply: &Reply) -> String {
    let said = MemberRefusal::of_body(&reply.body);
    format!(
        "Mailchimp answered HTTP {}: {}",
        reply.status,
        said.quoted()
    )
}

/// Whether the record was sent to take the person off the list.
pub(crate) const fn is_opt_out(item: &Item) -> bool {
    matches!(
        item.member_status,
        Some(
            MemberStatus::UnsubscribedByCrm
                | MemberStatus::UnsubscribedByMember
                | MemberStatus::Cleaned
                | MemberStatus::Forgotten
        )
    )
}
