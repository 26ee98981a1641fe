//! What people and colleagues do at Mailchimp, and who is told.

use std::time::Duration;

use integration_tests::{
    crm::Crm,
    remote::{MemberAction, Service, Status},
    sql::quote_literal,
    wait::{holds_for, later},
};
use serde_json::json;

/// Ten contacts on both sides, the even ones opted in, and no webhooks waiting.
fn in_step() -> Crm {
    let mut crm = Crm::start();
    crm.add_contacts(1, 10);
    crm.converges();
    crm.remote.clear_webhooks();
    crm
}

/// Hands over one body; what became of it: state and detail.
fn import(crm: &mut Crm, body: &str) -> String {
    let sql = format!(
        "SELECT queued FROM integration.import_mailchimp_webhook({}, '{{}}', 'path-secret')",
        quote_literal(body)
    );
    assert_eq!(crm.rows(&sql), ["1"], "{body}");
    crm.settle();
    crm.rows("SELECT state, detail FROM integration.inbox ORDER BY id DESC LIMIT 1")
        .remove(0)
}

/// A body as Mailchimp writes it.
fn body(kind: &str, fired_at: &str, data: &[(&str, &str)]) -> String {
    let mut body = format!("type={kind}&fired_at={}", escaped(fired_at));
    for (name, value) in data {
        body.push_str(&format!("&data{name}={}", escaped(value)));
    }
    body
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25")
        .replace('+', "%2B")
        .replace('&', "%26")
        .replace(' ', "+")
}

fn profile(fired_at: &str, email: &str, fields: &[(&str, &str)]) -> String {
    let mut data = vec![("[list_id]", "a6b5da1054"), ("[email]", email)];
    data.extend_from_slice(fields);
    body("profile", fired_at, &data)
}

#[test]
fn profile_reaches_the_crm_and_hubspot_and_does_not_echo() {
    let mut crm = in_step();
    let fields = [("FNAME", json!("Augusta")), ("LNAME", json!("King"))];
    let merge_fields = fields
        .iter()
        .map(|(tag, value)| ((*tag).to_owned(), value.clone()))
        .collect();
    crm.remote
        .member_does(
            "person4@example.org",
            MemberAction::Profile { merge_fields },
        )
        .unwrap();
    let webhooks = crm.remote.webhooks_of(Service::Mailchimp);
    assert_eq!(webhooks.len(), 1);
    let sent = &webhooks[0].body;
    let fired_at = sent
        .split('&')
        .find(|pair| pair.starts_with("fired_at="))
        .unwrap();
    let sent = sent.replace(fired_at, &format!("fired_at={}", escaped(&later(10))));
    let before = crm.remote.writes_to(Service::Mailchimp);
    let fate = import(&mut crm, &sent);
    assert_eq!(
        fate,
        "applied|crm.contacts 4: first_name, last_name written"
    );
    crm.converges();
    assert_eq!(
        crm.rows("SELECT first_name, last_name FROM crm.contacts WHERE id = 4"),
        ["Augusta|King"]
    );
    let (_, contact) = crm.remote.contact("person4@example.org").unwrap();
    assert_eq!(contact["firstname"], "Augusta");
    holds_for("nothing goes back", Duration::from_secs(1), || {
        crm.remote.writes_to(Service::Mailchimp) == before
    });
    // Out of order: what happened before is news no longer.
    let older = profile(
        &later(5),
        "person4@example.org",
        &[("[merges][FNAME]", "Older")],
    );
    assert_eq!(import(&mut crm, &older), "ignored|nothing new");
    crm.converges();
}

#[test]
fn rule_decides_about_a_profile() {
    let mut crm = in_step();
    crm.run(
        "SELECT integration.map_field('crm.contacts', 'first_name', 'mailchimp', 'FNAME', 'push');
         SELECT integration.map_field('crm.contacts', 'phone', 'mailchimp', 'PHONE', 'pull');",
    );
    let change = [
        ("[merges][FNAME]", "Theirs"),
        ("[merges][PHONE]", "+49 30 7"),
        ("[merges][NOBODY]", "x"),
    ];
    let merge_fields = [
        ("FNAME".to_owned(), json!("Theirs")),
        ("PHONE".to_owned(), json!("+49 30 7")),
    ];
    crm.remote
        .member_does(
            "person4@example.org",
            MemberAction::Profile {
                merge_fields: merge_fields.into(),
            },
        )
        .unwrap();
    let fate = import(
        &mut crm,
        &profile(&later(10), "person4@example.org", &change),
    );
    assert_eq!(
        fate,
        "applied|crm.contacts 4: phone written; the CRM's first_name wins, and is sent again"
    );
    crm.converges();
    assert_eq!(
        crm.rows("SELECT first_name, phone FROM crm.contacts WHERE id = 4"),
        ["First 4|+49 30 7"]
    );
    assert_eq!(
        crm.remote
            .member("person4@example.org")
            .unwrap()
            .merge_fields["FNAME"],
        "First 4"
    );
}

