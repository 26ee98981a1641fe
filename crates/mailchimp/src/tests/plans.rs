use super::*;
use crate::intents::to_note;
use integration_engine::consent::membership::Membership;

const IN: [Option<&str>; 5] = [
    Some("Ada@Example.com"),
    Some("t"),
    Some("Ada"),
    Some("1.50"),
    Some("{vip,crm}"),
];

fn plan(work: &Work) -> Decision {
    decide(work, 3, &map(), &settings())
}

fn sent(decision: Decision) -> (MailchimpCall, Item) {
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

fn bulk() -> MailchimpCall {
    MailchimpCall::Bulk { list: "a1".into() }
}

fn patch(address: &str) -> MailchimpCall {
    MailchimpCall::Patch {
        list: "a1".into(),
        hash: subscriber_hash(address),
    }
}

fn contact() -> MailchimpCall {
    MailchimpCall::Patch {
        list: "a1".into(),
        hash: "c".into(),
    }
}

const ADA: &str = "ada@example.com";
const SUBSCRIBED: Option<MemberStatus> = Some(MemberStatus::Subscribed);

/// What is noted of somebody new says nothing but that they may be there, which is why it fits in
/// a row that a whole call shares; of somebody known there is more to be kept.
#[test]
fn of_somebody_new_it_is_noted_under_which_address_and_where_they_may_be() {
    let mut without_tags = IN;
    without_tags[4] = None;
    let (kind, item) = sent(plan(&work(row(without_tags), None)));
    let noted = to_note(None, &item, &kind).unwrap();
    let to_be = Link::to_be(Some(ADA.to_owned()), Some("a1".to_owned()));
    assert!(noted.is_to_be() && noted == to_be);

    let left = Link {
        membership: Membership {
            former: vec!["a2".to_owned()],
            ..Membership::default()
        },
        ..Link::default()
    };
    let noted = to_note(Some(&left), &item, &kind).unwrap();
    assert!(!noted.is_to_be());
}

#[test]
fn a_new_opt_in_travels_in_bulk_and_never_forces_a_status() {
    let (kind, item) = sent(plan(&work(row(IN), None)));
    assert_eq!(kind, bulk());
    assert_eq!(
        item.fragment,
        r#"{"email_address":"ada@example.com","status_if_new":"subscribed","merge_fields":{"FNAME":"Ada","SCORE":1.5},"tags":["vip","crm"]}"#
    );
    assert_eq!(
        (item.name.as_str(), item.intent, item.member_status),
        (ADA, true, SUBSCRIBED)
    );
    assert_eq!(
        item.ticks
            .iter()
            .map(|tick| tick.field.0)
            .collect::<Vec<_>>(),
        [1, 3, 4, 5]
    );

    let double = MailchimpSettings {
        double_opt_in: true,
        ..settings()
    };
    let (_, item) = sent(decide(&work(row(IN), None), 0, &map(), &double));
    assert!(item.fragment.contains(r#""status_if_new":"pending""#));
    let bare = row([Some(ADA), Some("t"), None, None, None]);
    let (_, item) = sent(plan(&work(bare, None)));
    assert_eq!(
        item.fragment,
        r#"{"email_address":"ada@example.com","status_if_new":"subscribed"}"#
    );
}

#[test]
fn without_consent_nothing_leaves() {
    for status in [Some("f"), None, Some("pending")] {
        let mut texts = IN;
        texts[1] = status;
        assert_eq!(settled(plan(&work(row(texts), None))), Verdict::NoConsent);
    }
    let mut unmapped = map();
    unmapped.fields.remove(1);
    let texts = Some(vec![Some(ADA.to_owned()), None, None, None]);
    let known = link(Some("c"), ADA, SUBSCRIBED, &[]);
    let decision = decide(&work(texts, known), 0, &unmapped, &settings());
    assert_eq!(
        settled(decision),
        Verdict::NoConsent,
        "unmapping the column unsubscribes nobody"
    );
}

#[test]
fn an_opt_in_needs_an_address() {
    for address in [None, Some(" "), Some("ada@nowhere")] {
        let mut texts = IN;
        texts[0] = address;
        let verdict = settled(plan(&work(row(texts), None)));
        assert!(
            matches!(
                verdict,
                Verdict::Dead {
                    category: Category::Unmappable,
                    ..
                }
            ),
            "{verdict:?}"
        );
    }
    let contested = Work {
        rival: Some("18".into()),
        ..work(row(IN), None)
    };
    let verdict = settled(plan(&contested));
    assert!(
        matches!(
            verdict,
            Verdict::Dead {
                category: Category::Conflict,
                ..
            }
        ),
        "{verdict:?}"
    );
}

#[test]
fn members_get_what_changed() {
    let agreed = [(1, ADA), (3, "Ada"), (4, "1.5"), (5, r#"["crm","vip"]"#)];
    let known = link(Some("c"), ADA, SUBSCRIBED, &agreed);
    assert_eq!(
        settled(plan(&work(row(IN), known.clone()))),
        Verdict::Unchanged
    );
    let changed = row([Some(ADA), Some("t"), None, Some("2"), Some("{vip,crm}")]);
    let (kind, item) = sent(plan(&work(changed, known)));
    assert_eq!(kind, bulk());
    assert_eq!(
        item.fragment,
        r#"{"email_address":"ada@example.com","status_if_new":"transactional","merge_fields":{"FNAME":"","SCORE":2}}"#,
        "whom it does not find gets no mail"
    );
    assert_eq!((item.intent, item.member_status), (false, None));
    let pending = link(Some("c"), ADA, Some(MemberStatus::Pending), &[]);
    let (_, item) = sent(plan(&work(row(IN), pending)));
    assert!(
        item.fragment.contains(r#""status_if_new":"transactional""#),
        "{}",
        item.fragment
    );
}

#[test]
fn opting_out_reaches_known_and_uncertain_members() {
    let out = row([Some(ADA), Some("f"), Some("Ada"), None, None]);
    let known = link(Some("c"), ADA, SUBSCRIBED, &[]);
    let (kind, item) = sent(plan(&work(out.clone(), known)));
    assert_eq!(kind, bulk());
    assert_eq!(
        item.fragment,
        r#"{"email_address":"ada@example.com","status":"unsubscribed","status_if_new":"transactional"}"#
    );
    assert_eq!(item.member_status, Some(MemberStatus::UnsubscribedByCrm));

    let (kind, item) = sent(plan(&work(out.clone(), link(None, ADA, None, &[]))));
    assert_eq!(
        (kind, item.fragment.as_str()),
        (patch(ADA), r#"{"status":"unsubscribed"}"#)
    );
    // The address left the CRM together with the consent.
    let nobody = row([None, Some("f"), None, None, None]);
    let (_, item) = sent(plan(&work(nobody, link(Some("c"), ADA, SUBSCRIBED, &[]))));
    assert_eq!(item.name, ADA);
    let done = link(Some("c"), ADA, Some(MemberStatus::UnsubscribedByCrm), &[]);
    assert_eq!(settled(plan(&work(out.clone(), done))), Verdict::NoConsent);
    // A new address with the opt-out: it is the old one that gets mail.
    let moved = link(Some("c"), "old@example.com", SUBSCRIBED, &[]);
    let (kind, item) = sent(plan(&work(out, moved)));
    assert_eq!((kind, item.name.as_str()), (contact(), "old@example.com"));
    let moved = link(
        Some(&subscriber_hash("old@example.com")),
        "old@example.com",
        SUBSCRIBED,
        &[],
    );
    let (kind, _) = sent(plan(&work(
        row([Some(ADA), Some("f"), None, None, None]),
        moved,
    )));
    assert_eq!(kind, patch("old@example.com"));
}

#[test]
fn a_new_address_travels_under_the_known_name() {
    let agreed = [
        (1, "old@example.com"),
        (3, "Ada"),
        (4, "1.5"),
        (5, r#"["crm","vip"]"#),
    ];
    let known = link(Some("c"), "old@example.com", SUBSCRIBED, &agreed);
    let (kind, item) = sent(plan(&work(row(IN), known.clone())));
    assert_eq!(kind, contact());
    assert_eq!(item.fragment, r#"{"email_address":"ada@example.com"}"#);
    assert_eq!(item.remote_key.as_deref(), Some(ADA));
    // Looked for under the new address: a bulk call would create whom it does not find.
    let moved = known.map(|link| Link {
        remote_id: Some(subscriber_hash(ADA).as_str().into()),
        ..link
    });
    let (kind, item) = sent(plan(&work(row(IN), moved)));
    let by_address = MailchimpCall::Patch {
        list: "a1".into(),
        hash: subscriber_hash(ADA),
    };
    assert_eq!((kind, item.name.as_str()), (by_address, ADA));
}

#[test]
fn what_may_have_been_created_under_an_old_address_is_looked_at_and_archived() {
    let uncertain = link(None, "old@example.com", None, &[]);
    let (kind, item) = sent(plan(&work(row(IN), uncertain.clone())));
    let leaving = Leaving::Elsewhere;
    assert!(matches!(kind, MailchimpCall::Look { leaving: seen, .. } if seen == leaving));
    assert_eq!(item.remote_key.as_deref(), Some("old@example.com"));
    let erasing = MailchimpSettings {
        on_delete: OnDelete::Permanent,
        ..settings()
    };
    let seen = uncertain.map(|link| link.leave(false));
    let send = sent(decide(&work(row(IN), seen), 0, &map(), &erasing));
    let call = assemble(vec![send], &erasing).remove(0);
    let method = call.request.method.name();
    assert_eq!(method, "DELETE", "archived, never erased");
}

#[test]
fn opting_in_anew_sets_the_status_alone() {
    let out = link(Some("c"), ADA, Some(MemberStatus::UnsubscribedByCrm), &[]);
    let (kind, item) = sent(plan(&work(row(IN), out)));
    let by_id = MailchimpCall::Patch {
        list: "a1".into(),
        hash: "c".into(),
    };
    assert_eq!((kind, item.intent), (by_id, true));
    let body: serde_json::Value = serde_json::from_str(&item.fragment).unwrap();
    assert_eq!(body["status"], "subscribed");
    assert_eq!(body["email_address"], serde_json::Value::Null, "as it is");
    let hash = subscriber_hash(ADA);
    let no_id = Some(MemberStatus::UnsubscribedByCrm);
    let no_id = link(Some(&hash), ADA, no_id, &[]);
    let (kind, item) = sent(plan(&work(row(IN), no_id)));
    let list = "a1".into();
    assert_eq!(kind, MailchimpCall::Put { list, hash });
    assert!(
        item.fragment
            .contains(r#""status":"subscribed","status_if_new":"transactional""#)
    );
    let left = link(
        Some("c"),
        ADA,
        Some(MemberStatus::UnsubscribedByMember),
        &[],
    );
    let verdict = settled(plan(&work(row(IN), left)));
    assert!(matches!(
        verdict,
        Verdict::Dead {
            category: Category::Consent,
            member_status: Some(MemberStatus::UnsubscribedByMember),
            ..
        }
    ));
    let bounced = link(
        Some("c"),
        "old@example.com",
        Some(MemberStatus::Cleaned),
        &[],
    );
    // They may have come back there, and left by themselves since.
    let (kind, _) = sent(plan(&work(row(IN), bounced)));
    let leaving = Leaving::Bounced;
    assert!(matches!(kind, MailchimpCall::Look { leaving: seen, .. } if seen == leaving));
}

#[test]
fn a_gone_row_is_archived_erased_or_left() {
    // It has been looked at.
    let known = link(Some("c"), ADA, SUBSCRIBED, &[]).map(|link| link.leave(false));
    let hash = subscriber_hash(ADA);
    let cases = [
        (
            OnDelete::Archive,
            // The id stays, whatever has become of the address.
            Some(("DELETE", "/lists/a1/members/c".to_owned())),
        ),
        (
            OnDelete::Permanent,
            Some((
                "POST",
                format!("/lists/a1/members/{hash}/actions/delete-permanent"),
            )),
        ),
        (OnDelete::Ignore, None),
    ];
    for (on_delete, expected) in cases {
        let settings = MailchimpSettings {
            on_delete,
            ..settings()
        };
        let decision = decide(&work(None, known.clone()), 0, &map(), &settings);
        match expected {
            None => assert_eq!(settled(decision), Verdict::Removed),
            Some((method, path)) => {
                let call = assemble(vec![sent(decision)], &settings).remove(0);
                assert_eq!(
                    (call.request.method.name(), call.request.path),
                    (method, path)
                );
                assert_eq!(call.request.body, None);
            }
        }
    }
    assert_eq!(settled(plan(&work(None, None))), Verdict::Removed);
}

#[test]
fn bulk_calls_are_filled_and_name_nobody_twice() {
    let send = |at: usize| {
        let address = format!("p{}@example.com", at % 1_200);
        let (kind, item) = sent(plan(&work(
            row([Some(&address), Some("t"), None, None, None]),
            None,
        )));
        (kind, item)
    };
    let calls = assemble((0..1_201).map(send).collect(), &settings());
    assert_eq!(
        calls
            .iter()
            .map(|call| call.items.len())
            .collect::<Vec<_>>(),
        [500, 500, 201]
    );
    assert_eq!(calls[0].request.path, "/lists/a1");
    let body: serde_json::Value =
        serde_json::from_slice(calls[0].request.body.as_deref().unwrap()).unwrap();
    assert_eq!(body["update_existing"], true);
    assert_eq!(body["members"].as_array().map(Vec::len), Some(500));
}

proptest::proptest! {
    /// Whatever is known of the member, and whatever the row says.
    #[test]
    fn nobody_is_opted_in_while_another_row_with_the_address_is_opted_out(
        status in proptest::option::of(proptest::sample::select(vec![
            SUBSCRIBED, Some(MemberStatus::Pending), Some(MemberStatus::UnsubscribedByCrm),
            Some(MemberStatus::UnsubscribedByMember), Some(MemberStatus::Archived), None,
        ])),
        said in proptest::option::of(proptest::bool::ANY),
        moved in proptest::bool::ANY,
        double_opt_in in proptest::bool::ANY,
    ) {
        let old = if moved { "old@example.com" } else { ADA };
        let known = status.and_then(|status| link(Some("c"), old, status, &[]));
        let said = said.map(|said| if said { "t" } else { "f" });
        let objected = Work {
            objection: Some("2".into()),
            ..work(row([Some(ADA), said, Some("Ada"), None, None]), known.clone())
        };
        let asking = MailchimpSettings { double_opt_in, ..settings() };
        match decide(&objected, 0, &map(), &asking) {
            Decision::Send(_, item) => {
                let body: serde_json::Value = serde_json::from_str(&item.fragment).unwrap();
                proptest::prop_assert_eq!(&body["status"], "unsubscribed");
                proptest::prop_assert!(body["status_if_new"].is_null() || body["status_if_new"] == "transactional");
            }
            Decision::Settled(verdict) => {
                let told = matches!(verdict, Verdict::Dead { category: Category::Conflict, .. });
                proptest::prop_assert_eq!(told, said == Some("t"), "{:?}", verdict);
            }
        }
    }

    #[test]
    fn every_body_is_json(
        texts in proptest::array::uniform5(proptest::option::of(".*")),
        known in proptest::option::of(proptest::sample::select(vec![
            None, SUBSCRIBED, Some(MemberStatus::Pending), Some(MemberStatus::UnsubscribedByCrm),
        ])),
    ) {
        let mut texts = texts.to_vec();
        texts[0] = Some("ada@example.com".to_owned());
        texts[1] = Some("t".to_owned());
        let known = known.and_then(|status| link(Some("c"), "ada@example.com", status, &[]));
        if let Decision::Send(kind, item) = plan(&work(Some(texts), known)) {
            let calls = assemble(vec![(kind, item)], &settings());
            let body = calls[0].request.body.as_deref().unwrap();
            serde_json::from_slice::<serde_json::Value>(body).unwrap();
        }
    }
}
