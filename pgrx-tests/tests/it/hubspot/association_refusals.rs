//! Associations that HubSpot refuses, those with records that are gone, and labels of others.

use std::collections::BTreeSet;

use integration_tests::{
    crm::{Crm, LATER, SOON},
    remote::{Fault, FaultBody, FaultKind, ObjectType, Service, When},
    wait::wait_until,
};

use crate::hubspot::associations::{agree, companies, start};

const CONTACT: ObjectType = ObjectType::Contact;
const COMPANY: ObjectType = ObjectType::Company;

/// HubSpot's id of a record of ours.
fn id_of(crm: &Crm, object: ObjectType, key: &str) -> u64 {
    crm.remote
        .by_key(object, key)
        .unwrap_or_else(|| panic!("no record {key}"))
        .id
}

/// HubSpot refuses to associate this record, for good.
fn refuse(crm: &Crm, id: u64) -> u64 {
    let body = r#"{"status":"error","category":"VALIDATION_ERROR","message":"This record has reached its limit of associations"}"#;
    let kind = FaultKind::Status {
        code: 400,
        body: FaultBody::Text(body.to_owned()),
        retry_after: None,
    };
    let fault = Fault::new(kind, When::UntilCleared)
        .service(Service::HubSpot)
        .path("/batch/create")
        .body(&format!("\"{id}\""));
    crm.remote.add_fault(fault)
}

fn letters(crm: &mut Crm) -> Vec<String> {
    crm.rows(
        "SELECT op, record_key, category, http_status, resolution FROM integration.dlq ORDER BY id",
    )
}

fn association_state(crm: &mut Crm, table: &str, key: u32) -> String {
    crm.rows(&format!("SELECT state, last_error FROM integration.sync_status('{table}', '{key}') WHERE target = 'hubspot'")).remove(0)
}

#[test]
fn refused_association_is_a_dead_letter_and_its_mates_are_made() {
    let mut crm = start();
    companies(&mut crm, 2);
    crm.add_contacts(1, 20);
    crm.settle();
    let fault = refuse(&crm, id_of(&crm, CONTACT, "7"));
    crm.run("UPDATE crm.contacts SET company_id = 2");
    crm.settle();
    assert_eq!(letters(&mut crm), ["associate|7|validation|400|NULL"]);
    let error: String = crm.ask("SELECT error FROM integration.dlq");
    for part in [
        "record 7 of crm.contacts",
        "record 2 of crm.companies",
        "column company_id",
        "limit of associations",
    ] {
        assert!(error.contains(part), "{error} should say {part}");
    }
    assert_eq!(
        association_state(&mut crm, "crm.contacts", 7),
        format!("dead|{error}")
    );
    assert_eq!(
        association_state(&mut crm, "crm.contacts", 8),
        "synced|NULL"
    );
    assert_eq!(crm.remote.associations().len(), 2 * 19);
    // Another change of the record tries again; what is delivered of it settles nothing else.
    crm.run("UPDATE crm.contacts SET first_name = 'Changed' WHERE id = 7");
    wait_until("it is tried again", SOON, || {
        (letters(&mut crm).len() == 2).then_some(())
    });
    assert_eq!(
        letters(&mut crm),
        [
            "associate|7|validation|400|superseded",
            "associate|7|validation|400|NULL"
        ]
    );
    assert_eq!(
        crm.ask::<i64>("SELECT dead FROM integration.status WHERE target = 'hubspot'"),
        1
    );
    crm.remote.remove_fault(fault);
    assert_eq!(
        crm.ask::<i64>("SELECT integration.dlq_retry(category => 'validation')"),
        1
    );
    wait_until("it is made", SOON, || {
        (association_state(&mut crm, "crm.contacts", 7) == "synced|NULL").then_some(())
    });
    assert_eq!(agree(&mut crm).len(), 20);
    assert_eq!(letters(&mut crm)[1], "associate|7|validation|400|retried");
}

