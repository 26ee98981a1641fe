//! Foreign keys become associations between HubSpot records.

use std::{collections::BTreeSet, sync::Arc};

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Config, Fault, FaultBody, FaultKind, ObjectType, Service, When, crm_key, unlimited},
    wait::{try_until, wait_until},
};

const TABLES: &str = "
    ALTER TABLE crm.contacts ADD company_id bigint;
    CREATE TABLE crm.deals (id bigint PRIMARY KEY, name text, contact_id bigint, company_id bigint,
        pipeline text DEFAULT 'default', dealstage text DEFAULT 'closedwon');
    SELECT integration.track('crm.deals', 'deal');
    SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies');
    SELECT integration.map_association('crm.deals', 'contact_id', 'crm.contacts');
    SELECT integration.map_association('crm.deals', 'company_id', 'crm.companies');";

pub fn start_on(cluster: Arc<Cluster>, config: Config) -> Crm {
    let mut crm = Crm::start_on(cluster, config);
    crm.run(TABLES);
    let job: i64 = crm.ask("SELECT integration.provision('hubspot')");
    wait_until("deals have the property", SOON, || {
        crm.ask::<bool>(&format!(
            "SELECT state = 'done' FROM integration.job WHERE id = {job}"
        ))
        .then_some(())
    });
    crm
}

pub fn start() -> Crm {
    start_on(Cluster::shared(), unlimited())
}

/// Child and parent by their keys in the CRM, with the association's primary type if it has one.
type Known = BTreeSet<(String, String, String, String)>;

/// What the CRM says there should be.
fn wanted(crm: &mut Crm) -> Known {
    let rows = crm.rows(
        "SELECT 'contacts', c.id, 'companies', p.id FROM crm.contacts c JOIN crm.companies p ON p.id = c.company_id
         UNION ALL SELECT 'deals', d.id, 'contacts', p.id FROM crm.deals d JOIN crm.contacts p ON p.id = d.contact_id
         UNION ALL SELECT 'deals', d.id, 'companies', p.id FROM crm.deals d JOIN crm.companies p ON p.id = d.company_id",
    );
    rows.into_iter()
        .map(|row| {
            let mut parts = row.split('|').map(str::to_owned);
            let mut next = || parts.next().unwrap();
            (next(), next(), next(), next())
        })
        .collect()
}

/// What the sandbox holds, seen from the children; primary companies are primary.
fn held(crm: &Crm) -> Known {
    let key = |kind: &str, id: u64| {
        let object = match kind {
            "contacts" => ObjectType::Contact,
            "companies" => ObjectType::Company,
            _ => ObjectType::Deal,
        };
        let record = crm.remote.record(object, id).unwrap();
        crm_key(&record.properties).unwrap().to_owned()
    };
    let mut known = Known::new();
    for association in crm.remote.associations() {
        let types = match (association.from_type, association.to_type) {
            ("contacts", "companies") => vec![1, 279],
            ("deals", "companies") => vec![5, 341],
            ("deals", "contacts") => vec![3],
            _ => continue,
        };
        assert_eq!(association.type_ids, types, "{association:?}");
        known.insert((
            association.from_type.to_owned(),
            key(association.from_type, association.from),
            association.to_type.to_owned(),
            key(association.to_type, association.to),
        ));
    }
    known
}

#[track_caller]
pub fn agree(crm: &mut Crm) -> Known {
    crm.converges_within(LATER);
    let (wanted, held) = (wanted(crm), held(crm));
    assert!(
        wanted == held,
        "wanted {wanted:?}\nheld {held:?}\n{}",
        crm.report()
    );
    held
}

pub fn companies(crm: &mut Crm, number: u32) {
    crm.run(&format!(
        "INSERT INTO crm.companies (name) SELECT 'Company ' || n FROM generate_series(1, {number}) n"
    ));
}

#[test]
fn foreign_keys_become_associations() {
    let mut crm = start();
    companies(&mut crm, 2);
    crm.add_contacts(1, 3);
    crm.run(
        "UPDATE crm.contacts SET company_id = 1;
         INSERT INTO crm.deals VALUES (1, 'First', 2, 1), (2, 'Second', NULL, 2)",
    );
    assert_eq!(agree(&mut crm).len(), 6);
}

