use super::*;
use integration_engine::wire::TransportError;

fn item(name: &str, asked: Option<MemberStatus>) -> Item {
    Item {
        work: 0,
        name: name.into(),
        ticks: Vec::new(),
        remote_key: Some(name.into()),
        member_status: asked,
        expected: None,
        intent: false,
        leaver: Default::default(),
        batch_cap: 500,
        fragment: r#"{"x":1}"#.into(),
        beside: Default::default(),
        own: None,
    }
}

fn call(kind: MailchimpCall, items: Vec<Item>) -> Call {
    let sends = items.into_iter().map(|item| (kind.clone(), item)).collect();
    assemble(sends, &settings()).remove(0)
}

fn bulk(items: Vec<Item>) -> Call {
    call(MailchimpCall::Bulk { list: "a1".into() }, items)
}

fn single(item: Item) -> Call {
    let hash = subscriber_hash(&item.name);
    call(
        MailchimpCall::Patch {
            list: "a1".into(),
            hash,
        },
        vec![item],
    )
}

/// A verdict without its wording.
fn shape(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Delivered {
            remote_id,
            member_status,
            ..
        } => format!(
            "delivered {} {member_status:?}",
            remote_id.as_ref().map_or("-", RemoteId::as_str)
        ),
        Verdict::Again {
            relink: Some(Relink::Adopt(id)),
            ..
        } => format!("adopt {}", id.as_str()),
        Verdict::Again {
            relink: Some(Relink::Gone),
            ..
        } => "gone".into(),
        Verdict::Again {
            relink: Some(Relink::Displaced),
            ..
        } => "displaced".into(),
        Verdict::Again {
            relink: Some(Relink::Discarded),
            ..
        } => "discarded".into(),
        Verdict::Again {
            relink: Some(Relink::Found {
                address, status, ..
            }),
            ..
        } => format!("found {address} {status:?}"),
        Verdict::Again {
            relink: Some(Relink::Unsubscribed { how, .. }),
            ..
        } => format!("unsubscribed {how:?}"),
        Verdict::Again { batch_cap, .. } => format!("again {batch_cap:?}"),
        Verdict::Retry { counted, wait, .. } => {
            format!("retry {counted} {:?}", wait.map(|wait| wait.as_secs()))
        }
        Verdict::Dead {
            category,
            member_status,
            ..
        } => {
            format!("dead {} {member_status:?}", category.name())
        }
        other => format!("{other:?}").to_lowercase(),
    }
}

fn shapes(call: &Call, status: u16, body: &str) -> Vec<String> {
    read(call, Ok(&reply(status, body)), &settings())
        .verdicts
        .iter()
        .map(shape)
        .collect()
}

const NEW: Option<MemberStatus> = Some(MemberStatus::Subscribed);
const OUT: Option<MemberStatus> = Some(MemberStatus::UnsubscribedByCrm);

#[test]
fn a_bulk_answer_is_read_member_by_member() {
    let letters = 'a'..='m';
    let items: Vec<Item> = letters
        .map(|letter| item(&format!("{letter}@example.com"), NEW))
        .collect();
    let body = r#"{"new_members":[
        {"id":"h","contact_id":"c1","email_address":"A@Example.com","status":"subscribed","merge_fields":{}}],
      "updated_members":[
        {"id":"h2","email_address":"b@example.com","status":"pending"},
        {"contact_id":"c3","email_address":"c@example.com","status":"unsubscribed"},
        {"contact_id":"c4","email_address":"d@example.com","status":"cleaned"},
        {"contact_id":"c5","email_address":"e@example.com","status":"archived"},
        {"contact_id":"c6","email_address":"f@example.com","status":"transactional"}],
      "errors":[
        {"email_address":"g@example.com","error":"g@example.com is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed.","error_code":"ERROR_GENERIC"},
        {"email_address":"h@example.com","error":"h@example.com was permanently deleted and cannot be re-imported. The contact must re-subscribe to get back on the list."},
        {"email_address":"i@example.com","error":"i@example.com looks fake or invalid, please enter a real email address."},
        {"email_address":"j@example.com","error":"j@example.com has signed up to a lot of lists very recently; we're not allowing more signups for now"},
        {"email_address":"k@example.com","error":"Your merge fields were invalid.","field":"SCORE","field_message":"Please enter a number"},
        {"email_address":"l@example.com","error":"l@example.com bounced and was cleaned"}],
      "total_created":1,"error_count":6}"#;
    let call = bulk(items);
    assert_eq!(
        shapes(&call, 200, body),
        [
            "delivered c1 Some(Subscribed)",
            "delivered h2 Some(Pending)",
            "dead consent Some(UnsubscribedByMember)",
            "dead consent Some(Cleaned)",
            "adopt c5",
            "adopt c6",
            "dead consent Some(UnsubscribedByMember)",
            "dead consent Some(Forgotten)",
            "dead validation None",
            "retry true Some(86400)",
            "dead validation None",
            "dead consent Some(Cleaned)",
            "again Some(1)",
        ]
    );
    let reading = read(&call, Ok(&reply(200, body)), &settings());
    assert!(
        reading
            .error
            .unwrap()
            .starts_with("11 of 13 records not taken")
    );
    let Verdict::Dead { why, .. } = &reading.verdicts[10] else {
        panic!()
    };
    assert!(
        why.contains("SCORE") && why.contains("Please enter a number"),
        "{why}"
    );
}