#[test]
fn dead_letter_about_an_association_ends_with_its_reason() {
    let mut crm = start();
    companies(&mut crm, 2);
    crm.add_contacts(1, 3);
    crm.settle();
    for key in ["1", "2", "3"] {
        refuse(&crm, id_of(&crm, CONTACT, key));
    }
    crm.run("UPDATE crm.contacts SET company_id = 1");
    wait_until("all are refused", SOON, || {
        (letters(&mut crm).len() == 3).then_some(())
    });
    // The row goes, the key is cleared, the column is no longer mapped.
    crm.run("DELETE FROM crm.contacts WHERE id = 1; UPDATE crm.contacts SET company_id = NULL WHERE id = 2");
    wait_until("the first two are over", SOON, || {
        (letters(&mut crm)
            == [
                "associate|1|validation|400|superseded",
                "associate|2|validation|400|superseded",
                "associate|3|validation|400|NULL",
            ])
        .then_some(())
    });
    crm.run("SELECT integration.unmap_association('crm.contacts', 'company_id')");
    assert_eq!(letters(&mut crm)[2], "associate|3|validation|400|discarded");
    assert_eq!(
        association_state(&mut crm, "crm.contacts", 3),
        "synced|NULL"
    );
}

#[test]
fn table_that_is_no_longer_tracked_is_named() {
    let mut crm = start();
    companies(&mut crm, 1);
    crm.add_contacts(1, 2);
    crm.run("UPDATE crm.contacts SET company_id = 1");
    agree(&mut crm);
    let said = crm.notices("SELECT integration.untrack('crm.companies')");
    assert!(
        said.iter()
            .any(|line| line.contains("company_id") && line.contains("crm.contacts")),
        "{said:?}"
    );
    crm.run("UPDATE crm.contacts SET company_id = NULL WHERE id = 1; INSERT INTO crm.contacts (email, company_id) VALUES ('new@example.org', 1)");
    crm.settle();
    assert!(crm.ask::<bool>("SELECT integration.wait_idle('10s', 'hubspot')"));
    let reasons = crm.rows("SELECT DISTINCT reason FROM integration.association WHERE to_source = 'crm.companies'::regclass");
    assert!(
        reasons.len() == 1 && reasons[0].contains("crm.companies is no longer tracked"),
        "{reasons:?}"
    );
    crm.run("SELECT integration.track('crm.companies', 'company')");
    crm.run("UPDATE crm.contacts SET first_name = 'Again'");
    agree(&mut crm);
}

#[test]
fn record_that_waits_for_its_parent_says_so() {
    let mut crm = start();
    crm.add_contacts(1, 1);
    crm.run("UPDATE crm.contacts SET company_id = 1");
    wait_until("it waits", SOON, || {
        (association_state(&mut crm, "crm.contacts", 1)
            == "pending|column company_id: record 1 of crm.companies is not at HubSpot yet")
            .then_some(())
    });
    companies(&mut crm, 1);
    wait_until("it is in step", SOON, || {
        (association_state(&mut crm, "crm.contacts", 1) == "synced|NULL").then_some(())
    });
}

/// Labels of the pair, seen from the contact, and whether the company is the primary one.
fn labels(crm: &Crm, contact: u64, company: u64) -> (BTreeSet<u32>, bool) {
    let association = crm
        .remote
        .associations()
        .into_iter()
        .find(|known| {
            known.from_type == "contacts"
                && known.to_type == "companies"
                && (known.from, known.to) == (contact, company)
        })
        .expect("the pair");
    (
        association.labels.into_iter().collect(),
        association.type_ids.contains(&1),
    )
}

