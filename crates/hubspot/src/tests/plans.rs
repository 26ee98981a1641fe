mod removals;

mod calls;

use super::*;
use integration_engine::value::json::push_string;

fn plan(work: &Work, entity: Entity, ready: &[Entity]) -> Decision {
    decide(work, 3, &map(entity), &settings(ready))
}

fn sent(decision: Decision) -> (HubSpotCall, Item) {
    match decision {
        Decision::Send(kind, item) => (kind, item),
        Decision::Settled(verdict) => panic!("settled: {verdict:?}"),
    }
}

fn settled(decision: Decision) -> Verdict {
    match decision {
        Decision::Settled(verdict) => verdict,
        Decision::Send(kind, item) => panic!("sent: {kind:?} {item:?}"),
    }
}

const ADA: [Option<&str>; 4] = [
    Some(" Ada@Example.com"),
    Some("Ada"),
    Some("1.50"),
    Some("9"),
];

#[test]
fn a_new_contact_is_upserted_whole_by_email() {
    let (kind, item) = sent(plan(&work(row(ADA), None), CONTACT, &[CONTACT]));
    assert_eq!(kind, upsert());
    assert_eq!(
        item.fragment,
        r#"{"id":"ada@example.com","idProperty":"email","properties":{"email":"ada@example.com","crm_id":"17","firstname":"Ada","amount":"1.5"}}"#
    );
    assert_eq!(
        (item.work, item.name.as_str(), item.intent),
        (3, "ada@example.com", true)
    );
    assert_eq!(item.remote_key.as_deref(), Some("ada@example.com"));
    let ticks: Vec<_> = item
        .ticks
        .iter()
        .map(|tick| (tick.field.0, tick.at.0, tick.by))
        .collect();
    assert_eq!(
        ticks,
        [
            (0, 1_000, Writer::Crm),
            (1, 1_000, Writer::Crm),
            (2, 1_000, Writer::Crm),
            (3, 1_000, Writer::Crm)
        ]
    );
    assert_eq!(item.ticks[0].hash, ValueHash::of(Some("17")), "the CRM key");
    assert_eq!(item.ticks[3].hash, ValueHash::of(Some("1.5")));
}

#[test]
fn a_record_with_another_rows_key_gets_the_present_one() {
    let tick = |field: FieldId, text: &str| Tick {
        field,
        hash: ValueHash::of(Some(text)),
        at: Timestamp(1),
        by: Writer::Crm,
    };
    let link = |key: &str| {
        let mut clock = FieldClock::default();
        clock.set(tick(FieldId::CRM_KEY, key));
        clock.set(tick(FieldId(1), "ada@example.com"));
        Link {
            remote_id: Some("512".into()),
            remote_key: Some("ada@example.com".into()),
            clock,
            ..Link::default()
        }
    };
    let only_email = || row([Some("ada@example.com"), None, None, None]);
    let (_, item) = sent(plan(
        &work(only_email(), Some(link("16"))),
        CONTACT,
        &[CONTACT],
    ));
    assert_eq!(
        item.fragment,
        r#"{"id":"512","properties":{"crm_id":"17"}}"#
    );
    let same = plan(&work(only_email(), Some(link("17"))), CONTACT, &[CONTACT]);
    assert_eq!(settled(same), Verdict::Unchanged);
}

#[test]
fn without_the_property_the_key_stays_out_and_empty_fields_too() {
    let work = work(row([Some("a@b.co"), None, Some(""), None]), None);
    let (_, item) = sent(plan(&work, CONTACT, &[]));
    assert_eq!(
        item.fragment,
        r#"{"id":"a@b.co","idProperty":"email","properties":{"email":"a@b.co"}}"#
    );
}

