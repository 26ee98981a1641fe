//! Addresses that Mailchimp refuses, that are not ASCII, that two rows have or that change hands:
//! each is explained, and nobody else is harmed.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Config, Service, Status, unlimited},
    wait::wait_until,
};

/// Contacts go to Mailchimp only.
pub fn mailing(config: Config) -> Crm {
    mailing_on(Cluster::shared(), config)
}

pub fn mailing_on(cluster: Arc<Cluster>, config: Config) -> Crm {
    let mut crm = Crm::untracked(cluster, config);
    crm.run("SELECT integration.track('crm.contacts', 'contact', targets => '{mailchimp}')");
    crm
}

pub fn first_name(crm: &Crm, email: &str) -> String {
    let member = crm.remote.member(email).unwrap();
    member.merge_fields["FNAME"].as_str().unwrap().to_owned()
}

#[test]
fn bad_addresses_are_explained_and_good_ones_arrive() {
    let mut crm = mailing(unlimited());
    let long = format!("{}@example.org", "a".repeat(250));
    let bad = [
        ("nonsense", "unmappable", "it has no @"),
        ("two@@example.org", "unmappable", "more than one @"),
        ("a blank@example.org", "unmappable", "blank"),
        ("ada@localhost", "unmappable", "domain is incomplete"),
        ("   ", "unmappable", "is empty"),
        (&long, "unmappable", "longer than 254"),
        (
            "fake.name@example.org",
            "validation",
            "looks fake or invalid",
        ),
        (
            ".dot@example.org",
            "validation",
            "provide a valid email address",
        ),
        (
            "ada@example.nosuchtld",
            "validation",
            "provide a valid email address",
        ),
    ];
    let good = [
        ("info@example.org", "info@example.org"),
        ("ada@example.org", "ada@example.org"),
        ("ada+news@example.org", "ada+news@example.org"),
        ("a.da@example.org", "a.da@example.org"),
        ("  Upper.Case@Example.ORG ", "upper.case@example.org"),
        ("jörg@bücher.example.org", "jörg@bücher.example.org"),
    ];
    let all = bad
        .iter()
        .map(|(email, ..)| *email)
        .chain(good.iter().map(|(email, _)| *email));
    let values: Vec<String> = all.map(|email| format!("('{email}', true)")).collect();
    crm.run(&format!(
        "INSERT INTO crm.contacts (email, marketing_opt_in) VALUES {};",
        values.join(", ")
    ));
    crm.settle();
    for (number, (email, category, why)) in (1..).zip(bad) {
        let letter = crm.rows(&format!(
            "SELECT category, error FROM integration.dlq WHERE target = 'mailchimp' AND record_key = '{number}'"
        ));
        assert_eq!(letter.len(), 1, "{email}");
        let right = letter[0].starts_with(category) && letter[0].contains(why);
        assert!(right, "{email}: {letter:?}");
    }
    let mut members: Vec<String> = crm.remote.members().into_iter().map(|m| m.email).collect();
    let mut wanted: Vec<&str> = good.iter().map(|(_, known)| *known).collect();
    members.sort();
    wanted.sort_unstable();
    assert_eq!(members, wanted);
    assert_eq!(
        crm.remote.writes_to(Service::Mailchimp),
        1,
        "a bad address costs no call"
    );
    // Repaired, they arrive.
    crm.run("UPDATE crm.contacts SET email = 'repaired@example.org' WHERE id = 7");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("repaired@example.org"),
        Some(Status::Subscribed)
    );
    let open = "SELECT count(*) FROM integration.dlq WHERE record_key = '7' AND resolution IS NULL";
    assert_eq!(crm.ask::<i64>(open), 0);
}

#[test]
fn second_row_with_an_address_waits_until_the_first_gives_it_up() {
    let mut crm = mailing(unlimited());
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in) VALUES
         ('ada@example.org', 'First', true), ('mate@example.org', 'Mate', true)",
    );
    crm.settle();
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in) VALUES
         ('Ada@Example.org', 'Second', true), ('other@example.org', 'Other', true)",
    );
    crm.settle();
    let why = crm.ask::<String>(
        "SELECT error FROM integration.dlq WHERE record_key = '3' AND category = 'conflict'",
    );
    assert!(why.contains("records 3 and 1 of crm.contacts"), "{why}");
    assert_eq!(first_name(&crm, "ada@example.org"), "First");
    assert_eq!(first_name(&crm, "other@example.org"), "Other");
    // An opt-out in the row that has the member counts, whatever the other one says.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 1");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("ada@example.org"),
        Some(Status::Unsubscribed)
    );
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true WHERE id = 1");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("ada@example.org"),
        Some(Status::Subscribed)
    );
    // The first row goes: its member is not archived, for the second one wants it.
    crm.remote.reset_log();
    crm.run("DELETE FROM crm.contacts WHERE id = 1");
    wait_until("the second row to have the member", SOON, || {
        (first_name(&crm, "ada@example.org") == "Second").then_some(())
    });
    crm.settle();
    assert_eq!(
        crm.remote.status_of("ada@example.org"),
        Some(Status::Subscribed)
    );
    let calls = crm.remote.requests_to(Service::Mailchimp);
    assert!(
        calls.iter().all(|call| call.method != "DELETE"),
        "{calls:?}"
    );
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.dlq WHERE resolution IS NULL"),
        0
    );
    // Without another row it is archived.
    crm.run("DELETE FROM crm.contacts WHERE id = 3");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("ada@example.org"),
        Some(Status::Archived)
    );
    assert_eq!(
        crm.remote.status_of("mate@example.org"),
        Some(Status::Subscribed)
    );
}

