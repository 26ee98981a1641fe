//! Every request made of HubSpot is one that its official client could make: paths, parameters and
//! bodies are compared with the facts in `shared/specs/hubspot`, where that folder is at hand.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::{
    call::{Method, Request},
    erasure::Step,
    hubspot::{
        associations::{Action, Label, Labels, Pair, Sending, types},
        census::{Wanted, list_request, read_request, single_request},
        oauth,
        preflight::{Preflight, Subject},
        property::{create_property_request, property_request},
    },
    specs,
};

struct Specs {
    endpoints: Value,
    models: Value,
}

impl Specs {
    /// The operation of that method whose path fits, with all its path parameters.
    fn operation(&self, request: &Request) -> &Value {
        let path = request.path.split('?').next().unwrap();
        let fits = |template: &Value| {
            template
                .as_str()
                .is_some_and(|template| specs::matches(template, path))
        };
        let groups = self.endpoints["groups"].as_object().unwrap();
        let mut all = groups.values().flat_map(|group| group.as_array().unwrap());
        all.find(|operation| {
            operation["method"] == request.method.name()
                && (fits(&operation["path"]) || fits(&operation["path_2026_09"]))
        })
        .unwrap_or_else(|| panic!("no operation {} {path}", request.method.name()))
    }

    fn check(&self, request: &Request) {
        let operation = self.operation(request);
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            assert!(
                operation["query"].get(&*name).is_some(),
                "{}: parameter {name}",
                request.path
            );
        }
        match (&request.body, operation["body"].as_str()) {
            (None, None) => {}
            (Some(body), Some(model)) => {
                let body = serde_json::from_slice(body).unwrap();
                self.check_type(&request.path, model, &body);
            }
            (body, model) => panic!("{}: body {body:?} for model {model:?}", request.path),
        }
    }

    fn check_type(&self, place: &str, name: &str, value: &Value) {
        if let Some(element) = name
            .strip_prefix("Array<")
            .and_then(|rest| rest.strip_suffix('>'))
        {
            let list = value
                .as_array()
                .unwrap_or_else(|| panic!("{place} is a list"));
            list.iter()
                .for_each(|value| self.check_type(&format!("{place}[]"), element, value));
            return;
        }
        let right = match name {
            // HubSpot's documents sort by objects; its client's types have strings there.
            "string" if place.ends_with(".sorts[]") => value["propertyName"].is_string(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "{ [key: string]: string; }" => value
                .as_object()
                .is_some_and(|map| map.values().all(Value::is_string)),
            model => return self.check_model(place, model, value),
        };
        assert!(right, "{place}: {value} is no {name}");
    }

    fn check_model(&self, place: &str, model: &str, value: &Value) {
        let fields = self.models["models"][model]
            .as_object()
            .unwrap_or_else(|| panic!("{place}: no model {model}"));
        let given = value
            .as_object()
            .unwrap_or_else(|| panic!("{place} is an object"));
        for (name, value) in given {
            let field = fields
                .get(name)
                .unwrap_or_else(|| panic!("{place}: {model} has no {name}"));
            self.check_type(
                &format!("{place}.{name}"),
                field["type"].as_str().unwrap(),
                value,
            );
            if let Some(allowed) = field["enum"].as_array() {
                assert!(
                    allowed.contains(value),
                    "{place}.{name}: {value} is none of {allowed:?}"
                );
            }
        }
        for (name, field) in fields {
            let there = given.contains_key(name) || field["required"] != true;
            assert!(there, "{place}: {model} requires {name}");
        }
    }
}

/// What is sent for records of every kind in every state.
fn records(entity: Entity, settings: &HubSpotSettings) -> Vec<Request> {
    let texts = [Some("a@example.com"), Some("Ada"), Some("1.5"), Some("7")];
    let works = [
        work(row(texts), None),
        work(row([None, Some("Ada"), None, None]), None),
        work(row(texts), link(Some("5"), Some("a@example.com"), &[])),
        work(row([None; 4]), link(Some("5"), None, &[(2, "Ada")])),
        work(None, link(Some("5"), None, &[])),
        work(None, link(None, Some("a@example.com"), &[])),
        work(None, link(None, None, &[])),
        // Alone, and giving way.
        Work {
            batch_cap: 1,
            ..work(row(texts), link(Some("6"), Some("a@example.com"), &[]))
        },
        Work {
            gives_way: true,
            ..work(row(texts), link(Some("7"), Some("b@example.com"), &[]))
        },
    ];
    let map = map(entity);
    let erasing = HubSpotSettings {
        on_delete: HubSpotOnDelete::Gdpr,
        ..settings.clone()
    };
    let sends = [settings, &erasing].into_iter().flat_map(|settings| {
        let decided = works
            .iter()
            .enumerate()
            .map(|(index, work)| decide(work, index, &map, settings));
        decided.filter_map(|decision| match decision {
            Decision::Send(kind, item) => Some((kind, item)),
            Decision::Settled(_) => None,
        })
    });
    let known_by_others = CallKind::HubSpotMatch {
        entity,
        property: "domain".to_owned(),
    };
    let sends = sends.chain([(known_by_others, item("acme.example.com"))]);
    let sends: Vec<_> = sends.collect();
    let calls = assemble(sends, settings);
    let erasure = [
        Step::Look("17".into()),
        Step::remove(entity, "5".into()),
        Step::EraseAddress("a@example.com".into()),
    ];
    let erasure = erasure.iter().map(|step| step.request(entity, settings));
    calls
        .into_iter()
        .map(|call| call.request)
        .chain(erasure)
        .collect()
}

