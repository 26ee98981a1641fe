//! Associations: what is sent, what answers mean, and that any sequence ends equal.

mod model;

use std::{collections::BTreeSet, time::Duration};

use crate::{HubSpotOnDelete, HubSpotSettings};
use crate::{associations::*, objects::named::*};
use integration_engine::{
    delivery::outcome::TargetSignal,
    limits::retry::Policy,
    record::RemoteId,
    wire::{Reply, TransportError},
};

fn settings(version: &str) -> HubSpotSettings {
    HubSpotSettings {
        api_version: version.to_owned(),
        external_id_property: "crm_id".to_owned(),
        external_id_ready: Vec::new(),
        external_id_shared: Vec::new(),
        on_delete: HubSpotOnDelete::Archive,
    }
}

fn pair(from: u64, to: u64) -> Pair {
    let id = |number: u64| RemoteId::from(number.to_string().as_str());
    Pair {
        from: id(from),
        to: id(to),
    }
}

fn sending(work: usize, action: Action, pair: Pair) -> Sending {
    Sending {
        work,
        from: CONTACT,
        to: COMPANY,
        action,
        pair,
        labels: Labels::Known(Vec::new()),
    }
}

fn single(action: Action, pairs: &[Pair], version: &str) -> AssociationCall {
    let sendings = pairs
        .iter()
        .enumerate()
        .map(|(work, pair)| sending(work, action, pair.clone()))
        .collect();
    let mut calls = assemble(sendings, &settings(version));
    assert_eq!(calls.len(), 1);
    calls.remove(0)
}

/// The call that makes a pair of which this is known.
fn going_on(pair: &Pair, labels: Labels) -> AssociationCall {
    let sending = Sending {
        labels,
        ..sending(0, Action::Create, pair.clone())
    };
    assemble(vec![sending], &settings("2026-09")).remove(0)
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
    }
}

fn policy() -> Policy {
    Policy {
        base: Duration::from_millis(1),
        max: Duration::from_secs(1),
        max_attempts: 1_000,
    }
}

#[test]
fn calls_are_made_as_each_version_wants_them() {
    let create = single(Action::Create, &[pair(1, 7)], "2026-09");
    assert_eq!(
        create.request.path,
        "/crm/associations/2026-09/contacts/companies/batch/create"
    );
    assert_eq!(
        String::from_utf8(create.request.body.unwrap()).unwrap(),
        r#"{"inputs":[{"from":{"id":"1"},"to":{"id":"7"},"types":[{"associationCategory":"HUBSPOT_DEFINED","associationTypeId":1},{"associationCategory":"HUBSPOT_DEFINED","associationTypeId":279}]}]}"#
    );
    let archive = single(Action::Archive, &[pair(1, 7), pair(1, 8), pair(2, 7)], "v3");
    assert_eq!(
        archive.request.path,
        "/crm/v4/associations/contacts/companies/batch/archive"
    );
    assert_eq!(
        String::from_utf8(archive.request.body.unwrap()).unwrap(),
        r#"{"inputs":[{"from":{"id":"1"},"to":[{"id":"7"},{"id":"8"}]},{"from":{"id":"2"},"to":[{"id":"7"}]}]}"#
    );
}

#[test]
fn calls_hold_what_hubspot_allows_and_archives_go_first() {
    let sendings = (0..2_001)
        .flat_map(|n| {
            let action = if n < 150 {
                Action::Archive
            } else {
                Action::Create
            };
            [sending(n, action, pair(1_000 + n as u64, 7))]
        })
        .chain((3_000..3_150).map(|n| sending(n, Action::Create, pair(n as u64, 8))))
        .collect();
    let calls = assemble(sendings, &settings("2026-09"));
    let sizes: Vec<_> = calls
        .iter()
        .map(|call| (call.verb, call.pairs.len()))
        .collect();
    assert_eq!(
        sizes,
        [
            (Verb::Archive, 100),
            (Verb::Archive, 50),
            (Verb::Create, 2_000),
            (Verb::Create, 1)
        ]
    );
}

