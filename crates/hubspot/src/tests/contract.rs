//! Every request made of HubSpot is one that its official client could make: paths, parameters and
//! bodies are compared with the facts about it, where those are at hand.

use std::collections::BTreeSet;

use super::*;
use crate::{
    associations::{Action, Label, Labels, Pair, Sending},
    erasure,
    listing::{ListingKind, list_request, read_request, single_request},
    oauth,
    preflight::{Preflight, Subject},
    property::{create_property_request, property_request},
    specs,
};
use integration_engine::wire::{Method, Request};

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
    let known_by_others = HubSpotCall::Match {
        entity,
        property: "domain".to_owned(),
    };
    let sends = sends.chain([(known_by_others, item("acme.example.com"))]);
    let sends: Vec<_> = sends.collect();
    let calls = assemble(sends, settings);
    let erasure = [
        erasure::look_request(settings, entity, "17"),
        erasure::erase_request(settings, entity, &"5".into()),
        erasure::archive_request(settings, entity, &"5".into()),
        erasure::erase_address_request(settings, entity, "a@example.com"),
    ];
    calls
        .into_iter()
        .map(|call| call.request)
        .chain(erasure)
        .collect()
}

/// Every pair of objects, associated, looked at and parted.
fn associations(settings: &HubSpotSettings) -> Vec<Request> {
    let pairs = every_kind()
        .into_iter()
        .flat_map(|from| every_kind().into_iter().map(move |to| (from, to)))
        .filter(|(from, to)| objects::associations(*from, *to).is_some());
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
    let calls = crate::associations::assemble(sendings.collect(), settings);
    calls.into_iter().map(|call| call.request).collect()
}

/// What a comparison of both sides asks.
fn listing(entity: Entity, settings: &HubSpotSettings) -> Vec<Request> {
    let (ids, names) = ([RemoteId::from("5")], ["email".to_owned()]);
    let read = |wanted| read_request(settings, entity, &ids, &names, wanted);
    let mut all = vec![
        single_request(settings, entity, &ids[0]),
        list_request(settings, entity, None),
        list_request(settings, entity, Some("5")),
    ];
    all.extend(
        [
            ListingKind::Values,
            ListingKind::Times,
            ListingKind::Archived,
        ]
        .map(read),
    );
    all
}

fn requests(settings: &HubSpotSettings) -> Vec<Request> {
    let mut all = Vec::new();
    for entity in every_kind() {
        all.extend(records(entity, settings));
        all.extend(listing(entity, settings));
        all.push(property_request(settings, entity));
        all.push(create_property_request(
            settings,
            entity,
            objects::of(entity).group,
        ));
        all.push(Preflight::default().ask(Subject::Properties(entity), settings));
    }
    all.extend(associations(settings));
    let mut preflight = Preflight::default();
    all.push(preflight.ask(Subject::Owners, settings));
    let page = reply(200, r#"{"results":[],"paging":{"next":{"after":"1"}}}"#);
    preflight.hear(Subject::Owners, Ok(&page), 0);
    all.push(preflight.ask(Subject::Owners, settings));
    all.push(preflight.ask(Subject::Pipelines(DEAL), settings));
    all
}

#[test]
fn requests_are_those_of_the_official_client() {
    for version in ["2026-09", "v3"] {
        let form = oauth::token_form("id", "secret", "token");
        specs::check_with(&oauth::token_request(version), form.as_bytes());
    }
    for version in ["2026-09", "v3"] {
        let settings = HubSpotSettings {
            api_version: version.to_owned(),
            ..settings(&every_kind())
        };
        let all = requests(&settings);
        all.iter().for_each(specs::check);
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
