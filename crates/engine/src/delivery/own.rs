//! Whether a record that was found at the service is a row's own. What is somebody else's is not written
//! to: another table's, another database's, or a person's who uses the property differently.

use crate::record::{RecordKey, external_id::ExternalIds};

/// What tells whether a record is a row's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    pub ids: ExternalIds,
    pub key: RecordKey,
    /// Values of the row by which its record is recognised, by property.
    pub traits: Vec<(String, String)>,
}

impl Own {
    /// `Err`: why a record with these values is not the row's. `held`: its value of the unique
    /// property.
    pub fn judge(&self, held: &str, value: impl Fn(&str) -> Option<String>) -> Result<(), String> {
        if !self.ids.admits(&self.key, held) {
            return Err(format!("it carries {held}, which is another record's"));
        }
        // What we made unique says enough.
        if held.is_empty() || (!self.ids.chosen && held != self.key.as_str()) {
            return Ok(());
        }
        let mut others = Vec::new();
        for (property, ours) in &self.traits {
            let theirs = value(property).unwrap_or_default();
            let same = ours.trim().to_lowercase() == theirs.trim().to_lowercase();
            if same {
                return Ok(());
            }
            if !theirs.is_empty() {
                others.push(format!(
                    "its {property} is {theirs}, and the row's is {ours}"
                ));
            }
        }
        match others.is_empty() {
            true => Ok(()),
            false => Err(others.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_record_is() {
        let cases = [
            // chosen, alone, held, name there
            (false, false, "", "Other", true),
            (false, false, "a:17", "Other", true),
            (false, false, "17", "Acme", false),
            (false, false, "b:17", "Acme", false),
            (false, true, "17", " ACME", true),
            (false, true, "17", "Other", false),
            (true, false, "a:17", "acme", true),
            (true, false, "a:17", "", true),
            (true, false, "a:17", "Other", false),
            (true, false, "", "Other", true),
        ];
        for (chosen, alone, held, name, expected) in cases {
            let own = Own {
                ids: ExternalIds {
                    prefix: "a:".to_owned(),
                    chosen,
                    alone,
                },
                key: RecordKey::from("17"),
                traits: vec![("name".to_owned(), "Acme".to_owned())],
            };
            let judged = own.judge(held, |_| Some(name.to_owned()));
            assert_eq!(judged.is_ok(), expected, "{chosen} {alone} {held} {name}");
        }
    }
}