#[test]
fn two_new_rows_with_one_address_in_one_statement() {
    let mut crm = mailing(unlimited());
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in)
         SELECT 'person' || n || '@example.org', 'Mate', true FROM generate_series(1, 20) n
         UNION ALL SELECT 'ADA@example.org', 'Ada', true FROM generate_series(1, 3)",
    );
    crm.settle();
    let links = "SELECT count(*) FROM integration.link WHERE remote_key = 'ada@example.org'";
    let letters = "SELECT count(*) FROM integration.dlq WHERE category = 'conflict'";
    assert_eq!((crm.ask::<i64>(links), crm.ask::<i64>(letters)), (1, 2));
    assert_eq!(crm.remote.members().len(), 21);
    assert_eq!(crm.remote.stats().overlaps, 0);
}

#[test]
fn member_of_a_row_that_is_gone_passes_to_those_refused_for_it_one_after_the_other() {
    const ADA: &str = "ada@example.org";
    let mut crm = mailing(unlimited());
    for id in [1, 2, 3] {
        crm.run(&format!(
            "INSERT INTO crm.contacts (id, email, first_name, marketing_opt_in) OVERRIDING SYSTEM VALUE VALUES ({id}, '{ADA}', 'Ada {id}', true)"
        ));
        crm.settle();
    }
    // Who has it is a column, whatever the text says.
    const REFUSED: &str = "SELECT record_key, holder_source, holder_key FROM integration.dlq WHERE resolution IS NULL ORDER BY record_key";
    assert_eq!(crm.rows(REFUSED), ["2|crm.contacts|1", "3|crm.contacts|1"]);
    crm.run("UPDATE integration.dlq SET error = 'translated'");
    for (gone, heir, refused) in [(1, 2, &["3|crm.contacts|2"][..]), (2, 3, &[])] {
        crm.run(&format!("DELETE FROM crm.contacts WHERE id = {gone}"));
        crm.settle();
        assert_eq!(first_name(&crm, ADA), format!("Ada {heir}"));
        assert_eq!(crm.remote.status_of(ADA), Some(Status::Subscribed));
        assert_eq!(crm.rows(REFUSED), refused);
        let linked = "SELECT record_key FROM integration.link WHERE target = 'mailchimp'";
        assert_eq!(crm.rows(linked), [heir.to_string()]);
    }
    let archived = "SELECT count(*) FROM integration.request_log WHERE method = 'DELETE'";
    assert_eq!(crm.ask::<i64>(archived), 0);
}

#[test]
fn rows_that_swap_their_addresses_swap_their_members() {
    let mut crm = mailing(unlimited());
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in)
         SELECT 'person' || n || '@example.org', 'Person ' || n, true FROM generate_series(1, 6) n",
    );
    crm.settle();
    crm.run(
        "UPDATE crm.contacts c SET email = o.email, first_name = 'Swapped ' || c.id FROM crm.contacts o
         WHERE (c.id, o.id) IN ((1, 2), (2, 1))",
    );
    crm.settle();
    assert_eq!(first_name(&crm, "person1@example.org"), "Swapped 2");
    assert_eq!(first_name(&crm, "person2@example.org"), "Swapped 1");
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    let subscribed = crm.remote.members();
    assert!(
        subscribed
            .iter()
            .all(|member| member.status == Status::Subscribed)
    );
    assert_eq!(subscribed.len(), 6);
    // Later changes go to the right ones.
    crm.run(
        "UPDATE crm.contacts SET first_name = 'Third', marketing_opt_in = id <> 2 WHERE id < 4",
    );
    crm.settle();
    assert_eq!(
        crm.remote.status_of("person1@example.org"),
        Some(Status::Unsubscribed)
    );
    assert_eq!(first_name(&crm, "person2@example.org"), "Third");
}

