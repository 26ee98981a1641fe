//! Every request about merge fields, tags, interests and permissions is one that Mailchimp's
//! official client could make: paths, parameters and bodies are compared with the facts in
//! `shared/specs/mailchimp`, where that folder is at hand.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::{
    call::Request,
    hubspot::RemoteType,
    mailchimp::{
        merge::{MergeType, Named},
        preflight::Preflight,
        provision::Provision,
    },
};

/// `INTEGRATION_SPECS`, or `shared/specs` in a folder above this crate.
fn specs() -> Option<Value> {
    let given = std::env::var_os("INTEGRATION_SPECS").map(PathBuf::from);
    let above = || {
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        folders
            .map(|folder| folder.join("shared/specs"))
            .find(|folder| folder.is_dir())
    };
    let path = given
        .or_else(above)?
        .join("mailchimp/marketing-subset.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(serde_json::from_slice(&text).unwrap())
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template
            .zip(path)
            .all(|(wanted, given)| wanted == given || wanted.starts_with('{'))
}

fn check(specs: &Value, request: &Request) {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let endpoints = specs["endpoints"].as_array().unwrap();
    let operation = endpoints
        .iter()
        .find(|each| {
            each["method"] == request.method.name() && fits(each["path"].as_str().unwrap(), path)
        })
        .unwrap_or_else(|| panic!("no operation {} {path}", request.method.name()));
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        let known = operation["query"].as_array().into_iter().flatten();
        assert!(
            known.clone().any(|each| each["name"] == *name),
            "{}: parameter {name}",
            request.path
        );
    }
    match (&request.body, operation["request"].as_str()) {
        (None, None) => {}
        (Some(body), Some(schema)) => {
            let body = serde_json::from_slice(body).unwrap();
            check_schema(specs, path, schema, &body);
        }
        (body, schema) => panic!("{path}: body {body:?} for {schema:?}"),
    }
}

fn check_type(specs: &Value, place: &str, kind: &Value, value: &Value) {
    if let Some(element) = kind.get("array") {
        let list = value
            .as_array()
            .unwrap_or_else(|| panic!("{place} is a list"));
        list.iter()
            .for_each(|each| check_type(specs, &format!("{place}[]"), element, each));
    } else if let Some(element) = kind.get("map") {
        let map = value
            .as_object()
            .unwrap_or_else(|| panic!("{place} is an object"));
        map.iter()
            .for_each(|(name, each)| check_type(specs, &format!("{place}.{name}"), element, each));
    } else if let Some(schema) = kind["ref"].as_str() {
        check_schema(specs, place, schema, value);
    } else {
        let right = match kind.as_str() {
            Some("string" | "datetime") => value.is_string(),
            Some("integer") => value.is_i64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            _ => true,
        };
        assert!(right, "{place}: {value} is no {kind}");
    }
}

fn check_schema(specs: &Value, place: &str, name: &str, value: &Value) {
    let schema = &specs["schemas"][name];
    assert!(!schema.is_null(), "{place}: no schema {name}");
    if let Some(values) = schema["enum"].as_array().or(schema["values"].as_array()) {
        let known = values
            .iter()
            .any(|each| each == value || each["value"] == *value);
        assert!(known, "{place}: {value} is none of {name}");
        return;
    }
    let Some(fields) = schema["fields"].as_array() else {
        // A choice between forms, of which any will do.
        return;
    };
    let given = value
        .as_object()
        .unwrap_or_else(|| panic!("{place} is an object"));
    for (field, value) in given {
        let known = fields.iter().find(|each| each["name"] == *field);
        let known = known.unwrap_or_else(|| panic!("{place}: {name} has no {field}"));
        check_type(specs, &format!("{place}.{field}"), &known["type"], value);
    }
    for field in fields.iter().filter(|each| each["required"] == true) {
        let field = field["name"].as_str().unwrap();
        assert!(given.contains_key(field), "{place}: {name} needs {field}");
    }
}

