//! Who left is remembered by the address, whatever becomes of rows, keys and links.

use std::time::{SystemTime, UNIX_EPOCH};

use integration_tests::{
    crm::{Crm, SOON},
    remote::{Actor, MemberAction, Service, Status, mandrill_webhook, path_secret},
    sql::quote_literal,
    wait::{later, wait_until},
};
use serde_json::json;

const ADA: &str = "ada@example.org";

fn leaves() -> MemberAction {
    MemberAction::Unsubscribe { abuse: false }
}

fn signs_up() -> MemberAction {
    MemberAction::Subscribe {
        merge_fields: Default::default(),
    }
}

/// Ada is subscribed; no webhooks wait.
fn subscribed() -> Crm {
    let mut crm = Crm::start();
    crm.add_contact(ADA, true);
    crm.converges();
    crm.remote.clear_webhooks();
    crm
}

/// Hands over what Mailchimp tells.
fn import(crm: &mut Crm) {
    for delivery in crm.remote.webhooks_of(Service::Mailchimp) {
        let secret = path_secret(&delivery).to_owned();
        crm.run(&format!(
            "SELECT integration.import_mailchimp_webhook({}, '{{}}', {})",
            quote_literal(&delivery.body),
            quote_literal(&secret)
        ));
    }
    crm.settle();
}

/// Tells of something that happened then, and waits until everything has been sent.
fn tell(crm: &mut Crm, kind: &str, email: &str, fired_at: &str) {
    import_event(crm, kind, email, fired_at);
    crm.settle();
}

/// Mailchimp's clock has whole seconds.
fn import_event(crm: &mut Crm, kind: &str, email: &str, fired_at: &str) {
    let body = format!(
        "type={kind}&fired_at={}&data[list_id]=a6b5da1054&data[email]={}",
        fired_at.replace(' ', "+"),
        email.replace('@', "%40")
    );
    crm.run(&format!(
        "SELECT integration.import_mailchimp_webhook({}, '{{}}', 'path-secret')",
        quote_literal(&body)
    ));
}

fn mandrill(crm: &mut Crm, kind: &str, email: &str, ts: i64) {
    let (key, url) = ("mandrill-key-example", "https://crm.example.com/mandrill");
    let event =
        json!([{"event": kind, "_id": format!("{email}{ts}"), "ts": ts, "msg": {"email": email}}]);
    let (body, signature) = mandrill_webhook(key, url, &event);
    crm.run(&format!(
        "SELECT integration.import_mandrill_webhook({}, jsonb_build_object('X-Mandrill-Signature', {}), {})",
        quote_literal(&body),
        quote_literal(&signature),
        quote_literal(url)
    ));
    crm.settle();
}

fn opt(crm: &mut Crm, opted_in: bool) {
    crm.run(&format!(
        "UPDATE crm.contacts SET marketing_opt_in = {opted_in}"
    ));
    crm.settle();
}

/// Nobody was subscribed by us since, and the CRM can see why.
fn is_refused(crm: &mut Crm, before: usize) {
    assert_eq!(
        crm.remote.subscribed().len(),
        before,
        "{:?}",
        crm.remote.subscribed()
    );
    wait_until("the CRM is told", SOON, || {
        let says = crm.rows("SELECT marketing_opt_in FROM crm.contacts");
        (says == ["f"]).then_some(())
    });
    crm.settle();
    let last = "SELECT category FROM integration.dlq ORDER BY id DESC LIMIT 1";
    assert_eq!(crm.rows(last), ["consent"]);
}

#[test]
fn who_left_stays_away_when_the_row_comes_back_under_another_key() {
    let mut crm = subscribed();
    let before = crm.remote.subscribed().len();
    crm.remote.member_does(ADA, leaves()).unwrap();
    import(&mut crm);
    crm.run("DELETE FROM crm.contacts");
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Archived));
    crm.add_contact(&ADA.to_uppercase(), true);
    crm.settle();
    is_refused(&mut crm, before);
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Archived));
    assert_eq!(
        crm.rows("SELECT subscriber_hash = md5('ada@example.org'), list_id, status, decided_by, origin LIKE 'inbox %', asked_at FROM integration.suppression"),
        ["t|a6b5da1054|unsubscribed_by_member|mailchimp|t|NULL"]
    );
    let why: String = crm.ask("SELECT error FROM integration.dlq ORDER BY id DESC LIMIT 1");
    assert!(why.contains("unsubscribed by themselves"), "{why}");
    // Nor when everything about the table is forgotten.
    crm.run(
        "SELECT integration.untrack('crm.contacts');
         DROP TABLE crm.contacts;
         CREATE TABLE crm.contacts (id text PRIMARY KEY, email text, first_name text, last_name text, phone text,
             company text, job_title text, marketing_opt_in boolean, notes text);
         DELETE FROM integration.dlq;
         SELECT integration.track('crm.contacts', 'contact');
         INSERT INTO crm.contacts (id, email, marketing_opt_in) VALUES ('x', 'ada@example.org', true)",
    );
    crm.settle();
    is_refused(&mut crm, before);
    assert!(
        crm.ask::<bool>(
            "SELECT 'integration.suppression'::regclass = ANY (extconfig) FROM pg_extension WHERE extname = 'integration'"
        ),
        "a dump has it"
    );
}

