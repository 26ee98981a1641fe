//! What can be tracked as what, and by which key.

use integration_tests::{sql::refused, uncommitted::Uncommitted};

#[test]
fn untracked_table_can_become_something_else() {
    let mut session = Uncommitted::with_contacts();
    session.run("SELECT integration.untrack('crm.contacts')");
    session.run("SELECT integration.track('crm.contacts', 'deal')");
    let tracked: String =
        session.ask("SELECT entity || ' ' || targets::text FROM integration.tracked_table");
    assert_eq!(tracked, "deal {hubspot}");
}

#[test]
fn tracked_table_cannot_become_something_else() {
    let mut session = Uncommitted::with_contacts();
    let refusal = refused(
        &mut session.client,
        "SELECT integration.track('crm.contacts', 'deal')",
    );
    assert_eq!(
        refusal.message(),
        "table crm.contacts is already tracked as contact by id"
    );
}

#[test]
fn table_without_a_key_is_refused() {
    let mut session = Uncommitted::begin();
    session.run("CREATE SCHEMA crm; CREATE TABLE crm.bare (email text)");
    let refusal = refused(
        &mut session.client,
        "SELECT integration.track('crm.bare', 'contact')",
    );
    assert_eq!(refusal.message(), "table crm.bare has no primary key");
}

#[test]
fn keys_are_taken_as_they_are_stored() {
    let mut session = Uncommitted::with_contacts();
    session.run(
        "CREATE TABLE crm.pairs (a int, b uuid, email text, PRIMARY KEY (a, b)); SELECT integration.track('crm.pairs', 'contact')",
    );
    let mut stored = |table: &str, key: &str| -> String {
        session.ask(&format!(
            "SELECT integration._must_be_key(t, $k${key}$k$) FROM integration.tracked_table t WHERE t.source = 'crm.{table}'::regclass"
        ))
    };
    assert_eq!(stored("contacts", " 0042 "), "42");
    let uuid = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11";
    assert_eq!(
        stored("pairs", &format!("[ \"7\", \"{uuid}\" ]")),
        format!("[\"7\",\"{}\"]", uuid.to_lowercase())
    );
}

#[test]
fn misspelt_setting_is_refused() {
    let mut session = Uncommitted::begin();
    let refusal = refused(
        &mut session.client,
        "SELECT current_setting('integration.hubspot_acces_token')",
    );
    assert_eq!(
        refusal.message(),
        "unrecognized configuration parameter \"integration.hubspot_acces_token\""
    );
}
