//! What others named in the portal is theirs, and one person is one record whatever knows them.

use super::external_ids::{deals, fill, held, names, prefix};
use integration_tests::portal::provision;
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER},
    remote::{ObjectType, Service, unlimited},
    wait::wait_until,
};

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
