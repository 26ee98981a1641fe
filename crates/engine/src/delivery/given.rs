//! What we gave a member besides fields. Others give members tags and groups as well: only what is
//! remembered here may be taken back.

use serde::{Deserialize, Serialize};

/// The field that holds tags.
pub const TAGS: &str = "tags";
/// The field that holds the groups a member is in.
pub const INTERESTS: &str = "interests";
/// The field that holds what a member has agreed to (GDPR).
pub const PERMISSIONS: &str = "marketing_permissions";

/// See the module's documentation. Tags as they were written, the others by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Given {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interests: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
}

impl Given {
    /// Everything that either holds.
    #[must_use]
    pub fn with(&self, more: &Given) -> Given {
        Given {
            tags: union(&self.tags, &more.tags),
            interests: union(&self.interests, &more.interests),
            permissions: union(&self.permissions, &more.permissions),
        }
    }

    /// The stored form; `None`: nothing.
    pub fn pack(&self) -> Option<String> {
        (*self != Given::default())
            .then(|| serde_json::to_string(self).ok())
            .flatten()
    }

    /// Reads the stored form.
    pub fn unpack(stored: Option<&str>) -> Given {
        stored
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// By the name of a field.
    pub fn of(&self, remote: &str) -> &[String] {
        match remote {
            TAGS => &self.tags,
            INTERESTS => &self.interests,
            PERMISSIONS => &self.permissions,
            _ => &[],
        }
    }
}

/// What is in `known` and not wanted any more.
pub fn stale<'k>(known: &'k [String], wanted: &[String]) -> Vec<&'k str> {
    let is_wanted = |each: &String| wanted.iter().any(|other| alike(each, other));
    let stale = known.iter().filter(|each| !is_wanted(each));
    stale.map(String::as_str).collect()
}

/// Mailchimp may change a tag's case; ids have one.
fn alike(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

fn union(known: &[String], more: &[String]) -> Vec<String> {
    let mut all = known.to_vec();
    for each in more {
        if !all.iter().any(|other| alike(each, other)) {
            all.push(each.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(tags: &[&str]) -> Given {
        Given {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..Given::default()
        }
    }

    #[test]
    fn what_was_given_is_kept_once_whatever_its_case() {
        let both = given(&["VIP", "crm"]).with(&given(&["vip", "Neu"]));
        assert_eq!(both, given(&["VIP", "crm", "Neu"]));
        assert_eq!(stale(&both.tags, &given(&["Crm"]).tags), ["VIP", "Neu"]);
        assert_eq!(Given::unpack(both.pack().as_deref()), both);
        assert_eq!(given(&[]).pack(), None);
        assert_eq!(Given::unpack(Some("{\"later\":1}")), given(&[]));
        assert_eq!(Given::unpack(Some("not JSON")), given(&[]));
    }
}
