//! What HubSpot's records are named by is unique in the portal: no table and no database overwrites
//! or deletes another one's records.

use integration_tests::portal::provision;
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER},
    remote::{Fields, ObjectType, unlimited},
    sql::refused_with_hint,
};

/// A table of deals.
pub fn deals(crm: &mut Crm, table: &str, arguments: &str) {
    crm.run(&format!(
        "CREATE TABLE crm.{table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, dealstage text DEFAULT 'closedwon', pipeline text DEFAULT 'default');
         SELECT integration.track('crm.{table}', 'deal'{arguments})"
    ));
}

pub fn fill(crm: &mut Crm, table: &str, number: u32) {
    let database = crm.database.clone();
    crm.run(&format!(
        "INSERT INTO crm.{table} (name) SELECT format('{database} {table} %s', n) FROM generate_series(1, {number}) n"
    ));
}

pub fn held(crm: &Crm, object: ObjectType, property: &str) -> Vec<String> {
    let text = |fields: &Fields| fields.get(property).cloned().unwrap_or_default();
    let records = crm.remote.records(object);
    let mut all: Vec<String> = records
        .iter()
        .map(|record| text(&record.properties))
        .collect();
    all.sort();
    all
}

/// Names of a table's deals, as they should be at HubSpot.
pub fn names(crm: &mut Crm, table: &str) -> Vec<String> {
    let mut names = crm.rows(&format!("SELECT name FROM crm.{table}"));
    names.sort();
    names
}

pub fn prefix(crm: &mut Crm, id: i32) -> String {
    crm.ask(&format!(
        "SELECT external_id_prefix FROM integration.tracked_table WHERE id = {id}"
    ))
}

#[test]
fn two_tables_of_deals_have_their_own_records() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    deals(&mut crm, "sales", "");
    deals(&mut crm, "rentals", "");
    provision(&mut crm);
    fill(&mut crm, "sales", 30);
    fill(&mut crm, "rentals", 20);
    crm.settle();
    let (sales, rentals) = (names(&mut crm, "sales"), names(&mut crm, "rentals"));
    let mut all = [sales, rentals.clone()].concat();
    all.sort();
    assert_eq!(held(&crm, ObjectType::Deal, "dealname"), all);
    crm.run("DELETE FROM crm.sales");
    crm.settle();
    assert_eq!(held(&crm, ObjectType::Deal, "dealname"), rentals);
    assert_eq!(crm.rows("SELECT * FROM integration.dlq"), [""; 0]);
}

#[test]
fn two_databases_on_one_portal_have_their_own_records() {
    let mut first = Crm::untracked(Cluster::shared(), unlimited());
    let mut second = first.neighbour();
    for crm in [&mut first, &mut second] {
        deals(crm, "deals", "");
        crm.run("SELECT integration.track('crm.contacts', 'contact', targets => '{hubspot}')");
        provision(crm);
        fill(crm, "deals", 40);
        let database = crm.database.clone();
        crm.run(&format!(
            "INSERT INTO crm.contacts (email, first_name) SELECT format('%s@{database}.example.org', n), '{database}' FROM generate_series(1, 100) n"
        ));
    }
    for crm in [&mut first, &mut second] {
        crm.settle_within(LATER);
        assert_eq!(crm.rows("SELECT * FROM integration.dlq"), [""; 0]);
    }
    let mut all = [names(&mut first, "deals"), names(&mut second, "deals")].concat();
    all.sort();
    assert_eq!(held(&first, ObjectType::Deal, "dealname"), all);
    let mut owners = held(&first, ObjectType::Contact, "firstname");
    assert_eq!(owners.len(), 200);
    owners.dedup();
    let mut databases = [first.database.clone(), second.database.clone()];
    databases.sort();
    assert_eq!(owners, databases);
    second.run("DELETE FROM crm.deals; DELETE FROM crm.contacts");
    second.settle_within(LATER);
    assert_eq!(
        held(&first, ObjectType::Deal, "dealname"),
        names(&mut first, "deals")
    );
    assert_eq!(first.remote.contacts().len(), 100);
}

#[test]
fn five_tables_with_serial_keys_all_arrive() {
    let mut crm = Crm::start();
    let tables = ["a", "b", "c", "d", "e"];
    for name in tables {
        crm.run(&format!(
            "CREATE TABLE crm.{name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text, first_name text, marketing_opt_in boolean);
             SELECT integration.track('crm.{name}', 'contact')"
        ));
    }
    let pid = crm.worker_pid();
    let filled = tables.map(|name| {
        format!(
            "INSERT INTO crm.{name} (email, first_name, marketing_opt_in)
             SELECT format('%s@{name}.example.org', n), '{name}', true FROM generate_series(1, 20) n;"
        )
    });
    crm.run(&filled.concat());
    crm.settle_within(LATER);
    assert_eq!(crm.worker_pid(), pid, "the worker has not ended");
    assert_eq!(crm.rows("SELECT * FROM integration.dlq"), [""; 0]);
    assert_eq!(crm.remote.contacts().len(), 100);
    assert_eq!(crm.remote.members().len(), 100);
}

