//! What the CRM's consent column says: words that everybody understands, and those a table has of
//! its own.

use std::collections::BTreeMap;

use super::Consent;
use crate::record::{
    consent::MemberStatus,
    mapping::{Field, ValueKind},
};

/// Words that are an opt-in whatever the table. Only what can mean nothing else.
const OPTED_IN: [&str; 20] = [
    "t",
    "true",
    "yes",
    "y",
    "on",
    "1",
    "subscribed",
    "opted_in",
    "opted-in",
    "opt_in",
    "opt-in",
    "opt in",
    "granted",
    "confirmed",
    "optin",
    "opted in",
    "accepted",
    "agreed",
    "consented",
    "given",
];

const OPTED_OUT: [&str; 27] = [
    "f",
    "false",
    "no",
    "n",
    "off",
    "0",
    "unsubscribed",
    "opted_out",
    "opted-out",
    "opt_out",
    "opt-out",
    "opt out",
    "optout",
    "opted out",
    "cleaned",
    "withdrawn",
    "denied",
    "declined",
    "refused",
    "rejected",
    "revoked",
    "bounced",
    "complained",
    "forgotten",
    "archived",
    "suppressed",
    "objected",
];

/// Words that say that nobody has said anything.
const NOTHING_SAID: [&str; 7] = [
    "",
    "pending",
    "unknown",
    "none",
    "null",
    "transactional",
    "nonsubscribed",
];

/// What a word of a table's own means: one of the statuses that `value_map` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusWord {
    Subscribed,
    Unsubscribed,
    Cleaned,
    /// Asked and not answered: no consent.
    Pending,
}

impl StatusWord {
    fn from_name(name: &str) -> Option<StatusWord> {
        Some(match name {
            "subscribed" => StatusWord::Subscribed,
            "unsubscribed" => StatusWord::Unsubscribed,
            "cleaned" => StatusWord::Cleaned,
            "pending" => StatusWord::Pending,
            _ => return None,
        })
    }

    const fn consent(self) -> Consent {
        match self {
            StatusWord::Subscribed => Consent::OptedIn,
            StatusWord::Unsubscribed | StatusWord::Cleaned => Consent::OptedOut,
            StatusWord::Pending => Consent::Unknown,
        }
    }

    const fn of(status: MemberStatus) -> StatusWord {
        match status {
            MemberStatus::Subscribed => StatusWord::Subscribed,
            MemberStatus::Pending => StatusWord::Pending,
            MemberStatus::Cleaned => StatusWord::Cleaned,
            MemberStatus::UnsubscribedByCrm
            | MemberStatus::UnsubscribedByMember
            | MemberStatus::Forgotten
            | MemberStatus::Archived => StatusWord::Unsubscribed,
        }
    }
}

/// Words of a table's own, in the order in which they were stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(Vec<(String, StatusWord)>);

impl Words {
    /// Reads a `value_map`: a JSON object of words and statuses. What is no status is left out, for
    /// `map_field` refuses it.
    pub fn parse(json: &str) -> Words {
        let words: BTreeMap<String, String> = serde_json::from_str(json).unwrap_or_default();
        Words::of(words)
    }

    /// As above. The shortest word comes first, and of those the first by alphabet.
    pub fn of(words: BTreeMap<String, String>) -> Words {
        let known =
            |(word, status): (String, String)| Some((word, StatusWord::from_name(&status)?));
        let mut words: Vec<_> = words.into_iter().filter_map(known).collect();
        words.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
        Words(words)
    }

    fn meaning(&self, text: &str) -> Option<StatusWord> {
        if self.0.is_empty() {
            return None;
        }
        let text = text.to_lowercase();
        let same = |(word, _): &&(String, StatusWord)| word.trim().to_lowercase() == text;
        self.0.iter().find(same).map(|(_, meaning)| *meaning)
    }

    /// The word for a status; where there is none, that for an opt-out in general.
    fn word(&self, status: MemberStatus) -> Option<&str> {
        let of = |wanted: StatusWord| {
            let mut words = self.0.iter();
            let found = words.find(|(_, meaning)| *meaning == wanted);
            found.map(|(word, _)| word.as_str())
        };
        let meaning = StatusWord::of(status);
        let out = || match meaning {
            StatusWord::Subscribed => None,
            _ => of(StatusWord::Unsubscribed),
        };
        of(meaning).or_else(out)
    }
}

/// What a text comes to.
enum StatusText {
    Clearly(Consent),
    Nothing,
    /// A word that nobody knows.
    Unheard,
}

fn said(kind: ValueKind, words: &Words, text: Option<&str>) -> StatusText {
    let readable = matches!(kind, ValueKind::Bool | ValueKind::Text | ValueKind::Integer);
    let Some(text) = text.map(str::trim).filter(|_| readable) else {
        return StatusText::Nothing;
    };
    if let Some(meaning) = words.meaning(text) {
        return StatusText::Clearly(meaning.consent());
    }
    let among = |known: &[&str]| known.iter().any(|known| text.eq_ignore_ascii_case(known));
    if among(&OPTED_IN) {
        StatusText::Clearly(Consent::OptedIn)
    } else if among(&OPTED_OUT) {
        StatusText::Clearly(Consent::OptedOut)
    } else if among(&NOTHING_SAID) {
        StatusText::Nothing
    } else {
        StatusText::Unheard
    }
}

