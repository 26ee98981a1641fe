//! What can't work is refused at once, with a SQLSTATE and a hint, and nothing is half done.

use integration_tests::{
    cluster::Cluster,
    crm::Crm,
    remote::unlimited,
    sql::{refused, refused_with_hint},
};

fn untracked() -> Crm {
    Crm::untracked(Cluster::shared(), unlimited())
}

#[track_caller]
fn nothing_is_tracked(crm: &mut Crm) {
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.tracked_table"),
        0
    );
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.field_map"),
        0
    );
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'crm'::regnamespace AND NOT tgisinternal"), 0);
}

#[test]
fn table_that_is_not_there() {
    let mut crm = untracked();
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.nobody', 'contact')",
        "42P01",
    );
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('nowhere.contacts', 'contact')",
        "42P01",
    );
    nothing_is_tracked(&mut crm);
}

#[test]
fn entity_that_is_not_known() {
    let mut crm = untracked();
    let error = refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.contacts', 'person')",
        "22023",
    );
    assert!(error.hint().unwrap().contains("contact"));
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.companies', 'company', targets => '{mailchimp}')",
        "22023",
    );
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.companies', 'company', targets => '{pipedrive}')",
        "22023",
    );
    nothing_is_tracked(&mut crm);
}

#[test]
fn table_without_a_key() {
    let mut crm = untracked();
    crm.run("CREATE TABLE crm.loose (email text, code text)");
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.loose', 'contact')",
        "42P16",
    );
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.loose', 'contact', key => 'code')",
        "42P16",
    );
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.loose', 'contact', key => 'nothing')",
        "42703",
    );
    nothing_is_tracked(&mut crm);
    crm.run("ALTER TABLE crm.loose ALTER code SET NOT NULL, ADD UNIQUE (code)");
    crm.run("SELECT integration.track('crm.loose', 'contact', key => 'code')");
}

#[test]
fn relations_that_are_no_tables() {
    let mut crm = untracked();
    crm.run(
        "CREATE VIEW crm.people AS SELECT * FROM crm.contacts;
         CREATE MATERIALIZED VIEW crm.frozen AS SELECT * FROM crm.contacts;
         CREATE SEQUENCE crm.counter;
         CREATE TEMP TABLE mine (id int PRIMARY KEY, email text)",
    );
    for name in [
        "crm.people",
        "crm.frozen",
        "crm.counter",
        "pg_temp.mine",
        "pg_catalog.pg_class",
        "integration.tracked_table",
    ] {
        refused_with_hint(
            &mut crm.client,
            &format!("SELECT integration.track('{name}', 'contact')"),
            "42809",
        );
    }
    nothing_is_tracked(&mut crm);
}

#[test]
fn key_whose_text_depends_on_the_session() {
    let mut crm = untracked();
    crm.run("CREATE TABLE crm.visits (at timestamptz PRIMARY KEY, email text); CREATE TABLE crm.floats (n float8 PRIMARY KEY, email text)");
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.visits', 'contact')",
        "42804",
    );
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.floats', 'contact')",
        "42804",
    );
    nothing_is_tracked(&mut crm);
}

#[test]
fn tracking_twice_changes_nothing_or_is_refused() {
    let mut crm = untracked();
    crm.run("SELECT integration.track('crm.contacts', 'contact')");
    let map = "SELECT * FROM integration.field_map ORDER BY 1, 2";
    let triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'crm.contacts'::regclass AND NOT tgisinternal ORDER BY 1";
    let before = (crm.rows(map), crm.rows(triggers));
    crm.run("SELECT integration.track('crm.contacts', 'contact')");
    assert_eq!((crm.rows(map), crm.rows(triggers)), before);
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.contacts', 'company')",
        "42710",
    );
    assert_eq!((crm.rows(map), crm.rows(triggers)), before);
}

#[test]
fn fields_that_cannot_be_mapped() {
    let mut crm = untracked();
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.map_field('crm.contacts', 'email', 'hubspot', 'email')",
        "42704",
    );
    crm.run("ALTER TABLE crm.contacts ADD place point; SELECT integration.track('crm.contacts', 'contact')");
    let before = crm.rows("SELECT * FROM integration.field_map ORDER BY 1, 2");
    for (call, sqlstate) in [
        ("'nothing', 'hubspot', 'city'", "42703"),
        ("'place', 'hubspot', 'city'", "42804"),
        ("'updated_at', 'mailchimp', 'status'", "42804"),
        ("'notes', 'pipedrive', 'city'", "42704"),
        ("'notes', 'hubspot', 'No Such Name'", "42602"),
        ("'notes', 'mailchimp', 'lower'", "42602"),
        ("'notes', 'hubspot', 'city', 'sideways'", "22023"),
        (
            "'notes', 'hubspot', 'city', 'both', 'loudest_wins'",
            "22023",
        ),
    ] {
        refused_with_hint(
            &mut crm.client,
            &format!("SELECT integration.map_field('crm.contacts', {call})"),
            sqlstate,
        );
    }
    assert_eq!(
        crm.rows("SELECT * FROM integration.field_map ORDER BY 1, 2"),
        before
    );
}

#[test]
fn what_is_not_tracked() {
    let mut crm = untracked();
    for call in ["untrack('crm.contacts')", "preview('crm.contacts', '1')"] {
        refused_with_hint(
            &mut crm.client,
            &format!("SELECT integration.{call}"),
            "42704",
        );
    }
    let states =
        crm.rows("SELECT DISTINCT state FROM integration.sync_status('crm.contacts', '1')");
    assert_eq!(states, ["untracked"]);
}

#[test]
fn table_of_somebody_else() {
    let mut crm = untracked();
    let role = format!("guest_of_{}", crm.database);
    crm.run(&format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA crm, integration TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA crm TO {role};
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA integration TO {role}; SET SESSION AUTHORIZATION {role}"
    ));
    let error = refused(
        &mut crm.client,
        "SELECT integration.track('crm.contacts', 'contact')",
    );
    assert_eq!(error.code().code(), "42501", "{error:?}");
    crm.run(&format!(
        "RESET SESSION AUTHORIZATION; DROP OWNED BY {role}; DROP ROLE {role}"
    ));
    nothing_is_tracked(&mut crm);
}

#[test]
fn settings_that_make_no_sense() {
    let mut crm = untracked();
    for (name, value) in [
        ("max_attempts", "0"),
        ("retry_base", "soon"),
        ("mailchimp_max_connections", "11"),
        ("hubspot_base_url", "http://api.example.org"),
        ("hubspot_base_url", "not a url"),
        ("mailchimp_resubscribe", "always"),
        ("mailchimp_on_delete", "shrug"),
        ("hubspot_rate_limit", "plenty"),
        ("guard_deletes", "a few"),
    ] {
        let error = refused(
            &mut crm.client,
            &format!("SET integration.{name} = '{value}'"),
        );
        assert_eq!(error.code().code(), "22023", "{name} = {value}: {error:?}");
    }
    let error = refused(&mut crm.client, "SET integration.hubspot_acess_token = 'x'");
    assert_eq!(error.code().code(), "42602", "a misspelt name: {error:?}");
}
