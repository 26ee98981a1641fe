//! A credential that may not do everything: what it may goes on, what it may not is explained, and
//! sent by itself once it is granted.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{ObjectType, Service, unlimited},
    wait::wait_until,
};

use crate::operate::access::alerts;

/// Takes a scope away, or gives it back.
fn grant(crm: &Crm, scope: &str, granted: bool) {
    crm.remote.configure(|config| {
        config.hubspot.scopes.retain(|known| known != scope);
        if granted {
            config.hubspot.scopes.push(scope.to_owned());
        }
    });
}

fn letters(crm: &mut Crm) -> Vec<String> {
    crm.rows("SELECT entity, op, record_key, category, http_status FROM integration.dlq WHERE resolution IS NULL ORDER BY entity, record_key::int")
}

fn state(crm: &mut Crm) -> String {
    crm.ask("SELECT state FROM integration.status WHERE target = 'hubspot'")
}

fn companies(crm: &mut Crm, from: u32, to: u32) {
    crm.run(&format!("INSERT INTO crm.companies (name, domain) SELECT 'C' || n, format('c%s.example.org', n) FROM generate_series({from}, {to}) n"));
}

#[test]
fn one_object_that_may_not_be_written_holds_up_no_other() {
    const WRITE: &str = "crm.objects.companies.write";
    let mut crm = Crm::start();
    grant(&crm, WRITE, false);
    companies(&mut crm, 1, 250);
    crm.add_contacts(1, 20);
    crm.settle();
    assert_eq!(crm.remote.contacts().len(), 20);
    assert_eq!(state(&mut crm), "running");
    let dead = letters(&mut crm);
    assert_eq!(dead.len(), 250);
    assert_eq!(dead[0], "company|upsert|1|permission|403");
    let error: String = crm.ask("SELECT error FROM integration.dlq LIMIT 1");
    assert!(error.contains(WRITE), "{error}");
    let told = alerts(&mut crm, "permission");
    assert!(
        told.len() == 1 && told[0].contains(WRITE) && told[0].contains("company"),
        "{told:?}"
    );
    // Not every record asked in vain.
    let refused = crm
        .remote
        .requests_to(Service::HubSpot)
        .iter()
        .filter(|request| request.status == 403)
        .count();
    assert!(refused < 25, "{refused} calls refused for 250 records");
    // Granted, they are sent without being asked for.
    grant(&crm, WRITE, true);
    wait_until("all are there", SOON, || {
        (crm.remote.companies().len() == 250).then_some(())
    });
    crm.converges();
    assert_eq!(letters(&mut crm), [] as [&str; 0]);
    assert_eq!(alerts(&mut crm, "permission"), [] as [&str; 0]);
}

#[test]
fn worker_that_begins_knows_what_was_refused() {
    const WRITE: &str = "crm.objects.companies.write";
    let mut crm = Crm::start();
    grant(&crm, WRITE, false);
    companies(&mut crm, 1, 3);
    wait_until("they are given up on", SOON, || {
        (letters(&mut crm).len() == 3).then_some(())
    });
    crm.run("SELECT integration.reload()");
    grant(&crm, WRITE, true);
    wait_until("all are there", SOON, || {
        (crm.remote.companies().len() == 3).then_some(())
    });
    crm.converges();
    wait_until("the alert is cleared", SOON, || {
        alerts(&mut crm, "permission").is_empty().then_some(())
    });
}

#[test]
fn object_that_may_not_even_be_seen_holds_up_no_other() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    for verb in ["read", "write"] {
        grant(&crm, &format!("crm.objects.companies.{verb}"), false);
    }
    crm.run("SELECT integration.track('crm.companies', 'company'); SELECT integration.track('crm.contacts', 'contact'); SELECT integration.provision('hubspot')");
    crm.add_contacts(1, 5);
    companies(&mut crm, 1, 2);
    wait_until("contacts are there, companies given up on", SOON, || {
        (crm.remote.contacts().len() == 5 && letters(&mut crm).len() == 2).then_some(())
    });
    assert_eq!(letters(&mut crm)[0], "company|upsert|1|permission|403");
    assert_eq!(state(&mut crm), "running");
    for verb in ["read", "write"] {
        grant(&crm, &format!("crm.objects.companies.{verb}"), true);
    }
    wait_until("companies are seen again", SOON, || {
        alerts(&mut crm, "permission").is_empty().then_some(())
    });
    crm.run("SELECT integration.provision('hubspot')");
    crm.converges();
    assert_eq!(crm.remote.companies().len(), 2);
}

#[test]
fn property_that_may_not_be_created_fails_the_job_only() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    grant(&crm, "crm.schemas.companies.write", false);
    crm.run("SELECT integration.track('crm.companies', 'company'); SELECT integration.track('crm.contacts', 'contact')");
    let job: i64 = crm.ask("SELECT integration.provision('hubspot')");
    let error = wait_until("the job fails", SOON, || {
        crm.rows(&format!(
            "SELECT error FROM integration.job WHERE id = {job} AND state = 'failed'"
        ))
        .pop()
    });
    assert!(error.contains("crm.schemas.companies.write"), "{error}");
    crm.add_contacts(1, 5);
    wait_until("contacts are there", SOON, || {
        (crm.remote.contacts().len() == 5).then_some(())
    });
    assert_eq!(state(&mut crm), "running");
}

#[test]
fn associations_that_may_not_be_made_are_made_later() {
    let mut crm = crate::hubspot::associations::start();
    crate::hubspot::associations::companies(&mut crm, 1);
    crm.add_contacts(1, 3);
    crm.settle();
    grant(&crm, "crm.objects.companies.write", false);
    crm.run("UPDATE crm.contacts SET company_id = 1");
    wait_until("they are given up on", SOON, || {
        (letters(&mut crm).len() == 3).then_some(())
    });
    assert_eq!(letters(&mut crm)[0], "contact|associate|1|permission|403");
    assert_eq!(state(&mut crm), "running");
    grant(&crm, "crm.objects.companies.write", true);
    wait_until("they are made", SOON, || {
        letters(&mut crm).is_empty().then_some(())
    });
    assert_eq!(crate::hubspot::associations::agree(&mut crm).len(), 3);
    assert_eq!(crm.remote.records(ObjectType::Contact).len(), 3);
}

#[test]
fn credential_that_may_do_nothing_pauses_the_target() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 3);
    crm.converges();
    crm.remote
        .configure(|config| config.hubspot.token = Some("another".to_owned()));
    grant(&crm, "crm.objects.contacts.write", false);
    crm.run("UPDATE crm.contacts SET first_name = 'Changed'");
    wait_until("it is unauthorized", SOON, || {
        (state(&mut crm) == "unauthorized").then_some(())
    });
    assert_eq!(letters(&mut crm), [] as [&str; 0]);
}
