//! What a text column of the CRM says about consent: words that everybody understands, words of the
//! table's own, and those that nobody knows.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{MemberAction, Service, Status, path_secret, unlimited},
    sql::{quote_literal, refused_with_hint},
    wait::wait_until,
};

const OWN: &str = "SELECT integration.map_field('crm.people', 'newsletter', 'mailchimp', 'status',
    value_map => '{\"Ja\": \"subscribed\", \"nein\": \"unsubscribed\", \"offen\": \"pending\"}')";

fn people() -> Crm {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(
        "CREATE TABLE crm.people (id int PRIMARY KEY, email text, newsletter text CHECK (newsletter <> 'unsubscribed'));
         SELECT integration.track('crm.people', 'contact', targets => '{mailchimp}')",
    );
    crm
}

fn email(word: &str) -> String {
    format!("{}@example.org", word.trim().to_lowercase())
}

fn add(crm: &mut Crm, words: &[&str]) {
    for (id, word) in words.iter().enumerate() {
        crm.run(&format!(
            "INSERT INTO crm.people VALUES ({id}, {}, {})",
            quote_literal(&email(word)),
            quote_literal(word)
        ));
    }
    crm.settle();
}

fn subscribed(crm: &Crm, word: &str) -> bool {
    crm.remote.status_of(&email(word)) == Some(Status::Subscribed)
}

#[test]
fn unheard_word_is_no_consent_and_is_named_once() {
    let mut crm = people();
    let clear = ["accepted", "1", "Y", "on", " Yes "];
    let unclear = ["Ja", "offen", "jein"];
    let all: Vec<&str> = clear
        .into_iter()
        .chain(unclear)
        .chain(["declined"])
        .collect();
    add(&mut crm, &all);
    assert!(clear.iter().all(|word| subscribed(&crm, word)));
    assert!(!unclear.iter().any(|word| subscribed(&crm, word)));
    let alerts = "SELECT subject, message FROM integration.alert WHERE kind = 'consent_words' AND cleared_at IS NULL";
    let found = crm.rows(alerts).join("\n");
    assert!(found.starts_with("crm.people.newsletter|\""), "{found}");
    assert!(
        unclear
            .iter()
            .all(|word| found.contains(&format!("\"{word}\": counts as no consent")))
    );
    assert!(
        !found.contains("declined") && !found.contains("accepted"),
        "{found}"
    );
    // Not told again, whatever becomes of the rows and of the worker.
    crm.run("SELECT integration.reload(); UPDATE crm.people SET email = 'x' || email WHERE newsletter = 'Ja'");
    crm.settle();
    assert_eq!(crm.rows(alerts).join("\n"), found);

    crm.run(OWN);
    assert_eq!(crm.rows(alerts), [""; 0], "they are explained");
    crm.run("SELECT integration.backfill('crm.people', 'mailchimp')");
    wait_until("the opt-in is understood", SOON, || {
        let status = crm.remote.status_of("xja@example.org");
        (status == Some(Status::Subscribed)).then_some(())
    });
    crm.settle();
    assert!(!subscribed(&crm, "offen") && !subscribed(&crm, "jein"));
}

#[test]
fn words_of_the_table_travel_both_ways() {
    let mut crm = people();
    crm.run(OWN);
    add(&mut crm, &["ja"]);
    assert!(subscribed(&crm, "ja"));
    // What is an opt-out overtakes the rest, and what is none does not.
    crm.run("SELECT integration.pause('mailchimp', 'to look at the queue')");
    for (word, lane) in [("JA ", 1), ("Nein", 0)] {
        crm.run(&format!("UPDATE crm.people SET newsletter = '{word}'"));
        let lanes = "SELECT lane FROM integration._change ORDER BY xid DESC, seq DESC LIMIT 1";
        assert_eq!(crm.rows(lanes), [lane.to_string()], "{word}");
    }
    crm.run("SELECT integration.resume('mailchimp')");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("ja@example.org"),
        Some(Status::Unsubscribed)
    );
    crm.run("UPDATE crm.people SET newsletter = 'ja'");
    crm.settle();
    assert!(subscribed(&crm, "ja"));
    // The table takes no word but its own.
    let told = |crm: &mut Crm, action: MemberAction, word: &str| {
        crm.remote.clear_webhooks();
        crm.remote.member_does("ja@example.org", action).unwrap();
        for delivery in crm.remote.webhooks_of(Service::Mailchimp) {
            let secret = path_secret(&delivery).to_owned();
            crm.run(&format!(
                "SELECT integration.import_mailchimp_webhook({}, '{{}}', {})",
                quote_literal(&delivery.body),
                quote_literal(&secret)
            ));
        }
        crm.settle();
        assert_eq!(crm.rows("SELECT newsletter FROM crm.people"), [word]);
    };
    told(&mut crm, MemberAction::Unsubscribe { abuse: false }, "nein");
    // Whole seconds are all that Mailchimp tells of.
    let second = "SELECT extract(epoch FROM date_trunc('second', clock_timestamp()))::int8";
    let left_in: i64 = crm.ask(second);
    wait_until("the next second has come", SOON, || {
        (crm.ask::<i64>(second) > left_in).then_some(())
    });
    let merge_fields = Default::default();
    told(&mut crm, MemberAction::Subscribe { merge_fields }, "Ja");
}

#[test]
fn words_are_checked_at_once() {
    let mut crm = people();
    let map = |column: &str, target: &str, field: &str, words: &str| {
        format!(
            "SELECT integration.map_field('crm.people', '{column}', '{target}', '{field}', value_map => '{words}')"
        )
    };
    for (sql, said) in [
        (
            map("newsletter", "mailchimp", "status", r#"{"ja": "yes"}"#),
            "\"ja\": \"yes\"",
        ),
        (
            map("newsletter", "mailchimp", "status", r#"{"ja": 1}"#),
            "\"ja\": 1",
        ),
        (map("newsletter", "mailchimp", "status", "{}"), "no object"),
        (map("newsletter", "mailchimp", "status", "[]"), "no object"),
        (
            map(
                "newsletter",
                "mailchimp",
                "status",
                r#"{"ja": "subscribed", "JA ": "unsubscribed"}"#,
            ),
            "two meanings for ja",
        ),
        (
            map(
                "newsletter",
                "mailchimp",
                "FNAME",
                r#"{"ja": "subscribed"}"#,
            ),
            "not for FNAME",
        ),
    ] {
        let error = refused_with_hint(&mut crm.client, &sql, "22023");
        assert!(error.message().contains(said), "{}", error.message());
    }
}
