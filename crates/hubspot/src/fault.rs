//! One of HubSpot's error objects: whom it concerns, what it says, and what follows from it.

use serde_json::Value;

use crate::{HubSpotCall, HubSpotSettings};
use integration_engine::{
    delivery::{
        call::Item,
        outcome::{Category, Relink, Verdict},
        verdicts::later,
    },
    record::RemoteId,
    value::json::shortened,
};

use super::{EMAIL, answer::taken, not_provisioned};

/// How long to wait when HubSpot refuses a single record for its limits.
const LIMIT_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
/// How long to wait for somebody to create the unique property.
const PROVISION_WAIT: std::time::Duration = std::time::Duration::from_secs(60);
/// Messages are quoted up to so many characters.
const QUOTED: usize = 500;

/// What to do about a property that is required.
const ADVICE: &str = "map a column with a value to it; or, if it was an administrator of the HubSpot \
     account who made it required, set integration.hubspot_api_version = '2026-03', which is not \
     subject to such rules";

/// HubSpot: what administrators require is enforced from 2026-09 on.
fn enforces_rules(version: &str) -> bool {
    version.starts_with("20") && version >= "2026-09"
}

/// An error of an answer, whole or of one record. Every field of it is optional.
#[derive(Debug, Default)]
pub(super) struct ErrorBody {
    pub category: String,
    pub message: String,
    /// `objectWriteTraceId`s of the inputs it concerns.
    pub traces: Vec<String>,
    /// Ids of the records it concerns.
    pub ids: Vec<String>,
    existing: Option<String>,
    details: Vec<Detail>,
    /// Errors inside of it, where those name records of their own.
    pub inner: Vec<ErrorBody>,
}

/// What is wrong with one property.
#[derive(Debug, Default)]
struct Detail {
    property: String,
    code: String,
    message: String,
}

impl ErrorBody {
    pub(super) fn of(error: &Value) -> ErrorBody {
        let message = text(error.get("message"));
        let context = error.get("context");
        let mut details = embedded_details(&message);
        let errors = error
            .get("errors")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        if details.is_empty() {
            details.extend(errors.iter().filter_map(outer_detail));
        }
        ErrorBody {
            category: text(error.get("category")),
            traces: texts(context, &["objectWriteTraceId"]),
            ids: texts(context, &["ids", "id"]),
            existing: texts(context, &["existingId"])
                .into_iter()
                .next()
                .or_else(|| digits_after(&message, "Existing ID:").map(str::to_owned)),
            inner: errors
                .iter()
                .map(ErrorBody::of)
                .filter(ErrorBody::names_records)
                .collect(),
            message,
            details,
        }
    }

    pub(super) fn names_records(&self) -> bool {
        !self.traces.is_empty() || !self.ids.is_empty()
    }

    /// Whether it concerns the record at `position` of the call.
    pub(super) fn concerns(&self, position: usize, item: &Item) -> bool {
        if !self.traces.is_empty() {
            return self
                .traces
                .iter()
                .any(|trace| trace.parse() == Ok(position));
        }
        self.ids
            .iter()
            .any(|id| id.trim().eq_ignore_ascii_case(&item.name))
    }

    /// Two inputs of one call with the same key; nothing is wrong with either.
    pub(super) fn is_duplicate(&self) -> bool {
        self.message.starts_with("Duplicate")
    }

    /// The unique property is not there, or not unique: no record is to blame for that.
    pub(super) fn lacks_property(&self, settings: &HubSpotSettings) -> bool {
        let property = settings.external_id_property.as_str();
        let missing = self
            .details
            .iter()
            .any(|detail| detail.property == property && detail.code == "PROPERTY_DOESNT_EXIST");
        missing || (self.message.contains("non-unique") && self.message.contains(property))
    }

    /// There is no such object (any more).
    pub(super) fn is_about_type(&self) -> bool {
        self.message.starts_with("Unable to infer object type")
    }

    /// A property or an object is not what it was thought to be.
    fn doubts_definitions(&self) -> bool {
        let in_doubt = self.details.iter().any(|detail| {
            matches!(
                detail.code.as_str(),
                "PROPERTY_DOESNT_EXIST" | "INVALID_OPTION" | "READ_ONLY_VALUE"
            )
        });
        in_doubt || self.is_about_type()
    }

