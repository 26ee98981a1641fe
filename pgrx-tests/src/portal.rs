//! Tables that go to HubSpot only, and the definitions of their properties.

use crate::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Fields, ObjectType, unlimited},
    wait::wait_until,
};
use serde_json::json;

/// A CRM with this one table tracked, and the property for the key in place.
pub fn with(sql: &str) -> Crm {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(sql);
    provision(&mut crm);
    crm
}

pub fn provision(crm: &mut Crm) {
    let job: i64 = crm.ask("SELECT integration.provision('hubspot')");
    let done = format!("SELECT state FROM integration.job WHERE id = {job}");
    wait_until("the property for the key is there", SOON, || {
        (crm.ask::<String>(&done) == "done").then_some(())
    });
}

pub fn deals() -> Crm {
    with(
        "CREATE TABLE crm.deals (id int PRIMARY KEY, name text, amount numeric, stage text, pipeline text, close_date date, owner_email text);
         SELECT integration.track('crm.deals', 'deal')",
    )
}

/// Contacts with a column for a property of this definition.
pub fn contacts_with(column_type: &str, property: serde_json::Value) -> Crm {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    define(&crm, property);
    crm.run(&format!(
        "CREATE TABLE crm.people (id int PRIMARY KEY, email text, first_name text, extra {column_type});
         SELECT integration.track('crm.people', 'contact', targets => '{{hubspot}}');
         SELECT integration.map_field('crm.people', 'extra', 'hubspot', 'extra')"
    ));
    provision(&mut crm);
    crm
}

pub fn define(crm: &Crm, property: serde_json::Value) {
    let mut whole = json!({"name": "extra", "label": "Extra", "groupName": "contactinformation"});
    for (name, value) in property.as_object().unwrap() {
        whole[name] = value.clone();
    }
    crm.remote
        .define_property(ObjectType::Contact, whole)
        .unwrap();
}

pub fn people(crm: &mut Crm, extras: &[&str]) {
    for (id, extra) in (1..).zip(extras) {
        crm.run(&format!(
            "INSERT INTO crm.people VALUES ({id}, 'p{id}@example.org', 'P', {extra})"
        ));
    }
    crm.settle();
}

pub fn extra(crm: &Crm, id: u32) -> Option<String> {
    let (_, fields) = crm.remote.contact(&format!("p{id}@example.org"))?;
    Some(fields.get("extra").cloned().unwrap_or_default())
}

pub fn fields(crm: &Crm, object: ObjectType, key: &str) -> Fields {
    let found = crm.remote.by_key(object, key);
    found
        .unwrap_or_else(|| panic!("no {object:?} {key}"))
        .properties
}

/// Category and words of the open dead letters, by key.
pub fn dead(crm: &mut Crm) -> Vec<(String, String, String)> {
    crm.client
        .query("SELECT record_key, category, error FROM integration.dlq WHERE target = 'hubspot' AND resolution IS NULL ORDER BY id", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

#[track_caller]
pub fn one_is_dead(crm: &mut Crm, key: &str, category: &str, words: &[&str]) {
    let dead = dead(crm);
    let [(dead_key, dead_category, error)] = dead.as_slice() else {
        panic!("{dead:?}\n{}", crm.report());
    };
    assert_eq!(
        (dead_key.as_str(), dead_category.as_str()),
        (key, category),
        "{error}"
    );
    for word in words {
        assert!(error.contains(word), "{error} should say {word}");
    }
}

pub fn alert(crm: &mut Crm, kind: &str) -> Option<String> {
    let open = format!(
        "SELECT message FROM integration.alert WHERE kind = '{kind}' AND cleared_at IS NULL"
    );
    crm.rows(&open).pop()
}
