//! What is heard from several Mailchimp audiences, and opt-outs that outlast a move.

use integration_tests::{
    crm::{Crm, SOON},
    remote::{
        Fault, FaultBody, FaultKind, MemberAction, Service, Status, When, mandrill_webhook,
        path_secret,
    },
    sql::quote_literal,
    wait::{later, wait_until},
};

use crate::audiences::several::{
    FIRST, OTHER, THIRD, add, everywhere, letters, move_to, says, start, status,
};
use Status::{Archived, Pending, Subscribed, Unsubscribed};

/// Hands over what waits; gives what became of the last one.
fn import_webhooks(crm: &mut Crm) -> String {
    for delivery in crm.remote.webhooks_of(Service::Mailchimp) {
        let secret = path_secret(&delivery).to_owned();
        crm.client
            .execute(
                "SELECT * FROM integration.import_mailchimp_webhook($1, '{}', $2)",
                &[&delivery.body, &secret],
            )
            .unwrap();
    }
    crm.settle();
    crm.rows("SELECT state, detail FROM integration.inbox ORDER BY id DESC LIMIT 1")
        .remove(0)
}

#[test]
fn late_event_of_the_old_audience_counts_if_it_is_an_opt_out() {
    let mut crm = start();
    let email = "ada@example.org";
    let id = add(&mut crm, email, None);
    crm.settle();
    let event = |kind: &str, list: &str, extra: &str| {
        format!(
            "type={kind}&fired_at={}&data%5Blist_id%5D={list}&data%5Bemail%5D=ada%40example.org{extra}",
            later(0).replace(' ', "+")
        )
    };
    let import = |crm: &mut Crm, body: String| {
        crm.run(&format!(
            "SELECT integration.import_mailchimp_webhook({}, '{{}}', 'path-secret')",
            quote_literal(&body)
        ));
        crm.settle();
        crm.rows("SELECT state, detail FROM integration.inbox ORDER BY id DESC LIMIT 1")
            .remove(0)
    };
    move_to(&mut crm, id, OTHER);
    crm.settle();
    // That it was archived there is our own doing; and what happens to fields there is no news.
    let deleted = event("unsubscribe", FIRST, "&data%5Baction%5D=delete");
    for body in [
        deleted,
        event("profile", FIRST, "&data%5Bmerges%5D%5BFNAME%5D=Old"),
        event("subscribe", FIRST, ""),
        // Nobody of ours ever was in this one.
        event("unsubscribe", THIRD, "&data%5Baction%5D=unsub"),
        event("unsubscribe", "0000000000", "&data%5Baction%5D=unsub"),
    ] {
        let fate = import(&mut crm, body);
        assert!(fate.starts_with("ignored|another audience"), "{fate}");
    }
    assert_eq!(says(&mut crm, id), Some(true));
    assert_eq!(
        everywhere(&crm, email),
        [Some(Archived), Some(Subscribed), None]
    );
    let left = event("unsubscribe", FIRST, "&data%5Baction%5D=unsub");
    // The same kind of event at the same second would be the same event.
    let at = |second| later(second).replace(' ', "+");
    let fate = import(&mut crm, left.replace(&at(0), &at(1)));
    assert!(fate.starts_with("applied|"), "{fate}");
    assert_eq!(says(&mut crm, id), Some(false));
    assert_eq!(
        everywhere(&crm, email),
        [Some(Archived), Some(Unsubscribed), None]
    );
    // They left by themselves: a new opt-in in the CRM has no effect.
    move_to(&mut crm, id, THIRD);
    crm.settle();
    assert_eq!(
        everywhere(&crm, email),
        [Some(Archived), Some(Unsubscribed), None]
    );
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true");
    crm.settle();
    assert_eq!(
        everywhere(&crm, email),
        [Some(Archived), Some(Unsubscribed), None]
    );
    wait_until("the CRM is told", SOON, || {
        (says(&mut crm, id) == Some(false)).then_some(())
    });
}

#[test]
fn opt_out_is_not_undone_by_moving() {
    let mut crm = start();
    let (told, untold) = ("told@example.org", "untold@example.org");
    let first = add(&mut crm, told, None);
    let second = add(&mut crm, untold, None);
    crm.settle();
    let leaves = MemberAction::Unsubscribe { abuse: false };
    crm.remote.member_does(told, leaves.clone()).unwrap();
    let fate = import_webhooks(&mut crm);
    assert!(fate.starts_with("applied|"), "{fate}");
    move_to(&mut crm, first, OTHER);
    // Nobody told us of this one.
    crm.remote.member_does(untold, leaves).unwrap();
    move_to(&mut crm, second, OTHER);
    crm.settle();
    for (id, email) in [(first, told), (second, untold)] {
        assert_eq!(everywhere(&crm, email), [Some(Unsubscribed), None, None]);
        assert_eq!(says(&mut crm, id), Some(false), "{email}");
    }
    // The CRM says yes again: they left by themselves, so that has no effect in any audience.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true");
    crm.settle();
    for email in [told, untold] {
        assert_eq!(everywhere(&crm, email), [Some(Unsubscribed), None, None]);
    }
    // Who was asked and has not answered is asked wherever they come to.
    crm.set("mailchimp_resubscribe", "pending");
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true, first_name = 'Asked'");
    crm.settle();
    for email in [told, untold] {
        assert_eq!(
            everywhere(&crm, email),
            [Some(Unsubscribed), Some(Pending), None]
        );
    }
    move_to(&mut crm, first, THIRD);
    crm.settle();
    assert_eq!(
        everywhere(&crm, told),
        [Some(Unsubscribed), Some(Archived), Some(Pending)]
    );
}

