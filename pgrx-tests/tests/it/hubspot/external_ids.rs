//! What HubSpot's records are named by is unique in the portal: no table and no database overwrites
//! or deletes another one's records.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Fields, ObjectType, Service, unlimited},
    sql::refused_with_hint,
    wait::wait_until,
};

/// A table of deals.
pub fn deals(crm: &mut Crm, table: &str, arguments: &str) {
    crm.run(&format!(
        "CREATE TABLE crm.{table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, dealstage text DEFAULT 'closedwon', pipeline text DEFAULT 'default');
         SELECT integration.track('crm.{table}', 'deal'{arguments})"
    ));
}

/// Has the property made on the objects that are tracked.
pub fn provision(crm: &mut Crm) {
    let job: i64 = crm.ask("SELECT integration.provision('hubspot')");
    let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
    wait_until("the property is there", SOON, || {
        crm.ask::<bool>(&done).then_some(())
    });
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
fn records_with_bare_keys_are_adopted_where_they_can_only_be_ours() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.track();
    let create =
        |object, fields: &[(&str, &str)]| crm.remote.create_record(object, fields).unwrap();
    let contact = create(
        ObjectType::Contact,
        &[("email", "ada@example.org"), ("crm_id", "1")],
    );
    let company = create(
        ObjectType::Company,
        &[("domain", "acme.example.org"), ("crm_id", "1")],
    );
    // Another company's; and one that somebody else calls the same.
    let other = create(
        ObjectType::Company,
        &[("domain", "ajax.example.org"), ("crm_id", "7")],
    );
    let foreign = create(
        ObjectType::Company,
        &[("domain", "acme.example.org"), ("crm_id", "other:1")],
    );
    crm.run(
        "INSERT INTO crm.companies (name, domain) VALUES ('Acme', 'acme.example.org'), ('Ajax', 'ajax.example.org');
         INSERT INTO crm.contacts (email, first_name) VALUES ('ada@example.org', 'Ada')",
    );
    crm.settle();
    let linked = crm.rows("SELECT source, record_key, remote_id FROM integration.link WHERE target = 'hubspot' ORDER BY 1, 2");
    assert_eq!(linked[0], format!("crm.companies|1|{company}"));
    assert_eq!(linked[2], format!("crm.contacts|1|{contact}"));
    assert_eq!(crm.remote.companies().len(), 4);
    let named = prefix(&mut crm, 1);
    let fields = |id| {
        crm.remote
            .record(ObjectType::Company, id)
            .unwrap()
            .properties
    };
    assert_eq!(fields(company)["crm_id"], format!("{named}1"));
    assert_eq!(fields(company)["name"], "Acme");
    for untouched in [other, foreign] {
        assert_eq!(fields(untouched).get("name"), None);
    }
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
fn what_others_chose_to_name_the_same_is_not_overwritten() {
    let mut first = Crm::untracked(Cluster::shared(), unlimited());
    let mut second = first.neighbour();
    for crm in [&mut first, &mut second] {
        deals(crm, "deals", ", external_id => 'acme:'");
        crm.run("SELECT integration.track('crm.companies', 'company', external_id => 'acme:');
                 SELECT integration.track('crm.contacts', 'contact', targets => '{hubspot}', external_id => 'acme:')");
        provision(crm);
        fill(crm, "deals", 5);
        fill(crm, "companies", 5);
        let database = crm.database.clone();
        crm.run(&format!(
            "UPDATE crm.companies SET domain = id || '.{database}.example.org' WHERE id < 3;
             INSERT INTO crm.contacts (email, first_name) SELECT format('%s@{database}.example.org', n), '{database}' FROM generate_series(1, 5) n"
        ));
        crm.settle();
    }
    assert_eq!(first.rows("SELECT * FROM integration.dlq"), [""; 0]);
    assert_eq!(
        held(&first, ObjectType::Deal, "dealname"),
        names(&mut first, "deals")
    );
    assert_eq!(
        held(&first, ObjectType::Company, "name"),
        names(&mut first, "companies")
    );
    let database = first.database.clone();
    assert_eq!(
        held(&first, ObjectType::Contact, "firstname"),
        vec![database; 5]
    );
    assert_eq!(
        second.rows("SELECT source, category, count(DISTINCT record_key) FROM integration.dlq WHERE resolution IS NULL GROUP BY 1, 2 ORDER BY source::text"),
        [
            "crm.companies|conflict|5",
            "crm.contacts|conflict|5",
            "crm.deals|conflict|5"
        ]
    );
    let why: String = second.ask("SELECT error FROM integration.dlq WHERE source = 'crm.deals'::regclass AND record_key = '1'");
    let id = first.remote.by_key(ObjectType::Deal, "1").unwrap().id;
    assert!(
        why.contains(&format!("HubSpot record {id}")) && why.contains("acme:1"),
        "{why}"
    );
    // Rows that are not there either take nothing away.
    second.run("DELETE FROM crm.deals");
    second.settle();
    assert_eq!(first.remote.records(ObjectType::Deal).len(), 5);
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

#[test]
fn person_in_two_databases_is_one_of_them_alone() {
    let mut first = Crm::untracked(Cluster::shared(), unlimited());
    let mut second = first.neighbour();
    for (crm, name) in [(&mut first, "First"), (&mut second, "Second")] {
        crm.run("SELECT integration.track('crm.contacts', 'contact', targets => '{hubspot}')");
        provision(crm);
        let from = i32::from(name == "Second") * 5 + 1;
        crm.run(&format!(
            "INSERT INTO crm.contacts (email, first_name) SELECT format('p%s@example.org', n), '{name}' FROM generate_series({from}, {from} + 9) n"
        ));
        crm.settle();
    }
    // Nobody has named this one: it is whoever's comes first.
    first
        .remote
        .create_record(ObjectType::Contact, &[("email", "free@example.org")])
        .unwrap();
    second
        .run("INSERT INTO crm.contacts (email, first_name) VALUES ('free@example.org', 'Second')");
    second.settle();
    let count = |crm: &Crm, name: &str| {
        let names = held(crm, ObjectType::Contact, "firstname");
        names.iter().filter(|held| *held == name).count()
    };
    assert_eq!((count(&first, "First"), count(&first, "Second")), (10, 6));
    assert_eq!(first.rows("SELECT * FROM integration.dlq"), [""; 0]);
    assert_eq!(
        second.rows(
            "SELECT category, count(*) FROM integration.dlq WHERE resolution IS NULL GROUP BY 1"
        ),
        ["conflict|5"]
    );
    let why: String = second.ask("SELECT error FROM integration.dlq WHERE record_key = '1'");
    let named = prefix(&mut first, 1);
    assert!(why.contains(&format!("it carries {named}6")), "{why}");
    // Nor does a change of address, or the end of a row, take anybody over.
    second.run("UPDATE crm.contacts SET email = 'p1@example.org' WHERE id = 10; DELETE FROM crm.contacts WHERE id < 6");
    second.settle();
    assert_eq!((count(&first, "First"), count(&first, "Second")), (10, 6));
    assert_eq!(
        second.rows("SELECT record_key, category FROM integration.dlq WHERE resolution IS NULL"),
        ["10|conflict"]
    );
}

#[test]
fn outage_before_it_is_known_who_else_names_contacts_is_told_and_ends() {
    let mut crm = Crm::start();
    crm.remote.go_down(Service::HubSpot);
    crm.run("SELECT integration.reload()");
    crm.add_contacts(1, 10);
    wait_until("the outage is told", LATER, || {
        crm.ask::<bool>("SELECT state = 'outage' FROM integration.status WHERE target = 'hubspot'")
            .then_some(())
    });
    crm.remote.come_up(Service::HubSpot).unwrap();
    crm.converges_within(LATER);
}