#[test]
fn value_the_crm_refuses_fails_and_others_are_taken() {
    let mut crm = in_step();
    crm.run("ALTER TABLE crm.contacts ADD CHECK (first_name <> 'no')");
    let both = [("[merges][FNAME]", "no"), ("[merges][LNAME]", "King")];
    let fate = import(&mut crm, &profile(&later(10), "person4@example.org", &both));
    assert!(
        fate.starts_with("applied|crm.contacts 4: last_name written; first_name: the CRM refused"),
        "{fate}"
    );
    let bad = profile(&later(20), "person4@example.org", &both[..1]);
    assert!(import(&mut crm, &bad).starts_with("failed|first_name: the CRM refused"));
}

fn moves(fired_at: &str, old: &str, new: &str) -> String {
    let data = [
        ("[list_id]", "a6b5da1054"),
        ("[new_id]", "51da8c3259"),
        ("[old_email]", old),
        ("[new_email]", new),
    ];
    body("upemail", fired_at, &data)
}

#[test]
fn change_of_address_is_followed() {
    let mut crm = in_step();
    let (old, new) = ("person4@example.org", "ada.k@example.org");
    let members = crm.remote.members().len();
    let before = crm.remote.member(old).unwrap();
    crm.remote
        .member_does(
            old,
            MemberAction::ChangeEmail {
                new_email: new.to_owned(),
            },
        )
        .unwrap();
    let fate = import(&mut crm, &moves(&later(10), old, new));
    assert_eq!(fate, "applied|crm.contacts 4: email written");
    crm.converges();
    assert_eq!(
        crm.rows("SELECT remote_key FROM integration.link WHERE record_key = '4' AND target = 'mailchimp'"),
        [new]
    );
    assert!(crm.remote.contact(new).is_some(), "HubSpot is told");
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta' WHERE id = 4");
    crm.converges();
    let after = crm.remote.member(new).unwrap();
    assert_eq!(after.contact_id, before.contact_id);
    assert_eq!(after.merge_fields["FNAME"], "Augusta");
    assert_eq!(crm.remote.members().len(), members, "nobody was added");
    // Told again, with another time: there is nobody under the old address.
    let again = moves(&later(30), old, new);
    assert_eq!(
        import(&mut crm, &again),
        "ignored|the CRM row is linked to the new address already"
    );
    let stranger = moves(&later(10), "stranger@example.org", "other@example.org");
    assert_eq!(
        import(&mut crm, &stranger),
        "ignored|no CRM row is linked to the old address"
    );
}

#[test]
fn address_that_only_the_crm_decides_is_set_back() {
    let mut crm = in_step();
    crm.run("SELECT integration.map_field('crm.contacts', 'email', 'mailchimp', 'email_address', 'push')");
    let (old, new) = ("person4@example.org", "ada.k@example.org");
    let before = crm.remote.member(old).unwrap();
    crm.remote
        .member_does(
            old,
            MemberAction::ChangeEmail {
                new_email: new.to_owned(),
            },
        )
        .unwrap();
    let fate = import(&mut crm, &moves(&later(10), old, new));
    assert_eq!(fate, "ignored|the CRM's email wins, and is sent again");
    crm.converges();
    assert_eq!(
        crm.remote.member(old).unwrap().contact_id,
        before.contact_id
    );
    assert!(crm.remote.member(new).is_none());
}