#[test]
fn known_members_keep_what_the_service_says() {
    let answer = |asked, status: &str| {
        let body = format!(
            r#"{{"updated_members":[{{"contact_id":"c","email_address":"a@example.com","status":"{status}"}}]}}"#
        );
        shapes(&bulk(vec![item("a@example.com", asked)]), 200, &body).remove(0)
    };
    assert_eq!(answer(None, "subscribed"), "delivered c Some(Subscribed)");
    assert_eq!(answer(None, "archived"), "unsubscribed Archived");
    assert_eq!(answer(None, "transactional"), "unsubscribed Archived");
    assert_eq!(
        answer(None, "unsubscribed"),
        "dead consent Some(UnsubscribedByMember)"
    );
    assert_eq!(
        answer(OUT, "unsubscribed"),
        "delivered c Some(UnsubscribedByCrm)"
    );
    assert_eq!(answer(OUT, "cleaned"), "delivered c Some(Cleaned)");
    assert_eq!(
        answer(OUT, "subscribed"),
        "retry true None",
        "an opt-out that did not take"
    );
}

#[test]
fn single_members() {
    let compliance = r#"{"title":"Member In Compliance State","status":400,"detail":"a@example.com is already a list member in compliance state."}"#;
    let forgotten = r#"{"title":"Forgotten Email Not Subscribed","status":400,"detail":"x"}"#;
    let exists = r#"{"title":"Member Exists","status":400,"detail":"a@example.com is already a list member. Use PUT to insert or update list members."}"#;
    let taken = r#"{"title":"Invalid Resource","status":400,"detail":"x","errors":[{"field":"email_address","message":"\"a@example.com\" is already in this list with a status of \"subscribed\""}]}"#;
    let merge = r#"{"title":"Invalid Resource","status":400,"detail":"Your merge fields were invalid.","errors":[{"field":"RADIO","message":"Please enter a value"}]}"#;
    let cases = [
        (
            NEW,
            400,
            compliance,
            "dead consent Some(UnsubscribedByMember)",
        ),
        (
            OUT,
            400,
            compliance,
            "delivered - Some(UnsubscribedByMember)",
        ),
        (NEW, 400, forgotten, "dead consent Some(Forgotten)"),
        (OUT, 400, forgotten, "delivered - Some(Forgotten)"),
        (None, 400, exists, "dead conflict None"),
        (None, 400, taken, "dead conflict None"),
        (NEW, 400, merge, "dead validation None"),
        (NEW, 400, "", "dead validation None"),
        (OUT, 404, "{}", "delivered - Some(UnsubscribedByCrm)"),
        (
            OUT,
            200,
            r#"{"id":"h","contact_id":"c","status":"unsubscribed"}"#,
            "delivered c Some(UnsubscribedByCrm)",
        ),
        (None, 405, "{}", "retry true None"),
    ];
    for (asked, status, body, expected) in cases {
        let call = single(item("a@example.com", asked));
        assert_eq!(
            shapes(&call, status, body),
            [expected],
            "{asked:?} {status} {body}"
        );
    }
}

#[test]
fn people_are_looked_for_under_all_their_names() {
    let (old, new) = (
        subscriber_hash("old@example.com"),
        subscriber_hash("a@example.com"),
    );
    let moved = |path: &str, asked| {
        let item = Item {
            remote_key: Some("a@example.com".into()),
            ..item("old@example.com", asked)
        };
        let kind = MailchimpCall::Patch {
            list: "a1".into(),
            hash: path.into(),
        };
        shapes(&call(kind, vec![item]), 404, "{}").remove(0)
    };
    assert_eq!(moved("contact", OUT), format!("adopt {old}"));
    assert_eq!(moved(&old, OUT), format!("adopt {new}"));
    assert_eq!(moved(&new, OUT), "delivered - Some(UnsubscribedByCrm)");
    assert_eq!(moved("contact", None), format!("adopt {old}"));
    assert_eq!(moved(&old, None), format!("adopt {new}"));
    assert_eq!(moved(&new, None), "gone");
}

