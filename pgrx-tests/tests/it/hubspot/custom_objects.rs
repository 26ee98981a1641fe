//! Custom objects: their schema is HubSpot's to say, and may not be there, or not any more.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    portal::{alert, dead, fields, one_is_dead, provision},
    remote::{NewObject, ObjectType, crm_key, unlimited},
    sql::refused_with_hint,
    wait::wait_until,
};

use super::kinds::Kind;

const MACHINES: NewObject = NewObject {
    name: "machines",
    properties: "serial string; hours number; condition enum new|used; ",
    required: &["serial"],
    associated: &[ObjectType::Deal],
};

const TABLE: &str = "
    CREATE TABLE crm.machines (id int PRIMARY KEY, serial text, hours text, condition text);
    SELECT integration.track('crm.machines', 'custom:p_machines');
    SELECT integration.map_field('crm.machines', name, 'hubspot', name) FROM unnest('{serial,hours,condition}'::name[]) AS name;";

fn start() -> (Crm, ObjectType) {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    let object = crm.remote.make_object(MACHINES);
    crm.run(TABLE);
    provision(&mut crm);
    (crm, object)
}

/// Waits until the table of machines is held, and gives why.
#[track_caller]
fn held(crm: &mut Crm) -> String {
    wait_until("the table is held", SOON, || {
        let why = "SELECT reason FROM integration.table_status WHERE source = 'crm.machines'::regclass AND state = 'held'";
        crm.rows(why).pop()
    })
}

#[track_caller]
fn goes_on(crm: &mut Crm) {
    crm.run("SELECT integration.resume('hubspot')");
    wait_until("the table goes on", SOON, || {
        let state =
            "SELECT state FROM integration.table_status WHERE source = 'crm.machines'::regclass";
        (crm.ask::<String>(state) == "running").then_some(())
    });
    provision(crm);
    crm.settle();
}

#[test]
fn it_goes_all_the_ways_by_each_of_its_names() {
    for by_number in [false, true] {
        let crm = Crm::untracked(Cluster::shared(), unlimited());
        let object = crm.remote.make_object(MACHINES);
        let name = match by_number {
            false => object.plural(),
            true => object.number(),
        };
        let machine = Kind {
            entity: format!("custom:{name}").leak(),
            object,
            columns: "serial text, hours int",
            values: "'M1', 3",
            property: "serial",
            map: "SELECT integration.map_field('crm.t', name, 'hubspot', name) FROM unnest('{serial,hours}'::name[]) AS name;",
        };
        machine.goes_all_the_ways(crm);
    }
}

#[test]
fn table_of_an_unknown_object_is_held_and_others_go_on() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(TABLE);
    crm.run(
        "CREATE TABLE crm.firms (id int PRIMARY KEY, name text, domain text);
         SELECT integration.track('crm.firms', 'company');
         INSERT INTO crm.machines VALUES (1, 'M1', '3', 'new')",
    );
    let why = held(&mut crm);
    for word in ["p_machines", "fully qualified name", "integration.untrack"] {
        assert!(why.contains(word), "{why} should say {word}");
    }
    provision(&mut crm);
    crm.run("INSERT INTO crm.firms VALUES (1, 'Acme', 'acme.example')");
    wait_until("the company is there", SOON, || {
        crm.remote.by_key(ObjectType::Company, "1")
    });
    assert_eq!(dead(&mut crm), []);
    let object = crm.remote.make_object(MACHINES);
    goes_on(&mut crm);
    assert_eq!(fields(&crm, object, "1")["serial"], "M1");
}

#[test]
fn object_that_the_token_may_not_see_holds_its_table() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    let object = crm.remote.make_object(MACHINES);
    let scope = "crm.schemas.custom.read";
    crm.remote
        .configure(|config| config.hubspot.scopes.retain(|known| known != scope));
    crm.run(TABLE);
    crm.run("INSERT INTO crm.machines VALUES (1, 'M1', '3', 'new')");
    let why = held(&mut crm);
    assert!(why.contains(scope), "{why}");
    let told: String = crm.ask("SELECT detail FROM integration.test_connection('hubspot')");
    assert!(told.contains(scope), "{told}");
    crm.remote
        .configure(|config| config.hubspot.scopes.push(scope.to_owned()));
    goes_on(&mut crm);
    assert_eq!(fields(&crm, object, "1")["serial"], "M1");
}

#[test]
fn values_are_those_of_its_properties() {
    let (mut crm, object) = start();
    crm.run("INSERT INTO crm.machines VALUES (1, 'M1', '1.50', 'used'), (2, 'M2', '7', 'broken')");
    crm.settle();
    let sent = fields(&crm, object, "1");
    assert_eq!((&*sent["hours"], &*sent["condition"]), ("1.5", "used"));
    one_is_dead(&mut crm, "2", "validation", &["condition", "new, used"]);
}

#[test]
fn required_property_that_is_not_mapped_is_told_of() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.remote.make_object(MACHINES);
    crm.run(
        "CREATE TABLE crm.machines (id int PRIMARY KEY, serial text);
         SELECT integration.track('crm.machines', 'custom:p_machines')",
    );
    let told = wait_until("somebody is told", SOON, || alert(&mut crm, "properties"));
    assert!(told.contains("without serial"), "{told}");
    crm.run("SELECT integration.map_field('crm.machines', 'serial', 'hubspot', 'serial')");
    wait_until("it is all well", SOON, || {
        alert(&mut crm, "properties").is_none().then_some(())
    });
}

#[test]
fn object_that_was_deleted_holds_its_table_until_it_is_made_again() {
    let (mut crm, object) = start();
    crm.run("INSERT INTO crm.machines SELECT n, 'M' || n, '1', 'new' FROM generate_series(1, 5) n");
    crm.settle();
    crm.remote.delete_object(object);
    crm.run("UPDATE crm.machines SET hours = '2'");
    held(&mut crm);
    assert_eq!(dead(&mut crm), []);
    let again = crm.remote.make_object(MACHINES);
    assert_ne!(again.number(), object.number());
    goes_on(&mut crm);
    assert_eq!(dead(&mut crm), []);
    let records = crm.remote.records(again);
    let mut keys: Vec<_> = records
        .iter()
        .filter_map(|record| crm_key(&record.properties))
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["1", "2", "3", "4", "5"]);
    assert!(
        records
            .iter()
            .all(|record| record.properties["hours"] == "2")
    );
}

#[test]
fn what_is_no_name_is_refused() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run("CREATE TABLE crm.machines (id int PRIMARY KEY)");
    for name in ["custom:", "custom:p machines", "custom:a/b", "machine"] {
        let track = format!("SELECT integration.track('crm.machines', '{name}')");
        refused_with_hint(&mut crm.client, &track, "22023");
    }
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.machines', 'custom:p_machines', targets => '{mailchimp}')",
        "22023",
    );
}
