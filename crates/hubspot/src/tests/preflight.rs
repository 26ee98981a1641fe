//! When definitions are read, and how far they are trusted.

use super::*;
use crate::preflight::{LookupResult, Preflight, Subject};

const SECOND: u64 = 1_000_000;
const CONTACTS: Subject = Subject::Properties(CONTACT);

fn listing(names: &[&str]) -> Reply {
    let rows: Vec<String> = names
        .iter()
        .map(|name| format!(r#"{{"name":"{name}","type":"string","fieldType":"text"}}"#))
        .collect();
    reply(200, &format!(r#"{{"results":[{}]}}"#, rows.join(",")))
}

const ALL: [&str; 4] = ["email", "firstname", "amount", "score"];

/// Contacts are mapped, and their definitions have been read.
fn informed() -> Preflight {
    let mut preflight = Preflight::default();
    preflight.expect([&map(CONTACT)].into_iter());
    assert_eq!(preflight.due(0), Some(CONTACTS));
    assert!(!preflight.is_known());
    let request = preflight.ask(CONTACTS, &settings(&[]));
    assert_eq!(request.path, "/crm/properties/2026-09/contacts");
    assert_eq!(preflight.due(0), None);
    assert_eq!(
        preflight.hear(CONTACTS, Ok(&listing(&ALL)), 0),
        LookupResult::News
    );
    assert!(preflight.is_known());
    preflight
}

fn answered(preflight: &mut Preflight, reply: &Reply, now: u64) -> LookupResult {
    let (_, heard) = turn(preflight, reply, now);
    if heard != LookupResult::Nothing || preflight.is_known() {
        return heard;
    }
    // Something is missing, and there are no sensitive properties.
    turn(preflight, &reply_with_none(), now);
    turn(preflight, &reply_with_none(), now).1
}

fn reply_with_none() -> Reply {
    reply(200, r#"{"results":[]}"#)
}

/// The next request, answered.
fn turn(preflight: &mut Preflight, reply: &Reply, now: u64) -> (String, LookupResult) {
    let subject = preflight.due(now).unwrap();
    let request = preflight.ask(subject, &settings(&[]));
    (request.path, preflight.hear(subject, Ok(reply), now))
}

const USUAL: &str = "/crm/properties/2026-09/contacts";
const SENSITIVE: &str = "/crm/properties/2026-09/contacts?dataSensitivity=sensitive";
const HIGHLY: &str = "/crm/properties/2026-09/contacts?dataSensitivity=highly_sensitive";

#[test]
fn what_is_missing_is_looked_for_among_sensitive_properties() {
    let found = || listing(&["score", "ssn"]);
    let refused = || reply(403, r#"{"status":"error","category":"MISSING_SCOPES"}"#);
    let scope = |list: &str| format!("the scope crm.objects.contacts.{list}.read.v2");
    let or = format!(
        "{} or crm.objects.contacts.highly_sensitive.read.v2",
        scope("sensitive")
    );
    // The lists in turn after the usual one, which has no score, and what is said of that.
    let cases: [(Vec<Reply>, Option<String>); 9] = [
        (vec![found()], None),
        (vec![reply_with_none(), found()], None),
        (vec![refused(), found()], None),
        (vec![refused(), reply_with_none()], Some(scope("sensitive"))),
        (
            vec![reply_with_none(), refused()],
            Some(scope("highly_sensitive")),
        ),
        (vec![refused(), refused()], Some(or)),
        (
            vec![reply_with_none(), reply_with_none()],
            Some("does not exist".to_owned()),
        ),
        (
            vec![reply(400, "{}"), reply(404, "{}")],
            Some("does not exist".to_owned()),
        ),
        (vec![refused(), reply(400, "{}")], Some(scope("sensitive"))),
    ];
    for (lists, told) in cases {
        let mut preflight = Preflight::default();
        preflight.expect([&map(CONTACT)].into_iter());
        let usual = turn(&mut preflight, &listing(&ALL[..3]), 0);
        assert_eq!(usual, (USUAL.to_owned(), LookupResult::Nothing));
        for (path, reply) in [SENSITIVE, HIGHLY].into_iter().zip(&lists) {
            assert!(!preflight.is_known(), "{lists:?}");
            assert_eq!(turn(&mut preflight, reply, 0).0, path, "{lists:?}");
        }
        assert!(preflight.is_known(), "{lists:?}");
        assert_eq!(preflight.refusals(), [""; 0], "{lists:?}");
        let (refined, dropped) = preflight.catalog.refine(&map(CONTACT), &settings(&[]));
        let said: Vec<String> = dropped.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), usize::from(told.is_some()), "{said:?}");
        assert!(
            said.iter()
                .zip(&told)
                .all(|(said, told)| said.contains(told)
                    && said.contains("does not exist")
                    && told.contains("scope") == said.contains("scope")),
            "{said:?}: {told:?}"
        );
        let kept = refined.fields.iter().any(|field| field.remote == "score");
        assert_eq!(kept, told.is_none(), "{lists:?}");
        // Somebody may grant the scope, or create the property.
        assert_eq!(preflight.due(61 * SECOND).is_some(), told.is_some());
    }
}

#[test]
fn failing_list_of_sensitive_properties_leaves_what_was_known() {
    let mut preflight = informed();
    preflight.doubt(CONTACT, 0);
    let before = preflight.catalog.clone();
    turn(&mut preflight, &listing(&ALL[..3]), 0);
    let (path, heard) = turn(&mut preflight, &reply(500, "oops"), 0);
    assert_eq!((path.as_str(), heard), (SENSITIVE, LookupResult::News));
    assert_eq!(preflight.catalog, before);
    assert_eq!(preflight.refusals().len(), 1);
    // Asked again, it begins with the usual list; so it does after a refusal that is for later.
    assert_eq!(
        turn(&mut preflight, &listing(&ALL[..3]), 61 * SECOND).0,
        USUAL
    );
    let (path, heard) = turn(&mut preflight, &reply(429, "{}"), 61 * SECOND);
    assert_eq!((path.as_str(), heard), (SENSITIVE, LookupResult::Later));
    assert_eq!(turn(&mut preflight, &listing(&ALL), 62 * SECOND).0, USUAL);
    assert!(preflight.is_known());
}

#[test]
fn nothing_is_asked_for_twice_without_a_reason() {
    let mut preflight = informed();
    preflight.expect([&map(CONTACT)].into_iter());
    preflight.recheck();
    assert_eq!(preflight.due(u64::MAX), None);
}

#[test]
fn doubt_has_definitions_read_again_unless_that_was_just_in_vain() {
    let mut preflight = informed();
    assert!(preflight.doubt(CONTACT, 1));
    assert!(!preflight.is_known());
    assert!(preflight.doubt(CONTACT, 1), "while it is being read");
    assert_eq!(
        answered(&mut preflight, &listing(&ALL), 2),
        LookupResult::Nothing
    );
    assert!(!preflight.doubt(CONTACT, 3));
    assert!(!preflight.doubt(DEAL, 3), "nothing is known of them");
    assert!(preflight.doubt(CONTACT, 6 * SECOND));
    // It was well founded: the next doubt may be, too.
    assert_eq!(
        answered(&mut preflight, &listing(&ALL[..3]), 6 * SECOND),
        LookupResult::News
    );
    assert!(preflight.doubt(CONTACT, 6 * SECOND));
}

#[test]
fn what_is_missing_is_looked_for_again_while_there_is_work() {
    let mut preflight = informed();
    preflight.doubt(CONTACT, 0);
    answered(&mut preflight, &listing(&ALL[..3]), 0);
    assert_eq!(preflight.due(59 * SECOND), None);
    assert_eq!(preflight.due(61 * SECOND), Some(CONTACTS));
    preflight.recheck();
    assert_eq!(preflight.due(0), Some(CONTACTS));
    assert_eq!(
        answered(&mut preflight, &listing(&ALL), 0),
        LookupResult::News
    );
    assert_eq!(preflight.due(u64::MAX), None);
}

#[test]
fn what_may_not_be_read_is_gone_without() {
    let scopes = r#"{"status":"error","message":"not granted","category":"MISSING_SCOPES"}"#;
    for refusal in [
        reply(403, scopes),
        reply(404, "{}"),
        reply(500, "oops"),
        reply(200, "<html>"),
    ] {
        let mut preflight = informed();
        preflight.doubt(CONTACT, 0);
        assert_eq!(
            answered(&mut preflight, &refusal, 0),
            LookupResult::News,
            "{refusal:?}"
        );
        assert!(preflight.is_known(), "{refusal:?}");
        assert_eq!(preflight.refusals().len(), 1);
        // What was read before is still true as far as anybody knows.
        assert!(preflight.catalog.objects.contains_key(&CONTACT));
        assert!(!preflight.doubt(CONTACT, SECOND));
        assert_eq!(preflight.due(61 * SECOND), Some(CONTACTS));
        assert_eq!(
            answered(&mut preflight, &listing(&ALL), 61 * SECOND),
            LookupResult::News
        );
        assert_eq!(preflight.refusals(), [""; 0]);
    }
    for later in [reply(429, "{}"), reply(401, "{}"), reply(423, "{}")] {
        let mut preflight = informed();
        preflight.doubt(CONTACT, 0);
        assert_eq!(
            answered(&mut preflight, &later, 0),
            LookupResult::Later,
            "{later:?}"
        );
        assert_eq!(preflight.due(0), Some(CONTACTS));
    }
}

#[test]
fn other_names_make_what_was_read_worthless() {
    let mut preflight = informed();
    let mut more = map(CONTACT);
    more.fields
        .push(field(5, "city", ValueKind::Text, Direction::Both));
    preflight.expect([&more].into_iter());
    assert_eq!(preflight.due(0), Some(CONTACTS));
    assert!(preflight.catalog.objects.is_empty());
    // An answer to a question that was put before is not an answer to this one.
    assert_eq!(
        preflight.hear(CONTACTS, Ok(&listing(&ALL)), 0),
        LookupResult::Nothing
    );
    assert!(!preflight.is_known());
}

#[test]
fn owners_are_read_page_by_page_and_only_where_they_are_mapped() {
    let mut deals = map(DEAL);
    deals.fields.push(field(
        5,
        "hubspot_owner_id",
        ValueKind::Text,
        Direction::Both,
    ));
    deals
        .fields
        .push(field(6, "dealstage", ValueKind::Text, Direction::Both));
    let mut preflight = Preflight::default();
    preflight.expect([&deals].into_iter());
    let mut paths = Vec::new();
    while let Some(subject) = preflight.due(0) {
        let path = preflight.ask(subject, &settings(&[])).path;
        let body = match (subject, path.contains("after")) {
            (Subject::Properties(_), _) => {
                listing(&[&ALL[..], &["hubspot_owner_id", "dealstage"]].concat())
            }
            (Subject::Owners, false) => reply(
                200,
                r#"{"results":[{"id":"1","email":"a@example.com"}],"paging":{"next":{"after":"1/x"}}}"#,
            ),
            (Subject::Owners, true) => {
                reply(200, r#"{"results":[{"id":"2","email":"b@example.com"}]}"#)
            }
            (Subject::Schema(_) | Subject::Pipelines(_), _) => reply(200, r#"{"results":[]}"#),
        };
        preflight.hear(subject, Ok(&body), 0);
        paths.push(path);
    }
    assert_eq!(
        paths,
        [
            "/crm/properties/2026-09/deals",
            "/crm/owners/2026-09?limit=100",
            "/crm/owners/2026-09?limit=100&after=1%2Fx",
            "/crm/pipelines/2026-09/deals",
        ]
    );
    assert_eq!(preflight.catalog.owners.as_ref().unwrap().0.len(), 2);
}