#[test]
fn others_are_upserted_by_external_id_once_it_is_there() {
    let work = work(row([None, Some("Deal"), None, None]), None);
    let (kind, item) = sent(plan(&work, DEAL, &[DEAL]));
    let by_key = HubSpotCall::Upsert {
        entity: DEAL,
        id_property: "crm_id".into(),
    };
    assert_eq!(kind, by_key);
    assert_eq!(
        item.fragment,
        r#"{"id":"17","idProperty":"crm_id","properties":{"crm_id":"17","firstname":"Deal"}}"#
    );
    assert_eq!((item.name.as_str(), item.remote_key), ("17", None));
    match settled(plan(&work, DEAL, &[])) {
        Verdict::Retry {
            why,
            wait,
            counted: false,
            ..
        } => {
            assert_eq!(wait, Some(Duration::from_secs(60)));
            assert!(why.contains("integration.provision('hubspot')"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let nobody = row([None, Some("Ada"), None, None]);
    let (kind, _) = sent(plan(
        &super::work(nobody.clone(), None),
        CONTACT,
        &[CONTACT],
    ));
    assert!(matches!(kind, HubSpotCall::Upsert { id_property, .. } if id_property == "crm_id"));
    match settled(plan(&super::work(nobody, None), CONTACT, &[])) {
        Verdict::Dead {
            category: Category::Unmappable,
            why,
            ..
        } => {
            assert!(why.contains("no e-mail address"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_linked_record_is_updated_by_id_with_what_differs() {
    let agreed = [(1, "ada@example.com"), (2, "Ada"), (3, "2")];
    let known = link(Some("512"), Some("ada@example.com"), &agreed);
    let (kind, item) = sent(plan(&work(row(ADA), known.clone()), CONTACT, &[]));
    assert_eq!(kind, update());
    assert_eq!(
        item.fragment,
        r#"{"id":"512","properties":{"amount":"1.5"}}"#
    );
    assert_eq!(
        (item.name.as_str(), item.intent, item.ticks.len()),
        ("512", false, 1)
    );

    let cleared = row([Some("ada@example.com"), None, Some("2"), None]);
    let (_, item) = sent(plan(&work(cleared, known.clone()), CONTACT, &[]));
    assert_eq!(
        item.fragment,
        r#"{"id":"512","properties":{"firstname":""}}"#
    );

    let same = row([
        Some("ADA@example.com"),
        Some("Ada "),
        Some("2.00"),
        Some("77"),
    ]);
    assert_eq!(
        settled(plan(&work(same, known), CONTACT, &[])),
        Verdict::Unchanged
    );
    // Just adopted: everything is sent, but nothing is wiped out.
    let adopted = link(Some("512"), Some("ada@example.com"), &[]);
    let partial = row([Some("ada@example.com"), None, Some("2"), None]);
    let (_, item) = sent(plan(&work(partial, adopted), CONTACT, &[]));
    assert_eq!(
        item.fragment,
        r#"{"id":"512","properties":{"email":"ada@example.com","amount":"2"}}"#
    );
}

#[test]
fn a_changed_email_travels_by_record_id() {
    let agreed = [(1, "old@example.com"), (2, "Ada"), (3, "1.5")];
    let known = link(Some("512"), Some("old@example.com"), &agreed);
    let (_, item) = sent(plan(&work(row(ADA), known.clone()), CONTACT, &[]));
    assert_eq!(
        item.fragment,
        r#"{"id":"512","properties":{"email":"ada@example.com"}}"#
    );
    assert_eq!(item.remote_key.as_deref(), Some("ada@example.com"));
    let mut contested = work(row(ADA), known);
    contested.rival = Some("18".into());
    match settled(plan(&contested, CONTACT, &[])) {
        Verdict::Dead {
            category: Category::Conflict,
            why,
            ..
        } => {
            assert!(why.contains("17") && why.contains("18"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    // A rival does not stop a record that already has the address.
    let own = link(Some("512"), Some("ada@example.com"), &[]);
    let settled_owner = Work {
        rival: Some("18".into()),
        ..work(row(ADA), own)
    };
    sent(plan(&settled_owner, CONTACT, &[]));
    let unlinked = Work {
        rival: Some("18".into()),
        ..work(row(ADA), None)
    };
    assert!(matches!(
        settled(plan(&unlinked, CONTACT, &[])),
        Verdict::Dead {
            category: Category::Conflict,
            ..
        }
    ));
}

#[test]
fn an_uncertain_create_is_repeated_or_looked_for() {
    let same = link(None, Some("ada@example.com"), &[]);
    let (kind, item) = sent(plan(&work(row(ADA), same.clone()), CONTACT, &[]));
    assert_eq!((kind, item.intent), (upsert(), false));

    let find = HubSpotCall::Find {
        entity: CONTACT,
        id_property: "email".into(),
    };
    let other = link(None, Some("old@example.com"), &[]);
    let (kind, item) = sent(plan(&work(row(ADA), other), CONTACT, &[]));
    assert_eq!(
        (kind, item.fragment.as_str()),
        (find.clone(), r#"{"id":"old@example.com"}"#)
    );
    let (kind, _) = sent(plan(&work(None, same), CONTACT, &[]));
    assert_eq!(kind, find);

    let keyless = link(None, None, &[]);
    let (kind, item) = sent(plan(&work(None, keyless.clone()), DEAL, &[DEAL]));
    assert!(matches!(kind, HubSpotCall::Find { id_property, .. } if id_property == "crm_id"));
    assert_eq!(item.name, "17");
    let deal = work(row([None, Some("Deal"), None, None]), keyless.clone());
    let (kind, item) = sent(plan(&deal, DEAL, &[DEAL]));
    assert!(matches!(kind, HubSpotCall::Upsert { .. }));
    assert!(!item.intent);
    assert_eq!(
        settled(plan(&work(None, keyless), DEAL, &[])),
        Verdict::Removed
    );
}

#[test]
fn values_that_cannot_go_name_column_property_and_value() {
    let cases = [
        (
            [Some("ada@x"), None, None, None],
            Category::Unmappable,
            ["email_column", "ada@x"],
        ),
        (
            [Some("a@b.co"), None, Some("NaN"), None],
            Category::Unmappable,
            ["amount_column", "NaN"],
        ),
    ];
    for (texts, expected, words) in cases {
        match settled(plan(&work(row(texts), None), CONTACT, &[])) {
            Verdict::Dead { category, why, .. } => {
                assert_eq!(category, expected);
                for word in words {
                    assert!(why.contains(word), "{why}");
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let long = "x".repeat(70_000);
    let work = work(row([Some("a@b.co"), Some(&long), None, None]), None);
    match settled(plan(&work, CONTACT, &[])) {
        Verdict::Dead {
            category: Category::TooLarge,
            why,
            ..
        } => assert!(why.len() < 400, "{why}"),
        other => panic!("{other:?}"),
    }
}

proptest::proptest! {
    #[test]
    fn every_fragment_is_json(
        texts in proptest::array::uniform4(proptest::option::of(".*")), key in ".{1,8}",
    ) {
        let row = Some(texts.to_vec());
        let work = Work { key: key.into(), ..work(row, None) };
        for entity in [CONTACT, DEAL] {
            if let Decision::Send(kind, item) = plan(&work, entity, &every_kind()) {
                let calls = assemble(vec![(kind, item)], &settings(&[]));
                let body = calls[0].request.body.as_deref().unwrap();
                serde_json::from_slice::<serde_json::Value>(body).unwrap();
            }
        }
    }
}

#[test]
fn a_new_company_is_looked_for_by_its_domain() {
    let with_domain = |domain: Option<&str>, link| {
        let mut map = map(COMPANY);
        map.fields[1].remote = "domain".into();
        let work = work(row([None, domain, None, None]), link);
        sent(decide(&work, 0, &map, &settings(&every_kind())))
    };
    let (kind, item) = with_domain(Some(" ACME.com"), None);
    let look = HubSpotCall::Match {
        entity: COMPANY,
        property: "domain".into(),
    };
    assert_eq!((&kind, item.name.as_str()), (&look, "acme.com"));
    let calls = assemble(vec![(kind, item)], &settings(&every_kind()));
    assert_eq!(
        calls[0].request.path,
        "/crm/objects/2026-09/companies/search"
    );
    let body: serde_json::Value =
        serde_json::from_slice(calls[0].request.body.as_deref().unwrap()).unwrap();
    assert_eq!(
        body["filterGroups"][0]["filters"][0],
        serde_json::json!({"propertyName": "domain", "operator": "IN", "values": ["acme.com"]})
    );
    // Once nobody has it, or without one, it is created.
    for (domain, link) in [(Some("acme.com"), link(None, None, &[])), (None, None)] {
        let (kind, _) = with_domain(domain, link);
        assert!(matches!(kind, HubSpotCall::Upsert { id_property, .. } if id_property == "crm_id"));
    }
}

#[test]
fn a_record_gives_up_its_address_where_others_wait_for_it() {
    let known = link(
        Some("512"),
        Some("ada@example.com"),
        &[(1, "ada@example.com")],
    );
    let bob = [Some("bob@example.com"), Some("Ada"), None, None];
    let mut work = work(row(bob), known);
    work.gives_way = true;
    let (kind, item) = sent(plan(&work, CONTACT, &every_kind()));
    let entity = CONTACT;
    assert_eq!(kind, HubSpotCall::GiveWay { entity });
    assert_eq!(item.fragment, r#"{"id":"512","properties":{"email":""}}"#);
    let call = assemble(vec![(kind, item)], &settings(&every_kind())).remove(0);
    assert_eq!(
        call.request.path,
        "/crm/objects/2026-09/contacts/batch/update"
    );
    let answer = r#"{"status":"COMPLETE","results":[{"id":"512","properties":{}}]}"#;
    let reading = read(&call, Ok(&reply(200, answer)), &settings(&every_kind()));
    let Verdict::Again {
        relink: Some(Relink::Unaddressed(ticks)),
        ..
    } = &reading.verdicts[0]
    else {
        panic!("{:?}", reading.verdicts[0]);
    };
    assert_eq!(ticks[0].hash, ValueHash::of(None));
    // What has no address cannot give one up.
    work.link = link(Some("512"), None, &[]);
    let (kind, item) = sent(plan(&work, CONTACT, &every_kind()));
    assert_eq!(kind, update());
    assert!(item.fragment.contains("bob@example.com"));
}
