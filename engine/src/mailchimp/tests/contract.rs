//! Every request made of Mailchimp is one that its contract knows: paths, parameters, the fields
//! that are asked for, and bodies are compared with the facts in `shared/specs/mailchimp`, where
//! that folder is at hand.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::{
    call::{Method, Request},
    mailchimp::{
        census::{member_request, page_request},
        engagement::{Report, campaigns_request, report_request},
        erasure::erase_request,
    },
    specs,
};

pub(super) struct Specs(Value);

impl Specs {
    /// `None`: they are not at hand, which is said.
    pub(super) fn load() -> Option<Specs> {
        let folder = specs::folder("mailchimp")?;
        Some(Specs(specs::read(&folder, "marketing-subset.json")))
    }

    pub(super) fn check(&self, request: &Request) {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let endpoints = self.0["endpoints"].as_array().unwrap();
        let operation = endpoints
            .iter()
            .find(|operation| {
                operation["method"] == request.method.name()
                    && specs::matches(operation["path"].as_str().unwrap(), path)
            })
            .unwrap_or_else(|| panic!("no operation {} {path}", request.method.name()));
        self.check_query(operation, &request.path, query);
        match (&request.body, operation["request"].as_str()) {
            (None, None) => {}
            (Some(body), Some(model)) => {
                let body = serde_json::from_slice(body).unwrap();
                self.check_model(path, model, &body);
            }
            (body, model) => panic!("{path}: body {body:?} for {model:?}"),
        }
    }

    fn check_query(&self, operation: &Value, path: &str, query: &str) {
        let known: &[Value] = operation["query"].as_array().map_or(&[], Vec::as_slice);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = format!("{path}: parameter {name}");
            let parameter = known
                .iter()
                .find(|parameter| parameter["name"] == *name)
                .unwrap_or_else(|| panic!("{place} is not known"));
            if name == "fields" {
                let fields = value.split(',');
                fields.for_each(|field| self.check_path(&place, &operation["response"], field));
                continue;
            }
            let value = match parameter["type"].as_str() {
                Some("integer" | "number" | "boolean") => serde_json::from_str(&value).unwrap(),
                _ => Value::from(value.into_owned()),
            };
            self.check_type(&place, &parameter["type"], &value);
        }
    }

    /// `members.id` is something that the answer has.
    fn check_path(&self, place: &str, kind: &Value, path: &str) {
        if let Some(element) = kind.get("array") {
            return self.check_path(place, element, path);
        }
        let Some(schema) = kind["ref"].as_str() else {
            panic!("{place}: {path} in {kind}");
        };
        let (name, rest) = path.split_once('.').unwrap_or((path, ""));
        let field = self.fields(schema).find(|field| field["name"] == name);
        let field = field.unwrap_or_else(|| panic!("{place}: {schema} has no {name}"));
        if !rest.is_empty() {
            self.check_path(place, &field["type"], rest);
        }
    }

    fn fields<'s>(&'s self, schema: &str) -> impl Iterator<Item = &'s Value> {
        let fields = self.0["schemas"][schema]["fields"].as_array();
        fields
            .unwrap_or_else(|| panic!("no schema {schema}"))
            .iter()
    }

    fn check_model(&self, place: &str, model: &str, value: &Value) {
        let given = value
            .as_object()
            .unwrap_or_else(|| panic!("{place} is an object"));
        for (name, value) in given {
            let place = format!("{place} {name}");
            let field = self.fields(model).find(|field| field["name"] == **name);
            let field = field.unwrap_or_else(|| panic!("{place}: {model} does not have it"));
            self.check_type(&place, &field["type"], value);
            // Mailchimp: what is empty is to be left out.
            let empty = value.as_object().is_some_and(serde_json::Map::is_empty);
            assert!(!empty, "{place} is empty");
        }
        for field in self.fields(model).filter(|field| field["required"] == true) {
            let name = field["name"].as_str().unwrap();
            assert!(given.contains_key(name), "{place}: {model} requires {name}");
        }
        if model.ends_with("MembersItem") {
            let status = given.contains_key("status") || given.contains_key("status_if_new");
            assert!(status, "{place}: status or status_if_new is required");
        }
    }

    fn fits(&self, kind: &Value, value: &Value) -> bool {
        let check = || self.check_type("", kind, value);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok()
    }

    fn check_type(&self, place: &str, kind: &Value, value: &Value) {
        if let Some(allowed) = kind["enum"].as_array() {
            assert!(allowed.contains(value), "{place}: {value} of {allowed:?}");
        } else if let Some(any) = kind["any_of"].as_array() {
            let fits = any.iter().any(|kind| self.fits(kind, value));
            assert!(fits, "{place}: {value} is none of {any:?}");
        } else if let Some(element) = kind.get("array") {
            let list = value.as_array();
            let list = list.unwrap_or_else(|| panic!("{place} is a list"));
            list.iter()
                .for_each(|value| self.check_type(place, element, value));
        } else if let Some(element) = kind.get("map") {
            let map = value.as_object();
            let map = map.unwrap_or_else(|| panic!("{place} is an object"));
            map.iter().for_each(|(name, value)| {
                self.check_type(&format!("{place}.{name}"), element, value)
            });
        } else if let Some(schema) = kind["ref"].as_str() {
            match self.0["schemas"][schema].get("fields") {
                Some(_) => self.check_model(place, schema, value),
                None => self.check_type(place, &self.0["schemas"][schema], value),
            }
        } else {
            let right = match kind.as_str() {
                Some("string") => value.is_string(),
                Some("boolean") => value.is_boolean(),
                Some("integer") => value.is_u64() || value.is_i64(),
                Some("number") => value.is_number(),
                Some("datetime") => value
                    .as_str()
                    .is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok() || text.is_empty()),
                Some("any") => true,
                _ => panic!("{place}: no type {kind}"),
            };
            assert!(right, "{place}: {value} is no {kind}");
        }
    }
}