#[test]
fn cleaned_address_is_opted_out_and_logged() {
    let mut crm = in_step();
    crm.remote
        .member_does("person4@example.org", MemberAction::Clean)
        .unwrap();
    let sent = crm.remote.webhooks_of(Service::Mailchimp).remove(0).body;
    assert_eq!(
        import(&mut crm, &sent),
        "applied|crm.contacts 4: marketing_opt_in = false"
    );
    crm.settle();
    assert_eq!(
        crm.remote.status_of("person4@example.org"),
        Some(Status::Cleaned)
    );
    let log = "SELECT changed_by, from_status, to_status, origin = 'inbox ' || (SELECT id FROM integration.inbox), reason,
                      subscriber_hash = md5('person4@example.org')
               FROM integration.consent_log WHERE record_key = '4' ORDER BY id";
    assert_eq!(
        crm.rows(log),
        [
            "crm|NULL|subscribed|f|NULL|t",
            "mailchimp|subscribed|cleaned|t|hard|t"
        ]
    );
}

#[test]
fn consent_log_tells_changes_and_nothing_else() {
    let mut crm = in_step();
    let log = "SELECT changed_by, from_status, to_status, origin FROM integration.consent_log WHERE record_key = '4' ORDER BY id";
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta' WHERE id = 4");
    crm.converges();
    assert_eq!(crm.rows(log), ["crm|NULL|subscribed|outbox"]);
    for opted_in in [false, true] {
        crm.run(&format!(
            "UPDATE crm.contacts SET marketing_opt_in = {opted_in} WHERE id = 4"
        ));
        crm.converges();
    }
    assert_eq!(
        crm.rows(log),
        [
            "crm|NULL|subscribed|outbox",
            "crm|subscribed|unsubscribed_by_crm|outbox",
            "crm|unsubscribed_by_crm|subscribed|outbox",
        ]
    );
    // One that no webhook told us of is found out by the next write.
    crm.remote.person_unsubscribes("person4@example.org");
    crm.run("UPDATE crm.contacts SET first_name = 'Ada' WHERE id = 4");
    crm.settle();
    assert_eq!(
        crm.rows(log)[3..],
        ["mailchimp|subscribed|unsubscribed_by_member|outbox"]
    );
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.consent_log WHERE record_key = '3'"),
        0,
        "who never opted in has no history"
    );
}

#[test]
fn sign_up_at_mailchimp_is_an_opt_in_of_the_row_with_that_address() {
    let mut crm = in_step();
    crm.remote
        .member_does(
            "person3@example.org",
            MemberAction::Subscribe {
                merge_fields: Default::default(),
            },
        )
        .unwrap();
    let sent = crm.remote.webhooks_of(Service::Mailchimp).remove(0).body;
    assert_eq!(
        import(&mut crm, &sent),
        "applied|crm.contacts 3: marketing_opt_in = true"
    );
    crm.converges();
    assert_eq!(
        crm.rows(
            "SELECT changed_by, to_status FROM integration.consent_log WHERE record_key = '3'"
        ),
        ["mailchimp|subscribed"]
    );
}

#[test]
fn what_concerns_no_row_of_ours_says_why() {
    let mut crm = in_step();
    let (ours, theirs) = (("[list_id]", "a6b5da1054"), ("[list_id]", "0000000000"));
    let (known, stranger) = (
        ("[email]", "person4@example.org"),
        ("[email]", "stranger@example.org"),
    );
    let unknown = "ignored|no CRM row is known under this address";
    let elsewhere = "ignored|of audience 0000000000, which is not ours";
    let cases = [
        ("subscribe", vec![ours, stranger], unknown),
        ("unsubscribe", vec![ours, stranger], unknown),
        ("cleaned", vec![ours, stranger], unknown),
        (
            "profile",
            vec![ours, stranger],
            "ignored|no CRM row is linked to this address",
        ),
        ("subscribe", vec![theirs, known], elsewhere),
        ("cleaned", vec![theirs, known], elsewhere),
        ("profile", vec![theirs, known], elsewhere),
        ("profile", vec![ours, known], "ignored|nothing new"),
        (
            "cleaned",
            vec![ours, ("[email]", "nonsense")],
            "ignored|no usable address",
        ),
        (
            "campaign",
            vec![ours, ("[id]", "cb398d21d2"), ("[status]", "sent")],
            "applied|campaign cb398d21d2 is sent; it changes no row",
        ),
        (
            "sms_subscribe",
            vec![ours, known],
            "ignored|sms_subscribe changes nothing in the CRM",
        ),
    ];
    for (kind, data, fate) in cases {
        assert_eq!(
            import(&mut crm, &body(kind, &later(10), &data)),
            fate,
            "{kind}"
        );
    }
    crm.converges();
}
