//! The versions of HubSpot's API: everything works on each of them, and only there.

use integration_tests::portal::dead;
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER},
    remote::{LoggedRequest, ObjectType, Service, unlimited},
    wait::wait_until,
};
use serde_json::json;

use crate::{
    hubspot::oauth::{app, untracked_with_oauth},
    operate::access::tested,
};

/// Calls a function that gives a job, and waits until it is done.
#[track_caller]
fn done(crm: &mut Crm, call: &str) {
    let job: i64 = crm.ask(&format!("SELECT integration.{call}"));
    let state = format!("SELECT state FROM integration.job WHERE id = {job}");
    wait_until(&format!("{call} is done"), LATER, || {
        (crm.ask::<String>(&state) == "done").then_some(())
    });
}

/// Whether a path is one of the version's.
fn belongs(path: &str, version: &str) -> bool {
    let segments: Vec<&str> = path.split(['/', '?']).skip(1).collect();
    match (version, segments.as_slice()) {
        // HubSpot: whom a static token belongs to is told under this path only.
        (_, ["oauth", "v2", "private-apps", ..]) => true,
        // HubSpot: batches of associations came with v4.
        ("v3", ["crm", "v4", "associations", ..]) => true,
        ("v3", ["crm", "v3", family, ..]) => *family != "associations",
        ("v3", ["crm", ..]) => false,
        (_, ["crm", _, dated, ..]) | (_, ["oauth" | "account-info", dated, ..]) => {
            *dated == version
        }
        _ => false,
    }
}

fn ties(crm: &Crm) -> usize {
    let all = crm.remote.associations();
    let ours = all
        .iter()
        .filter(|tie| (tie.from_type, tie.to_type) == ("contacts", "companies"));
    ours.count()
}

/// All that is done at HubSpot, once; gives the requests.
fn everything(version: &str) -> Vec<LoggedRequest> {
    let mut crm = untracked_with_oauth(Cluster::shared(), app(), None);
    crm.set("hubspot_api_version", version);
    crm.run("ALTER TABLE crm.contacts ADD company_id bigint");
    crm.add_contacts(1, 5);
    crm.track();
    crm.run(
        "CREATE TABLE crm.deals (id int PRIMARY KEY, name text, stage text, pipeline text, owner_email text);
         SELECT integration.track('crm.deals', 'deal');
         SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies')",
    );
    done(&mut crm, "provision('hubspot')");
    done(&mut crm, "backfill('crm.contacts')");
    crm.run(
        "INSERT INTO crm.companies (name, domain) VALUES ('One', 'one.example.org'), ('Two', NULL);
         INSERT INTO crm.deals VALUES (1, 'Deal', 'closedwon', NULL, 'owner@example.com')",
    );
    crm.add_contacts(6, 8);
    crm.run("UPDATE crm.contacts SET company_id = 1, phone = '+49 1'");
    crm.converges();
    assert_eq!(ties(&crm), 8);
    crm.run(
        "UPDATE crm.contacts SET company_id = CASE WHEN id < 4 THEN 2 END;
         DELETE FROM crm.contacts WHERE id = 8;
         UPDATE crm.deals SET name = 'Renamed'",
    );
    crm.converges();
    assert_eq!(ties(&crm), 3);
    assert_eq!(
        crm.remote.records(ObjectType::Deal)[0].properties["dealname"],
        "Renamed"
    );
    let (id, _) = crm.remote.contact("person2@example.org").unwrap();
    crm.remote.person_sets(id, "phone", "+49 2");
    done(
        &mut crm,
        "reconcile('crm.contacts', 'hubspot', repair => true)",
    );
    crm.converges();
    done(&mut crm, "erase('crm.contacts', '7')");
    assert!(crm.remote.contact("person7@example.org").is_none());
    assert!(tested(&mut crm, "hubspot").starts_with("t|"));
    assert_eq!(dead(&mut crm), []);
    let logged: Vec<String> =
        crm.rows("SELECT DISTINCT path FROM integration.request_log WHERE target = 'hubspot'");
    for path in logged {
        assert!(belongs(&path, version), "{path} is none of {version}'s");
    }
    crm.remote.requests_to(Service::HubSpot)
}

fn everything_works(version: &str) {
    let requests = everything(version);
    for request in &requests {
        assert!(
            belongs(&request.path, version),
            "{} is none of {version}'s",
            request.path
        );
    }
    let asked = |part: &str| requests.iter().any(|request| request.path.contains(part));
    for part in [
        "/token",
        "/introspect",
        "account-info",
        "properties/",
        "objects/",
        "owners",
        "pipelines",
        "/batch/upsert",
        "/batch/update",
        "/batch/archive",
        "associations/",
        "gdpr-delete",
    ] {
        let versioned = part.replace("properties/", "properties");
        assert!(asked(&versioned), "nothing asked {part}");
    }
    let archived = requests
        .iter()
        .find(|request| {
            request.path.contains("associations/") && request.path.ends_with("/batch/archive")
        })
        .expect("associations were archived");
    // HubSpot: v4 answers without a body.
    assert_eq!(archived.status, if version == "v3" { 204 } else { 200 });
}

#[test]
fn everything_works_on_2026_09() {
    everything_works("2026-09");
}

#[test]
fn everything_works_on_2026_03() {
    everything_works("2026-03");
}

#[test]
fn everything_works_on_v3() {
    everything_works("v3");
}

/// An account whose administrator requires a job title of everybody, and a company of managers.
fn ruled(version: &str) -> Crm {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.set("hubspot_api_version", version);
    crm.track();
    let condition = json!({"property": "jobtitle", "value": "Manager"});
    for (property, rule) in [
        ("jobtitle", json!({"required": true})),
        ("company", json!({"requiredWhen": condition})),
    ] {
        crm.remote
            .change_property(ObjectType::Contact, property, rule)
            .unwrap();
    }
    crm.run(
        "INSERT INTO crm.contacts (email, job_title, company) VALUES
         ('clerk@example.org', 'Clerk', NULL), ('nobody@example.org', NULL, NULL),
         ('manager@example.org', 'Manager', NULL), ('director@example.org', 'Manager', 'Acme')",
    );
    crm.settle();
    crm
}

#[test]
fn what_administrators_require_is_explained_and_can_be_done_without() {
    let mut crm = ruled("2026-09");
    let dead_now = dead(&mut crm);
    assert_eq!(dead_now.len(), 2, "{dead_now:?}");
    for (key, code, property) in [
        ("2", "MISSING_REQUIRED_PROPERTY", "jobtitle"),
        ("3", "MISSING_CONDITIONAL_REQUIRED_PROPERTY", "company"),
    ] {
        let (_, category, error) = dead_now.iter().find(|one| one.0 == key).unwrap();
        assert_eq!(category, "validation");
        for word in [
            code,
            property,
            "administrator",
            "integration.hubspot_api_version = '2026-03'",
        ] {
            assert!(error.contains(word), "{error} should say {word}");
        }
    }
    assert_eq!(crm.remote.contacts().len(), 2);
    // As the dead letters say.
    crm.set("hubspot_api_version", "2026-03");
    crm.run("SELECT integration.reload(); SELECT integration.dlq_retry()");
    crm.converges();
    assert_eq!(crm.remote.contacts().len(), 4);
    assert_eq!(dead(&mut crm), []);
}

#[test]
fn what_administrators_require_does_not_concern_2026_03() {
    let mut crm = ruled("2026-03");
    crm.converges();
    assert_eq!(dead(&mut crm), []);
    assert_eq!(crm.remote.contacts().len(), 4);
}