#[test]
fn names_stay_whatever_is_renamed_or_restored() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    deals(&mut crm, "sales", "");
    provision(&mut crm);
    fill(&mut crm, "sales", 3);
    crm.settle();
    let ids = held(&crm, ObjectType::Deal, "crm_id");
    let known = prefix(&mut crm, 1);
    assert_eq!(ids, [1, 2, 3].map(|key| format!("{known}{key}")));
    assert!(known.ends_with(":crm.sales:"), "{known}");
    assert!(known.starts_with("test-"), "the environment: {known}");
    crm.run("ALTER SCHEMA crm RENAME TO sold; ALTER TABLE sold.sales RENAME TO deals");
    crm.run("UPDATE sold.deals SET name = 'Renamed ' || id");
    crm.run("SELECT integration.track('sold.deals', 'deal')");
    crm.settle();
    // What goes by the former name now is another table.
    crm.run("CREATE SCHEMA crm");
    deals(&mut crm, "sales", "");
    fill(&mut crm, "sales", 2);
    crm.settle();
    assert_eq!(prefix(&mut crm, 1), known);
    assert_ne!(prefix(&mut crm, 2), known);
    let mut wanted = [
        ids,
        [1, 2]
            .map(|key| format!("{}{key}", prefix(&mut crm, 2)))
            .to_vec(),
    ]
    .concat();
    wanted.sort();
    assert_eq!(held(&crm, ObjectType::Deal, "crm_id"), wanted);
    // Nor does it change with the environment.
    crm.set("environment", "production");
    crm.run("SELECT integration.adopt(); SELECT integration.track('sold.deals', 'deal'); INSERT INTO sold.deals (name) VALUES ('Later')");
    crm.settle();
    assert_eq!(prefix(&mut crm, 1), known);
    assert!(held(&crm, ObjectType::Deal, "crm_id").contains(&format!("{known}4")));
}

#[test]
fn tracked_table_can_be_named_otherwise() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    deals(&mut crm, "deals", ", external_id => 'key'");
    provision(&mut crm);
    fill(&mut crm, "deals", 3);
    crm.settle();
    assert_eq!(held(&crm, ObjectType::Deal, "crm_id"), ["1", "2", "3"]);
    crm.run("SELECT integration.track('crm.deals', 'deal', external_id => 'acme:')");
    crm.run("UPDATE crm.deals SET name = name || '!' WHERE id < 3");
    crm.settle();
    assert_eq!(
        held(&crm, ObjectType::Deal, "crm_id"),
        ["3", "acme:1", "acme:2"]
    );
    assert_eq!(
        held(&crm, ObjectType::Deal, "dealname"),
        names(&mut crm, "deals")
    );
    // Tracking it again does not change it by the way.
    crm.run("SELECT integration.track('crm.deals', 'deal')");
    assert_eq!(prefix(&mut crm, 1), "acme:");
}

#[test]
fn long_and_odd_keys_are_named_by_a_hash() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(
        "CREATE TABLE crm.deals (key text PRIMARY KEY, name text, dealstage text DEFAULT 'closedwon', pipeline text DEFAULT 'default');
         SELECT integration.track('crm.deals', 'deal')",
    );
    provision(&mut crm);
    crm.run("INSERT INTO crm.deals VALUES (repeat('x', 300), 'long'), (' blank ', 'blank'), ('#1', 'hash'), ('1:2', 'plain')");
    crm.settle();
    let known = prefix(&mut crm, 1);
    let ids = held(&crm, ObjectType::Deal, "crm_id");
    assert_eq!(ids.len(), 4);
    assert_eq!(
        ids.iter()
            .filter(|id| id.starts_with(&format!("{known}#")))
            .count(),
        3
    );
    assert!(ids.contains(&format!("{known}1:2")), "{ids:?}");
    crm.run("UPDATE crm.deals SET name = 'changed'");
    crm.run("DELETE FROM crm.deals WHERE key LIKE 'x%'");
    crm.settle();
    assert_eq!(held(&crm, ObjectType::Deal, "dealname"), vec!["changed"; 3]);
}

#[test]
fn names_that_cannot_be_told_apart_are_refused() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    deals(&mut crm, "one", ", external_id => 'key'");
    crm.run("CREATE TABLE crm.two (LIKE crm.one INCLUDING ALL)");
    let track = |more: &str| format!("SELECT integration.track('crm.two', 'deal'{more})");
    refused_with_hint(&mut crm.client, &track(", external_id => 'key'"), "42710");
    for bad in ["", "acme", ":", "a b:", "#1:", "acme :", &"a".repeat(65)] {
        let bad = track(&format!(", external_id => '{bad}'"));
        refused_with_hint(&mut crm.client, &bad, "22023");
    }
    crm.run(&track(", external_id => 'acme:'"));
    crm.run("CREATE TABLE crm.three (LIKE crm.one INCLUDING ALL)");
    for taken in ["acme:", "acme:x:"] {
        let sql =
            format!("SELECT integration.track('crm.three', 'deal', external_id => '{taken}')");
        refused_with_hint(&mut crm.client, &sql, "42710");
    }
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.map_field('crm.two', 'name', 'hubspot', 'crm_id')",
        "22023",
    );
}