/// Nobody told us, and archiving makes Mailchimp forget it.
#[test]
fn who_left_untold_is_looked_at_before_they_are_archived() {
    let mut crm = subscribed();
    let before = crm.remote.subscribed().len();
    crm.remote.member_does(ADA, leaves()).unwrap();
    crm.remote.clear_webhooks();
    crm.run("DELETE FROM crm.contacts");
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Archived));
    crm.add_contact(ADA, true);
    crm.settle();
    is_refused(&mut crm, before);
}

#[test]
fn event_about_nobodys_row_is_remembered_for_the_row_that_comes() {
    let mut crm = subscribed();
    crm.remote
        .member_does("stranger@example.org", signs_up())
        .unwrap();
    crm.remote
        .member_does("stranger@example.org", leaves())
        .unwrap();
    import(&mut crm);
    let writes = crm.remote.writes_to(Service::Mailchimp);
    let stranger = crm.add_contact("stranger@example.org", true);
    crm.settle();
    assert_eq!(
        crm.remote.writes_to(Service::Mailchimp),
        writes,
        "not even asked"
    );
    let says = format!("SELECT marketing_opt_in FROM crm.contacts WHERE id = {stranger}");
    wait_until("the CRM is told", SOON, || {
        (crm.rows(&says) == ["f"]).then_some(())
    });
    crm.settle();
    // They come back by themselves: that goes before.
    let stranger = "stranger@example.org";
    crm.remote.member_does(stranger, signs_up()).unwrap();
    tell(&mut crm, "subscribe", stranger, &later(1));
    assert_eq!(crm.rows(&says), ["t"], "{}", crm.report());
    // Old news changes nothing.
    crm.run("DELETE FROM crm.contacts");
    crm.settle();
    tell(&mut crm, "unsubscribe", stranger, &later(0));
    crm.add_contact("stranger@example.org", true);
    crm.settle();
    assert_eq!(
        crm.remote.status_of("stranger@example.org"),
        Some(Status::Subscribed)
    );
}

#[test]
fn address_of_somebody_who_left_is_not_taken_over() {
    let mut crm = subscribed();
    crm.remote
        .member_does("other@example.org", signs_up())
        .unwrap();
    crm.remote
        .member_does("other@example.org", leaves())
        .unwrap();
    import(&mut crm);
    crm.remote
        .member_does("other@example.org", MemberAction::Archive)
        .unwrap();
    let before = crm.remote.subscribed().len();
    crm.run("UPDATE crm.contacts SET email = 'other@example.org'");
    crm.settle();
    is_refused(&mut crm, before);
    // She is opted out now, and gets no mail under her old address either.
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Unsubscribed));
}

#[test]
fn who_left_is_asked_once() {
    let mut crm = subscribed();
    crm.set("mailchimp_resubscribe", "pending");
    crm.remote.member_does(ADA, leaves()).unwrap();
    import(&mut crm);
    crm.run("DELETE FROM crm.contacts");
    crm.settle();
    crm.add_contact(ADA, true);
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Pending));
    assert!(crm.ask::<bool>("SELECT asked_at IS NOT NULL FROM integration.suppression"));
    // Opted out before they answered, and in again: that is no new departure.
    opt(&mut crm, false);
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Unsubscribed));
    opt(&mut crm, true);
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Unsubscribed));
    let why: String = crm.ask("SELECT error FROM integration.dlq ORDER BY id DESC LIMIT 1");
    assert!(why.contains("asked once"), "{why}");
    // They come back, and leave again: they may be asked again.
    crm.remote.member_does(ADA, signs_up()).unwrap();
    tell(&mut crm, "subscribe", ADA, &later(0));
    assert_eq!(crm.rows("SELECT marketing_opt_in FROM crm.contacts"), ["t"]);
    crm.remote.member_does(ADA, leaves()).unwrap();
    tell(&mut crm, "unsubscribe", ADA, &later(1));
    opt(&mut crm, true);
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Pending));
}