#[test]
fn address_of_a_row_that_opted_out_and_moved_on_is_free_for_another() {
    let mut crm = mailing(unlimited());
    crm.run("INSERT INTO crm.contacts (email, first_name, marketing_opt_in) VALUES ('ada@example.org', 'Ada', true)");
    crm.settle();
    // Nothing is sent of the new address: the member keeps the old one.
    crm.run(
        "UPDATE crm.contacts SET email = 'lovelace@example.org', marketing_opt_in = false WHERE id = 1",
    );
    crm.settle();
    assert_eq!(
        crm.remote.status_of("ada@example.org"),
        Some(Status::Unsubscribed)
    );
    crm.run("INSERT INTO crm.contacts (email, first_name) VALUES ('ada@example.org', 'Second')");
    crm.settle();
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true, first_name = 'Back' WHERE id = 1");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("ada@example.org"),
        Some(Status::Unsubscribed)
    );
    assert_eq!(first_name(&crm, "lovelace@example.org"), "Back");
    assert_eq!(
        crm.rows("SELECT error FROM integration.dlq WHERE resolution IS NULL"),
        [""; 0]
    );
}

#[test]
fn address_in_too_many_lists_is_parked_for_a_day() {
    let mut config = unlimited();
    config.mailchimp.busy_words = vec!["busy".into()];
    let mut crm = mailing(config);
    crm.run(
        "INSERT INTO crm.contacts (email, marketing_opt_in)
         SELECT 'person' || n || '@example.org', true FROM generate_series(1, 50) n;
         INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('busy@example.org', true)",
    );
    wait_until("the others to arrive", SOON, || {
        (crm.remote.members().len() == 50).then_some(())
    });
    let parked = "SELECT coalesce(bool_and(not_before > now() + interval '23 hours' AND last_error LIKE '%a lot of lists%'), false) FROM integration.outbox";
    wait_until("it to be parked", SOON, || {
        crm.ask::<bool>(parked).then_some(())
    });
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.outbox"), 1);
    assert!(crm.remote.writes_to(Service::Mailchimp) <= 3);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    // Whoever changes the row need not wait.
    crm.remote
        .configure(|config| config.mailchimp.busy_words.clear());
    crm.run("UPDATE crm.contacts SET first_name = 'Ada' WHERE email = 'busy@example.org'");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("busy@example.org"),
        Some(Status::Subscribed)
    );
}

#[test]
fn people_beyond_ascii_are_found_even_if_their_hash_is_another() {
    let mut config = unlimited();
    config.mailchimp.other_hashes = true;
    let mut crm = mailing(config);
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in)
         SELECT 'jörg' || n || '@bücher.example.org', 'Jörg', true FROM generate_series(1, 4) n",
    );
    crm.settle();
    // As after a crash: nobody remembers the contacts' ids.
    crm.run("UPDATE integration._link SET remote_id = NULL");
    crm.run(
        "UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 1;
         UPDATE crm.contacts SET email = 'jürgen@example.org' WHERE id = 2;
         UPDATE crm.contacts SET first_name = 'Jo' WHERE id = 3;
         DELETE FROM crm.contacts WHERE id = 4",
    );
    crm.settle();
    let status = |n: u32| crm.remote.status_of(&format!("jörg{n}@bücher.example.org"));
    assert_eq!(status(1), Some(Status::Unsubscribed));
    assert_ne!(status(2), Some(Status::Subscribed));
    assert_eq!(status(3), Some(Status::Subscribed));
    assert_eq!(status(4), Some(Status::Archived));
    assert_eq!(
        crm.remote.status_of("jürgen@example.org"),
        Some(Status::Subscribed)
    );
    assert_eq!(first_name(&crm, "jörg3@bücher.example.org"), "Jo");
}

#[test]
fn audience_that_is_not_there_is_explained_and_nothing_is_given_up() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    let list: String = crm.ask("SELECT current_setting('integration.mailchimp_list_id')");
    crm.set("mailchimp_list_id", "ffffffffff");
    crm.run("SELECT integration.track('crm.contacts', 'contact', targets => '{mailchimp}')");
    crm.run("INSERT INTO crm.contacts (email, marketing_opt_in) SELECT 'person' || n || '@example.org', true FROM generate_series(1, 10) n");
    let told = "SELECT coalesce(bool_or(reason LIKE '%does not know the audience ffffffffff%' AND reason LIKE '%mailchimp_list_id%'), false) FROM integration.status WHERE target = 'mailchimp'";
    wait_until("it to be explained", SOON, || {
        crm.ask::<bool>(told).then_some(())
    });
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    let calls = crm.remote.requests_to(Service::Mailchimp).len();
    assert!(calls < 50, "{calls} calls");
    crm.set("mailchimp_list_id", &list);
    // Another audience has to be accepted.
    let held = "SELECT state = 'held' FROM integration.status WHERE target = 'mailchimp'";
    wait_until("the other audience to be noticed", SOON, || {
        crm.ask::<bool>(held).then_some(())
    });
    crm.run("SELECT integration.resume('mailchimp')");
    crm.settle();
    assert_eq!(crm.remote.members().len(), 10);
}
