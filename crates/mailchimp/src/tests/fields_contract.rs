//! Every request about merge fields, tags, interests and permissions is one that Mailchimp's
//! official client could make: paths, parameters and bodies are compared with the facts about it,
//! where those are at hand.

use super::*;
use crate::{preflight::Preflight, provision::Provision};
use integration_engine::record::field_type::{FieldType, MergeType, NamedInterest};

fn full_map() -> SourceMap {
    let mut map = map();
    let named: std::sync::Arc<[NamedInterest]> = [NamedInterest {
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
        field.remote_type = FieldType::Merge(merge);
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
        work(
            full_row(ada, "{a}"),
            link(
                Some(&subscriber_hash(ada)),
                ada,
                Some(MemberStatus::Archived),
                &[],
            ),
        ),
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
            specs::check(&call.request);
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
        specs::check(&request);
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
        specs::check(&request);
        provision.hear(Ok(&reply(200, "{}")));
        created += 1;
    }
    assert_eq!(created, 7);
}
