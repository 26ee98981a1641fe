//! Reading records as they are, by id or all of them: what a comparison of both sides asks.

use std::{borrow::Cow, collections::HashMap};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use super::{objects_path, wire::Paging};
use crate::HubSpotSettings;
use integration_engine::{
    record::{Entity, RemoteId, Target},
    sync::drift::{Page, Record},
    value::{json::Text, time},
    wire::{Method, Reply, Request},
};

/// HubSpot: at most 100 records in a batch read or a page of a list.
pub const PAGE_MAX: usize = 100;

/// HubSpot: at most 50 where histories are asked for.
pub const HISTORY_MAX: usize = 50;

/// Which records are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingKind {
    /// Their present values.
    Values,
    /// And when they were written.
    Times,
    /// Those in the recycle bin alone.
    Archived,
}

/// Reads records by id. HubSpot: an id that was merged into another one is not found in this way.
pub fn read_request(
    settings: &HubSpotSettings,
    entity: Entity,
    ids: &[RemoteId],
    properties: &[String],
    wanted: ListingKind,
) -> Request {
    let inputs: Vec<_> = ids.iter().map(|id| json!({ "id": id.as_str() })).collect();
    let history = match wanted {
        ListingKind::Times => properties,
        ListingKind::Values | ListingKind::Archived => &[],
    };
    let body =
        json!({ "properties": properties, "propertiesWithHistory": history, "inputs": inputs });
    let archived = match wanted {
        ListingKind::Archived => "?archived=true",
        ListingKind::Values | ListingKind::Times => "",
    };
    Request {
        target: Target::HubSpot,
        method: Method::Post,
        path: format!(
            "{}/batch/read{archived}",
            objects_path(&settings.api_version, entity)
        ),
        body: Some(body.to_string().into_bytes()),
    }
}

/// Reads one record. HubSpot: an id that was merged into another one leads to that.
pub fn single_request(settings: &HubSpotSettings, entity: Entity, id: &RemoteId) -> Request {
    Request::get(
        Target::HubSpot,
        format!(
            "{}/{}",
            objects_path(&settings.api_version, entity),
            utf8_percent_encode(id.as_str(), NON_ALPHANUMERIC)
        ),
    )
}

/// A page of all records in the order of their ids, with our unique property.
pub fn list_request(settings: &HubSpotSettings, entity: Entity, after: Option<&str>) -> Request {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &PAGE_MAX.to_string());
    query.append_pair("properties", &settings.external_id_property);
    if let Some(after) = after {
        query.append_pair("after", after);
    }
    Request::get(
        Target::HubSpot,
        format!(
            "{}?{}",
            objects_path(&settings.api_version, entity),
            query.finish()
        ),
    )
}

#[derive(Deserialize)]
struct ObjectsBody<'a> {
    #[serde(borrow, default = "Option::default")]
    results: Option<Vec<ListedObject<'a>>>,
    #[serde(borrow, default = "Option::default")]
    paging: Option<Paging<'a>>,
}

#[derive(Deserialize)]
struct ListedObject<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    properties: HashMap<Cow<'a, str>, Text<'a>>,
    #[serde(borrow, default, rename = "propertiesWithHistory")]
    history: HashMap<Cow<'a, str>, Vec<Version<'a>>>,
}

/// HubSpot: the newest version of a property comes first.
#[derive(Deserialize)]
struct Version<'a> {
    #[serde(borrow, default)]
    timestamp: Text<'a>,
}

impl From<ListedObject<'_>> for Record {
    fn from(found: ListedObject<'_>) -> Record {
        let held = found
            .properties
            .into_iter()
            .filter(|(_, value)| !value.as_str().is_empty());
        let newest = |versions: Vec<Version<'_>>| {
            let times = versions.into_iter();
            times
                .filter_map(|version| time::moment(version.timestamp.as_str()).ok())
                .max()
        };
        Record {
            id: found.id.as_str().to_owned(),
            properties: held
                .map(|(name, value)| (name.into_owned(), value.0.into_owned()))
                .collect(),
            written: found
                .history
                .into_iter()
                .filter_map(|(name, versions)| Some((name.into_owned(), newest(versions)?)))
                .collect(),
        }
    }
}

