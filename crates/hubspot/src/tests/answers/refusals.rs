//! Calls that were refused or not answered.

use super::*;

#[test]
fn a_refused_call_is_split_until_the_culprit_is_alone() {
    let plain = r#"{"status":"error","message":"Property values were not valid: [{\"message\":\"bad\",\"error\":\"INVALID_EMAIL\",\"name\":\"email\"}]","errors":[{"message":"bad","code":"INVALID_EMAIL","context":{"propertyName":["email"]}}],"category":"VALIDATION_ERROR"}"#;
    let names = ["1", "2", "3", "4", "5"];
    assert_eq!(
        shapes(&verdicts(update(), &names, 400, plain)),
        ["again Some(3)"; 5]
    );
    assert_eq!(
        shapes(&verdicts(update(), &["1"], 400, plain)),
        ["dead validation"]
    );
    let named =
        r#"{"message":"bad","category":"VALIDATION_ERROR","context":{"objectWriteTraceId":["1"]}}"#;
    assert_eq!(
        shapes(&verdicts(update(), &["1", "2", "3"], 400, named)),
        ["again None", "dead validation", "again None"]
    );
    let inner = r#"{"message":"bad","category":"VALIDATION_ERROR","errors":[{"message":"x","context":{"ids":["3"]}}]}"#;
    assert_eq!(
        shapes(&verdicts(update(), &["1", "2", "3"], 400, inner)),
        ["again None", "again None", "dead validation"]
    );
    let twice = r#"{"message":"Duplicate IDs found in batch input: [2]. IDs must be unique","context":{"ids":["2"]}}"#;
    assert_eq!(
        shapes(&verdicts(update(), &["1", "2"], 400, twice)),
        ["again Some(1)"; 2]
    );
    assert_eq!(
        shapes(&verdicts(
            update(),
            &["1", "2"],
            409,
            r#"{"message":"Contact already exists"}"#
        )),
        ["again Some(1)"; 2]
    );
    let taken = r#"{"message":"Contact already exists. Existing ID: 512","category":"CONFLICT"}"#;
    assert_eq!(
        shapes(&verdicts(update(), &["511"], 409, taken)),
        ["adopt 512"]
    );
    assert_eq!(
        shapes(&verdicts(update(), &["512"], 409, taken)),
        ["dead conflict"]
    );
    assert_eq!(
        shapes(&verdicts(update(), &["1", "2"], 413, "")),
        ["again Some(1)"; 2]
    );
    assert_eq!(
        shapes(&verdicts(update(), &["1"], 413, "")),
        ["dead too_large"]
    );
    let unique = r#"{"message":"Unable to perform update/upsert by non-unique 0-2 property crm_id","category":"VALIDATION_ERROR"}"#;
    assert_eq!(
        shapes(&verdicts(upsert(), &["a", "b"], 400, unique)),
        ["retry false Some(60)"; 2]
    );
}

