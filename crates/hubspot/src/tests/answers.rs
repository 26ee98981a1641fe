mod own;
mod refusals;

use super::*;
use integration_engine::wire::TransportError;

fn verdicts(kind: HubSpotCall, names: &[&str], status: u16, body: &str) -> Vec<Verdict> {
    let call = call(kind, names);
    read(&call, Ok(&reply(status, body)), &settings(&every_kind())).verdicts
}

fn delivered(id: &str, key: Option<&str>, met: bool) -> Verdict {
    Verdict::Delivered {
        remote_id: Some(id.into()),
        remote_key: key.map(str::to_owned),
        member_status: None,
        ticks: Vec::new(),
        met,
    }
}

/// A verdict without its wording.
fn shape(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Delivered { remote_id, .. } => {
            format!(
                "delivered {}",
                remote_id.as_ref().map_or("", RemoteId::as_str)
            )
        }
        Verdict::Again {
            relink: Some(Relink::Adopt(id)),
            ..
        } => format!("adopt {}", id.as_str()),
        Verdict::Again {
            relink: Some(Relink::Forget),
            ..
        } => "forget".into(),
        Verdict::Again {
            relink: Some(Relink::Vacant),
            ..
        } => "vacant".into(),
        Verdict::Again { batch_cap, .. } => format!("again {batch_cap:?}"),
        Verdict::Retry { counted, wait, .. } => {
            format!("retry {counted} {:?}", wait.map(|wait| wait.as_secs()))
        }
        Verdict::Dead { category, .. } => format!("dead {}", category.name()),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn shapes(verdicts: &[Verdict]) -> Vec<String> {
    verdicts.iter().map(shape).collect()
}

#[test]
fn results_are_matched_whatever_their_order() {
    let body = r#"{"status":"COMPLETE","results":[
        {"id":"513","new":true,"properties":{"email":"bob@example.com","hs_object_id":"513"},"archived":false},
        {"id":512,"new":false,"properties":{"email":"Ada@Example.com","x":null},"archived":false}]}"#;
    let both = verdicts(upsert(), &["ada@example.com", "bob@example.com"], 200, body);
    let expected = [
        delivered("512", Some("ada@example.com"), true),
        delivered("513", Some("bob@example.com"), false),
    ];
    assert_eq!(both, expected);

    let body = r#"{"results":[{"id":"9007199254740993"},{"id":9007199254740995}]}"#;
    let names = ["9007199254740995", "9007199254740993"];
    let by_id = verdicts(update(), &names, 200, body);
    assert_eq!(
        shapes(&by_id),
        names.map(|name| format!("delivered {name}"))
    );

    let by_key = HubSpotCall::Upsert {
        entity: DEAL,
        id_property: "crm_id".into(),
    };
    let body = r#"{"results":[{"id":"9","properties":{"crm_id":"B"}},{"id":"8","properties":{"crm_id":"b"}}]}"#;
    assert_eq!(
        shapes(&verdicts(by_key, &["b", "B"], 200, body)),
        ["delivered 8", "delivered 9"]
    );
}

#[test]
fn a_single_stranger_belongs_to_the_single_record_left() {
    let names = ["ada@example.com", "second@example.com"];
    let body = r#"{"results":[{"id":"2","properties":{"email":"first@example.com"}},
        {"id":"1","properties":{"email":"ada@example.com"}}]}"#;
    assert_eq!(
        shapes(&verdicts(upsert(), &names, 200, body)),
        ["delivered 1", "delivered 2"]
    );
    // Two strangers could be either.
    let body = r#"{"results":[{"id":"2","properties":{"email":"x@example.com"}},
        {"id":"1","properties":{"email":"y@example.com"}}]}"#;
    assert_eq!(
        shapes(&verdicts(upsert(), &names, 200, body)),
        ["again Some(1)"; 2]
    );
    // A record that an error names is not left over.
    let body = r#"{"results":[{"id":"2","properties":{"email":"first@example.com"}}],"errors":[
        {"category":"VALIDATION_ERROR","message":"no","context":{"objectWriteTraceId":["0"]}}]}"#;
    let mixed = verdicts(upsert(), &names, 207, body);
    assert_eq!(shapes(&mixed), ["dead validation", "delivered 2"]);
}

