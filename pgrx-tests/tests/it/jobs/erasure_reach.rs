//! Whom an erasure reaches, whatever is known of them, and who may ask for it.

use integration_tests::{
    crm::{Crm, SOON},
    remote::{Fault, FaultBody, FaultKind, ObjectType, When},
    sql::{refused, refused_with_hint},
    traces::traces,
    uncommitted::Uncommitted,
    wait::wait_until,
};

use crate::audiences::several;
use crate::jobs::erasure::{
    EMAIL, ERASE, HER, add_ada, erase, is_gone, others_are_served, wait_until_done, with_ada,
};

#[test]
fn a_person_whose_row_is_gone_is_known_by_what_is_left() {
    let mut crm = with_ada();
    crm.run("BEGIN; SELECT integration.erase('crm.contacts', '1'); DELETE FROM crm.contacts WHERE id = 1; COMMIT");
    assert!(crm.ask::<bool>("SELECT integration.wait_idle('30s')"));
    is_gone(&mut crm);
    others_are_served(&mut crm);
}

#[test]
fn a_person_whose_deletion_waits_in_the_queue_is_erased() {
    let mut crm = with_ada();
    crm.run("SELECT integration.pause('hubspot'); SELECT integration.pause('mailchimp')");
    crm.run("UPDATE crm.contacts SET phone = '+49 30 7777123 1' WHERE id = 1");
    crm.run("DELETE FROM crm.contacts WHERE id = 1");
    let job: i64 = crm.ask(ERASE);
    crm.run("SELECT integration.resume('hubspot'); SELECT integration.resume('mailchimp')");
    wait_until_done(&mut crm, job);
    crm.settle();
    is_gone(&mut crm);
}

#[test]
fn mailchimp_forgets_whoever_was_deleted_before() {
    let mut crm = with_ada();
    crm.run("DELETE FROM crm.contacts WHERE id = 1");
    crm.settle();
    assert!(!crm.remote.is_forgotten(EMAIL), "only archived");
    erase(&mut crm);
    is_gone(&mut crm);
    assert!(crm.remote.archived(ObjectType::Contact).is_empty());
}

#[test]
fn who_was_never_sent_is_kept_out_of_both_services() {
    let mut crm = Crm::start();
    crm.run("SELECT integration.pause('hubspot'); SELECT integration.pause('mailchimp')");
    add_ada(&mut crm);
    let job: i64 = crm.ask(ERASE);
    crm.run("SELECT integration.resume('hubspot'); SELECT integration.resume('mailchimp')");
    wait_until_done(&mut crm, job);
    crm.settle();
    assert_eq!(
        (crm.remote.contacts().len(), crm.remote.members().len()),
        (0, 0)
    );
    assert_eq!(traces(&mut crm.client, &HER), Vec::<String>::new());
}

#[test]
fn a_key_that_nothing_is_known_of_ends_done_and_says_so() {
    let mut crm = with_ada();
    let job: i64 = crm.ask("SELECT integration.erase('crm.contacts', '4711')");
    wait_until_done(&mut crm, job);
    let said: String = crm.ask(&format!(
        "SELECT error FROM integration.job WHERE id = {job}"
    ));
    assert!(said.contains("nothing was known"), "{said}");
    crm.converges();
}

#[test]
fn an_address_that_is_another_rows_as_well_is_left_to_that_one() {
    let mut crm = with_ada();
    crm.run("INSERT INTO crm.contacts (email, first_name, marketing_opt_in) VALUES ('Ada.Byron@example.org', 'Twin', true)");
    crm.settle();
    let twin: String = crm.ask("SELECT id::text FROM crm.contacts WHERE first_name = 'Twin'");
    let job: i64 = crm.ask(&format!(
        "SELECT integration.erase('crm.contacts', '{twin}')"
    ));
    wait_until_done(&mut crm, job);
    let said: String = crm.ask(&format!(
        "SELECT error FROM integration.job WHERE id = {job}"
    ));
    assert!(said.contains("another record's"), "{said}");
    assert!(crm.remote.contact(EMAIL).is_some() && !crm.remote.is_forgotten(EMAIL));
    erase(&mut crm);
    is_gone(&mut crm);
}

