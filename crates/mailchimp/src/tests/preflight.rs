//! What is read of audiences, and what follows for the field map and for provisioning.

use super::*;
use crate::{
    preflight::{LookupResult, Preflight},
    provision::{CreationAnswer, Provision, ProvisionProgress},
};
use integration_engine::record::field_type::{FieldType, MergeType};

const SECOND: u64 = 1_000_000;

fn mapped(remote: &[&str]) -> SourceMap {
    let mut map = map();
    for (id, name) in (10..).zip(remote) {
        map.fields.push(Field {
            id: FieldId(id),
            column: format!("{}_column", name.to_lowercase()),
            kind: ValueKind::Text,
            remote: (*name).into(),
            remote_type: type_of(name),
            direction: Direction::Both,
            conflict: ConflictRule::LastWriteWins,
            on_lossy: Default::default(),
            words: Default::default(),
        });
    }
    map
}

fn lists(names: &[&str]) -> impl Iterator<Item = String> {
    names
        .iter()
        .map(|name| (*name).to_owned())
        .collect::<Vec<_>>()
        .into_iter()
}

fn fields(rows: &[(&str, &str)], total: usize) -> Reply {
    let rows: Vec<String> = rows
        .iter()
        .map(|(tag, kind)| {
            format!(r#"{{"tag":"{tag}","type":"{kind}","options":{{"choices":["a","b"]}}}}"#)
        })
        .collect();
    reply(
        200,
        &format!(
            r#"{{"merge_fields":[{}],"total_items":{total}}}"#,
            rows.join(",")
        ),
    )
}

/// Asks for what is due, and takes in the answer.
fn answered(preflight: &mut Preflight, path: &str, reply: &Reply, now: u64) -> LookupResult {
    let subject = preflight.due(now).unwrap();
    let request = preflight.ask(&subject);
    assert!(
        request.path.starts_with(path),
        "{} for {path}",
        request.path
    );
    preflight.hear(&subject, Ok(reply), now)
}

const ALL: [(&str, &str); 2] = [("FNAME", "text"), ("SCORE", "number")];

fn informed(map: &SourceMap) -> Preflight {
    let mut preflight = Preflight::default();
    preflight.expect([map].into_iter(), lists(&["a1"]));
    let heard = answered(
        &mut preflight,
        "/lists/a1/merge-fields?count=1000&offset=0",
        &fields(&ALL, 2),
        0,
    );
    assert_eq!(heard, LookupResult::News);
    preflight
}

#[test]
fn each_audience_has_fields_of_its_own() {
    let map = mapped(&["LEVEL"]);
    let mut preflight = informed(&map);
    assert!(preflight.is_audience_known("a1"));
    assert!(!preflight.is_audience_known("b2"));
    preflight.use_audience("b2");
    assert!(!preflight.is_known());
    // Read page by page.
    let first = fields(&[("LEVEL", "radio")], 2);
    let path = "/lists/b2/merge-fields?count=1000&offset=";
    assert_eq!(
        answered(&mut preflight, &format!("{path}0&"), &first, 1),
        LookupResult::Nothing
    );
    let second = fields(&[("FNAME", "birthday")], 2);
    assert_eq!(
        answered(&mut preflight, &format!("{path}1&"), &second, 2),
        LookupResult::News
    );
    assert!(preflight.is_audience_known("b2"));
    let type_in = |list: &str, tag: &str| {
        let refined = preflight.catalog.refine(&map, list);
        refined.field_named(tag).unwrap().1.remote_type.clone()
    };
    let merge = FieldType::Merge;
    assert_eq!(type_in("a1", "FNAME"), merge(MergeType::Text));
    assert_eq!(type_in("b2", "FNAME"), merge(MergeType::Birthday));
    assert_eq!(type_in("a1", "LEVEL"), merge(MergeType::Absent));
    let level = MergeType::Choice(["a", "b"].map(str::to_owned).into());
    assert_eq!(type_in("b2", "LEVEL"), merge(level));
    assert_eq!(type_in("c3", "LEVEL"), FieldType::Unknown, "not read yet");
    assert_eq!(type_in("a1", "email_address"), FieldType::Unknown);
    let missing = preflight.catalog.missing(&map, preflight.lists());
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [
            "column level_column of crm.people: audience a1 has no merge field LEVEL",
            "column score_column of crm.people: audience b2 has no merge field SCORE"
        ]
    );
}