#[test]
fn every_record_has_its_own_error() {
    let body = r#"{"status":"COMPLETE","results":[{"id":"512","properties":{"email":"a@example.com"}}],"numErrors":9,"errors":[
      {"status":"error","category":"VALIDATION_ERROR","message":"Property values were not valid: [{\"isValid\":false,\"message\":\"Property \\\"nope\\\" does not exist\",\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"nope\"}]","context":{"objectWriteTraceId":["1"]}},
      {"category":"CONFLICT","message":"Contact already exists. Existing ID: 77","context":{"objectWriteTraceId":["2"]}},
      {"category":"VALIDATION_ERROR","message":"Cannot set PropertyValueCoordinates{portalId=1, objectTypeId=0-1, propertyName=email, value=x} on 552148386511. 552239500007 already has that value.","context":{"objectWriteTraceId":["3"]}},
      {"category":"VALIDATION_ERROR","message":"Cannot set PropertyValueCoordinates{portalId=1, objectTypeId=0-1, propertyName=tax_no, value=x} on 1. 2 already has that value.","context":{"objectWriteTraceId":["4"]}},
      {"category":"SOMETHING_NEW","message":"odd","context":{"objectWriteTraceId":["5"]}},
      {"category":"MISSING_SCOPES","message":"scope","context":{"objectWriteTraceId":["6"]}},
      {"category":"RATE_LIMITS","message":"slow","context":{"objectWriteTraceId":["7"]}},
      {"category":"VALIDATION_ERROR","message":"Property values were not valid: [{\"message\":\"Property \\\"crm_id\\\" does not exist\",\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"crm_id\"}]","context":{"objectWriteTraceId":["8"]}}]}"#;
    let names: Vec<String> = ('a'..='j')
        .map(|letter| format!("{letter}@example.com"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = verdicts(upsert(), &names, 207, body);
    assert_eq!(
        shapes(&all),
        [
            "delivered 512",
            "dead validation",
            "adopt 77",
            "adopt 552239500007",
            "dead conflict",
            "retry true None",
            "dead permission",
            "retry false Some(10)",
            "retry false Some(60)",
            "again Some(1)",
        ]
    );
    let Verdict::Dead {
        why,
        status: Some(207),
        ..
    } = &all[1]
    else {
        panic!("{:?}", all[1])
    };
    assert_eq!(
        why,
        "HubSpot refused property nope (PROPERTY_DOESNT_EXIST): Property \"nope\" does not exist"
    );
}

#[test]
fn stale_links_are_dropped_and_missing_records_count_as_removed() {
    let missing = r#"{"results":[{"id":"1"}],"errors":[{"category":"OBJECT_NOT_FOUND","message":"gone","context":{"ids":["2","3"]}}]}"#;
    let cases = [
        (update(), ["delivered 1", "again Some(1)", "again Some(1)"]),
        (
            HubSpotCall::Archive { entity: CONTACT },
            ["removed", "removed", "removed"],
        ),
    ];
    for (kind, expected) in cases {
        assert_eq!(
            shapes(&verdicts(kind, &["1", "2", "3"], 207, missing)),
            expected
        );
    }
    let archive = HubSpotCall::Archive { entity: CONTACT };
    assert_eq!(
        verdicts(archive, &["1", "2"], 204, ""),
        [Verdict::Removed, Verdict::Removed]
    );
    let single = verdicts(
        update(),
        &["1"],
        404,
        r#"{"category":"OBJECT_NOT_FOUND","message":"x"}"#,
    );
    assert_eq!(shapes(&single), ["again Some(1)"]);
}

#[test]
fn a_merged_record_is_followed_to_its_new_id() {
    let patch = HubSpotCall::Patch {
        entity: COMPANY,
        id: "7".into(),
    };
    let request = call(patch.clone(), &["7"]).request;
    assert_eq!(
        (request.method, request.path.as_str()),
        (Method::Patch, "/crm/objects/2026-09/companies/7")
    );
    let cases = [
        (200, r#"{"id":"9","properties":{}}"#, "delivered 9"),
        (200, r#"{"properties":{}}"#, "retry true None"),
        (
            404,
            r#"{"status":"error","message":"resource not found"}"#,
            "forget",
        ),
        (
            404,
            r#"{"category":"OBJECT_NOT_FOUND","message":"x"}"#,
            "forget",
        ),
        (
            400,
            r#"{"category":"VALIDATION_ERROR","message":"x"}"#,
            "dead validation",
        ),
        // No word of the record: the whole path may be wrong.
        (404, "<html></html>", "retry false None"),
    ];
    for (status, body, expected) in cases {
        assert_eq!(
            shapes(&verdicts(patch.clone(), &["7"], status, body)),
            [expected],
            "{body}"
        );
    }
    // It may be another row's by now; the one that was asked for is not.
    for (id, other) in [("7", false), ("9", true)] {
        let body = format!(r#"{{"id":"{id}","properties":{{}}}}"#);
        let verdicts = verdicts(patch.clone(), &["7"], 200, &body);
        let [Verdict::Delivered { met, .. }] = verdicts.as_slice() else {
            panic!("{verdicts:?}");
        };
        assert_eq!(*met, other, "{body}");
    }
}

#[test]
fn a_search_finds_or_does_not() {
    let find = HubSpotCall::Find {
        entity: CONTACT,
        id_property: "email".into(),
    };
    let body = r#"{"results":[{"id":"512","properties":{"email":"ada@example.com"}}],"numErrors":1,
        "errors":[{"category":"OBJECT_NOT_FOUND","message":"x","context":{"ids":["bob@example.com"]}}]}"#;
    let both = verdicts(
        find.clone(),
        &["ada@example.com", "bob@example.com"],
        207,
        body,
    );
    assert_eq!(shapes(&both), ["adopt 512", "forget"]);
    let none = verdicts(find.clone(), &["ada@example.com"], 200, r#"{"results":[]}"#);
    assert_eq!(shapes(&none), ["forget"]);
    // An error that names nobody leaves it open.
    let odd = r#"{"results":[],"errors":[{"category":"INTERNAL","message":"x"}]}"#;
    let open = verdicts(find, &["a@example.com", "b@example.com"], 207, odd);
    assert_eq!(shapes(&open), ["again Some(1)"; 2]);
}

#[test]
fn headers_tell_of_the_budget() {
    let headers = [
        ("x-hubspot-ratelimit-max", "110"),
        ("x-hubspot-ratelimit-remaining", "9"),
        ("x-hubspot-ratelimit-interval-milliseconds", "10000"),
        ("x-hubspot-ratelimit-daily", "250000"),
        ("x-hubspot-ratelimit-daily-remaining", "12"),
        ("x-hubspot-correlation-id", "c-1"),
    ];
    let headers = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let reply = Reply {
        headers,
        ..reply(200, r#"{"results":[{"id":"1"}]}"#)
    };
    let reading = read(&call(update(), &["1"]), Ok(&reply), &settings(&[]));
    assert_eq!(reading.budget.max, Some(110));
    assert_eq!(reading.budget.remaining, Some(9));
    assert_eq!(reading.budget.interval, Some(Duration::from_secs(10)));
    assert_eq!(reading.budget.daily, Some(250_000));
    assert_eq!(reading.budget.daily_remaining, Some(12));
    assert_eq!(reading.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(
        (reading.error, reading.signal),
        (None, TargetSignal::Healthy)
    );
    let failed = super::reply(400, r#"{"message":"x","correlationId":"c-2"}"#);
    let reading = read(&call(update(), &["1"]), Ok(&failed), &settings(&[]));
    assert_eq!(reading.correlation_id.as_deref(), Some("c-2"));
}

#[test]
fn companies_of_others_are_matched_by_their_domains() {
    let look = HubSpotCall::Match {
        entity: COMPANY,
        property: "domain".into(),
    };
    let names = ["acme.com", "taken.com", "new.com"];
    let body = r#"{"total":4,"results":[
        {"id":"7","properties":{"domain":"ACME.com","crm_id":null}},
        {"id":"9","properties":{"domain":"acme.com"}},
        {"id":"8","properties":{"domain":"taken.com","crm_id":"4"}},
        {"id":"6","properties":{"domain":"other.com"}}]}"#;
    let found = verdicts(look.clone(), &names, 200, body);
    assert_eq!(shapes(&found), ["adopt 7", "vacant", "vacant"]);

    let row = r#"{"id":"7","properties":{"domain":"acme.com"}}"#;
    let many = format!(
        r#"{{"total":900,"results":[{}]}}"#,
        vec![row; 200].join(",")
    );
    let found = verdicts(look.clone(), &names, 200, &many);
    assert_eq!(
        shapes(&found),
        ["adopt 7", "again Some(1)", "again Some(1)"]
    );
    let alone = verdicts(look.clone(), &["new.com"], 200, &many);
    assert_eq!(shapes(&alone), ["vacant"]);

    let refused = r#"{"status":"error","category":"VALIDATION_ERROR","message":"There was a problem with the request."}"#;
    assert_eq!(
        shapes(&verdicts(look.clone(), &names, 400, refused)),
        ["again Some(2)"; 3]
    );
    assert_eq!(
        shapes(&verdicts(look, &["acme.com"], 400, refused)),
        ["vacant"]
    );
}

#[test]
fn lifecycle_stage_that_hubspot_kept_is_noticed() {
    let mut call = call(update(), &["1", "2"]);
    for item in &mut call.items {
        item.fragment = r#"{"id":"1","properties":{"lifecyclestage":"lead"}}"#.into();
        item.ticks = vec![Tick {
            field: FieldId(7),
            hash: ValueHash::of(Some("lead")),
            at: Timestamp(1),
            by: Writer::Crm,
        }];
    }
    let body = r#"{"results":[{"id":"2","properties":{"lifecyclestage":"lead"}},{"id":"1","properties":{"lifecyclestage":"customer"}}]}"#;
    let reading = read(&call, Ok(&reply(200, body)), &settings(&[]));
    let Verdict::Overruled { ticks, why, .. } = &reading.verdicts[0] else {
        panic!("{:?}", reading.verdicts[0]);
    };
    assert_eq!(ticks[0].hash, ValueHash::of(Some("customer")));
    assert!(why.contains("customer") && why.contains("lead"), "{why}");
    assert!(matches!(reading.verdicts[1], Verdict::Delivered { .. }));
    // An answer that does not tell is believed.
    let silent = r#"{"results":[{"id":"1"},{"id":"2","properties":{"lifecyclestage":null}}]}"#;
    let reading = read(&call, Ok(&reply(200, silent)), &settings(&[]));
    assert!(
        reading
            .verdicts
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Delivered { .. }))
    );
}

proptest::proptest! {
    #[test]
    fn any_answer_gives_every_record_a_verdict(
        status in 100u16..600, body in ".*", names in proptest::collection::hash_set("[a-z]{1,4}", 1..6),
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let call = call(update(), &names);
        let reading = read(&call, Ok(&reply(status, &body)), &settings(&[]));
        proptest::prop_assert_eq!(reading.verdicts.len(), names.len());
        let delivered = reading.verdicts.iter().any(|verdict| matches!(verdict, Verdict::Delivered { .. }));
        proptest::prop_assert!(!delivered);
    }
}
