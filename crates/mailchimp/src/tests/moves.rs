use super::*;
use integration_engine::consent::membership::Membership;

fn several() -> MailchimpSettings {
    MailchimpSettings {
        several: true,
        ..settings()
    }
}

/// email_address, status and so on, and list_id.
fn with_audience() -> SourceMap {
    let mut map = map();
    let mut field = map.fields[2].clone();
    (field.id, field.remote) = (FieldId(6), "list_id".to_owned());
    map.fields.push(field);
    map
}

fn named(list: Option<&str>) -> Option<Vec<Option<String>>> {
    let mut row = row([Some("ada@example.com"), Some("t"), Some("Ada"), None, None]);
    row.iter_mut()
        .for_each(|row| row.push(list.map(str::to_owned)));
    row
}

fn in_list(list: Option<&str>, leaving: bool, former: &[&str], ask: bool) -> Link {
    let membership = Membership {
        list: list.map(str::to_owned),
        leaving,
        former: former.iter().map(|list| (*list).to_owned()).collect(),
        ask,
        given: Default::default(),
        stray: None,
    };
    let known = link(
        Some("c1"),
        "ada@example.com",
        Some(MemberStatus::Subscribed),
        &[],
    );
    let link = Link {
        membership,
        ..known.unwrap_or_default()
    };
    match list {
        Some(_) => link,
        None => Link {
            remote_id: None,
            member_status: None,
            ..link
        },
    }
}

/// Method, path and body of what is sent.
fn sent(work: &Work, settings: &MailchimpSettings) -> String {
    match decide(work, 0, &with_audience(), settings) {
        Decision::Settled(verdict) => format!("{verdict:?}"),
        Decision::Send(kind, item) => {
            let intent = if item.intent { "! " } else { "" };
            let request = assemble(vec![(kind, item)], settings).remove(0).request;
            let body = request.body.unwrap_or_default();
            let body = String::from_utf8(body).unwrap_or_default();
            let path = request.path.split('?').next().unwrap_or_default();
            format!("{intent}{} {path} {body}", request.method.name())
        }
    }
}

#[test]
fn each_step_of_a_move_follows_from_the_link() {
    let by_id = |method: &str, list: &str| format!("{method} /lists/{list}/members/c1 ");
    let a1 = |leaving| Some(in_list(Some("a1"), leaving, &[], false));
    let cases = [
        // A new record: NULL, blanks and an id.
        (None, None, true, "! POST /lists/a1 ".to_owned()),
        (Some(" "), None, true, "! POST /lists/a1 ".to_owned()),
        (Some(" b2 "), None, false, "! POST /lists/b2 ".to_owned()),
        // It is where it belongs.
        (Some("a1"), a1(false), true, "POST /lists/a1 ".to_owned()),
        // It moves: is there such an audience, how is the member, archive.
        (Some("b2"), a1(false), false, "GET /lists/b2 ".to_owned()),
        (Some("b2"), a1(false), true, by_id("GET", "a1")),
        (
            Some("b2"),
            a1(true),
            true,
            format!("! {}", by_id("DELETE", "a1")),
        ),
        // The row changed its mind on the way.
        (
            Some("a1"),
            a1(true),
            true,
            format!("! {}", by_id("DELETE", "a1")),
        ),
        // In none; in the next one, answer unknown.
        (
            Some("b2"),
            Some(in_list(None, false, &["a1"], false)),
            true,
            "! POST /lists/b2 ".to_owned(),
        ),
        (
            Some("b2"),
            Some(in_list(Some("b2"), false, &["a1"], false)),
            true,
            "POST /lists/b2 ".to_owned(),
        ),
        // The first one again: it was we who archived them.
        (
            None,
            Some(Link {
                member_status: None,
                ..in_list(Some("a1"), false, &["a1"], false)
            }),
            true,
            format!("! {}", by_id("PATCH", "a1")),
        ),
    ];
    for (list, link, met, expected) in cases {
        let work = Work {
            gives_way: false,
            audience_met: met,
            ..work(named(list), link.clone())
        };
        let sent = sent(&work, &several());
        assert!(sent.starts_with(&expected), "{list:?} {link:?}: {sent}");
    }
}