/// Reads a consent column. Only a clear yes is an opt-in.
pub fn read(kind: ValueKind, words: &Words, text: Option<&str>) -> Consent {
    match said(kind, words, text) {
        StatusText::Clearly(consent) => consent,
        StatusText::Nothing | StatusText::Unheard => Consent::Unknown,
    }
}

/// The word in a consent column that nobody knows, and that counts as no consent.
pub fn unheard<'t>(field: &Field, text: Option<&'t str>) -> Option<&'t str> {
    match said(field.kind, &field.words, text) {
        StatusText::Unheard => text.map(str::trim),
        StatusText::Clearly(_) | StatusText::Nothing => None,
    }
}

impl Field {
    /// What this column, which holds consent, says.
    pub fn consent(&self, text: Option<&str>) -> Consent {
        read(self.kind, &self.words, text)
    }

    /// What is written into this column when Mailchimp says so.
    pub fn consent_word(&self, status: MemberStatus) -> &str {
        let own = match self.kind {
            ValueKind::Text => self.words.word(status),
            _ => None,
        };
        own.unwrap_or_else(|| to_column(self.kind, status))
    }
}

/// What is written into the CRM's consent column when Mailchimp says so, where the table has no
/// words of its own.
pub(crate) fn to_column(kind: ValueKind, status: MemberStatus) -> &'static str {
    let subscribed = status == MemberStatus::Subscribed;
    match (kind, status) {
        (ValueKind::Bool, _) if subscribed => "true",
        (ValueKind::Bool, _) => "false",
        (ValueKind::Integer, _) if subscribed => "1",
        (ValueKind::Integer, _) => "0",
        (_, MemberStatus::Subscribed) => "subscribed",
        (_, MemberStatus::Pending) => "pending",
        (_, MemberStatus::UnsubscribedByCrm | MemberStatus::UnsubscribedByMember) => "unsubscribed",
        (_, MemberStatus::Cleaned) => "cleaned",
        (_, MemberStatus::Forgotten) => "forgotten",
        (_, MemberStatus::Archived) => "archived",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        field_type::FieldType,
        mapping::{ConflictRule, Direction, FieldId},
    };

    fn field(words: &str) -> Field {
        Field {
            id: FieldId(1),
            column: "newsletter".to_owned(),
            kind: ValueKind::Text,
            remote: "status".to_owned(),
            remote_type: FieldType::Unknown,
            direction: Direction::Both,
            conflict: ConflictRule::LastWriteWins,
            on_lossy: Default::default(),
            words: Words::parse(words),
        }
    }

    #[test]
    fn words_of_a_table_come_before_those_of_everybody() {
        use Consent::{OptedIn, OptedOut, Unknown};
        let words = r#"{"Ja": "subscribed", "nein": "unsubscribed", "offen": "pending", "1": "unsubscribed", "x": "?"}"#;
        let field = field(words);
        let cases = [
            (" ja ", OptedIn, None),
            ("JA", OptedIn, None),
            ("Nein", OptedOut, None),
            ("offen", Unknown, None),
            // It has another meaning here.
            ("1", OptedOut, None),
            ("accepted", OptedIn, None),
            ("Declined", OptedOut, None),
            ("", Unknown, None),
            ("pending", Unknown, None),
            (" vielleicht", Unknown, Some("vielleicht")),
            ("x", Unknown, Some("x")),
        ];
        for (text, consent, unheard_of) in cases {
            assert_eq!(field.consent(Some(text)), consent, "{text}");
            assert_eq!(unheard(&field, Some(text)), unheard_of, "{text}");
        }
        assert_eq!(
            (field.consent(None), unheard(&field, None)),
            (Unknown, None)
        );
    }

    #[test]
    fn what_mailchimp_says_is_written_in_the_tables_words() {
        use MemberStatus::{Archived, Cleaned, Pending, Subscribed, UnsubscribedByMember};
        let own = field(r#"{"ja": "subscribed", "jawohl": "subscribed", "nein": "unsubscribed"}"#);
        let cases = [
            (Subscribed, "ja"),
            (UnsubscribedByMember, "nein"),
            (Cleaned, "nein"),
            (Archived, "nein"),
            (Pending, "nein"),
        ];
        for (status, word) in cases {
            assert_eq!(own.consent_word(status), word, "{status:?}");
        }
        let exact = field(r#"{"tot": "cleaned", "offen": "pending"}"#);
        assert_eq!(exact.consent_word(Cleaned), "tot");
        assert_eq!(exact.consent_word(Pending), "offen");
        assert_eq!(exact.consent_word(Subscribed), "subscribed");
        assert_eq!(field("").consent_word(Archived), "archived");
    }

    #[test]
    fn no_word_has_two_meanings() {
        let all: Vec<&str> = OPTED_IN
            .iter()
            .chain(&OPTED_OUT)
            .chain(&NOTHING_SAID)
            .copied()
            .collect();
        let once: std::collections::BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(once.len(), all.len());
    }
}
