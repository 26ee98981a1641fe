//! One bad record never holds up the others, is explained, and can be repaired and sent again.

use integration_tests::{
    crm::{Crm, LATER, SOON},
    remote::Status,
    wait::wait_until,
};

/// 250 contacts, of which number 77 has an address that looks well and that both services refuse.
fn poisoned() -> Crm {
    let mut crm = Crm::start();
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, last_name, marketing_opt_in)
         SELECT CASE n WHEN 77 THEN 'person77@nowhere.invalid' ELSE format('person%s@example.org', n) END, 'First', 'Last', true
         FROM generate_series(1, 250) n",
    );
    crm.converges_within(LATER);
    crm
}

#[test]
fn poisoned_record_is_a_dead_letter_and_its_mates_are_delivered() {
    let mut crm = poisoned();
    assert_eq!(
        (crm.remote.contacts().len(), crm.remote.members().len()),
        (249, 249)
    );
    let dead = crm.rows(
        "SELECT target, entity, source, record_key, op, category, error <> '', attempts >= 0, died_at >= first_enqueued_at, resolution
         FROM integration.dlq ORDER BY target",
    );
    assert_eq!(
        dead,
        [
            "hubspot|contact|crm.contacts|77|upsert|validation|t|t|t|NULL",
            "mailchimp|contact|crm.contacts|77|upsert|validation|t|t|t|NULL"
        ]
    );
    assert_eq!(
        crm.rows("SELECT target, dead FROM integration.status ORDER BY 1"),
        ["hubspot|1", "mailchimp|1"]
    );
    assert!(
        crm.rows("SELECT state FROM integration.sync_status('crm.contacts', '77')")
            .iter()
            .all(|state| state == "dead")
    );
}

#[test]
fn record_that_is_refused_again_has_one_open_dead_letter() {
    let mut crm = poisoned();
    for round in 1..=2 {
        crm.run("UPDATE crm.contacts SET last_name = last_name || '!' WHERE id = 77");
        wait_until("it is refused again", SOON, || {
            crm.ask::<bool>(&format!(
                "SELECT count(*) = {} FROM integration.dlq",
                2 + 2 * round
            ))
            .then_some(())
        });
    }
    assert_eq!(
        crm.rows(
            "SELECT target, resolution, count(*), max(id) = max(max(id)) OVER (PARTITION BY target) FROM integration.dlq GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        [
            "hubspot|superseded|2|f",
            "hubspot|NULL|1|t",
            "mailchimp|superseded|2|f",
            "mailchimp|NULL|1|t"
        ]
    );
    assert_eq!(
        crm.rows("SELECT target, dead FROM integration.status ORDER BY 1"),
        ["hubspot|1", "mailchimp|1"]
    );
    assert_eq!(crm.ask::<i64>("SELECT integration.dlq_retry()"), 2);
}

#[test]
fn repaired_record_is_delivered_and_its_dead_letter_superseded() {
    let mut crm = poisoned();
    crm.run("UPDATE crm.contacts SET email = 'repaired@example.org' WHERE id = 77");
    crm.converges();
    assert!(crm.remote.contact("repaired@example.org").is_some());
    let letters = crm
        .rows("SELECT target, resolution, resolved_at IS NOT NULL FROM integration.dlq ORDER BY 1");
    assert_eq!(letters, ["hubspot|superseded|t", "mailchimp|superseded|t"]);
    assert_eq!(
        crm.rows("SELECT DISTINCT dead FROM integration.status"),
        ["0"]
    );
}

#[test]
fn retried_dead_letter_is_delivered() {
    let mut crm = Crm::start();
    // Mailchimp refuses it now, and would take it later: nothing changes in the CRM in between.
    crm.remote
        .configure(|config| config.mailchimp.fake_domains.push("example.org".to_owned()));
    crm.add_contacts(1, 10);
    crm.settle();
    assert_eq!(
        crm.ask::<i64>(
            "SELECT count(*) FROM integration.dlq WHERE target = 'mailchimp' AND resolution IS NULL"
        ),
        5
    );
    crm.remote
        .configure(|config| config.mailchimp.fake_domains.clear());
    assert_eq!(
        crm.ask::<i64>("SELECT integration.dlq_retry(target => 'hubspot')"),
        0
    );
    assert_eq!(
        crm.ask::<i64>("SELECT integration.dlq_retry(category => 'validation')"),
        5
    );
    crm.converges();
    assert_eq!(crm.remote.members().len(), 5);
    assert_eq!(
        crm.rows("SELECT DISTINCT resolution FROM integration.dlq"),
        ["retried"]
    );
}