#[test]
fn another_contact_under_the_address_is_not_the_person() {
    let known = Item {
        expected: Some("c1".into()),
        ..item("a@example.com", OUT)
    };
    let body = |id: &str| {
        format!(
            r#"{{"updated_members":[{{"contact_id":"{id}","email_address":"a@example.com","status":"unsubscribed"}}]}}"#
        )
    };
    assert_eq!(
        shapes(&bulk(vec![known.clone()]), 200, &body("c2")),
        ["again Some(1)"]
    );
    assert_eq!(
        shapes(&bulk(vec![known]), 200, &body("c1")),
        ["delivered c1 Some(UnsubscribedByCrm)"]
    );
}

/// Meant for a known member, and nobody had the address.
#[test]
fn a_member_that_left_its_address_is_looked_for_by_its_id() {
    let known = |asked| Item {
        expected: Some("c1".into()),
        ..item("a@example.com", asked)
    };
    let answer = |array: &str, id: &str, status: &str, asked| {
        let body = format!(
            r#"{{"{array}":[{{"contact_id":"{id}","email_address":"a@example.com","status":"{status}"}}]}}"#
        );
        shapes(&bulk(vec![known(asked)]), 200, &body).remove(0)
    };
    for asked in [None, OUT] {
        assert_eq!(
            answer("new_members", "c2", "transactional", asked),
            "displaced"
        );
        // The answer that told of it was lost.
        assert_eq!(
            answer("updated_members", "c2", "transactional", asked),
            "displaced"
        );
    }
    assert_eq!(
        answer("updated_members", "c2", "subscribed", None),
        "again Some(1)",
        "somebody else's"
    );
    let look = MailchimpCall::Look {
        list: "a1".into(),
        hash: "c1".into(),
        leaving: Leaving::Displaced,
        opted_out: None,
    };
    let seen = |status: u16, body: &str| {
        let item = Item {
            remote_key: Some("a@example.com".into()),
            ..item("a@example.com", Some(MemberStatus::Subscribed))
        };
        shapes(&call(look.clone(), vec![item]), status, body).remove(0)
    };
    let at = |address: &str, status: &str| {
        format!(r#"{{"contact_id":"c1","email_address":"{address}","status":"{status}"}}"#)
    };
    assert_eq!(
        seen(200, &at("New@example.com", "subscribed")),
        "found new@example.com Subscribed"
    );
    assert_eq!(
        seen(200, &at("new@example.com", "unsubscribed")),
        "found new@example.com UnsubscribedByMember"
    );
    assert_eq!(seen(200, &at("A@example.com", "subscribed")), "discarded");
    assert_eq!(seen(404, "{}"), "gone");
    let discard = MailchimpCall::Discard {
        list: "a1".into(),
        hash: "h".into(),
    };
    for status in [204, 404, 405] {
        let discarded = call(discard.clone(), vec![item("a@example.com", None)]);
        assert_eq!(shapes(&discarded, status, ""), ["discarded"]);
    }
    // Written to by id, it says where it is.
    let patch = MailchimpCall::Patch {
        list: "a1".into(),
        hash: "c1".into(),
    };
    let patched = |asked, status: &str| {
        let call = call(patch.clone(), vec![item("a@example.com", asked)]);
        shapes(&call, 200, &at("new@example.com", status)).remove(0)
    };
    assert_eq!(
        patched(None, "subscribed"),
        "found new@example.com Subscribed"
    );
    assert_eq!(
        patched(OUT, "unsubscribed"),
        "found new@example.com UnsubscribedByCrm"
    );
}

#[test]
fn archiving_what_is_not_there_is_done() {
    let hash = subscriber_hash("a@example.com");
    let archive = |path: &str, status| {
        let kind = MailchimpCall::Archive {
            list: "a1".into(),
            hash: path.into(),
        };
        shapes(&call(kind, vec![item("a@example.com", None)]), status, "").remove(0)
    };
    for status in [204, 404, 405] {
        assert_eq!(archive(&hash, status), "removed");
    }
    assert_eq!(archive("contact", 405), "removed");
    assert_eq!(archive("contact", 404), format!("adopt {hash}"));
}

#[test]
fn pages_of_html_are_no_answers_of_mailchimps() {
    let (list, hash) = (|| "a1".to_owned(), || "h".to_owned());
    for kind in [
        MailchimpCall::Archive {
            list: list(),
            hash: hash(),
        },
        MailchimpCall::Leave {
            list: list(),
            hash: hash(),
        },
        MailchimpCall::Erase {
            list: list(),
            hash: hash(),
        },
        MailchimpCall::Discard {
            list: list(),
            hash: hash(),
        },
        MailchimpCall::Tags {
            list: list(),
            hash: hash(),
        },
        MailchimpCall::Meet { list: list() },
    ] {
        let call = call(kind.clone(), vec![item("a@example.com", None)]);
        let reading = read(&call, Ok(&reply(200, "<html>")), &settings());
        assert_eq!(shape(&reading.verdicts[0]), "retry true None", "{kind:?}");
        assert!(matches!(reading.signal, TargetSignal::Failing { .. }));
    }
}

#[test]
fn addresses_beyond_ascii_are_looked_for_as_they_are() {
    let address = "jörg@bücher.example";
    let (hash, plain) = (subscriber_hash(address), "j%C3%B6rg%40b%C3%BCcher.example");
    let patch = |path: &str, asked| {
        let kind = MailchimpCall::Patch {
            list: "a1".into(),
            hash: path.into(),
        };
        shapes(&call(kind, vec![item(address, asked)]), 404, "{}").remove(0)
    };
    for asked in [OUT, None] {
        assert_eq!(patch("contact", asked), format!("adopt {hash}"));
        assert_eq!(patch(&hash, asked), format!("adopt {plain}"));
    }
    assert_eq!(patch(plain, OUT), "delivered - Some(UnsubscribedByCrm)");
    assert_eq!(patch(plain, None), "gone");
    // Named otherwise in an answer, it is known by its hash.
    let body = format!(
        r#"{{"new_members":[{{"id":"{hash}","contact_id":"c","email_address":"jörg@xn--bcher-kva.example","status":"subscribed"}}]}}"#
    );
    let two = bulk(vec![item("b@example.com", NEW), item(address, NEW)]);
    assert_eq!(
        shapes(&two, 200, &body),
        ["again Some(1)", "delivered c Some(Subscribed)"]
    );
}

#[test]
fn refused_calls_are_split_and_failures_are_nobodys_fault() {
    let three = || {
        bulk(vec![
            item("a@b.co", NEW),
            item("b@b.co", NEW),
            item("c@b.co", NEW),
        ])
    };
    let cases = [
        (
            400,
            r#"{"title":"Invalid Resource","detail":"x"}"#,
            "again Some(2)",
            "Healthy",
        ),
        (413, "", "again Some(2)", "Healthy"),
        (
            401,
            r#"{"title":"API Key Invalid"}"#,
            "retry false None",
            "Unauthorized",
        ),
        (
            403,
            r#"{"title":"Forbidden","detail":"x"}"#,
            "retry false None",
            "Unauthorized",
        ),
        (403, "<html>", "retry false Some(2)", "Crowded"),
        (403, "", "retry false Some(2)", "Crowded"),
        (
            404,
            r#"{"title":"Resource Not Found"}"#,
            "retry false None",
            "Failing",
        ),
        (429, "", "retry false Some(2)", "Crowded"),
        (500, "", "retry true None", "Failing"),
        (502, "<html>", "retry true None", "Failing"),
        (200, "<html>", "retry true None", "Failing"),
        (200, "{}", "again Some(1)", "Healthy"),
    ];
    for (status, body, expected, signal) in cases {
        let reading = read(&three(), Ok(&reply(status, body)), &settings());
        let shapes: Vec<String> = reading.verdicts.iter().map(shape).collect();
        assert_eq!(shapes, [expected; 3], "{status} {body}");
        assert!(
            format!("{:?}", reading.signal).starts_with(signal),
            "{status}"
        );
    }
    assert_eq!(
        TargetSignal::Healthy,
        read(&three(), Ok(&reply(200, "{}")), &settings()).signal
    );
}

#[test]
fn calls_that_are_never_answered_are_halved() {
    let timeout = TransportError::Timeout(std::time::Duration::from_secs(130));
    let lost = TransportError::Lost("reset".into());
    let items = |count: usize| {
        let items = 0..count;
        bulk(
            items
                .map(|n| item(&format!("{n}@example.com"), NEW))
                .collect(),
        )
    };
    let cases = [
        (500, &timeout, "again Some(250)"),
        (3, &timeout, "again Some(2)"),
        // Alone it may be what keeps Mailchimp from answering.
        (1, &timeout, "retry true None"),
        (500, &lost, "retry true None"),
    ];
    for (count, error, expected) in cases {
        let reading = read(&items(count), Err(error), &settings());
        assert_eq!(reading.verdicts.len(), count);
        assert!(
            reading
                .verdicts
                .iter()
                .all(|verdict| shape(verdict) == expected)
        );
        assert!(matches!(reading.signal, TargetSignal::Failing { .. }));
    }
}