#[test]
fn engagements_are_associated_with_all_three() {
    let mut crm = start();
    companies(&mut crm, 1);
    crm.add_contacts(1, 1);
    crm.run("INSERT INTO crm.deals VALUES (1, 'First', NULL, NULL)");
    // HubSpot's numbers for contact, company and deal.
    let kinds = [
        ("note", [202, 190, 214]),
        ("call", [194, 182, 206]),
        ("email", [198, 186, 210]),
        ("meeting", [200, 188, 212]),
        ("task", [204, 192, 216]),
    ];
    let mut expected = BTreeSet::new();
    for (kind, numbers) in kinds {
        let direction = match kind {
            "email" => "direction text DEFAULT 'EMAIL',",
            _ => "",
        };
        crm.run(&format!(
            "CREATE TABLE crm.{kind}s (id bigint PRIMARY KEY, body text, {direction} occurred_at timestamptz DEFAULT now(),
                 contact_id bigint, company_id bigint, deal_id bigint);
             SELECT integration.track('crm.{kind}s', '{kind}', targets => ARRAY['hubspot']);
             SELECT integration.map_association('crm.{kind}s', 'contact_id', 'crm.contacts');
             SELECT integration.map_association('crm.{kind}s', 'company_id', 'crm.companies');
             SELECT integration.map_association('crm.{kind}s', 'deal_id', 'crm.deals');
             INSERT INTO crm.{kind}s (id, body, contact_id, company_id, deal_id) VALUES (1, 'Hello', 1, 1, 1)"
        ));
        for (to, number) in ["contacts", "companies", "deals"].into_iter().zip(numbers) {
            expected.insert((format!("{kind}s"), to.to_owned(), vec![number]));
        }
    }
    // A task's time is when it is due.
    crm.run("SELECT integration.map_field('crm.tasks', 'occurred_at', 'hubspot', 'hs_timestamp'); UPDATE crm.tasks SET body = 'Again'");
    crm.run("SELECT integration.provision('hubspot')");
    wait_until("all are associated", LATER, || {
        let found: BTreeSet<_> = crm
            .remote
            .associations()
            .into_iter()
            .filter(|association| {
                expected
                    .iter()
                    .any(|(from, ..)| from == association.from_type)
            })
            .map(|association| {
                let (from, to) = (association.from_type, association.to_type);
                (from.to_owned(), to.to_owned(), association.type_ids)
            })
            .collect();
        (found == expected).then_some(())
    });
}

#[test]
fn repointed_and_cleared_keys_follow() {
    let mut crm = start();
    companies(&mut crm, 3);
    crm.add_contacts(1, 3);
    crm.run("UPDATE crm.contacts SET company_id = 1");
    agree(&mut crm);
    crm.run(
        "UPDATE crm.contacts SET company_id = 2 WHERE id = 1;
         UPDATE crm.contacts SET company_id = NULL WHERE id = 2",
    );
    assert_eq!(agree(&mut crm).len(), 2);
    crm.run("DELETE FROM crm.contacts WHERE id = 1; DELETE FROM crm.companies WHERE id = 1");
    assert_eq!(agree(&mut crm).len(), 0);
    let left = crm.rows("SELECT record_key, to_key, state, reason FROM integration.association");
    assert_eq!(
        left,
        ["3|1|waiting|record 1 of crm.companies is not at HubSpot yet"]
    );
}

#[test]
fn parent_that_comes_later_is_waited_for() {
    let mut crm = start();
    crm.add_contacts(1, 2);
    crm.run("UPDATE crm.contacts SET company_id = 1");
    crm.settle();
    wait_until("both wait", SOON, || {
        (crm.ask::<i64>(
            "SELECT count(*) FROM integration.association WHERE state = 'waiting' AND attempts = 0",
        ) == 2)
            .then_some(())
    });
    companies(&mut crm, 1);
    wait_until("both are agreed", SOON, || {
        (crm.ask::<i64>("SELECT count(*) FROM integration.association WHERE state = 'agreed'") == 2)
            .then_some(())
    });
    assert_eq!(agree(&mut crm).len(), 2);
}