#[test]
fn retry_of_a_record_that_is_still_bad_makes_a_new_dead_letter() {
    let mut crm = poisoned();
    let first: i64 = crm.ask("SELECT id FROM integration.dlq WHERE target = 'hubspot'");
    assert_eq!(
        crm.ask::<i64>(&format!("SELECT integration.dlq_retry(ARRAY[{first}])")),
        1
    );
    wait_until("there is a new dead letter", SOON, || {
        let letters: i64 = crm.ask("SELECT count(*) FROM integration.dlq WHERE target = 'hubspot'");
        (letters == 2).then_some(())
    });
    let letters =
        crm.rows("SELECT resolution FROM integration.dlq WHERE target = 'hubspot' ORDER BY id");
    assert_eq!(letters, ["retried", "NULL"]);
}

#[test]
fn discarded_dead_letter_stays_closed() {
    let mut crm = poisoned();
    assert_eq!(crm.ask::<i64>("SELECT integration.dlq_discard((SELECT array_agg(id) FROM integration.dlq), 'test data')"), 2);
    assert_eq!(
        crm.rows("SELECT DISTINCT resolution FROM integration.dlq"),
        ["discarded"]
    );
    assert_eq!(crm.ask::<i64>("SELECT integration.dlq_retry()"), 0);
}

#[test]
fn many_bad_records_are_found_one_by_one() {
    let mut crm = Crm::start();
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in)
         SELECT CASE WHEN n % 10 = 0 THEN format('person%s@nowhere.invalid', n) ELSE format('person%s@example.org', n) END, 'First', n % 2 = 0
         FROM generate_series(1, 300) n",
    );
    crm.converges_within(LATER);
    assert_eq!(crm.remote.contacts().len(), 270);
    assert_eq!(
        crm.rows("SELECT target, category, count(*) FROM integration.dlq GROUP BY 1, 2 ORDER BY 1"),
        ["hubspot|validation|30", "mailchimp|validation|30"]
    );
}

#[test]
fn value_that_hubspot_refuses_is_named() {
    let mut crm = Crm::start();
    crm.run(
        "ALTER TABLE crm.contacts ADD lifecycle_stage text;
         SELECT integration.map_field('crm.contacts', 'lifecycle_stage', 'hubspot', 'lifecyclestage');
         INSERT INTO crm.contacts (email, lifecycle_stage) VALUES ('ada@example.org', 'royalty'), ('bob@example.org', 'lead')",
    );
    crm.converges();
    let error: String = crm.ask("SELECT error FROM integration.dlq WHERE target = 'hubspot'");
    assert!(error.contains("lifecyclestage"), "{error}");
    assert_eq!(
        crm.remote.contact("bob@example.org").unwrap().1["lifecyclestage"],
        "lead"
    );
}

#[test]
fn address_that_is_none_is_not_even_sent() {
    let mut crm = Crm::start();
    crm.run("INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('no address', true), ('ada@example.org', true)");
    crm.converges();
    let dead =
        crm.rows("SELECT target, category, error LIKE '%email%' FROM integration.dlq ORDER BY 1");
    assert_eq!(dead, ["hubspot|unmappable|t", "mailchimp|unmappable|t"]);
}

#[test]
fn value_that_cannot_be_mapped_harms_nobody_else() {
    let mut crm = Crm::start();
    crm.run(
        "ALTER TABLE crm.companies ADD revenue numeric;
         SELECT integration.map_field('crm.companies', 'revenue', 'hubspot', 'annualrevenue');
         INSERT INTO crm.companies (name, revenue) VALUES ('good', 17.5), ('bad', 'NaN'), ('also good', NULL)",
    );
    crm.converges();
    assert_eq!(crm.remote.companies().len(), 2);
    assert_eq!(
        crm.rows("SELECT target, record_key, category FROM integration.dlq"),
        ["hubspot|2|unmappable"]
    );
}

#[test]
fn text_that_is_too_long_is_a_dead_letter() {
    let mut crm = Crm::start();
    crm.run("INSERT INTO crm.contacts (email, company) VALUES ('long@example.org', repeat('x', 1000000)), ('short@example.org', 'x')");
    crm.converges();
    let dead = crm.rows(
        "SELECT target, record_key, category IN ('validation', 'too_large') FROM integration.dlq",
    );
    assert_eq!(dead, ["hubspot|1|t"]);
    assert!(crm.remote.contact("short@example.org").is_some());
}

#[test]
fn contact_without_an_address_goes_to_hubspot_only() {
    let mut crm = Crm::start();
    crm.run("INSERT INTO crm.contacts (first_name, last_name, marketing_opt_in) VALUES ('No', 'Address', true)");
    crm.converges();
    assert_eq!(crm.remote.contacts().len(), 1);
    assert_eq!(crm.remote.status_of("person@example.org"), None::<Status>);
    assert!(crm.remote.members().is_empty());
}