#[test]
fn failures_of_the_target_are_nobodys_fault() {
    let call = call(update(), &["1", "2"]);
    let settings = settings(&[]);
    let cases = [
        (401, "", "retry false None", "Unauthorized"),
        (
            403,
            r#"{"category":"MISSING_SCOPES"}"#,
            "retry false None",
            "Forbidden",
        ),
        (
            404,
            r#"{"message":"resource not found"}"#,
            "retry false None",
            "Failing",
        ),
        (423, "", "retry true Some(2)", "Crowded"),
        (
            429,
            r#"{"policyName":"TEN_SECONDLY_ROLLING"}"#,
            "retry false Some(10)",
            "Throttled",
        ),
        (
            429,
            r#"{"policyName":"DAILY"}"#,
            "retry false Some(600)",
            "DailyLimit",
        ),
        (477, "", "retry false Some(60)", "Failing"),
        (500, "{}", "retry true None", "Failing"),
        (502, "<html>", "retry true None", "Failing"),
        (200, "<html>", "retry true None", "Failing"),
        (200, "", "retry true None", "Failing"),
        (200, r#"{"results":[{"id":"#, "retry true None", "Failing"),
        (204, "", "retry true None", "Failing"),
    ];
    for (status, body, expected, signal) in cases {
        let reading = read(&call, Ok(&reply(status, body)), &settings);
        assert_eq!(
            shapes(&reading.verdicts),
            [expected, expected],
            "{status} {body}"
        );
        assert!(
            format!("{:?}", reading.signal).starts_with(signal),
            "{status} {:?}",
            reading.signal
        );
        assert!(reading.error.is_some());
    }
    let lost = TransportError::Timeout(Duration::from_secs(30));
    let reading = read(&call, Err(&lost), &settings);
    assert_eq!(shapes(&reading.verdicts), ["retry true None"; 2]);
    assert!(matches!(reading.signal, TargetSignal::Failing { .. }));
}

/// Calls that are made until every record has its verdict, where HubSpot refuses whole calls and
/// never says for which record.
fn calls_to_find(culprits: &[usize], records: usize) -> usize {
    let names: Vec<String> = (0..records).map(|number| number.to_string()).collect();
    let is_bad = |name: &str| culprits.iter().any(|bad| bad.to_string() == name);
    let mut waiting = vec![names];
    let mut calls = 0;
    while let Some(batch) = waiting.pop() {
        calls += 1;
        let names: Vec<&str> = batch.iter().map(String::as_str).collect();
        let call = call(update(), &names);
        let body = r#"{"status":"error","category":"VALIDATION_ERROR","message":"no"}"#;
        let refused = names.iter().any(|name| is_bad(name));
        if !refused {
            continue;
        }
        let reading = read(&call, Ok(&reply(400, body)), &settings(&[]));
        match &reading.verdicts[0] {
            Verdict::Again {
                batch_cap: Some(cap),
                ..
            } => waiting.extend(batch.chunks(*cap).map(<[String]>::to_vec)),
            Verdict::Dead { .. } => assert!(batch.len() == 1 && is_bad(&batch[0])),
            other => panic!("{other:?}"),
        }
    }
    calls
}

proptest::proptest! {
    #[test]
    fn culprits_nobody_names_are_found_by_halving(records in 1_usize..=100, seeds in proptest::collection::vec(proptest::prelude::any::<usize>(), 1..5)) {
        let mut culprits: Vec<usize> = seeds.iter().map(|seed| seed % records).collect();
        culprits.sort_unstable();
        culprits.dedup();
        let halvings = records.next_power_of_two().ilog2() as usize;
        // The call that was refused, and two for each halving on the way to a culprit.
        let most = 1 + 2 * halvings * culprits.len();
        let calls = calls_to_find(&culprits, records);
        proptest::prop_assert!(calls <= most, "{calls} calls for {} of {records}, at most {most}", culprits.len());
    }
}

#[test]
fn erased_is_what_hubspot_confirms_or_no_longer_has() {
    let call = call(HubSpotCall::Erase { entity: CONTACT }, &["512"]);
    let verdict = |status, body: &str| {
        let reading = read(&call, Ok(&reply(status, body)), &settings(&[]));
        reading.verdicts.into_iter().next().unwrap()
    };
    assert_eq!(verdict(204, ""), Verdict::Removed);
    assert_eq!(
        verdict(404, r#"{"message":"resource not found"}"#),
        Verdict::Removed
    );
    assert_eq!(
        verdict(404, r#"{"category":"OBJECT_NOT_FOUND","message":"x"}"#),
        Verdict::Removed
    );
    // A path that is unknown erases nobody.
    assert!(matches!(verdict(404, "<html>"), Verdict::Retry { .. }));
    assert!(matches!(verdict(200, "<html>"), Verdict::Retry { .. }));
    assert!(matches!(verdict(500, ""), Verdict::Retry { .. }));
    let refused = verdict(
        400,
        r#"{"category":"VALIDATION_ERROR","message":"no number"}"#,
    );
    assert!(matches!(
        refused,
        Verdict::Dead {
            category: Category::Validation,
            ..
        }
    ));
}

#[test]
fn what_an_administrator_requires_comes_with_advice_where_it_is_enforced() {
    let body = |code: &str| {
        format!(
            r#"{{"category":"VALIDATION_ERROR","message":"not valid","errors":[{{"message":"Property is required","code":"{code}","context":{{"propertyName":["jobtitle"]}}}}]}}"#
        )
    };
    for (version, code, advised) in [
        ("2026-09", "MISSING_REQUIRED_PROPERTY", true),
        ("2026-09", "MISSING_CONDITIONAL_REQUIRED_PROPERTY", true),
        ("2027-03", "MISSING_REQUIRED_PROPERTY", true),
        ("2026-09", "INVALID_EMAIL", false),
        ("2026-03", "MISSING_REQUIRED_PROPERTY", false),
        ("v3", "MISSING_REQUIRED_PROPERTY", false),
    ] {
        let mut settings = settings(&every_kind());
        version.clone_into(&mut settings.api_version);
        let call = call(upsert(), &["ada@example.com"]);
        let read = read(&call, Ok(&reply(400, &body(code))), &settings);
        let [Verdict::Dead { category, why, .. }] = read.verdicts.as_slice() else {
            panic!("{:?}", read.verdicts);
        };
        assert_eq!(*category, Category::Validation);
        assert!(why.contains("jobtitle") && why.contains(code), "{why}");
        assert_eq!(
            why.contains("integration.hubspot_api_version = '2026-03'"),
            advised,
            "{version} {code}: {why}"
        );
    }
}