#[test]
fn other_records_are_archived_and_withheld() {
    let mut crm = Crm::start();
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('Engines', 'engines.example')");
    crm.converges();
    let job: i64 = crm.ask("SELECT integration.erase('crm.companies', '1')");
    wait_until_done(&mut crm, job);
    assert!(crm.remote.companies().is_empty());
    crm.run("UPDATE crm.companies SET city = 'London'");
    crm.settle();
    assert!(crm.remote.companies().is_empty());
    assert_eq!(traces(&mut crm.client, &["engines"]), Vec::<String>::new());
    crm.run("SELECT integration.allow_again('crm.companies', '1')");
    crm.converges();
    assert_eq!(crm.remote.companies().len(), 1);
}

#[test]
fn a_member_is_erased_in_every_audience_it_was_in() {
    let mut crm = several::start();
    add_ada(&mut crm);
    crm.settle();
    for list in [several::THIRD, several::OTHER] {
        several::move_to(&mut crm, 1, list);
        crm.settle();
        assert!(crm.remote.member_of(list, EMAIL).is_some());
    }
    erase(&mut crm);
    is_gone(&mut crm);
    for list in [several::THIRD, several::OTHER] {
        assert!(crm.remote.is_forgotten_in(list, EMAIL), "{list}");
    }
}

#[test]
fn merged_in_hubspot_a_person_is_erased_where_they_are_now() {
    let mut crm = with_ada();
    let (id, _) = crm.remote.contact(EMAIL).unwrap();
    let other = crm
        .remote
        .create_record(ObjectType::Contact, &[("firstname", "Augusta Ada")])
        .unwrap();
    crm.remote
        .merge_records(ObjectType::Contact, id, other)
        .unwrap();
    // HubSpot does not follow the old id.
    let gone = FaultKind::Status {
        code: 404,
        body: FaultBody::Json,
        retry_after: None,
    };
    let fault = Fault::new(gone, When::NextN(1)).path("gdpr-delete");
    crm.remote.add_fault(fault.body(&format!("\"{id}\"")));
    erase(&mut crm);
    is_gone(&mut crm);
}

#[test]
fn a_person_is_erased_whose_table_is_tracked_no_longer() {
    let mut crm = with_ada();
    crm.run("SELECT integration.untrack('crm.contacts')");
    erase(&mut crm);
    is_gone(&mut crm);
}

#[test]
fn keys_of_several_columns_and_rows_without_an_address_are_erased() {
    let mut crm = Crm::start();
    crm.run(
        "CREATE TABLE crm.people (branch int, number int, first_name text, last_name text, PRIMARY KEY (branch, number));
         SELECT integration.track('crm.people', 'contact', targets => '{hubspot}');
         INSERT INTO crm.people VALUES (7, 1, 'Augusta Ada', 'Byron-King')",
    );
    crm.settle();
    assert_eq!(crm.remote.contacts().len(), 1);
    let job: i64 = crm.ask("SELECT integration.erase('crm.people', '[ \"7\", \"1\" ]')");
    wait_until_done(&mut crm, job);
    assert!(crm.remote.contacts().is_empty());
    crm.run("UPDATE crm.people SET first_name = 'Augusta'");
    crm.settle();
    assert!(crm.remote.contacts().is_empty());
    assert_eq!(traces(&mut crm.client, &HER), Vec::<String>::new());
}