/// The CRM opted them out. Then they came back by themselves and left again, which nobody told.
#[test]
fn who_left_after_an_opt_out_of_the_crms_is_added_nowhere_else() {
    let mut crm = start();
    let (left, stayed) = ("left@example.org", "stayed@example.org");
    let ids = [left, stayed].map(|email| add(&mut crm, email, None));
    crm.settle();
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false");
    crm.settle();
    let sign_up = MemberAction::Subscribe {
        merge_fields: Default::default(),
    };
    let opted_out: i64 = crm.ask("SELECT extract(epoch FROM clock_timestamp())::bigint");
    wait_until("a second has passed, in which they come back", SOON, || {
        crm.remote.member_does(left, sign_up.clone()).ok()?;
        let member = crm.remote.member(left)?;
        let leaves = MemberAction::Unsubscribe { abuse: false };
        crm.remote.member_does(left, leaves).ok()?;
        (member.opted_in? / 1_000 > opted_out).then_some(())
    });
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true, audience = 'bbbbbbbbbb'");
    crm.settle();
    assert_eq!(everywhere(&crm, left), [Some(Unsubscribed), None, None]);
    let moved = [Some(Unsubscribed), Some(Subscribed), None];
    assert_eq!(everywhere(&crm, stayed), moved);
    assert_eq!(ids.map(|id| says(&mut crm, id)), [Some(false), Some(true)]);
}

#[test]
fn opt_out_in_the_other_audience_stands_when_somebody_comes_there() {
    let mut crm = start();
    let email = "ada@example.org";
    let id = add(&mut crm, email, Some(OTHER));
    crm.settle();
    move_to(&mut crm, id, FIRST);
    crm.settle();
    let sign_up = MemberAction::Subscribe {
        merge_fields: Default::default(),
    };
    let leaves = MemberAction::Unsubscribe { abuse: false };
    crm.remote.member_of_does(OTHER, email, sign_up).unwrap();
    crm.remote.member_of_does(OTHER, email, leaves).unwrap();
    crm.remote.webhooks_of(Service::Mailchimp);
    move_to(&mut crm, id, OTHER);
    crm.settle();
    assert_eq!(
        everywhere(&crm, email),
        [Some(Archived), Some(Unsubscribed), None]
    );
    // Written once the refusal is safe.
    wait_until("the CRM is told", SOON, || {
        (says(&mut crm, id) == Some(false)).then_some(())
    });
}

#[test]
fn two_rows_with_one_address_can_be_in_two_audiences() {
    let mut crm = start();
    let email = "ada@example.org";
    let first = add(&mut crm, email, None);
    let second = add(&mut crm, email, Some(OTHER));
    crm.settle();
    let both = [Some(Subscribed), Some(Subscribed), None];
    assert_eq!(everywhere(&crm, email), both);
    // An event says something of the row in its audience, and counts for the address.
    let leaves = MemberAction::Unsubscribe { abuse: false };
    crm.remote.member_of_does(OTHER, email, leaves).unwrap();
    import_webhooks(&mut crm);
    crm.settle();
    assert_eq!(says(&mut crm, first), Some(true));
    assert_eq!(says(&mut crm, second), Some(false));
    let neither = [Some(Unsubscribed), Some(Unsubscribed), None];
    assert_eq!(everywhere(&crm, email), neither);
    // Not in one and the same.
    let third = add(&mut crm, email, None);
    crm.settle();
    let dead: Vec<String> = letters(&mut crm)
        .into_iter()
        .filter(|line| line.starts_with(&format!("{third}|")))
        .collect();
    assert!(dead.contains(&format!("{third}|conflict")), "{dead:?}");
    assert_eq!(everywhere(&crm, email), neither);
}

