//! The values of HubSpot's unique property, by which records are known to be a table's.
//!
//! All tables, databases and applications that write to a portal share the property, so a bare key
//! says little: what stands before it makes it this table's.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::record::RecordKey;

/// HubSpot documents no limit for unique values; those of more characters are shortened.
const LONGEST: usize = 255;

/// Stands before the hash of a key that cannot be written as it is.
const HASHED: char = '#';

/// How the rows of a table are named in the unique property. Decided when the table is tracked, and
/// kept whatever is renamed later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalIds {
    /// What stands before a row's key; nothing where bare keys were asked for.
    pub prefix: String,
    /// Somebody chose the prefix: others may have chosen the same.
    pub chosen: bool,
    /// A record that carries a bare key can only have got it from this table: no other one here has
    /// records of its kind.
    pub alone: bool,
}

/// What a value of the unique property says to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalIdMeaning {
    /// The row with this key.
    Key(RecordKey),
    /// One of its rows; which, only the rows themselves tell.
    Hashed,
    /// None of its rows.
    Foreign,
}

impl ExternalIds {
    /// The value of a row.
    pub fn of(&self, key: &RecordKey) -> String {
        let key = key.as_str();
        let plain = !key.starts_with(HASHED)
            // HubSpot refuses blanks at the ends.
            && key.trim() == key
            && self.is_short(key);
        match plain {
            true => format!("{}{key}", self.prefix),
            false => format!("{}{}", self.prefix, hashed(key)),
        }
    }

    fn is_short(&self, key: &str) -> bool {
        let count = || self.prefix.chars().count() + key.chars().count();
        self.prefix.len() + key.len() <= LONGEST || count() <= LONGEST
    }

    /// The inverse of [`ExternalIds::of`].
    pub fn meaning(&self, value: &str) -> ExternalIdMeaning {
        match value.strip_prefix(self.prefix.as_str()) {
            None | Some("") => ExternalIdMeaning::Foreign,
            Some(key) if key.starts_with(HASHED) => ExternalIdMeaning::Hashed,
            Some(key) => ExternalIdMeaning::Key(RecordKey::from(key)),
        }
    }

    /// Whether a record that was found by something else can be a row's: nobody named it, or this
    /// row did, perhaps by its bare key, as it used to be.
    pub fn admits(&self, key: &RecordKey, value: &str) -> bool {
        value.is_empty() || value == self.of(key) || (self.alone && value == key.as_str())
    }
}

fn hashed(key: &str) -> Cow<'_, str> {
    let digest = Sha256::digest(key.as_bytes());
    let hex: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Cow::Owned(format!("{HASHED}{hex}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(prefix: &str) -> ExternalIds {
        ExternalIds {
            prefix: prefix.to_owned(),
            ..ExternalIds::default()
        }
    }

    #[test]
    fn values_and_what_they_mean() {
        let deals = ids("crm-1a2b3c:crm.deals:");
        let key = RecordKey::from("17");
        assert_eq!(deals.of(&key), "crm-1a2b3c:crm.deals:17");
        let cases = [
            (
                "crm-1a2b3c:crm.deals:17",
                ExternalIdMeaning::Key(key.clone()),
            ),
            (
                "crm-1a2b3c:crm.deals:[\"1\",\"2\"]",
                ExternalIdMeaning::Key(RecordKey::from("[\"1\",\"2\"]")),
            ),
            ("crm-1a2b3c:crm.deals:#00", ExternalIdMeaning::Hashed),
            ("crm-1a2b3c:crm.deals:", ExternalIdMeaning::Foreign),
            ("crm-1a2b3c:crm.deals_too:17", ExternalIdMeaning::Foreign),
            ("17", ExternalIdMeaning::Foreign),
            ("", ExternalIdMeaning::Foreign),
        ];
        for (value, meaning) in cases {
            assert_eq!(deals.meaning(value), meaning, "{value}");
        }
        assert_eq!(ids("").meaning("17"), ExternalIdMeaning::Key(key));
    }

    #[test]
    fn former_names_count_where_they_can_only_be_ours() {
        let key = RecordKey::from("17");
        for (alone, value, admitted) in [
            (false, "", true),
            (false, "a:17", true),
            (false, "17", false),
            (false, "b:17", false),
            (true, "17", true),
            (true, "18", false),
            (true, "b:17", false),
        ] {
            let ids = ExternalIds { alone, ..ids("a:") };
            assert_eq!(ids.admits(&key, value), admitted, "{alone} {value}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_value_of_its_own(
            prefix in "[a-z]{0,9}:[a-z.]{0,90}:", one in ".{1,300}", other in ".{1,300}",
        ) {
            let ids = ids(&prefix);
            let (first, second) = (RecordKey::from(one.as_str()), RecordKey::from(other.as_str()));
            let value = ids.of(&first);
            prop_assert!(value.chars().count() <= LONGEST);
            prop_assert_eq!(value.trim_end(), &value);
            prop_assert_eq!(value == ids.of(&second), one == other);
            match ids.meaning(&value) {
                ExternalIdMeaning::Key(key) => prop_assert_eq!(key, first),
                ExternalIdMeaning::Hashed => prop_assert!(value.len() < prefix.len() + 40),
                ExternalIdMeaning::Foreign => prop_assert!(false, "{}", value),
            }
        }
    }
}
