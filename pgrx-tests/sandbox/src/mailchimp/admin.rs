//! What people do to audiences in the web app.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Mailchimp;
use super::groups::{Category, id_of};
use super::store::Audience;

/// A merge field as somebody defines it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AudienceField {
    pub tag: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub required: bool,
    /// Of `radio` and `dropdown`.
    #[serde(default)]
    pub choices: Vec<String>,
    /// Of `phone`: `US` or `International`.
    #[serde(default)]
    pub phone_format: Option<String>,
}

impl AudienceField {
    pub fn new(tag: &str, kind: &str) -> Self {
        Self {
            tag: tag.to_owned(),
            kind: kind.to_owned(),
            required: false,
            choices: Vec::new(),
            phone_format: None,
        }
    }

    fn options(&self) -> Value {
        let mut options = json!({});
        if !self.choices.is_empty() {
            options["choices"] = json!(self.choices);
        }
        if let Some(format) = &self.phone_format {
            options["phone_format"] = json!(format);
        }
        options
    }
}

impl Mailchimp {
    fn audience(&mut self, list_id: &str) -> Result<&mut Audience, String> {
        let mut audiences = self.audiences.iter_mut();
        audiences
            .find(|audience| audience.id == list_id)
            .ok_or_else(|| format!("no audience {list_id}"))
    }

    /// Adds a merge field, or changes the one with the same tag.
    pub(crate) fn admin_defines(
        &mut self,
        list_id: &str,
        field: &AudienceField,
    ) -> Result<(), String> {
        let audience = self.audience(list_id)?;
        match audience.field(&field.tag) {
            Some(at) => {
                let known = &mut audience.fields[at];
                known.kind.clone_from(&field.kind);
                known.required = field.required;
                known.options = field.options();
            }
            None => {
                let (tag, kind) = (&field.tag, &field.kind);
                audience.add_field(tag, tag, kind, field.required, field.options());
            }
        }
        Ok(())
    }

    pub(crate) fn admin_drops(&mut self, list_id: &str, tag: &str) -> Result<(), String> {
        let audience = self.audience(list_id)?;
        let at = audience
            .field(tag)
            .ok_or_else(|| format!("no merge field {tag}"))?;
        audience.fields[at].tag.clear();
        Ok(())
    }

    /// Adds a category of interest groups.
    pub(crate) fn admin_groups(
        &mut self,
        list_id: &str,
        title: &str,
        names: &[String],
    ) -> Result<(), String> {
        let audience = self.audience(list_id)?;
        let id = |what: &str| id_of(list_id, &format!("{title} {what}"));
        audience.categories.push(Category {
            id: id(""),
            title: title.to_owned(),
            interests: names.iter().map(|name| (id(name), name.clone())).collect(),
        });
        Ok(())
    }

    /// Turns on marketing permissions.
    pub(crate) fn admin_permits(&mut self, list_id: &str, texts: &[String]) -> Result<(), String> {
        let permission = |text: &String| (id_of(list_id, text), text.clone());
        self.audience(list_id)?.permissions = texts.iter().map(permission).collect();
        Ok(())
    }

    /// Somebody gives a member a tag, or takes it away.
    pub(crate) fn admin_tags(
        &mut self,
        list_id: &str,
        email: &str,
        tag: &str,
        active: bool,
    ) -> Result<(), String> {
        let audience = self.audience(list_id)?;
        let at = audience
            .locate(email)
            .ok_or_else(|| format!("no member {email}"))?;
        audience.members[at].tag(tag, active);
        Ok(())
    }
}
