//! Tags, interests and permissions: what is given, what is taken back, and that nothing of others is
//! touched.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::intents::to_note;

use integration_engine::{
    delivery::given::Given,
    record::field_type::{FieldType, MergeType, NamedInterest},
};

const ADA: &str = "ada@example.com";

/// email_address, status, FNAME, SCORE, tags, interests, marketing_permissions.
fn full_map() -> SourceMap {
    let mut map = map();
    let named = |prefix: &str| {
        ["One", "Two"]
            .map(|name| NamedInterest {
                id: format!("{prefix}{}", name.to_lowercase()),
                name: name.into(),
                category: String::new(),
            })
            .into()
    };
    for (id, remote, merge) in [
        (6, "interests", MergeType::Interests(Some(named("i")))),
        (
            7,
            "marketing_permissions",
            MergeType::Permissions(Some(named("p"))),
        ),
    ] {
        let mut field = map.fields[4].clone();
        (field.id, field.remote) = (FieldId(id), remote.into());
        field.remote_type = FieldType::Merge(merge);
        map.fields.push(field);
    }
    map
}

fn with(tags: &str, interests: &str, permissions: &str) -> Option<Vec<Option<String>>> {
    let mut texts = row([Some(ADA), Some("t"), Some("Ada"), None, Some(tags)]).unwrap();
    texts.extend([interests, permissions].map(|text| Some(text.to_owned())));
    Some(texts)
}