#[test]
fn who_is_to_be_asked_is_asked_where_they_arrive() {
    for (ask, status) in [(false, "subscribed"), (true, "pending")] {
        let arriving = in_list(None, false, &["a1"], ask);
        let new = sent(&work(named(Some("b2")), Some(arriving)), &several());
        assert!(
            new.contains(&format!(r#""status_if_new":"{status}""#)),
            "{new}"
        );
        let known = Link {
            member_status: None,
            ..in_list(Some("a1"), false, &["a1"], ask)
        };
        let back = sent(&work(named(None), Some(known)), &several());
        assert!(back.contains(&format!(r#""status":"{status}""#)), "{back}");
    }
}

#[test]
fn who_is_not_opted_in_does_not_move() {
    let mut out = named(Some("b2"));
    out.iter_mut().for_each(|row| row[1] = Some("f".to_owned()));
    let here = sent(
        &work(out.clone(), Some(in_list(Some("a1"), false, &[], false))),
        &several(),
    );
    assert!(here.starts_with("POST /lists/a1 "), "{here}");
    assert!(here.contains(r#""status":"unsubscribed""#), "{here}");
    let nowhere = in_list(None, false, &["a1"], false);
    assert_eq!(sent(&work(out, Some(nowhere)), &several()), "NoConsent");
    // Who left by themselves stays, whatever the row says.
    let left = Link {
        member_status: Some(MemberStatus::UnsubscribedByMember),
        ..in_list(Some("a1"), false, &[], false)
    };
    let dead = sent(&work(named(Some("b2")), Some(left)), &several());
    assert!(dead.contains("Consent"), "{dead}");
}

#[test]
fn what_is_no_audience_is_not_put_into_a_path() {
    for list in ["../lists", "a b", "a1?x=1", "ä", &"a".repeat(51)] {
        let dead = sent(&work(named(Some(list)), None), &several());
        assert!(dead.contains("Unmappable"), "{dead}");
    }
}

#[test]
fn gone_rows_are_erased_wherever_they_were() {
    let permanent = MailchimpSettings {
        on_delete: OnDelete::Permanent,
        ..several()
    };
    let link = in_list(Some("b2"), false, &["a1"], false);
    let hash = subscriber_hash("ada@example.com");
    let path = |list| format!("POST /lists/{list}/members/{hash}/actions/delete-permanent ");
    assert_eq!(
        sent(&work(None, Some(link.clone())), &permanent),
        path("a1")
    );
    let left = link.erased_in("a1");
    assert_eq!(sent(&work(None, Some(left)), &permanent), path("b2"));
    // In none by now.
    let nowhere = in_list(None, false, &[], true);
    assert_eq!(sent(&work(None, Some(nowhere)), &permanent), "Removed");
}

fn verdict(kind: MailchimpCall, status: u16, body: &str, settings: &MailchimpSettings) -> Verdict {
    verdict_of(kind, Some(MemberStatus::Subscribed), status, body, settings)
}

/// Of a member who is known to be so.
fn verdict_of(
    kind: MailchimpCall,
    known: Option<MemberStatus>,
    status: u16,
    body: &str,
    settings: &MailchimpSettings,
) -> Verdict {
    let item = Item {
        work: 0,
        name: "ada@example.com".into(),
        ticks: Vec::new(),
        remote_key: Some("ada@example.com".into()),
        member_status: known,
        expected: Some("c1".into()),
        intent: false,
        leaver: Default::default(),
        batch_cap: 500,
        fragment: String::new(),
        beside: Default::default(),
        own: None,
    };
    let call = assemble(vec![(kind, item)], settings).remove(0);
    let answer = reply(status, body);
    read(&call, Ok(&answer), settings).verdicts.remove(0)
}

#[test]
fn what_is_seen_decides_how_they_leave() {
    let look = |leaving| MailchimpCall::Look {
        opted_out: None,
        leaving,
        list: "a1".into(),
        hash: subscriber_hash("ada@example.com"),
    };
    let cases = [
        (200, "subscribed", Some(false)),
        (200, "pending", Some(true)),
        (200, "archived", Some(true)),
        (200, "transactional", Some(true)),
        (404, "", Some(true)),
        (200, "unsubscribed", None),
        (200, "cleaned", None),
    ];
    for (code, held, ask) in cases {
        let body = format!(r#"{{"status":"{held}"}}"#);
        let verdict = verdict(look(Leaving::Elsewhere), code, &body, &several());
        match (&verdict, ask) {
            (
                Verdict::Again {
                    relink: Some(Relink::Leave { ask }),
                    ..
                },
                Some(expected),
            ) => assert_eq!(*ask, expected, "{held}"),
            (
                Verdict::Dead {
                    category: Category::Consent,
                    ..
                },
                None,
            ) => {}
            _ => panic!("{held}: {verdict:?}"),
        }
    }
    // We archived them ourselves, and they were on their way back.
    let ours = verdict(
        look(Leaving::ElsewhereAgain),
        200,
        r#"{"status":"archived"}"#,
        &several(),
    );
    let relink = Some(Relink::Leave { ask: false });
    assert!(matches!(ours, Verdict::Again { relink: known, .. } if known == relink));
    let leave = MailchimpCall::Leave {
        list: "a1".into(),
        hash: "c1".into(),
    };
    for code in [204, 404, 405] {
        let verdict = verdict(leave.clone(), code, "", &several());
        let left = Some(Relink::Left {
            list: "a1".into(),
            ask: false,
            how: None,
        });
        assert!(matches!(verdict, Verdict::Again { relink, .. } if relink == left));
    }
}

/// Of a member who moves to another audience, or whose address bounced and was replaced.
#[test]
fn who_came_back_and_left_by_themselves_is_told_from_whom_the_crm_opted_out() {
    let by_us = Some(MemberStatus::UnsubscribedByCrm);
    let out = Some(Timestamp(1_767_323_045_000));
    let before = "2026-01-02T03:04:05+00:00";
    let since = "2026-01-02T03:04:06+00:00";
    let elsewhere = Some(Relink::Left {
        list: "a1".into(),
        ask: false,
        how: None,
    });
    let bounced = Some(MemberStatus::Cleaned);
    let cases = [
        (Leaving::Elsewhere, by_us, out, before, elsewhere.clone()),
        (Leaving::Elsewhere, by_us, out, "", elsewhere.clone()),
        (Leaving::Elsewhere, by_us, None, since, elsewhere),
        (Leaving::Elsewhere, by_us, out, since, None),
        (Leaving::Bounced, bounced, out, before, Some(Relink::Forget)),
        (Leaving::Bounced, bounced, out, since, None),
        (Leaving::Bounced, bounced, None, before, None),
    ];
    for (leaving, known, opted_out, opted_in, expected) in cases {
        let kind = MailchimpCall::Look {
            opted_out,
            leaving,
            list: "a1".into(),
            hash: "c1".into(),
        };
        let body = format!(r#"{{"status":"unsubscribed","timestamp_opt":"{opted_in}"}}"#);
        let found = match verdict_of(kind, known, 200, &body, &several()) {
            Verdict::Again { relink, .. } => relink,
            Verdict::Dead { member_status, .. } => {
                assert_eq!(member_status, Some(MemberStatus::UnsubscribedByMember));
                None
            }
            verdict => panic!("{verdict:?}"),
        };
        assert_eq!(found, expected, "{leaving:?} {opted_out:?} {opted_in}");
    }
}

#[test]
fn replaced_address_that_bounced_is_let_go_unless_they_came_back_there() {
    let kind = |leaving| MailchimpCall::Look {
        opted_out: None,
        leaving,
        list: "a1".into(),
        hash: "c1".into(),
    };
    let bounced = Some(MemberStatus::Cleaned);
    for (code, held, expected) in [
        (200, "cleaned", Relink::Forget),
        (200, "archived", Relink::Forget),
        (200, "subscribed", Relink::Leave { ask: true }),
        (200, "pending", Relink::Leave { ask: true }),
    ] {
        let body = format!(r#"{{"status":"{held}"}}"#);
        let verdict = verdict_of(kind(Leaving::Bounced), bounced, code, &body, &several());
        let expected = Some(expected);
        assert!(
            matches!(&verdict, Verdict::Again { relink, .. } if *relink == expected),
            "{held}: {verdict:?}"
        );
    }
}

#[test]
fn who_is_archived_for_good_is_looked_at_first() {
    let status = Some(MemberStatus::Subscribed);
    let gone = work(None, link(Some("c1"), "ada@example.com", status, &[]));
    let sent = sent(&gone, &settings());
    assert!(sent.starts_with("GET /lists/a1/members/c1 "), "{sent}");
    let look = MailchimpCall::Look {
        opted_out: None,
        leaving: Leaving::ForGood,
        list: "a1".into(),
        hash: subscriber_hash("ada@example.com"),
    };
    let gone = |how| {
        let ticks = Vec::new();
        Some(Some(Relink::Unsubscribed { how, ticks }))
    };
    let again = |relink| Some(Some(relink));
    let cases = [
        (200, "subscribed", again(Relink::Leave { ask: false })),
        (200, "pending", again(Relink::Leave { ask: true })),
        (
            200,
            "unsubscribed",
            gone(MemberStatus::UnsubscribedByMember),
        ),
        (200, "cleaned", gone(MemberStatus::Cleaned)),
        (200, "archived", None),
        // A member that was removed there.
        (404, "", again(Relink::Gone)),
    ];
    for (code, held, expected) in cases {
        let body = format!(r#"{{"status":"{held}"}}"#);
        let found = match verdict(look.clone(), code, &body, &settings()) {
            Verdict::Again { relink, .. } => Some(relink),
            Verdict::Removed => None,
            other => panic!("{held}: {other:?}"),
        };
        assert_eq!(found, expected, "{held}");
    }
    // Known to have left, or looked at: archived at once.
    let left = Some(MemberStatus::UnsubscribedByMember);
    let known = work(None, link(Some("c1"), "ada@example.com", left, &[]));
    let mut looked = link(Some("c1"), "ada@example.com", status, &[]);
    looked = looked.map(|link| link.leave(false));
    for gone in [known, work(None, looked)] {
        let sent = self::sent(&gone, &settings());
        assert!(sent.starts_with("! DELETE /lists/a1/members/"), "{sent}");
    }
}

#[test]
fn unknown_audience_is_the_records_fault_where_rows_name_them() {
    let bulk = |list: &str| MailchimpCall::Bulk { list: list.into() };
    let not_found = |verdict: &Verdict| {
        matches!(
            verdict,
            Verdict::Dead {
                category: Category::NotFound,
                ..
            }
        )
    };
    for list in ["a1", "b2"] {
        let dead = verdict(bulk(list), 404, "{}", &several());
        assert!(not_found(&dead), "{dead:?}");
    }
    // With one audience only, it is a matter of settings: nothing is given up.
    let waits = verdict(bulk("a1"), 404, "{}", &settings());
    assert!(matches!(waits, Verdict::Retry { .. }), "{waits:?}");
    let met = verdict(
        MailchimpCall::Meet { list: "b2".into() },
        200,
        r#"{"id":"b2"}"#,
        &several(),
    );
    assert!(matches!(met, Verdict::Again { relink: None, .. }));
}

#[test]
fn audiences_in_use_are_found_among_those_of_the_account() {
    let answer = reply(
        200,
        r#"{"lists":[{"id":"b2","name":"Partners","double_optin":true},{"id":"a1","name":"News"}]}"#,
    );
    let used = ["a1", "c3", "b2"].map(str::to_owned);
    let asking = MailchimpSettings {
        double_opt_in: true,
        ..settings()
    };
    let told = read_audiences(Ok(&answer), &used, &asking);
    let lines = [
        "the account has no audience c3",
        "audience a1 “News”",
        "audience b2 “Partners”, double opt-in on",
    ];
    assert_eq!(told, Ok((false, lines.map(str::to_owned).to_vec())));
    assert!(
        read_audiences(Ok(&answer), &used[..1], &settings()).is_ok_and(|(complete, _)| complete)
    );
    assert!(read_audiences(Ok(&reply(500, "")), &used, &settings()).is_err());
}

#[test]
fn a_past_is_kept_until_it_is_over() {
    let link = in_list(Some("a1"), false, &[], false).leave(true);
    assert!(link.membership.leaving && link.membership.ask);
    let link = link.left("a1", false);
    assert!(link.is_nowhere() && !link.is_returning());
    assert!(link.membership.was_in("a1"));
    let back = link.clone().arrive(Some("ada@example.com"), "a1");
    assert!(back.is_returning() && !back.is_nowhere());
    // Without a member, what happened in other audiences is still known.
    assert_eq!(
        back.clone().forgotten(),
        Some(Link {
            membership: back.membership.clone().nowhere(),
            ..Link::default()
        })
    );
    let asked = back.clone().settled(false);
    assert!(asked.membership.ask && !asked.is_returning());
    let settled = back.settled(true);
    assert!(!settled.membership.has_past());
    assert_eq!(settled.forgotten(), None);
}