fn full_map() -> SourceMap {
    let mut map = map();
    let named: std::sync::Arc<[Named]> = [Named {
        id: "one".into(),
        name: "One".into(),
        category: String::new(),
    }]
    .into();
    let types = [
        (
            "interests",
            MergeType::Interests(Some(named.clone())),
            ValueKind::Text,
        ),
        (
            "marketing_permissions",
            MergeType::Permissions(Some(named)),
            ValueKind::Text,
        ),
        ("HOME", MergeType::Address, ValueKind::Json),
        ("BORN", MergeType::Birthday, ValueKind::Date),
        ("SINCE", MergeType::Date, ValueKind::Date),
        (
            "LEVEL",
            MergeType::Choice(["Gold".to_owned()].into()),
            ValueKind::Text,
        ),
        ("POINTS", MergeType::Number, ValueKind::Integer),
    ];
    for (id, (remote, merge, kind)) in (6..).zip(types) {
        let mut field = map.fields[4].clone();
        (field.id, field.remote, field.kind) = (FieldId(id), remote.into(), kind);
        field.remote_type = RemoteType::Merge(merge);
        map.fields.push(field);
    }
    map
}

fn full_row(email: &str, tags: &str) -> Option<Vec<Option<String>>> {
    let mut texts = row([Some(email), Some("t"), Some("Ada"), Some("1.5"), Some(tags)]).unwrap();
    let home = r#"{"addr1":"a","city":"b","state":"c","zip":"d"}"#;
    let more = ["One", "One", home, "1990-12-10", "2026-01-31", "gold", "7"];
    texts.extend(more.map(|text| Some(text.to_owned())));
    Some(texts)
}

#[test]
fn what_is_asked_is_what_mailchimp_documents() {
    let Some(specs) = specs() else {
        println!("skipped: shared/specs is not at hand; INTEGRATION_SPECS may name the folder");
        return;
    };
    let map = full_map();
    // A new member, one with another address, one whose status is set, and what comes after.
    let ada = "ada@example.com";
    let member = |status| link(Some("c"), ada, status, &[]);
    let subscribed = Some(MemberStatus::Subscribed);
    let mut done = work(full_row(ada, "{a}"), member(subscribed));
    let mut works = vec![
        work(full_row(ada, "{a}"), None),
        work(full_row("eda@example.com", "{a}"), member(subscribed)),
        work(full_row(ada, "{a}"), member(Some(MemberStatus::Archived))),
    ];
    // Until nothing is left.
    for _ in 0..4 {
        let Decision::Send(_, item) = decide(&done, 0, &map, &settings()) else {
            break;
        };
        works.push(done.clone());
        let link = done.link.as_mut().unwrap();
        item.ticks.iter().for_each(|tick| link.clock.set(*tick));
        link.membership.given = item.beside.given.unwrap_or_default();
        link.membership.given.tags = vec!["old".into()];
    }
    let mut seen = Vec::new();
    for work in works {
        let Decision::Send(kind, item) = decide(&work, 0, &map, &settings()) else {
            panic!("nothing is sent for {work:?}");
        };
        for call in assemble(vec![(kind, item)], &settings()) {
            check(&specs, &call.request);
            seen.push(
                call.request.method.name().to_owned()
                    + call.request.path.rsplit('/').next().unwrap_or(""),
            );
        }
    }
    for wanted in ["POSTa1", "POSTtags", "PATCH", "PUT"] {
        assert!(
            seen.iter().any(|each| each.starts_with(wanted)),
            "{wanted} in {seen:?}"
        );
    }
    // Definitions, and what is created.
    let mut preflight = Preflight::default();
    preflight.expect([&map].into_iter(), ["a1".to_owned()].into_iter());
    while let Some(subject) = preflight.due(0) {
        let request = preflight.ask(&subject);
        check(&specs, &request);
        let body = match request.path.as_str() {
            path if path.contains("/interest-categories?") => r#"{"categories":[{"id":"c"}]}"#,
            path if path.contains("/interests?") => r#"{"interests":[]}"#,
            path if path.contains("/members?") => r#"{"members":[]}"#,
            _ => r#"{"merge_fields":[]}"#,
        };
        preflight.hear(&subject, Ok(&reply(200, body)), 0);
    }
    let mut provision = Provision::default();
    provision.begin(&mut preflight);
    let subject = preflight.due(0).unwrap();
    preflight.ask(&subject);
    preflight.hear(&subject, Ok(&reply(200, r#"{"merge_fields":[]}"#)), 0);
    let mut created = 0;
    while let Some(request) = provision.next(&preflight, [&map].into_iter()) {
        check(&specs, &request);
        provision.hear(Ok(&reply(200, "{}")));
        created += 1;
    }
    assert_eq!(created, 7);
}