fn in_audience(link: Option<Link>, list: &str, leaving: bool, former: &[&str]) -> Option<Link> {
    link.map(|link| {
        let mut link = link;
        link.membership.list = Some(list.to_owned());
        link.membership.leaving = leaving;
        link.membership.former = former.iter().map(|list| (*list).to_owned()).collect();
        link
    })
}

/// What is sent for records in every state.
fn works() -> Vec<Work> {
    use MemberStatus::{Archived, Pending, Subscribed, UnsubscribedByCrm};
    let texts = |opt_in| {
        row([
            Some("a@example.com"),
            Some(opt_in),
            Some("Ada"),
            Some("1.5"),
            Some("{crm,vip}"),
        ])
    };
    let bare = row([Some("a@example.com"), Some("true"), None, None, None]);
    let known = |status| link(Some("c1"), "a@example.com", Some(status), &[(3, "Eda")]);
    let elsewhere = |status| link(Some("c1"), "old@example.com", Some(status), &[]);
    let alone = |work| Work {
        batch_cap: 1,
        ..work
    };
    vec![
        work(texts("true"), None),
        work(bare.clone(), None),
        work(texts("true"), known(Subscribed)),
        work(texts("true"), elsewhere(Subscribed)),
        work(texts("true"), known(Pending)),
        work(texts("true"), known(Archived)),
        work(texts("true"), known(UnsubscribedByCrm)),
        work(texts("false"), known(Subscribed)),
        work(texts("false"), elsewhere(Subscribed)),
        work(texts("true"), link(None, "old@example.com", None, &[])),
        alone(work(texts("true"), known(Subscribed))),
        alone(work(texts("false"), known(Subscribed))),
        work(bare, known(Subscribed)),
        work(None, known(Subscribed)),
        // Moves to another audience.
        work(
            texts("true"),
            in_audience(known(Subscribed), "b2", false, &[]),
        ),
        work(
            texts("true"),
            in_audience(known(Subscribed), "b2", true, &[]),
        ),
        Work {
            audience_met: false,
            ..work(
                texts("true"),
                in_audience(known(Subscribed), "b2", false, &[]),
            )
        },
        work(None, in_audience(known(Subscribed), "a1", false, &["b2"])),
    ]
}

