//! Interest groups and marketing permissions of an audience, and what a member has of them.

use serde_json::{Map, Value, json};

use super::Mailchimp;
use super::errors::Problem;
use super::store::{Audience, Member, hash_of};
use crate::query::Query;
use crate::reply::Reply;

/// A category of groups.
#[derive(Debug, Clone)]
pub(crate) struct Category {
    pub id: String,
    pub title: String,
    /// Ids and names.
    pub interests: Vec<(String, String)>,
}

/// Ten hexadecimal digits that differ from audience to audience.
pub(crate) fn id_of(list: &str, what: &str) -> String {
    let hash = hash_of(&format!("{list} {what}"));
    hash[..10].iter().map(|byte| char::from(*byte)).collect()
}

impl Audience {
    fn interests(&self) -> impl Iterator<Item = (&Category, &(String, String))> {
        self.categories
            .iter()
            .flat_map(|category| category.interests.iter().map(move |each| (category, each)))
    }

    /// Ids that are not there are refused, and so is what is neither true nor false.
    pub(crate) fn check_interests(&self, sent: &Map<String, Value>) -> Result<(), Problem> {
        for (id, value) in sent {
            if !self.interests().any(|(_, (known, _))| known == id) {
                let message = format!("Invalid interest ID: '{id}'.");
                return Err(Problem::field("interests", message));
            }
            if !value.is_boolean() {
                let message = "Schema describes boolean, something else found instead";
                return Err(Problem::field(&format!("interests.{id}"), message));
            }
        }
        Ok(())
    }

    pub(crate) fn check_permissions(&self, sent: &[Value]) -> Result<(), Problem> {
        let known = |each: &Value| {
            let id = each["marketing_permission_id"].as_str();
            each["enabled"].is_boolean()
                && self
                    .permissions
                    .iter()
                    .any(|(known, _)| Some(known.as_str()) == id)
        };
        match sent.iter().all(known) {
            true => Ok(()),
            false => Err(Problem::field(
                "marketing_permissions",
                "Invalid marketing permission ID.",
            )),
        }
    }

    /// All of the audience's, with what the member has of them.
    pub(crate) fn interests_of(&self, member: &Member) -> Value {
        let held = |(_, (id, _)): (&Category, &(String, String))| {
            (id.clone(), Value::from(member.interests.contains(id)))
        };
        Value::Object(self.interests().map(held).collect())
    }

    pub(crate) fn permissions_of(&self, member: &Member) -> Value {
        let held = |(id, text): &(String, String)| json!({"marketing_permission_id": id, "text": text, "enabled": member.permissions.contains(id)});
        self.permissions.iter().map(held).collect()
    }

    /// `Category: Name` of the groups that a member is in.
    pub(crate) fn groups_of(&self, member: &Member) -> Vec<String> {
        self.interests()
            .filter(|(_, (id, _))| member.interests.contains(id))
            .map(|(category, (_, name))| format!("{}: {name}", category.title))
            .collect()
    }

    /// What a webhook says of them: names, commas within them escaped, and each category's.
    pub(crate) fn merges_of(&self, member: &Member) -> Vec<(String, String)> {
        if self.categories.is_empty() {
            return Vec::new();
        }
        let names = |wanted: &dyn Fn(&Category) -> bool| {
            let held = self
                .interests()
                .filter(|(category, (id, _))| wanted(category) && member.interests.contains(id));
            let escaped = held.map(|(_, (_, name))| name.replace(',', "\\,"));
            escaped.collect::<Vec<_>>().join(", ")
        };
        let mut pairs = vec![("[merges][INTERESTS]".to_owned(), names(&|_| true))];
        for (place, category) in self.categories.iter().enumerate() {
            let of = format!("[merges][GROUPINGS][{place}]");
            pairs.push((format!("{of}[unique_id]"), category.id.clone()));
            pairs.push((format!("{of}[name]"), category.title.clone()));
            pairs.push((
                format!("{of}[groups]"),
                names(&|known| known.id == category.id),
            ));
        }
        pairs
    }
}

impl Member {
    /// A value that is not sent stays as it is.
    pub(crate) fn set_groups(&mut self, sent: &Map<String, Value>) -> bool {
        let mut changed = false;
        for (id, value) in sent {
            changed |= match value.as_bool() {
                Some(true) => self.interests.insert(id.clone()),
                _ => self.interests.remove(id),
            };
        }
        changed
    }

    pub(crate) fn set_permissions(&mut self, sent: &[Value]) {
        for each in sent {
            let id = each["marketing_permission_id"].as_str().unwrap_or_default();
            if each["enabled"] == true {
                self.permissions.insert(id.to_owned());
            } else {
                self.permissions.remove(id);
            }
        }
    }
}

impl Mailchimp {
    /// Everything below `/lists/{id}/interest-categories`.
    pub(crate) fn categories(
        &self,
        list: usize,
        rest: &[&str],
        query: &Query,
    ) -> Result<Reply, Problem> {
        let audience = &self.audiences[list];
        let page = |name: &str, all: Vec<Value>| {
            let count = query.number("count").unwrap_or(10).min(1_000);
            let shown: Vec<&Value> = all
                .iter()
                .skip(query.number("offset").unwrap_or(0))
                .take(count)
                .collect();
            let body = json!({name: shown, "list_id": audience.id, "total_items": all.len()});
            Ok(match query.get("fields") {
                Some(fields) => Reply::value(
                    200,
                    &super::members::only(body.to_string().as_bytes(), fields),
                ),
                None => Reply::value(200, &body),
            })
        };
        match rest {
            [] => {
                let all = audience.categories.iter().map(|category| {
                    json!({"id": category.id, "list_id": audience.id, "title": category.title, "type": "checkboxes"})
                });
                page("categories", all.collect())
            }
            [id, "interests"] => {
                let category = audience.categories.iter().find(|each| each.id == *id);
                let category = category.ok_or_else(Problem::not_found)?;
                let all = category.interests.iter().map(|(interest, name)| {
                    json!({"id": interest, "category_id": category.id, "list_id": audience.id, "name": name})
                });
                page("interests", all.collect())
            }
            _ => Err(Problem::not_found()),
        }
    }
}