#[test]
fn opt_out_that_mandrill_told_of_is_the_persons_own() {
    let mut crm = subscribed();
    crm.set("mandrill_webhook_key", "mandrill-key-example");
    let before = crm.remote.subscribed().len();
    mandrill(&mut crm, "unsub", ADA, 1_795_428_900);
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Unsubscribed));
    opt(&mut crm, true);
    is_refused(&mut crm, before);
    assert_eq!(
        crm.rows(
            "SELECT list_id, status, decided_by FROM integration.suppression ORDER BY list_id"
        ),
        ["|unsubscribed_by_member|mandrill"]
    );
    // With leave to ask, they are asked.
    crm.set("mailchimp_resubscribe", "pending");
    opt(&mut crm, true);
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Pending));
    // Mail to the next one bounces: until there is another address.
    crm.run("DELETE FROM crm.contacts; DELETE FROM integration.dlq");
    crm.add_contact("eva@example.org", true);
    crm.settle();
    let before = crm.remote.subscribed().len();
    mandrill(&mut crm, "hard_bounce", "eva@example.org", 1_795_428_901);
    opt(&mut crm, true);
    is_refused(&mut crm, before);
    crm.run("UPDATE crm.contacts SET email = 'eva@example.net', marketing_opt_in = true");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("eva@example.net"),
        Some(Status::Subscribed)
    );
    assert_eq!(
        crm.remote.status_of("eva@example.org"),
        Some(Status::Unsubscribed)
    );
}

#[test]
fn who_was_subscribed_when_archived_comes_back_as_they_were() {
    for double_opt_in in ["off", "on"] {
        let mut crm = subscribed();
        crm.set("mailchimp_double_opt_in", double_opt_in);
        crm.run("DELETE FROM crm.contacts");
        crm.settle();
        assert_eq!(
            crm.rows("SELECT status, archived_at IS NOT NULL FROM integration.suppression"),
            ["subscribed|t"]
        );
        crm.add_contact(ADA, true);
        crm.settle();
        let expected = match double_opt_in {
            "on" => Status::Pending,
            _ => Status::Subscribed,
        };
        assert_eq!(crm.remote.status_of(ADA), Some(expected), "{double_opt_in}");
        assert_eq!(
            crm.rows("SELECT status FROM integration.suppression"),
            [""; 0]
        );
        // A colleague archived them this time: they are asked.
        crm.remote.member_does(ADA, MemberAction::Archive).unwrap();
        import(&mut crm);
        opt(&mut crm, true);
        assert_eq!(crm.remote.status_of(ADA), Some(Status::Pending));
    }
}

#[test]
fn who_opted_out_in_the_crm_and_was_archived_is_asked() {
    let mut crm = subscribed();
    opt(&mut crm, false);
    crm.run("DELETE FROM crm.contacts");
    crm.settle();
    crm.add_contact(ADA, true);
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Pending));
    let by_us = |subscribed: &&integration_tests::remote::Subscribed| subscribed.by == Actor::Api;
    assert_eq!(crm.remote.subscribed().iter().filter(by_us).count(), 1);
}

/// Seconds since 1970, as Mandrill tells the time.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn is_opted_out(crm: &mut Crm) {
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Unsubscribed));
    assert_eq!(crm.rows("SELECT marketing_opt_in FROM crm.contacts"), ["f"]);
}

/// Mailchimp is told again of who is out already: nobody knows whether they have come back there.
#[test]
fn bounce_after_a_sign_up_that_was_not_told_opts_out_again() {
    let mut crm = subscribed();
    crm.set("mandrill_webhook_key", "mandrill-key-example");
    mandrill(&mut crm, "hard_bounce", ADA, now());
    is_opted_out(&mut crm);
    crm.remote.clear_webhooks();
    crm.remote.member_does(ADA, signs_up()).unwrap();
    mandrill(&mut crm, "spam", ADA, now());
    is_opted_out(&mut crm);
    // The sign-up is older than that.
    import(&mut crm);
    is_opted_out(&mut crm);
}

