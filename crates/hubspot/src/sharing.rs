//! Whether others name contacts in a portal, too: another database, or an application that fills the
//! unique property. Where nobody does, whoever has an address is ours to write.

use serde_json::{json, value::RawValue};

use super::{
    calls::post,
    objects, objects_path,
    wire::{BatchReply, property},
};
use crate::{HubSpot, HubSpotSettings};
use integration_engine::{
    record::external_id::{ExternalIdMeaning, ExternalIds},
    service::failure::{Class, classify},
    wire::{Reply, Request, TransportError},
};

/// HubSpot: at most six filters in a group; one asks for a value at all.
const MOST_HEADS: usize = 5;
/// Records that are looked at.
const SAMPLE: usize = 100;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else is known to name contacts.
    Alone,
    /// Others do, or that cannot be told.
    Shared,
    /// No answer; why.
    Unknown(String),
}

/// Asks for contacts that others named.
pub fn request(settings: &HubSpotSettings, ours: &[ExternalIds]) -> Request {
    let name = settings.external_id_property.as_str();
    // Environment or database, with its hash.
    let mut heads: Vec<&str> = ours
        .iter()
        .filter_map(|ids| ids.prefix.split(':').next())
        .filter(|head| !head.is_empty())
        .collect();
    heads.sort_unstable();
    heads.dedup();
    let mut filters = vec![json!({ "propertyName": name, "operator": "HAS_PROPERTY" })];
    filters.extend(heads.into_iter().take(MOST_HEADS).map(|head| {
        json!({ "propertyName": name, "operator": "NOT_CONTAINS_TOKEN", "value": format!("{head}*") })
    }));
    let body = json!({
        "filterGroups": [{ "filters": filters }],
        "properties": [name],
        "limit": SAMPLE,
    });
    let objects = objects_path(&settings.api_version, objects::person());
    post(format!("{objects}/search"), &body)
}

/// Reads the answer to [`request`]. What HubSpot's search let through of our own does not count.
pub fn read(
    reply: Result<&Reply, &TransportError>,
    settings: &HubSpotSettings,
    ours: &[ExternalIds],
) -> Sharing {
    let class = classify::<HubSpot>(reply);
    let reply = match (&class, reply) {
        (Class::Answered, Ok(reply)) => reply,
        (Class::Rejected | Class::NotFound | Class::Forbidden { .. }, _) => return Sharing::Shared,
        _ => return Sharing::Unknown(class.trouble().unwrap_or("no answer").to_owned()),
    };
    let Ok(body) = serde_json::from_slice::<BatchReply<'_, Option<&RawValue>>>(&reply.body) else {
        return Sharing::Shared;
    };
    let names = body.results.iter().flatten().filter_map(|row| {
        let name = property(row.properties?, &settings.external_id_property)?;
        Some(name.as_str().to_owned())
    });
    let foreign = |name: &String| {
        !name.is_empty()
            && ours
                .iter()
                .all(|ids| ids.meaning(name) == ExternalIdMeaning::Foreign)
    };
    match names.into_iter().any(|name| foreign(&name)) {
        true => Sharing::Shared,
        false => Sharing::Alone,
    }
}