#[test]
fn webhooks_of_several_audiences_are_signed_with_their_own_secrets() {
    let mut crm = start();
    let id = add(&mut crm, "ada@example.org", Some(OTHER));
    crm.settle();
    let leaves = MemberAction::Unsubscribe { abuse: false };
    crm.remote
        .member_of_does(OTHER, "ada@example.org", leaves)
        .unwrap();
    let sent = crm.remote.webhooks_of(Service::Mailchimp).remove(0);
    let headers = serde_json::to_string(&sent.headers).unwrap();
    let import = format!(
        "SELECT queued FROM integration.import_mailchimp_webhook({}, {})",
        quote_literal(&sent.body),
        quote_literal(&headers)
    );
    for secrets in ["whsec-first whsec-second", ",  ,"] {
        crm.set("mailchimp_webhook_signing_secret", secrets);
        assert!(crm.client.batch_execute(&import).is_err(), "{secrets}");
    }
    crm.set(
        "mailchimp_webhook_signing_secret",
        "whsec-first, whsec-sandbox",
    );
    assert_eq!(crm.rows(&import), ["1"]);
    crm.settle();
    assert_eq!(says(&mut crm, id), Some(false));
}

#[test]
fn sign_up_counts_in_the_audience_that_the_row_names() {
    let mut crm = start();
    // Neither of them ever gets there: an opt-out in the second of the sign-up would count instead.
    crm.run("SELECT integration.pause('mailchimp')");
    let email = "ada@example.org";
    let id = add(&mut crm, email, Some(OTHER));
    let email_of = "eda@example.org";
    let elsewhere = add(&mut crm, email_of, Some(OTHER));
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false");
    crm.run("SELECT integration.resume('mailchimp')");
    crm.settle();
    let signs_up = MemberAction::Subscribe {
        merge_fields: Default::default(),
    };
    crm.remote
        .member_of_does(FIRST, email_of, signs_up.clone())
        .unwrap();
    let fate = import_webhooks(&mut crm);
    assert!(fate.starts_with("ignored|another audience"), "{fate}");
    crm.remote.member_of_does(OTHER, email, signs_up).unwrap();
    let fate = import_webhooks(&mut crm);
    assert!(fate.starts_with("applied|"), "{fate}");
    assert_eq!(says(&mut crm, elsewhere), Some(false));
    assert_eq!(says(&mut crm, id), Some(true));
    crm.run("UPDATE crm.contacts SET first_name = 'Eve'");
    crm.settle();
    let member = crm.remote.member_of(OTHER, email).unwrap();
    assert_eq!(member.merge_fields["FNAME"], "Eve");
    assert_eq!(status(&crm, FIRST, email), None);
}

#[test]
fn what_mandrill_reports_concerns_all_rows_with_the_address() {
    let mut crm = start();
    let email = "ada@example.org";
    add(&mut crm, email, None);
    add(&mut crm, email, Some(OTHER));
    crm.settle();
    crm.set("mandrill_webhook_key", "mandrill-key-example");
    let url = "https://crm.example.com/webhooks/mandrill";
    let event = serde_json::json!([{"event": "unsub", "_id": "m", "ts": 1_795_428_900, "msg": {"_id": "m", "email": email}}]);
    let (body, signature) = mandrill_webhook("mandrill-key-example", url, &event);
    crm.run(&format!(
        "SELECT integration.import_mandrill_webhook({}, jsonb_build_object('X-Mandrill-Signature', {}), {})",
        quote_literal(&body),
        quote_literal(&signature),
        quote_literal(url)
    ));
    crm.settle();
    assert_eq!(
        everywhere(&crm, email),
        [Some(Unsubscribed), Some(Unsubscribed), None]
    );
}

/// Between the look and the archiving nobody but the event tells of an opt-out.
#[test]
fn opt_out_in_the_midst_of_a_move_stops_it() {
    let mut crm = start();
    crm.set("mailchimp_resubscribe", "pending");
    let email = "ada@example.org";
    let id = add(&mut crm, email, None);
    crm.settle();
    // Archiving fails, so the move stays half-way.
    let refused = Fault::new(
        FaultKind::Status {
            code: 500,
            body: FaultBody::Empty,
            retry_after: None,
        },
        When::UntilCleared,
    );
    let refused = crm
        .remote
        .add_fault(refused.service(Service::Mailchimp).method("DELETE"));
    move_to(&mut crm, id, OTHER);
    wait_until("it is half-way", SOON, || {
        let leaving = "SELECT EXISTS (SELECT FROM integration._link WHERE leaving)";
        crm.ask::<bool>(leaving).then_some(())
    });
    let leaves = MemberAction::Unsubscribe { abuse: false };
    crm.remote.member_does(email, leaves).unwrap();
    let sent = crm.remote.webhooks_of(Service::Mailchimp).remove(0);
    crm.run(&format!(
        "SELECT integration.import_mailchimp_webhook({}, '{{}}', 'path-secret')",
        quote_literal(&sent.body)
    ));
    wait_until("the CRM knows", SOON, || {
        (says(&mut crm, id) == Some(false)).then_some(())
    });
    crm.remote.remove_fault(refused);
    crm.settle();
    assert_eq!(everywhere(&crm, email), [Some(Unsubscribed), None, None]);
    // Opted in again, they are asked there, and not subscribed as they were.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true");
    crm.settle();
    assert_eq!(
        everywhere(&crm, email),
        [Some(Unsubscribed), Some(Pending), None]
    );
}