/// Reads the answer to [`read_request`] or [`list_request`]; the error says what is wrong with it.
pub fn read_page(reply: &Reply) -> Result<Page, String> {
    let body: ObjectsBody<'_> =
        serde_json::from_slice(&reply.body).map_err(|error| unreadable(reply, &error))?;
    let results = body.results.ok_or_else(|| no_results(reply))?;
    Ok(Page {
        records: results.into_iter().map(Record::from).collect(),
        after: body.paging.and_then(Paging::after),
    })
}

/// Reads the answer to [`single_request`].
pub fn read_single(reply: &Reply) -> Result<Record, String> {
    let found: ListedObject<'_> =
        serde_json::from_slice(&reply.body).map_err(|error| unreadable(reply, &error))?;
    match found.id.as_str() {
        "" => Err(no_results(reply)),
        _ => Ok(found.into()),
    }
}

fn unreadable(reply: &Reply, error: &serde_json::Error) -> String {
    format!(
        "HubSpot answered HTTP {} with a body that cannot be read: {error}",
        reply.status
    )
}

fn no_results(reply: &Reply) -> String {
    format!("HubSpot answered HTTP {} without records", reply.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HubSpotOnDelete;
    use crate::objects::named::{CONTACT, DEAL};
    use integration_engine::record::Timestamp;

    fn settings() -> HubSpotSettings {
        HubSpotSettings {
            api_version: "2026-09".to_owned(),
            external_id_property: "crm_id".to_owned(),
            external_id_ready: vec![],
            external_id_shared: Vec::new(),
            on_delete: HubSpotOnDelete::Archive,
        }
    }

    fn reply(body: &str) -> Reply {
        Reply {
            status: 200,
            headers: vec![],
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn what_is_asked() {
        let settings = settings();
        let ids = [RemoteId::from("1"), RemoteId::from("2")];
        let names = ["email".to_owned(), "phone".to_owned()];
        for (wanted, path, history) in [
            (ListingKind::Values, "batch/read", json!([])),
            (ListingKind::Times, "batch/read", json!(["email", "phone"])),
            (ListingKind::Archived, "batch/read?archived=true", json!([])),
        ] {
            let asked = read_request(&settings, CONTACT, &ids, &names, wanted);
            assert_eq!(asked.path, format!("/crm/objects/2026-09/contacts/{path}"));
            let body: serde_json::Value = serde_json::from_slice(&asked.body.unwrap()).unwrap();
            assert_eq!(
                body,
                json!({"properties": ["email", "phone"], "propertiesWithHistory": history,
                       "inputs": [{"id": "1"}, {"id": "2"}]})
            );
        }
        let list = |after| list_request(&settings, DEAL, after).path;
        let all = "/crm/objects/2026-09/deals?limit=100&properties=crm_id";
        assert_eq!(list(None), all);
        assert_eq!(list(Some("a/7")), format!("{all}&after=a%2F7"));
        let one = single_request(&settings, DEAL, &ids[0]);
        assert_eq!(one.path, "/crm/objects/2026-09/deals/1");
    }

    #[test]
    fn what_is_answered() {
        let body = r#"{"results":[
            {"id":"7","properties":{"email":"a@b.co","phone":null,"n":"\u0041"},
             "propertiesWithHistory":{"email":[{"value":"a@b.co","timestamp":"2026-01-02T03:04:05.006Z"},
                                               {"value":"x","timestamp":"2025-01-02T03:04:05.006Z"}],"phone":[]}},
            {"id":8}],
            "paging":{"next":{"after":"9","link":"…"}}}"#;
        let page = read_page(&reply(body)).unwrap();
        assert_eq!(page.after.as_deref(), Some("9"));
        let [first, second] = &page.records[..] else {
            panic!("{page:?}");
        };
        assert_eq!((first.id.as_str(), second.id.as_str()), ("7", "8"));
        let held = HashMap::from([("email", "a@b.co"), ("n", "A")]);
        let owned = held.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(first.properties, owned.collect());
        assert_eq!(
            first.written,
            HashMap::from([("email".to_owned(), Timestamp(1_767_323_045_006))])
        );
        assert_eq!(read_page(&reply(r#"{"results":[]}"#)), Ok(Page::default()));
        for bad in ["", "{}", "[]", r#"{"message":"no"}"#] {
            assert!(read_page(&reply(bad)).is_err(), "{bad}");
            assert!(read_single(&reply(bad)).is_err(), "{bad}");
        }
        assert_eq!(read_single(&reply(r#"{"id":"7"}"#)).unwrap().id, "7");
    }
}