fn known(given: Given, tags: &str, interests: &str, permissions: &str) -> Option<Link> {
    let agreed: Vec<(i16, &str)> = [
        (1, ADA),
        (3, "Ada"),
        (5, tags),
        (6, interests),
        (7, permissions),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .collect();
    let mut link = link(Some("c"), ADA, Some(MemberStatus::Subscribed), &agreed).unwrap();
    link.membership.given = given;
    Some(link)
}

fn given(tags: &[&str], interests: &[&str], permissions: &[&str]) -> Given {
    let list = |all: &[&str]| all.iter().map(|each| (*each).to_owned()).collect();
    Given {
        tags: list(tags),
        interests: list(interests),
        permissions: list(permissions),
    }
}

fn sent(work: &Work) -> (MailchimpCall, Item) {
    match decide(work, 0, &full_map(), &settings()) {
        Decision::Send(kind, item) => (kind, item),
        Decision::Settled(verdict) => panic!("settled: {verdict:?}"),
    }
}

fn tags_call(hash: &str) -> MailchimpCall {
    MailchimpCall::Tags {
        list: "a1".into(),
        hash: hash.into(),
    }
}

#[test]
fn everything_is_given_to_a_new_member_in_as_few_calls_as_can_be() {
    let texts = with("{VIP,crm}", "{two}", "{One}");
    let (kind, item) = sent(&work(texts.clone(), None));
    assert_eq!(kind, MailchimpCall::Bulk { list: "a1".into() });
    assert!(
        item.fragment
            .ends_with(r#""tags":["VIP","crm"],"interests":{"itwo":true}}"#),
        "{}",
        item.fragment
    );
    assert_eq!(
        item.beside.given,
        Some(given(&["VIP", "crm"], &["itwo"], &[]))
    );
    assert!(item.beside.more, "permissions are no field of bulk calls");
    // Before it leaves, it is known what the member may have of us.
    let noted = to_note(None, &item, &kind).unwrap();
    assert_eq!(Some(&noted.membership.given), item.beside.given.as_ref());
    assert!(!noted.is_to_be());

    let then = known(
        given(&["VIP", "crm"], &["itwo"], &[]),
        r#"["crm","vip"]"#,
        r#"["itwo"]"#,
        "",
    );
    let (kind, item) = sent(&work(texts.clone(), then));
    assert!(
        matches!(kind, MailchimpCall::Patch { ref hash, .. } if hash == "c"),
        "{kind:?}"
    );
    assert_eq!(
        item.fragment,
        r#"{"marketing_permissions":[{"enabled":true,"marketing_permission_id":"pone"}]}"#
    );
    assert!(!item.beside.more);

    let then = known(
        given(&["VIP", "crm"], &["itwo"], &["pone"]),
        r#"["crm","vip"]"#,
        r#"["itwo"]"#,
        r#"["pone"]"#,
    );
    let decision = decide(&work(texts, then), 0, &full_map(), &settings());
    assert_eq!(decision, Decision::Settled(Verdict::Unchanged));
}

#[test]
fn only_tags_of_ours_are_taken_back() {
    let ours = || given(&["VIP", "crm"], &[], &[]);
    let agreed = r#"["crm","vip"]"#;
    let hash = subscriber_hash(ADA);
    let (kind, item) = sent(&work(
        with("{vip}", "{}", "{}"),
        known(ours(), agreed, "", ""),
    ));
    assert_eq!(kind, tags_call(&hash));
    assert_eq!(
        item.fragment,
        r#"{"tags":[{"name":"vip","status":"active"},{"name":"crm","status":"inactive"}]}"#
    );
    assert_eq!(item.beside.given, Some(given(&["vip"], &[], &[])));
    // Until the answer is in, it is not certain which tags the member has.
    let noted = to_note(known(ours(), agreed, "", "").as_ref(), &item, &kind).unwrap();
    assert_eq!(noted.membership.given, ours());
    let tick = noted.clock.get(FieldId(5)).unwrap();
    assert_eq!(tick.hash, ValueHash::UNCERTAIN);

    // A cleared column takes back all of them; a backfill sets off no automation.
    let cleared = Work {
        syncing: true,
        ..work(with("{}", "{}", "{}"), known(ours(), agreed, "", ""))
    };
    let (_, item) = sent(&cleared);
    assert_eq!(
        item.fragment,
        r#"{"is_syncing":true,"tags":[{"name":"VIP","status":"inactive"},{"name":"crm","status":"inactive"}]}"#
    );
    // What we never gave stays.
    let decision = decide(
        &work(
            with("{}", "{}", "{}"),
            known(given(&[], &[], &[]), "", "", ""),
        ),
        0,
        &full_map(),
        &settings(),
    );
    assert_eq!(decision, Decision::Settled(Verdict::Unchanged));
    // Other fields go first, with tags that are new beside those that are taken back left for later.
    let mut texts = with("{new}", "{}", "{}").unwrap();
    texts[2] = Some("Eda".into());
    let (kind, item) = sent(&work(Some(texts), known(ours(), agreed, "", "")));
    assert_eq!(kind, MailchimpCall::Bulk { list: "a1".into() });
    assert!(
        !item.fragment.contains("tags") && item.beside.more,
        "{}",
        item.fragment
    );
}

#[test]
fn tags_follow_a_change_of_address() {
    let mut texts = with("{VIP,new}", "{}", "{}").unwrap();
    texts[0] = Some("eda@example.com".into());
    let ours = known(given(&["VIP"], &[], &[]), r#"["vip"]"#, "", "");
    let (kind, item) = sent(&work(Some(texts.clone()), ours));
    assert!(matches!(kind, MailchimpCall::Patch { .. }));
    assert!(!item.fragment.contains("tags") && item.beside.more);
    // The address is the new one by then, and they go along in bulk.
    let mut link = known(given(&["VIP"], &[], &[]), r#"["vip"]"#, "", "").unwrap();
    link.remote_key = Some("eda@example.com".into());
    let hash = ValueHash::of(Some("eda@example.com"));
    link.clock.set(Tick {
        field: FieldId(1),
        hash,
        at: Timestamp(1),
        by: Writer::Crm,
    });
    let (kind, item) = sent(&work(Some(texts.clone()), Some(link.clone())));
    assert_eq!(kind, MailchimpCall::Bulk { list: "a1".into() });
    assert!(
        item.fragment.ends_with(r#""tags":["VIP","new"]}"#),
        "{}",
        item.fragment
    );
    // What is new is stored before it leaves, and the status stays as certain as it was.
    let noted = to_note(Some(&link), &item, &kind).unwrap();
    assert_eq!(noted.membership.given, given(&["VIP", "new"], &[], &[]));
    assert_eq!(noted.member_status, link.member_status);
    // Alone, by the contact's id.
    let alone = Work {
        batch_cap: 1,
        ..work(Some(texts), Some(link))
    };
    let (kind, _) = sent(&alone);
    assert_eq!(kind, tags_call("c"));
}

#[test]
fn interests_of_ours_are_left_when_the_column_no_longer_names_them() {
    let ours = known(given(&[], &["ione"], &[]), "", r#"["ione"]"#, "");
    let (_, item) = sent(&work(with("{}", "{Two}", "{}"), ours));
    assert!(
        item.fragment
            .ends_with(r#""interests":{"itwo":true,"ione":false}}"#),
        "{}",
        item.fragment
    );
    assert_eq!(item.beside.given, Some(given(&[], &["itwo"], &[])));
    // Until the answer is in, the member may have either.
    let kind = MailchimpCall::Bulk { list: "a1".into() };
    let link = known(given(&[], &["ione"], &[]), "", "", "");
    let noted = to_note(link.as_ref(), &item, &kind).unwrap();
    assert_eq!(noted.membership.given, given(&[], &["ione", "itwo"], &[]));
    let verdict = decide(
        &work(with("{}", "{Three}", "{}"), None),
        0,
        &full_map(),
        &settings(),
    );
    let Decision::Settled(Verdict::Dead { category, why, .. }) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(category, Category::Definition);
    assert!(
        why.contains("which the audience does not have; it has: One, Two"),
        "{why}"
    );
}

#[test]
fn permissions_are_granted_and_withdrawn_as_the_column_says_and_only_to_members() {
    let ours = known(given(&[], &[], &["pone"]), "", "", r#"["pone"]"#);
    let (_, item) = sent(&work(with("{}", "{}", "{two}"), ours));
    assert_eq!(
        item.fragment,
        r#"{"marketing_permissions":[{"enabled":true,"marketing_permission_id":"ptwo"},{"enabled":false,"marketing_permission_id":"pone"}]}"#
    );
    // One that was given before may have been withdrawn there since: it is not given again.
    let ours = known(given(&[], &[], &["pone"]), "", "", r#"["pone"]"#);
    let (_, item) = sent(&work(with("{}", "{}", "{one,two}"), ours));
    let body = item.fragment;
    assert!(body.contains("ptwo") && !body.contains("pone"), "{body}");
    for out in ["f", ""] {
        let mut texts = with("{}", "{}", "{one}").unwrap();
        texts[1] = Some(out.into());
        match decide(&work(Some(texts), None), 0, &full_map(), &settings()) {
            Decision::Settled(verdict) => assert_eq!(verdict, Verdict::NoConsent),
            Decision::Send(_, item) => panic!("{}", item.fragment),
        }
    }
    // A name that is none ends in a letter, once the person is a member.
    let member = known(given(&[], &[], &[]), "", "", "");
    let verdict = decide(
        &work(with("{}", "{}", "{three}"), member),
        0,
        &full_map(),
        &settings(),
    );
    assert!(
        matches!(
            verdict,
            Decision::Settled(Verdict::Dead {
                category: Category::Definition,
                ..
            })
        ),
        "{verdict:?}"
    );
}

#[test]
fn who_is_not_found_with_tags_is_looked_for_under_other_names() {
    let ours = known(given(&["VIP"], &[], &[]), r#"["vip"]"#, "", "");
    let (kind, item) = sent(&work(with("{}", "{}", "{}"), ours));
    let ask = |kind: &MailchimpCall, item: &Item, status: u16| {
        let call = assemble(vec![(kind.clone(), item.clone())], &settings()).remove(0);
        assert_eq!(
            call.request.path,
            format!("/lists/a1/members/{}/tags", hash_in(kind))
        );
        read(&call, Ok(&reply(status, "")), &settings())
            .verdicts
            .remove(0)
    };
    let Verdict::Delivered {
        ticks,
        member_status,
        ..
    } = ask(&kind, &item, 204)
    else {
        panic!("not delivered");
    };
    assert_eq!((ticks.len(), member_status), (1, None));
    assert!(matches!(
        ask(&kind, &item, 404),
        Verdict::Again {
            relink: None,
            batch_cap: Some(1),
            ..
        }
    ));
    let by_id = tags_call("c");
    let adopted = Some(Relink::Adopt(RemoteId::from(subscriber_hash(ADA).as_str())));
    assert!(matches!(ask(&by_id, &item, 404), Verdict::Again { relink, .. } if relink == adopted));
}

fn hash_in(kind: &MailchimpCall) -> &str {
    match kind {
        MailchimpCall::Tags { hash, .. } => hash,
        other => panic!("{other:?}"),
    }
}

#[test]
fn leaving_is_never_refused_for_a_field() {
    let out = row([Some(ADA), Some("f"), None, None, None]);
    let gone = decide(
        &work(out, known(Given::default(), "", "", "")),
        0,
        &map(),
        &settings(),
    );
    let new = decide(
        &work(with("{}", "{}", "{}"), None),
        0,
        &full_map(),
        &settings(),
    );
    let sends = [new, gone].map(|decision| match decision {
        Decision::Send(kind, item) => (kind, item),
        Decision::Settled(verdict) => panic!("{verdict:?}"),
    });
    let calls = assemble(sends.into_iter().collect(), &settings());
    let paths: Vec<&str> = calls
        .iter()
        .map(|call| call.request.path.as_str())
        .collect();
    assert_eq!(paths, ["/lists/a1?skip_merge_validation=true", "/lists/a1"]);
}

#[test]
fn refused_merge_fields_are_named_with_what_to_do() {
    let (kind, item) = sent(&work(with("{}", "{}", "{}"), None));
    let call = assemble(vec![(kind, item)], &settings()).remove(0);
    let told = |status, body: &str| {
        let verdict = read(&call, Ok(&reply(status, body)), &settings())
            .verdicts
            .remove(0);
        match verdict {
            Verdict::Dead {
                category: Category::Definition,
                why,
                ..
            } => why,
            other => panic!("{other:?}"),
        }
    };
    let bulk = r#"{"errors":[{"email_address":"ada@example.com","error":"Your merge fields were invalid.","error_code":"ERROR_GENERIC","field":"RADIO","field_message":"Please enter a value"}]}"#;
    let single = r#"{"title":"Invalid Resource","detail":"Your merge fields were invalid.","errors":[{"field":"RADIO","message":"Please enter a value"}]}"#;
    for why in [told(200, bulk), told(400, single)] {
        assert!(
            why.starts_with(
                "Mailchimp refused merge field RADIO: Please enter a value (it is required"
            ),
            "{why}"
        );
    }
    let schema = r#"{"title":"Invalid Resource","detail":"…","errors":[{"field":"merge_fields.PHONE","message":"Please enter a valid phone number"}]}"#;
    let why = told(400, schema);
    assert!(
        why.contains("merge field PHONE: Please enter a valid phone number (correct the value"),
        "{why}"
    );
}

/// A member at the service, and what the database has stored of it.
struct Scene {
    link: Option<Link>,
    /// In lower case.
    tags: BTreeSet<String>,
    interests: BTreeSet<String>,
}

impl Scene {
    /// One call, if one is to be made; `answered`: the answer gets here. Whether there was one.
    fn call(&mut self, row: &Option<Vec<Option<String>>>, answered: bool) -> bool {
        let work = work(row.clone(), self.link.clone());
        let (kind, item) = match decide(&work, 0, &full_map(), &settings()) {
            Decision::Send(kind, item) => (kind, item),
            Decision::Settled(Verdict::Unchanged) => return false,
            Decision::Settled(verdict) => panic!("{verdict:?}"),
        };
        if let Some(noted) = to_note(self.link.as_ref(), &item, &kind) {
            self.link = Some(noted);
        }
        self.apply(&kind, &item.fragment);
        if !answered {
            return true;
        }
        let mut link = self.link.take().unwrap_or_default();
        link.remote_id.get_or_insert_with(|| RemoteId::from("c"));
        link.remote_key = item.remote_key.clone();
        link.member_status = Some(MemberStatus::Subscribed);
        for tick in &item.ticks {
            link.clock.set(*tick);
        }
        if let Some(given) = item.beside.given {
            link.membership.given = given;
        }
        self.link = Some(link);
        true
    }

    fn apply(&mut self, kind: &MailchimpCall, body: &str) {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_lowercase();
        let tags = body["tags"].as_array();
        for tag in tags.into_iter().flatten() {
            match kind {
                MailchimpCall::Tags { .. } if tag["status"] == "inactive" => {
                    self.tags.remove(&text(&tag["name"]));
                }
                MailchimpCall::Tags { .. } => {
                    self.tags.insert(text(&tag["name"]));
                }
                // Mailchimp: not certain of PUT, and not taken by PATCH.
                MailchimpCall::Bulk { .. } => {
                    self.tags.insert(text(tag));
                }
                _ => panic!("tags in {kind:?}"),
            }
        }
        let interests = body["interests"].as_object();
        for (id, joined) in interests.into_iter().flatten() {
            match joined.as_bool().unwrap() {
                true => self.interests.insert(id.clone()),
                false => self.interests.remove(id),
            };
        }
    }
}

proptest! {
    // Whatever is edited, lost and begun anew: in the end the member has what the columns name and
    // what others gave them, and nothing else.
    #[test]
    fn lists_end_as_the_columns_say_and_others_are_left_alone(
        edits in prop::collection::vec(
            (
                prop::collection::btree_set(prop::sample::select(vec!["VIP", "vip", "crm", "New"]), 0..3),
                prop::collection::btree_set(prop::sample::select(vec!["one", "Two"]), 0..2),
                prop::sample::select(vec!["Ada", "Eda"]),
                prop::collection::vec(any::<bool>(), 0..4),
            ),
            1..6,
        ),
    ) {
        let mut scene = Scene {
            link: None,
            tags: BTreeSet::from(["theirs".to_owned()]),
            interests: BTreeSet::from(["itheirs".to_owned()]),
        };
        let mut row = None;
        for (tags, interests, name, calls) in &edits {
            let list = |all: &BTreeSet<&str>| {
                let all: Vec<&str> = all.iter().copied().collect();
                format!("{{{}}}", all.join(","))
            };
            let mut texts = with(&list(tags), &list(interests), "{}").unwrap();
            texts[2] = Some((*name).into());
            row = Some(texts);
            for answered in calls {
                scene.call(&row, *answered);
            }
        }
        let most = 8;
        let calls = (0..most).take_while(|_| scene.call(&row, true)).count();
        prop_assert!(calls < most, "it comes to an end");
        let (tags, interests, ..) = edits.last().unwrap();
        let mut expected: BTreeSet<String> = tags.iter().map(|tag| tag.to_lowercase()).collect();
        expected.insert("theirs".into());
        prop_assert_eq!(&scene.tags, &expected);
        let mut expected: BTreeSet<String> =
            interests.iter().map(|name| format!("i{}", name.to_lowercase())).collect();
        expected.insert("itheirs".into());
        prop_assert_eq!(&scene.interests, &expected);
    }
}