#[test]
fn what_cannot_be_erased_is_refused_with_a_reason() {
    let mut crm = with_ada();
    crm.run("CREATE TABLE crm.pairs (a int, b uuid, email text, PRIMARY KEY (a, b)); SELECT integration.track('crm.pairs', 'contact')");
    let cases = [
        ("SELECT integration.erase('crm.contacts', NULL)", "22004"),
        ("SELECT integration.erase('crm.contacts', '')", "22004"),
        ("SELECT integration.erase('crm.contacts', 'ada')", "22023"),
        ("SELECT integration.erase('crm.pairs', '1')", "22023"),
        ("SELECT integration.erase('crm.pairs', '[\"1\"]')", "22023"),
        (
            "SELECT integration.erase('crm.pairs', '[\"1\", \"x\"]')",
            "22023",
        ),
        ("SELECT integration.erase('pg_class', '1')", "42704"),
        (
            "SELECT integration.allow_again('crm.contacts', 'ada')",
            "22023",
        ),
    ];
    for (sql, state) in cases {
        refused_with_hint(&mut crm.client, sql, state);
    }
    crm.run("SELECT integration.pause('hubspot')");
    let job: i64 = crm.ask(ERASE);
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.allow_again('crm.contacts', '1')",
        "55006",
    );
    // Stopped, it is forgotten whom it was about; she stays withheld until she is allowed again.
    assert!(crm.ask::<bool>(&format!("SELECT integration.cancel_job({job})")));
    wait_until("it is forgotten", SOON, || {
        crm.ask::<bool>("SELECT NOT EXISTS (SELECT FROM integration._erasure)")
            .then_some(())
    });
    assert!(crm.ask::<bool>("SELECT integration.allow_again('crm.contacts', '1')"));
}

#[test]
fn only_the_tables_owner_may_erase() {
    let mut crm = with_ada();
    let role = format!("stranger_{}", crm.database);
    crm.run(&format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA integration, crm TO {role}"
    ));
    crm.run(&format!("SET SESSION AUTHORIZATION {role}"));
    let denied = |crm: &mut Crm, sql: &str| refused(&mut crm.client, sql);
    assert_eq!(denied(&mut crm, ERASE).code().code(), "42501");
    crm.run("RESET SESSION AUTHORIZATION");
    crm.run(&format!("GRANT EXECUTE ON FUNCTION integration.erase(regclass, text), integration.allow_again(regclass, text) TO {role}"));
    crm.run(&format!("SET SESSION AUTHORIZATION {role}"));
    assert_eq!(denied(&mut crm, ERASE).code().code(), "42501");
    assert_eq!(
        denied(
            &mut crm,
            "SELECT integration.allow_again('crm.contacts', '1')"
        )
        .code()
        .code(),
        "42501"
    );
    crm.run("RESET SESSION AUTHORIZATION");
    crm.run(&format!("ALTER TABLE crm.contacts OWNER TO {role}; GRANT CREATE, USAGE ON SCHEMA crm TO {role}; SET SESSION AUTHORIZATION {role}"));
    let job: i64 = crm.ask(ERASE);
    crm.run("RESET SESSION AUTHORIZATION");
    wait_until_done(&mut crm, job);
    is_gone(&mut crm);
    crm.run(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"));
}

#[test]
fn addresses_are_found_in_texts_but_not_in_longer_addresses() {
    let mut session = Uncommitted::begin();
    let cases = [
        ("Ada@Example.org", true),
        ("no contact <ada@example.org>, sorry.", true),
        ("it was ada@example.org.", true),
        ("email = 'ada@example.org'", true),
        ("{\"email\":\"ada@example.org\"}", true),
        ("x.ada@example.org", false),
        ("o'ada@example.org", false),
        ("ada@example.org.uk", false),
        ("ada@example.organisation", false),
        ("adaXexampleYorg", false),
        ("q\"x@example.org", true),
        ("{\"email\":\"q\\\"x@example.org\"}", true),
    ];
    for (said, found) in cases {
        let is_found: bool = session.ask(&format!(
            "SELECT $a${said}$a$ ~* integration._mention('{{ada@example.org,\"q\\\"x@example.org\"}}')"
        ));
        assert_eq!(is_found, found, "{said}");
    }
    let nobody: Option<String> = session.ask("SELECT integration._mention('{}')");
    assert_eq!(nobody, None);
}