#[test]
fn what_an_audience_lacks_is_left_out_and_everything_else_sent() {
    let map = mapped(&["LEVEL"]);
    let preflight = informed(&map);
    let mut texts = row([
        Some("ada@example.com"),
        Some("t"),
        Some("Ada"),
        Some("1"),
        None,
    ])
    .unwrap();
    texts.push(Some("gold".into()));
    let refined = preflight.catalog.refine(&map, "a1");
    let work = work(Some(texts), None);
    let Decision::Send(_, item) = decide(&work, 0, &refined, &settings()) else {
        panic!("not sent");
    };
    assert!(
        item.fragment
            .contains(r#""merge_fields":{"FNAME":"Ada","SCORE":1}"#),
        "{}",
        item.fragment
    );
    assert!(
        item.ticks.iter().all(|tick| tick.field.0 != 10),
        "it would count as sent"
    );
}

#[test]
fn newly_mapped_tags_that_were_not_there_are_looked_for_anew() {
    let mut preflight = informed(&map());
    preflight.expect([&map()].into_iter(), lists(&["a1"]));
    assert!(preflight.is_known());
    preflight.expect([&mapped(&["LEVEL"])].into_iter(), lists(&["a1"]));
    assert!(!preflight.is_known());
}

#[test]
fn doubts_concern_one_audience_and_are_not_followed_twice_in_vain() {
    let map = map();
    let mut preflight = informed(&map);
    assert!(!preflight.doubt("b2", SECOND));
    assert!(preflight.doubt("a1", SECOND));
    assert_eq!(
        answered(&mut preflight, "/lists/a1/", &fields(&ALL, 2), SECOND),
        LookupResult::Nothing
    );
    assert!(!preflight.doubt("a1", 2 * SECOND));
    assert!(preflight.doubt("a1", 7 * SECOND));
}

#[test]
fn an_audience_that_is_not_there_is_not_asked_again_until_something_is_put_right() {
    let mut preflight = Preflight::default();
    preflight.expect([&map()].into_iter(), lists(&["a1"]));
    let gone = reply(404, r#"{"title":"Resource Not Found"}"#);
    assert_eq!(
        answered(&mut preflight, "/lists/a1/", &gone, 0),
        LookupResult::Nothing
    );
    assert_eq!(preflight.due(u64::MAX), None);
    assert!(
        preflight.is_audience_known("a1"),
        "its records are to be told so"
    );
    preflight.use_audience("a1");
    preflight.expect([&map()].into_iter(), lists(&["a1"]));
    assert_eq!(preflight.due(u64::MAX), None);
    preflight.recheck();
    preflight.expect([&map()].into_iter(), lists(&["a1"]));
    assert!(preflight.due(0).is_some());
}

#[test]
fn what_cannot_be_read_is_told_and_gone_without() {
    let mut preflight = Preflight::default();
    preflight.expect([&map()].into_iter(), lists(&["a1"]));
    let refused = reply(403, r#"{"title":"Forbidden","detail":"not yours"}"#);
    assert_eq!(
        answered(&mut preflight, "/lists/a1/", &refused, 0),
        LookupResult::News
    );
    assert!(preflight.is_audience_known("a1"));
    let told = preflight.refusals();
    assert!(
        told[0].starts_with("merge fields of audience a1: "),
        "{told:?}"
    );
    assert_eq!(preflight.due(SECOND), None);
    assert!(preflight.due(61 * SECOND).is_some());
}

#[test]
fn interests_and_permissions_are_read_where_they_are_mapped() {
    let map = mapped(&["interests", "marketing_permissions"]);
    let mut preflight = informed(&map);
    assert!(!preflight.is_known());
    let categories = reply(
        200,
        r#"{"categories":[{"id":"c1","title":"Topics"},{"id":"c2","title":"Places"}]}"#,
    );
    answered(
        &mut preflight,
        "/lists/a1/interest-categories?",
        &categories,
        1,
    );
    let topics = reply(200, r#"{"interests":[{"id":"i1","name":"News"}]}"#);
    answered(
        &mut preflight,
        "/lists/a1/interest-categories/c1/interests?",
        &topics,
        2,
    );
    let places = reply(200, r#"{"interests":[{"id":"i2","name":"Berlin"}]}"#);
    let heard = answered(
        &mut preflight,
        "/lists/a1/interest-categories/c2/interests?",
        &places,
        3,
    );
    assert_eq!(heard, LookupResult::News);
    // Nobody is there to look at.
    let nobody = reply(200, r#"{"members":[]}"#);
    answered(&mut preflight, "/lists/a1/members?count=1&", &nobody, 4);
    assert!(preflight.is_known());
    assert!(preflight.doubt("a1", 5), "as soon as somebody is");
    let ada = reply(
        200,
        r#"{"members":[{"marketing_permissions":[{"marketing_permission_id":"p1","text":"Email","enabled":false}]}]}"#,
    );
    while let Some(subject) = preflight.due(6) {
        let request = preflight.ask(&subject);
        let answer = match request.path.as_str() {
            path if path.contains("/members?") => ada.clone(),
            path if path.contains("/c1/") => topics.clone(),
            path if path.contains("/c2/") => places.clone(),
            path if path.contains("/interest-categories") => categories.clone(),
            _ => fields(&ALL, 2),
        };
        preflight.hear(&subject, Ok(&answer), 6);
    }
    let refined = preflight.catalog.refine(&map, "a1");
    let held = |name: &str| refined.field_named(name).unwrap().1.remote_type.clone();
    let FieldType::Merge(MergeType::Interests(Some(interests))) = held("interests") else {
        panic!("not read");
    };
    let named: Vec<_> = interests
        .iter()
        .map(|each| (each.id.as_str(), each.category.as_str()))
        .collect();
    assert_eq!(named, [("i1", "Topics"), ("i2", "Places")]);
    assert!(matches!(
        held("marketing_permissions"),
        FieldType::Merge(MergeType::Permissions(Some(all))) if all[0].id == "p1"
    ));
}

fn created(limit: usize, total: usize) -> Reply {
    reply(
        200,
        &format!(r#"{{"merge_id":9,"merge_field_limit":{limit},"total_items":{total}}}"#),
    )
}

#[test]
fn missing_fields_are_created_one_by_one_and_read_again() {
    let map = mapped(&["LEVEL", "BORN"]);
    let mut preflight = informed(&map);
    let mut provision = Provision::default();
    provision.begin(&mut preflight);
    assert_eq!(
        provision.next(&preflight, [&map].into_iter()),
        None,
        "read anew first"
    );
    assert_eq!(provision.progress(&mut preflight), None);
    answered(&mut preflight, "/lists/a1/", &fields(&ALL, 2), 1);
    let request = provision.next(&preflight, [&map].into_iter()).unwrap();
    assert_eq!(request.path, "/lists/a1/merge-fields");
    assert_eq!(
        String::from_utf8(request.body.unwrap()).unwrap(),
        r#"{"name":"Level column","public":false,"tag":"LEVEL","type":"text"}"#
    );
    assert_eq!(
        provision.next(&preflight, [&map].into_iter()),
        None,
        "one at a time"
    );
    let half = ProvisionProgress {
        ready: 2,
        all: 4,
        failure: None,
    };
    assert_eq!(provision.progress(&mut preflight), Some(half));
    assert_eq!(provision.hear(Ok(&reply(503, ""))), CreationAnswer::Later);
    assert!(
        provision.next(&preflight, [&map].into_iter()).is_some(),
        "once more"
    );
    // Somebody else was faster.
    let there = reply(
        400,
        r#"{"title":"Invalid Resource","detail":"A Merge Field with the tag \"LEVEL\" already exists for this list."}"#,
    );
    assert_eq!(provision.hear(Ok(&there)), CreationAnswer::Yes);
    assert!(provision.next(&preflight, [&map].into_iter()).is_some());
    assert_eq!(provision.hear(Ok(&created(30, 4))), CreationAnswer::Yes);
    let all = ProvisionProgress {
        ready: 4,
        all: 4,
        failure: None,
    };
    assert_eq!(provision.progress(&mut preflight), Some(all));
    assert!(provision.is_idle());
    assert!(!preflight.is_known(), "to be read again");
}

#[test]
fn a_full_plan_is_told_with_what_is_left() {
    let map = mapped(&["LEVEL", "BORN", "SIZE"]);
    for refusal in [false, true] {
        let mut preflight = informed(&map);
        let mut provision = Provision::default();
        provision.begin(&mut preflight);
        answered(&mut preflight, "/lists/a1/", &fields(&ALL, 2), 1);
        provision.next(&preflight, [&map].into_iter()).unwrap();
        let answer = match refusal {
            false => created(3, 3),
            true => reply(
                400,
                r#"{"title":"Invalid Resource","detail":"This list has the maximum number of merge fields."}"#,
            ),
        };
        provision.hear(Ok(&answer));
        assert_eq!(provision.next(&preflight, [&map].into_iter()), None);
        let progress = provision.progress(&mut preflight).unwrap();
        let left = if refusal {
            "LEVEL, BORN, SIZE"
        } else {
            "BORN, SIZE"
        };
        let failure = progress.failure.unwrap();
        assert!(
            failure.contains(&format!("not created: {left}.")),
            "{failure}"
        );
        assert!(progress.ready < progress.all);
    }
    // In one that cannot be read, nothing is created.
    let mut preflight = Preflight::default();
    let mut provision = Provision::default();
    preflight.expect([&map].into_iter(), lists(&["a1"]));
    provision.begin(&mut preflight);
    answered(&mut preflight, "/lists/a1/", &reply(500, ""), 0);
    assert_eq!(provision.next(&preflight, [&map].into_iter()), None);
    let failure = provision.progress(&mut preflight).unwrap().failure.unwrap();
    assert!(failure.contains("audience a1 cannot be read"), "{failure}");
}