    /// What it means for a record. `status` is that of the answer.
    pub(super) fn verdict(
        &self,
        kind: &HubSpotCall,
        item: &Item,
        settings: &HubSpotSettings,
        status: u16,
    ) -> Verdict {
        if self.lacks_property(settings) {
            let why = not_provisioned(&settings.external_id_property);
            return later(why, Some(status), PROVISION_WAIT);
        }
        if let Some(verdict) = self.conflict(kind, item, settings, status) {
            return verdict;
        }
        match self.category.as_str() {
            "OBJECT_NOT_FOUND" => self.not_found(kind, status),
            "RATE_LIMIT" | "RATE_LIMITS" => later(self.sentence(), Some(status), LIMIT_WAIT),
            "MISSING_SCOPES" => dead(Category::Permission, status, self.sentence()),
            _ if self.doubts_definitions() => dead(Category::Definition, status, self.sentence()),
            "VALIDATION_ERROR" => dead(Category::Validation, status, self.told(settings)),
            "CONFLICT" | "OBJECT_ALREADY_EXISTS" => {
                dead(Category::Conflict, status, self.sentence())
            }
            // A refusal of the whole call with this record alone in it is final; an unknown
            // error of one record among others may pass.
            _ if matches!(status, 400..=499) => {
                dead(Category::Validation, status, self.told(settings))
            }
            _ => Verdict::Retry {
                why: self.sentence(),
                status: Some(status),
                wait: None,
                counted: true,
            },
        }
    }

    pub(super) fn not_found(&self, kind: &HubSpotCall, status: u16) -> Verdict {
        match kind {
            HubSpotCall::Archive { .. } | HubSpotCall::Erase { .. } => Verdict::Removed,
            // It may live on under another id, which batches don't follow.
            HubSpotCall::Update { .. } => Verdict::Again {
                relink: None,
                batch_cap: Some(1),
                why: "HubSpot does not have this record under its id".to_owned(),
            },
            HubSpotCall::Patch { .. } | HubSpotCall::GiveWay { .. } | HubSpotCall::Find { .. } => {
                Verdict::Again {
                    relink: Some(Relink::Forget),
                    batch_cap: None,
                    why: "HubSpot no longer has this record; it is created anew".to_owned(),
                }
            }
            _ => dead(Category::NotFound, status, self.sentence()),
        }
    }

    /// Another record of HubSpot's has what this one would be known by: that is the one.
    fn conflict(
        &self,
        kind: &HubSpotCall,
        item: &Item,
        settings: &HubSpotSettings,
        status: u16,
    ) -> Option<Verdict> {
        let (holder, property) = match &self.existing {
            Some(id) => (id.as_str(), EMAIL),
            None => value_holder(&self.message)?,
        };
        let by_key = property.eq_ignore_ascii_case(EMAIL)
            || property.eq_ignore_ascii_case(&settings.external_id_property);
        let linked = matches!(kind, HubSpotCall::Update { .. } | HubSpotCall::Patch { .. })
            && item.name == holder;
        if !by_key || linked {
            let why = format!(
                "HubSpot record {holder} already has this value of the unique property {property}; \
                 change one of the two, or merge them in HubSpot"
            );
            return Some(dead(Category::Conflict, status, why));
        }
        if property.eq_ignore_ascii_case(EMAIL)
            && let Some(verdict) = shared(kind, holder, status, settings)
        {
            return Some(verdict);
        }
        // Others may have chosen the same name for a record of theirs.
        let own = item.own.as_ref().filter(|own| own.ids.chosen);
        if let Some(own) = own.filter(|_| !property.eq_ignore_ascii_case(EMAIL)) {
            let why = format!("it has another {EMAIL}, or none");
            return Some(taken(item, holder, &own.ids.of(&own.key), &why));
        }
        Some(Verdict::Again {
            relink: Some(Relink::Adopt(RemoteId::from(holder))),
            batch_cap: None,
            why: format!("HubSpot already has this {property}, with record {holder}"),
        })
    }

    /// The error in words, and what can be done about what an administrator requires.
    fn told(&self, settings: &HubSpotSettings) -> String {
        let required = self.details.iter().any(|detail| {
            matches!(
                detail.code.as_str(),
                "MISSING_REQUIRED_PROPERTY" | "MISSING_CONDITIONAL_REQUIRED_PROPERTY"
            )
        });
        match required && enforces_rules(&settings.api_version) {
            true => format!("{}; {ADVICE}", self.sentence()),
            false => self.sentence(),
        }
    }

