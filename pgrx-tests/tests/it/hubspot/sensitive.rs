//! HubSpot's sensitive properties: found where they are listed, explained where they may not be seen,
//! and never overwritten with what stands for them in webhooks.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{ObjectType, Service, unlimited},
    wait::wait_until,
};
use serde_json::json;

use crate::inbound::webhooks::import;
use crate::jobs::backfill::wait_for;
use crate::operate::access::nothing_died;
use integration_tests::portal::{alert, define, extra, people, provision};

fn scope(sensitivity: &str, verb: &str) -> String {
    format!("crm.objects.contacts.{sensitivity}.{verb}.v2")
}

fn grant(crm: &Crm, sensitivity: &str) {
    crm.remote.configure(|config| {
        let scopes = ["read", "write"].map(|verb| scope(sensitivity, verb));
        config.hubspot.scopes.extend(scopes);
    });
}

/// A table of contacts with a column for a property so sensitive; `granted`: the token may see it.
fn people_with(sensitivity: &str, granted: bool, generic: bool) -> Crm {
    let mut config = unlimited();
    config.hubspot.generic_events = generic;
    let mut crm = Crm::untracked(Cluster::shared(), config);
    if granted {
        grant(&crm, sensitivity);
    }
    define(
        &crm,
        json!({"type": "number", "fieldType": "number", "dataSensitivity": sensitivity}),
    );
    crm.run(
        "CREATE TABLE crm.people (id int PRIMARY KEY, email text, first_name text, extra text);
         SELECT integration.track('crm.people', 'contact', targets => '{hubspot}');
         SELECT integration.map_field('crm.people', 'extra', 'hubspot', 'extra', 'both', 'remote_wins')",
    );
    provision(&mut crm);
    crm
}

fn lists_asked_for(crm: &Crm) -> Vec<String> {
    let requests = crm.remote.requests_to(Service::HubSpot);
    let lists = requests.into_iter().filter_map(|request| {
        let query = request.path.split_once("?dataSensitivity=")?.1.to_owned();
        Some(query)
    });
    lists.collect()
}

#[test]
fn sensitive_property_is_found_and_sent_by_its_definition() {
    for sensitivity in ["sensitive", "highly_sensitive"] {
        let mut crm = people_with(sensitivity, true, false);
        people(&mut crm, &["'1.50'"]);
        assert_eq!(extra(&crm, 1).as_deref(), Some("1.5"), "{sensitivity}");
        assert_eq!(alert(&mut crm, "properties"), None);
        nothing_died(&mut crm);
    }
}

#[test]
fn property_that_may_not_be_seen_is_left_out_and_the_scope_named_until_it_is_granted() {
    let mut crm = people_with("sensitive", false, false);
    people(&mut crm, &["'1'", "'2'"]);
    assert_eq!(crm.remote.contacts().len(), 2);
    assert_eq!(extra(&crm, 1).as_deref(), Some(""));
    nothing_died(&mut crm);
    let said = alert(&mut crm, "properties").expect("an alert");
    for part in [
        "column extra of crm.people",
        &scope("sensitive", "read"),
        &scope("highly_sensitive", "read"),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let of_target = "SELECT state FROM integration.status WHERE target = 'hubspot'";
    assert_eq!(crm.ask::<String>(of_target), "running");
    assert!(alert(&mut crm, "permission").is_none() && alert(&mut crm, "preflight").is_none());
    grant(&crm, "sensitive");
    crm.run("SELECT integration.reload()");
    wait_until("the alert is cleared", SOON, || {
        alert(&mut crm, "properties").is_none().then_some(())
    });
    crm.run("UPDATE crm.people SET first_name = 'Q'");
    crm.settle();
    assert_eq!(extra(&crm, 2).as_deref(), Some("2"));
}

#[test]
fn lists_of_sensitive_properties_are_asked_for_only_when_something_is_missing() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 3);
    crm.converges();
    assert_eq!(lists_asked_for(&crm), [""; 0]);
    let mut crm = people_with("highly_sensitive", true, false);
    people(&mut crm, &["'1'"]);
    assert_eq!(lists_asked_for(&crm), ["sensitive", "highly_sensitive"]);
}

#[test]
fn word_that_stands_for_a_sensitive_value_does_not_reach_the_crm() {
    for generic in [false, true] {
        let mut crm = people_with("sensitive", true, generic);
        people(&mut crm, &["'1'"]);
        crm.remote.clear_webhooks();
        let (id, _) = crm.remote.contact("p1@example.org").unwrap();
        crm.remote
            .set_property(ObjectType::Contact, id, "extra", "77")
            .unwrap();
        let webhook = crm.remote.webhooks_of(Service::HubSpot).remove(0);
        assert!(webhook.body.contains("REDACTED") && !webhook.body.contains("77"));
        assert_eq!(webhook.body.contains("isSensitive"), generic);
        import(&mut crm, &webhook);
        let handled = "SELECT state, detail FROM integration.inbox";
        let told = wait_until("the event is handled", SOON, || {
            let told = crm.rows(handled).remove(0);
            told.starts_with("ignored|").then_some(told)
        });
        assert!(told.contains("extra, which is sensitive"), "{told}");
        let value = "SELECT extra FROM crm.people WHERE id = 1";
        assert_eq!(crm.ask::<String>(value), "1");
        // A comparison reads what the event does not tell.
        let job = crm.ask("SELECT integration.reconcile('crm.people', 'hubspot', true)");
        wait_for(&mut crm, job, "state = 'done'");
        assert_eq!(crm.ask::<String>(value), "77");
    }
}