/// Nobody knew that they are a member when the bounce was told.
#[test]
fn sign_up_from_before_a_bounce_is_undone_at_mailchimp() {
    let mut crm = subscribed();
    crm.set("mandrill_webhook_key", "mandrill-key-example");
    crm.run("DELETE FROM crm.contacts");
    crm.settle();
    crm.remote.clear_webhooks();
    crm.remote.member_does(ADA, signs_up()).unwrap();
    mandrill(&mut crm, "hard_bounce", ADA, now());
    crm.add_contact(ADA, false);
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Subscribed));
    import(&mut crm);
    is_opted_out(&mut crm);
}

/// The worker does not read the queue of a target that is paused.
#[test]
fn opt_out_that_waits_in_the_queue_outranks_a_sign_up_from_before_it() {
    let mut crm = subscribed();
    let then: String =
        crm.ask("SELECT to_char(clock_timestamp() AT TIME ZONE 'utc', 'YYYY-MM-DD HH24:MI:SS')");
    crm.run(
        "SELECT integration.pause('mailchimp', 'test');
         UPDATE crm.contacts SET marketing_opt_in = false",
    );
    import_event(&mut crm, "subscribe", ADA, &then);
    let detail = wait_until("the sign-up is applied", SOON, || {
        let events =
            "SELECT detail FROM integration.inbox WHERE kind = 'subscribe' AND state <> 'pending'";
        crm.rows(events).pop()
    });
    assert_eq!(detail, "the person opted out in the CRM since");
    assert_eq!(crm.rows("SELECT marketing_opt_in FROM crm.contacts"), ["f"]);
    crm.run("SELECT integration.resume('mailchimp')");
    is_opted_out(&mut crm);
}

/// Opted out under one address, and the CRM has another one since: Mailchimp was not told of that.
fn readdressed() -> Crm {
    let mut crm = subscribed();
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false");
    is_opted_out(&mut crm);
    crm.run(&format!("UPDATE crm.contacts SET email = '{ADA_KING}'"));
    crm.settle();
    crm.remote.clear_webhooks();
    assert_eq!(crm.remote.status_of(ADA_KING), None);
    crm
}

const ADA_KING: &str = "ada.king@example.org";

#[test]
fn who_signs_up_under_the_address_the_crm_has_opts_in_whatever_the_member_had() {
    let mut crm = readdressed();
    let clock = "SELECT floor(extract(epoch FROM clock_timestamp()))::int8";
    let opted_out: i64 = crm.ask(clock);
    wait_until("Mailchimp's clock has got on", SOON, || {
        (crm.ask::<i64>(clock) > opted_out).then_some(())
    });
    crm.remote.member_does(ADA_KING, signs_up()).unwrap();
    import(&mut crm);
    assert_eq!(crm.rows("SELECT marketing_opt_in FROM crm.contacts"), ["t"]);
    let both = [ADA, ADA_KING].map(|email| crm.remote.status_of(email));
    assert_eq!(both, [Some(Status::Unsubscribed), Some(Status::Subscribed)]);
    // An opt-out reaches them where they get mail.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false");
    crm.settle();
    let status = crm.remote.status_of(ADA_KING);
    assert_eq!(status, Some(Status::Unsubscribed));
}

#[test]
fn opt_out_under_the_address_the_crm_has_counts_whatever_the_member_has() {
    for kind in ["unsubscribe", "cleaned"] {
        let mut crm = subscribed();
        crm.run(&format!(
            "SELECT integration.pause('mailchimp', 'test');
             UPDATE crm.contacts SET email = '{ADA_KING}'"
        ));
        // By its link the row is found under its new address.
        wait_until("HubSpot has it", SOON, || {
            let keys = crm.rows("SELECT remote_key FROM integration.link WHERE target = 'hubspot'");
            (keys == [ADA_KING]).then_some(())
        });
        let now: String = crm
            .ask("SELECT to_char(clock_timestamp() AT TIME ZONE 'utc', 'YYYY-MM-DD HH24:MI:SS')");
        import_event(&mut crm, kind, ADA_KING, &now);
        wait_until("the row is opted out", SOON, || {
            (crm.rows("SELECT marketing_opt_in FROM crm.contacts") == ["f"]).then_some(())
        });
        crm.run("SELECT integration.resume('mailchimp')");
        is_opted_out(&mut crm);
        assert_eq!(crm.remote.status_of(ADA_KING), None);
    }
}