#[test]
fn labels_that_people_gave_survive_our_associations() {
    const BILLING: u32 = 36;
    let mut crm = start();
    companies(&mut crm, 2);
    crm.add_contacts(1, 3);
    crm.run("UPDATE crm.contacts SET company_id = 1 WHERE id = 1");
    agree(&mut crm);
    let contact = |crm: &Crm, key| (CONTACT, id_of(crm, CONTACT, key));
    let company = |crm: &Crm, key| (COMPANY, id_of(crm, COMPANY, key));
    // One that we made.
    let (one, first) = (contact(&crm, "1"), company(&crm, "1"));
    crm.remote.label_association(one, first, BILLING).unwrap();
    // One that people made, beside a primary company of theirs.
    let (two, second) = (contact(&crm, "2"), company(&crm, "2"));
    crm.remote.associate(two, second).unwrap();
    crm.remote.associate(two, first).unwrap();
    crm.remote.label_association(two, first, BILLING).unwrap();
    assert_eq!(labels(&crm, two.1, first.1), ([BILLING].into(), false));
    crm.run(
        "SELECT integration.unmap_association('crm.contacts', 'company_id');
         UPDATE crm.contacts SET company_id = 1;
         SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies')",
    );
    wait_until("all three are agreed", SOON, || {
        (crm.ask::<i64>("SELECT count(*) FROM integration.association WHERE state = 'agreed'") == 3)
            .then_some(())
    });
    let three = contact(&crm, "3");
    assert_eq!(labels(&crm, one.1, first.1), ([BILLING].into(), true));
    assert_eq!(labels(&crm, two.1, first.1), ([BILLING].into(), true));
    assert_eq!(labels(&crm, two.1, second.1), (BTreeSet::new(), false));
    assert_eq!(labels(&crm, three.1, first.1), (BTreeSet::new(), true));
    // An association without a primary type is made without a look; labels stay as well.
    crm.run("INSERT INTO crm.deals VALUES (1, 'Deal', NULL, NULL)");
    crm.settle();
    let deal = (ObjectType::Deal, id_of(&crm, ObjectType::Deal, "1"));
    crm.remote.associate(deal, one).unwrap();
    crm.remote.label_association(deal, one, 40).unwrap();
    crm.run("UPDATE crm.deals SET contact_id = 1");
    crm.settle();
    let kept = crm.remote.associations().into_iter().find(|known| {
        known.from_type == "deals" && known.to_type == "contacts" && known.from == deal.1
    });
    assert_eq!(kept.expect("the pair").labels, [40]);
}

#[test]
fn parents_that_are_gone_or_merged_are_found_out_by_their_children() {
    let mut crm = start();
    companies(&mut crm, 3);
    crm.settle();
    let id = |crm: &Crm, key| id_of(crm, COMPANY, key);
    // Nobody tells us: the first is deleted, the second is another record by now.
    let (first, second, third) = (id(&crm, "1"), id(&crm, "2"), id(&crm, "3"));
    crm.remote.delete_record(COMPANY, first).unwrap();
    let other = crm
        .remote
        .create_record(COMPANY, &[("name", "Twin")])
        .unwrap();
    let merged = crm.remote.merge_records(COMPANY, second, other).unwrap();
    crm.remote.clear_webhooks();
    crm.run("INSERT INTO crm.contacts (email, company_id) SELECT format('person%s@example.org', n), n FROM generate_series(1, 3) n");
    wait_until("all three are agreed", LATER, || {
        (crm.ask::<i64>("SELECT count(*) FROM integration.association WHERE state = 'agreed'") == 3)
            .then_some(())
    });
    crm.settle();
    let (anew, merged_now, third_now) = (id(&crm, "1"), id(&crm, "2"), id(&crm, "3"));
    assert_ne!(anew, first);
    assert_eq!((merged_now, third_now), (merged, third));
    for (key, company) in [("1", anew), ("2", merged), ("3", third)] {
        let contact = id_of(&crm, CONTACT, key);
        assert_eq!(labels(&crm, contact, company), (BTreeSet::new(), true));
    }
    assert_eq!(letters(&mut crm), [] as [&str; 0]);
}