#[test]
fn rows_that_were_there_before_are_associated() {
    let mut crm = start();
    crm.run("SELECT integration.unmap_association('crm.contacts', 'company_id')");
    companies(&mut crm, 1);
    crm.add_contacts(1, 5);
    crm.run("UPDATE crm.contacts SET company_id = 1");
    crm.settle();
    assert_eq!(held(&crm).len(), 0);
    crm.run("SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies')");
    wait_until("all are agreed", SOON, || {
        (crm.ask::<i64>("SELECT count(*) FROM integration.association WHERE state = 'agreed'") == 5)
            .then_some(())
    });
    assert_eq!(agree(&mut crm).len(), 5);
}

#[test]
fn many_associations_take_few_calls() {
    let mut crm = start();
    companies(&mut crm, 10);
    crm.settle();
    crm.run(
        "INSERT INTO crm.contacts (email, company_id) SELECT format('person%s@example.org', n), n % 10 + 1 FROM generate_series(1, 2000) n",
    );
    assert_eq!(agree(&mut crm).len(), 2_000);
    let requests = crm.remote.requests_to(Service::HubSpot);
    let calls = requests
        .iter()
        .filter(|request| request.path.contains("/associations/"))
        .count();
    assert!(calls <= 8, "{calls} calls for 2,000 associations");
}

#[test]
fn lost_answers_and_failures_leave_no_stray_association() {
    let mut crm = start();
    // Two calls of three fail; so many in a row may well do.
    crm.set("max_attempts", "100");
    companies(&mut crm, 7);
    crm.add_contacts(1, 100);
    let fault = |kind, nth| {
        Fault::new(kind, When::EveryKth(nth))
            .service(Service::HubSpot)
            .path("/associations/")
    };
    crm.remote.add_fault(fault(FaultKind::AnswerLost, 2));
    crm.remote.add_fault(fault(
        FaultKind::Status {
            code: 503,
            body: FaultBody::Html,
            retry_after: None,
        },
        3,
    ));
    for round in 0..6 {
        crm.run(&format!(
            "UPDATE crm.contacts SET company_id = nullif((id + {round}) % 8, 0)"
        ));
    }
    crm.settle_within(LATER);
    crm.run("UPDATE crm.contacts SET company_id = 1 + id % 7 WHERE id % 2 = 0");
    agree(&mut crm);
}

#[test]
fn killed_worker_leaves_no_stray_association() {
    let config = Config {
        delay_ms: 30,
        ..unlimited()
    };
    let mut crm = start_on(Arc::new(Cluster::start(&[], &[])), config);
    companies(&mut crm, 5);
    crm.add_contacts(1, 300);
    for round in 0..4 {
        crm.run(&format!(
            "UPDATE crm.contacts SET company_id = nullif((id + {round}) % 6, 0)"
        ));
        let before = crm.remote.associations().len();
        let _ = try_until(SOON, || {
            let now = crm.remote.associations().len();
            (now != before || crm.queue_is_empty()).then_some(())
        });
        crm.kill_worker();
    }
    agree(&mut crm);
}

#[test]
fn senseless_associations_are_refused() {
    let mut crm = start();
    crm.run("CREATE TABLE crm.other (id bigint PRIMARY KEY)");
    for (call, code) in [
        ("'crm.contacts', 'company_id', 'crm.other'", "42704"),
        ("'crm.contacts', 'company_id', 'crm.none'", "42P01"),
        ("'crm.contacts', 'firm_id', 'crm.companies'", "42703"),
        ("'crm.contacts', 'email', 'crm.companies'", "42804"),
        ("'crm.companies', 'id', 'crm.contacts'", "22023"),
        ("'crm.deals', 'company_id', 'crm.contacts'", "42710"),
    ] {
        let sql = format!("SELECT integration.map_association({call})");
        let error = crm.client.batch_execute(&sql).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), code, "{call}: {error:?}");
        assert!(error.hint().is_some(), "{call}: {error:?}");
    }
}