    /// The error in words.
    pub(super) fn sentence(&self) -> String {
        if self.details.is_empty() {
            let said = match (self.message.as_str(), self.category.as_str()) {
                ("", "") => "no reason given",
                ("", category) => category,
                (message, _) => message,
            };
            return format!("HubSpot refused the record: {}", shortened(said, QUOTED));
        }
        let named: Vec<String> = self.details.iter().map(Detail::sentence).collect();
        shortened(&format!("HubSpot refused {}", named.join("; ")), QUOTED).into_owned()
    }
}

impl Detail {
    fn sentence(&self) -> String {
        let code = match self.code.as_str() {
            "" => String::new(),
            code => format!(" ({code})"),
        };
        match self.property.as_str() {
            "" => format!("a value{code}: {}", self.message),
            property => format!("property {property}{code}: {}", self.message),
        }
    }
}

/// Where others write to the portal, whoever has an address may be theirs: a record is looked at
/// before it is taken over, and a linked one stays what it is.
fn shared(
    kind: &HubSpotCall,
    holder: &str,
    status: u16,
    settings: &HubSpotSettings,
) -> Option<Verdict> {
    if settings.external_id_shared.is_empty() {
        return None;
    }
    match kind {
        HubSpotCall::Update { .. } | HubSpotCall::Patch { .. } => Some(dead(
            Category::Conflict,
            status,
            format!(
                "HubSpot record {holder} has this {EMAIL}, and may be another database's or \
                 application's; change one of the two, or merge them in HubSpot"
            ),
        )),
        _ => Some(Verdict::Again {
            relink: Some(Relink::Forget),
            batch_cap: None,
            why: format!("HubSpot already has this {EMAIL}, with record {holder}"),
        }),
    }
}

/// The list inside `Property values were not valid: [{…}]`, which may name more than `errors`.
fn embedded_details(message: &str) -> Vec<Detail> {
    let Some(list) = message
        .find(": [{")
        .and_then(|at| serde_json::from_str::<Value>(message[at + 2..].trim()).ok())
    else {
        return Vec::new();
    };
    let entries = list.as_array().map_or(&[][..], Vec::as_slice);
    entries
        .iter()
        .map(|entry| Detail {
            property: text(entry.get("name")),
            code: text(entry.get("error")),
            message: text(entry.get("message")),
        })
        .collect()
}

fn outer_detail(error: &Value) -> Option<Detail> {
    let property = texts(error.get("context"), &["propertyName"])
        .into_iter()
        .next();
    let code = text(error.get("code"));
    if property.is_none() && code.is_empty() {
        return None;
    }
    Some(Detail {
        property: property.unwrap_or_default(),
        code,
        message: text(error.get("message")),
    })
}

/// `Cannot set PropertyValueCoordinates{…propertyName=email…} on 512. 777 already has that value.`:
/// the second number holds the value.
fn value_holder(message: &str) -> Option<(&str, &str)> {
    let before = &message[..message.find(" already has that value")?];
    let holder = before.rsplit([' ', '.']).next()?;
    let is_id = !holder.is_empty() && holder.bytes().all(|byte| byte.is_ascii_digit());
    let property = before
        .split("propertyName=")
        .nth(1)?
        .split([',', '}'])
        .next()?;
    is_id.then_some((holder, property.trim()))
}

fn digits_after<'a>(message: &'a str, marker: &str) -> Option<&'a str> {
    let rest = message.split(marker).nth(1)?.trim_start();
    let end = rest
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The texts under any of `names`: HubSpot's contexts are maps of strings or of lists of them.
fn texts(context: Option<&Value>, names: &[&str]) -> Vec<String> {
    names
        .iter()
        .filter_map(|name| context?.get(name))
        .flat_map(|value| match value {
            Value::Array(list) => list.iter().map(|entry| text(Some(entry))).collect(),
            other => vec![text(Some(other))],
        })
        .filter(|text| !text.is_empty())
        .collect()
}

fn dead(category: Category, status: u16, why: String) -> Verdict {
    Verdict::Dead {
        category,
        status: Some(status),
        why,
        member_status: None,
    }
}