fn records(settings: &MailchimpSettings) -> Vec<Request> {
    let (map, works) = (map(), works());
    let sends = works.iter().enumerate().filter_map(|(index, work)| {
        match decide(work, index, &map, settings) {
            Decision::Send(kind, item) => Some((kind, item)),
            Decision::Settled(_) => None,
        }
    });
    let calls = assemble(sends.collect(), settings);
    calls.into_iter().map(|call| call.request).collect()
}

fn questions() -> Vec<Request> {
    let mut all = vec![
        account_request(),
        audience_request("a1"),
        audiences_request(),
        page_request("a1", 1_000, false),
        page_request("a1", 0, true),
        member_request("a1", &RemoteId::from("c1")),
        campaigns_request(Timestamp(1_790_000_000_000), 1_000),
    ];
    let since = [None, Some(Timestamp(1_790_000_000_000))];
    for (report, since) in Report::ALL
        .into_iter()
        .flat_map(|report| since.map(|at| (report, at)))
    {
        all.push(report_request("cb398d21d2", report, since, 1_000, 1_000));
    }
    all
}

#[test]
fn requests_are_those_of_the_contract() {
    let Some(specs) = Specs::load() else {
        return;
    };
    let mut shapes = BTreeSet::new();
    let asking = MailchimpSettings {
        double_opt_in: true,
        resubscribe: Resubscribe::Pending,
        several: true,
        ..settings()
    };
    let erasing = MailchimpSettings {
        on_delete: OnDelete::Permanent,
        ..settings()
    };
    for settings in [settings(), asking, erasing] {
        for request in records(&settings) {
            specs.check(&request);
            let path = request.path.split('?').next().unwrap();
            let shape: Vec<&str> = path.split('/').skip(3).collect();
            let last = shape.get(2..).unwrap_or_default().join("/");
            let what = shape.first().unwrap_or(&"list");
            shapes.insert(format!("{} {what} {last}", request.method.name()));
        }
    }
    questions().iter().for_each(|request| specs.check(request));
    specs.check(&erase_request("a1", "h"));
    // The list is what it claims to be: every kind of call that carries records.
    let shapes: Vec<&str> = shapes.iter().map(|shape| shape.trim_end()).collect();
    assert_eq!(
        shapes,
        [
            "DELETE members",
            "GET list",
            "GET members",
            "PATCH members",
            "POST list",
            "POST members actions/delete-permanent",
            "PUT members",
        ]
    );
    assert!(
        questions()
            .iter()
            .all(|request| request.method == Method::Get)
    );
}

/// The check itself: what the contract does not know is found.
#[test]
fn strange_requests_are_found() {
    let Some(specs) = Specs::load() else {
        return;
    };
    let request = |method, path: &str, body: Option<&str>| Request {
        target: Target::Mailchimp,
        method,
        path: path.into(),
        body: body.map(|body| body.as_bytes().to_vec()),
    };
    for (method, path, body) in [
        (Method::Get, "/lists/a1/people", None),
        (Method::Get, "/lists/a1?colour=red", None),
        (Method::Get, "/lists?fields=lists.colour", None),
        (Method::Get, "/lists/a1/members?status=gone", None),
        (Method::Get, "/lists/a1/members?count=many", None),
        (Method::Post, "/lists/a1", None),
        (Method::Post, "/lists/a1", Some("{}")),
        (
            Method::Post,
            "/lists/a1",
            Some(r#"{"members":[{"email_address":"a"}]}"#),
        ),
        (
            Method::Post,
            "/lists/a1",
            Some(r#"{"members":[{"status":"archived"}]}"#),
        ),
        (
            Method::Patch,
            "/lists/a1/members/h",
            Some(r#"{"tags":["a"]}"#),
        ),
        (
            Method::Patch,
            "/lists/a1/members/h",
            Some(r#"{"merge_fields":{}}"#),
        ),
        (
            Method::Put,
            "/lists/a1/members/h",
            Some(r#"{"status":"subscribed"}"#),
        ),
        (
            Method::Put,
            "/lists/a1/members/h",
            Some(r#"{"email_address":7}"#),
        ),
    ] {
        let request = request(method, path, body);
        let check = || specs.check(&request);
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        assert!(checked.is_err(), "{} {path} {body:?}", method.name());
    }
}