/// Every pair of objects, associated, looked at and parted.
fn associations(settings: &HubSpotSettings) -> Vec<Request> {
    let pairs = Entity::ALL
        .into_iter()
        .flat_map(|from| Entity::ALL.map(|to| (from, to)))
        .filter(|(from, to)| !types(*from, *to).is_empty());
    let label = Label {
        category: "USER_DEFINED".to_owned(),
        id: 36,
    };
    let states = [
        (Action::Archive, Labels::Unknown),
        (Action::Create, Labels::Unknown),
        (Action::Create, Labels::After("500".to_owned())),
        (Action::Create, Labels::Known(vec![label])),
    ];
    let sendings = pairs.flat_map(|(from, to)| {
        states.clone().map(|(action, labels)| Sending {
            work: 0,
            from,
            to,
            action,
            pair: Pair {
                from: RemoteId::from("1"),
                to: RemoteId::from("2"),
            },
            labels,
        })
    });
    let calls = crate::hubspot::associations::assemble(sendings.collect(), settings);
    calls.into_iter().map(|call| call.request).collect()
}

/// What a comparison of both sides asks.
fn census(entity: Entity, settings: &HubSpotSettings) -> Vec<Request> {
    let (ids, names) = ([RemoteId::from("5")], ["email".to_owned()]);
    let read = |wanted| read_request(settings, entity, &ids, &names, wanted);
    let mut all = vec![
        single_request(settings, entity, &ids[0]),
        list_request(settings, entity, None),
        list_request(settings, entity, Some("5")),
    ];
    all.extend([Wanted::Values, Wanted::Times, Wanted::Archived].map(read));
    all
}

fn requests(settings: &HubSpotSettings) -> Vec<Request> {
    let mut all = Vec::new();
    for entity in Entity::ALL {
        all.extend(records(entity, settings));
        all.extend(census(entity, settings));
        all.push(property_request(settings, entity));
        all.push(create_property_request(settings, entity));
        all.push(Preflight::default().ask(Subject::Properties(entity), settings));
    }
    all.extend(associations(settings));
    let mut preflight = Preflight::default();
    all.push(preflight.ask(Subject::Owners, settings));
    let page = reply(200, r#"{"results":[],"paging":{"next":{"after":"1"}}}"#);
    preflight.hear(Subject::Owners, Ok(&page), 0);
    all.push(preflight.ask(Subject::Owners, settings));
    all.push(preflight.ask(Subject::Pipelines, settings));
    all
}

#[test]
fn requests_are_those_of_the_official_client() {
    let Some(folder) = specs::folder("hubspot") else {
        return;
    };
    let specs = Specs {
        endpoints: specs::read(&folder, "endpoints.json"),
        models: specs::read(&folder, "models.json"),
    };
    let token = specs.operation(&oauth::token_request("2026-09"));
    let form = oauth::token_form("id", "secret", "token");
    for (name, _) in form_urlencoded::parse(form.as_bytes()) {
        let known = token["form"].as_array().unwrap();
        assert!(known.iter().any(|known| *known == *name), "{name}");
    }
    for version in ["2026-09", "v3"] {
        let settings = HubSpotSettings {
            api_version: version.to_owned(),
            ..settings(&Entity::ALL)
        };
        let all = requests(&settings);
        all.iter().for_each(|request| specs.check(request));
        // The list is what it claims to be: reads and writes, and every batch call there is.
        assert!(
            all.iter()
                .any(|request| request.path.ends_with("/gdpr-delete"))
        );
        let kinds: BTreeSet<String> = all
            .iter()
            .filter(|request| request.method == Method::Post)
            .filter_map(|request| {
                let path = request.path.split('?').next()?;
                Some(path.split("/batch/").nth(1)?.to_owned())
            })
            .collect();
        assert_eq!(
            kinds.into_iter().collect::<Vec<_>>(),
            [
                "archive",
                "associate/default",
                "create",
                "read",
                "update",
                "upsert"
            ]
        );
        let others = ["/search", "/crm/"];
        assert!(
            others
                .iter()
                .all(|part| all.iter().any(|request| request.path.contains(part)))
        );
        let methods: BTreeSet<&str> = all.iter().map(|request| request.method.name()).collect();
        assert_eq!(
            methods.into_iter().collect::<Vec<_>>(),
            ["GET", "PATCH", "POST"]
        );
    }
}