#[test]
fn answers_are_read_pair_by_pair() {
    let create = single(
        Action::Create,
        &[pair(1, 7), pair(2, 8), pair(3, 9)],
        "2026-09",
    );
    let reading = read(
        &create,
        Ok(&reply(
            207,
            r#"{"results":[{"fromObjectId":1,"toObjectId":"7"}],"errors":[{"category":"VALIDATION_ERROR","subCategory":"crm.associations.INVALID_IDENTIFIER","message":"8 is not a valid identifier","context":{"id":["8"]}}]}"#,
        )),
    );
    assert_eq!(reading.verdicts[0], PairVerdict::Done);
    assert!(matches!(&reading.verdicts[1], PairVerdict::DeadId { ids, .. } if ids == &["8"]));
    assert!(matches!(
        reading.verdicts[2],
        PairVerdict::Retry { counted: true, .. }
    ));
    assert_eq!(reading.signal, TargetSignal::Healthy);

    let named = r#"{"results":[{"from":{"id":"1"},"to":{"id":7}},{"from":{"id":2},"to":{"id":"8"}},{"fromObjectId":"3","toObjectId":9}]}"#;
    let all = read(&create, Ok(&reply(201, named)));
    assert_eq!(all.verdicts, vec![PairVerdict::Done; 3]);
    let refused = read(&create, Ok(&reply(400, r#"{"message":"no"}"#)));
    assert_eq!(refused.verdicts, vec![PairVerdict::Split; 3]);
    let alone = single(Action::Create, &[pair(1, 7)], "2026-09");
    let refusal = r#"{"category":"VALIDATION_ERROR","message":"no"}"#;
    let refused = read(&alone, Ok(&reply(400, refusal)));
    assert!(matches!(refused.verdicts[0], PairVerdict::Refused { .. }));
    let throttled = read(
        &create,
        Ok(&reply(429, r#"{"policyName":"TEN_SECONDLY_ROLLING"}"#)),
    );
    assert!(matches!(throttled.signal, TargetSignal::Throttled { .. }));
    assert!(matches!(
        throttled.verdicts[0],
        PairVerdict::Retry { counted: false, .. }
    ));
}

#[test]
fn labels_that_people_gave_a_pair_are_sent_along() {
    let asked = going_on(&pair(1, 9_007_199_254_740_993), Labels::Unknown);
    assert_eq!(asked.verb, Verb::Look);
    assert_eq!(
        asked.request.path,
        "/crm/associations/2026-09/contacts/companies/batch/read"
    );
    assert_eq!(
        asked.request.body.as_deref(),
        Some(&br#"{"inputs":[{"id":"1"}]}"#[..])
    );
    let seen = |types: &str| {
        let body = format!(
            r#"{{"results":[{{"from":{{"id":"1"}},"to":[{{"toObjectId":9007199254740992,"associationTypes":[]}},{{"toObjectId":9007199254740993,"associationTypes":[{types}]}}]}}]}}"#
        );
        read(&asked, Ok(&reply(200, &body))).verdicts.remove(0)
    };
    let label = r#"{"category":"USER_DEFINED","typeId":36,"label":"Billing contact"}"#;
    let plain = r#"{"category":"HUBSPOT_DEFINED","typeId":279,"label":null}"#;
    let primary = r#"{"category":"HUBSPOT_DEFINED","typeId":1,"label":"Primary"}"#;
    let PairVerdict::Looked(labels) = seen(&format!("{label},{plain}")) else {
        panic!("the primary type is missing");
    };
    let create = going_on(&pair(1, 9_007_199_254_740_993), labels);
    assert_eq!(
        String::from_utf8(create.request.body.unwrap()).unwrap(),
        r#"{"inputs":[{"from":{"id":"1"},"to":{"id":"9007199254740993"},"types":[{"associationCategory":"HUBSPOT_DEFINED","associationTypeId":1},{"associationCategory":"HUBSPOT_DEFINED","associationTypeId":279},{"associationCategory":"USER_DEFINED","associationTypeId":36}]}]}"#
    );
    // Nothing is written where nothing is missing.
    assert_eq!(
        seen(&format!("{primary},{label},{plain}")),
        PairVerdict::Done
    );
}

#[test]
fn labels_are_looked_for_page_by_page() {
    let asked = going_on(&pair(1, 7), Labels::Unknown);
    let page = r#"{"results":[{"from":{"id":"1"},"to":[{"toObjectId":8,"associationTypes":[]}],"paging":{"next":{"after":"500"}}}]}"#;
    let verdict = read(&asked, Ok(&reply(200, page))).verdicts.remove(0);
    let after = Labels::After("500".to_owned());
    assert_eq!(verdict, PairVerdict::Looked(after.clone()));
    assert_eq!(
        going_on(&pair(1, 7), after).request.body.as_deref(),
        Some(&br#"{"inputs":[{"id":"1","after":"500"}]}"#[..])
    );
    let nothing = PairVerdict::Looked(Labels::Known(Vec::new()));
    // HubSpot: a record without associations is an error of the answer. It may know none of its ids.
    for (status, body) in [
        (
            207,
            r#"{"results":[],"errors":[{"category":"OBJECT_NOT_FOUND","subCategory":"crm.associations.NO_ASSOCIATIONS_FOUND","context":{"fromObjectId":["1"]}}]}"#,
        ),
        (400, r#"{"category":"VALIDATION_ERROR","message":"no"}"#),
    ] {
        assert_eq!(
            read(&asked, Ok(&reply(status, body))).verdicts,
            std::slice::from_ref(&nothing),
            "{body}"
        );
    }
    let broken = read(&asked, Ok(&reply(200, "<html>")));
    assert!(matches!(broken.verdicts[0], PairVerdict::Retry { .. }));
}

#[test]
fn what_has_no_primary_type_is_associated_without_a_look() {
    let sendings = (0..2_001).map(|n| Sending {
        from: NOTE,
        to: DEAL,
        labels: Labels::Unknown,
        ..sending(n, Action::Create, pair(1_000 + n as u64, 7))
    });
    let calls = assemble(sendings.collect(), &settings("v3"));
    assert_eq!(
        calls[0].request.path,
        "/crm/v4/associations/notes/deals/batch/associate/default"
    );
    let sizes: Vec<usize> = calls.iter().map(|call| call.pairs.len()).collect();
    assert_eq!(sizes, [2_000, 1]);
    assert_eq!(
        calls[1].request.body.as_deref(),
        Some(&br#"{"inputs":[{"from":{"id":"3000"},"to":{"id":"7"}}]}"#[..])
    );
    let answer = r#"{"results":[{"from":{"id":"3000"},"to":{"id":"7"},"associationSpec":{"associationCategory":"HUBSPOT_DEFINED","associationTypeId":214}}]}"#;
    assert_eq!(
        read(&calls[1], Ok(&reply(200, answer))).verdicts,
        [PairVerdict::Done]
    );
}

#[test]
fn ids_beyond_two_to_the_53_keep_every_digit() {
    let (low, high) = (
        pair(9_007_199_254_740_992, 7),
        pair(9_007_199_254_740_993, 7),
    );
    let create = single(Action::Create, &[low, high], "2026-09");
    let answer = r#"{"results":[{"fromObjectId":9007199254740993,"toObjectId":7}],"errors":[{"category":"VALIDATION_ERROR","message":"no","context":{"id":[9007199254740992]}}]}"#;
    let verdicts = read(&create, Ok(&reply(207, answer))).verdicts;
    assert!(matches!(verdicts[0], PairVerdict::Refused { .. }));
    assert_eq!(verdicts[1], PairVerdict::Done);
}

#[test]
fn either_answer_to_an_archive_will_do() {
    let archive = single(Action::Archive, &[pair(1, 7), pair(2, 8)], "2026-09");
    for (status, body) in [
        (204, ""),
        (200, r#"{"status":"COMPLETE","results":[]}"#),
        (
            207,
            r#"{"errors":[{"subCategory":"crm.associations.INVALID_IDENTIFIER","context":{"id":["2"]}}]}"#,
        ),
    ] {
        let reading = read(&archive, Ok(&reply(status, body)));
        assert_eq!(
            reading.verdicts,
            vec![PairVerdict::Done; 2],
            "{status} {body}"
        );
    }
}

fn settled(
    call: &AssociationCall,
    verdicts: Vec<PairVerdict>,
    failing: bool,
    attempts: u32,
) -> AssociationSettlement {
    let reading = AssociationReading {
        verdicts,
        signal: TargetSignal::Healthy,
        budget: Default::default(),
        correlation_id: None,
        error: None,
    };
    let policy = Policy {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
        max_attempts: 3,
    };
    let settings = settings("2026-09");
    let terms = AssociationTerms {
        settings: &settings,
        policy: &policy,
        failing,
    };
    settle(call.clone(), &reading, &terms, |_| Some(attempts), |_| 0.5)
}

fn retried() -> PairVerdict {
    PairVerdict::Retry {
        why: "busy".to_owned(),
        wait: None,
        counted: true,
    }
}

#[test]
fn answered_pairs_are_settled_and_split_ones_sent_again_alone() {
    let pairs = [pair(1, 2), pair(3, 4), pair(5, 6)];
    let call = single(Action::Create, &pairs, "2026-09");
    let verdicts = vec![PairVerdict::Done, PairVerdict::Split, PairVerdict::Split];
    let settlement = settled(&call, verdicts, false, 0);
    let [(work, sent, update)] = &settlement.settled[..] else {
        panic!("{settlement:?}")
    };
    assert_eq!((*work, sent), (0, &pairs[0]));
    assert_eq!(update.state, AssociationState::Agreed);
    let alone: Vec<usize> = settlement
        .next
        .iter()
        .map(|call| call.pairs.len())
        .collect();
    assert_eq!(alone, [1, 1]);
}

#[test]
fn attempts_are_not_counted_while_hubspot_fails() {
    let call = single(Action::Create, &[pair(1, 2)], "2026-09");
    for (failing, attempts) in [(false, 2), (true, 1)] {
        let settlement = settled(&call, vec![retried()], failing, 1);
        let (_, _, update) = &settlement.settled[0];
        assert_eq!(update.state, AssociationState::Pending);
        assert_eq!(update.attempts, attempts, "failing: {failing}");
    }
}

#[test]
fn record_that_is_gone_is_looked_for_once() {
    let call = single(Action::Create, &[pair(1, 2), pair(3, 2)], "2026-09");
    let gone = PairVerdict::DeadId {
        ids: vec!["2".to_owned()],
        why: "not found".to_owned(),
    };
    let first = settled(&call, vec![gone.clone(), gone.clone()], false, 0);
    assert_eq!(first.dead_ids, ["2"]);
    let again = settled(&call, vec![gone.clone(), gone], false, 1);
    assert!(again.dead_ids.is_empty());
}

#[test]
fn pair_that_nobody_needs_any_more_is_dropped() {
    let call = single(Action::Create, &[pair(1, 2)], "2026-09");
    let reading = read(&call, Err(&TransportError::Timeout(Duration::ZERO)));
    let settings = settings("2026-09");
    let policy = Policy {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
        max_attempts: 3,
    };
    let terms = AssociationTerms {
        settings: &settings,
        policy: &policy,
        failing: false,
    };
    let settlement = settle(call, &reading, &terms, |_| None, |_| 0.5);
    assert_eq!(settlement, AssociationSettlement::default());
}
