//! What a deletion on one side means on the other, as the settings say.

use std::time::Duration;

use integration_tests::{
    crm::{Crm, SOON},
    remote::{Delivery, ObjectType, Service, Status},
    wait::{holds_for, wait_until},
};

use crate::inbound::webhooks::import;

const PERSON: &str = "person4@example.org";

fn in_step(settings: &[(&str, &str)]) -> Crm {
    let mut crm = Crm::start();
    for (name, value) in settings {
        crm.set(name, value);
    }
    crm.add_contacts(1, 10);
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('Engines', 'engines.example')");
    crm.converges();
    crm.remote.clear_webhooks();
    crm
}

fn id_of(crm: &Crm, email: &str) -> u64 {
    crm.remote.contact(email).unwrap().0
}

/// What HubSpot told since, of these kinds.
fn told(crm: &Crm) -> Vec<Delivery> {
    crm.remote.webhooks_of(Service::HubSpot)
}

fn import_all(crm: &mut Crm, webhooks: &[Delivery]) {
    for webhook in webhooks {
        import(crm, webhook);
    }
    crm.settle();
}

fn deleted_in_hubspot(crm: &mut Crm, email: &str) -> u64 {
    let id = id_of(crm, email);
    crm.remote.delete_record(ObjectType::Contact, id).unwrap();
    let webhooks = told(crm);
    assert_eq!(webhooks.len(), 1);
    import_all(crm, &webhooks);
    id
}

fn is_in_crm(crm: &mut Crm, id: u32) -> bool {
    crm.ask(&format!(
        "SELECT EXISTS (SELECT FROM crm.contacts WHERE id = {id})"
    ))
}

fn status(crm: &mut Crm) -> String {
    crm.rows(
        "SELECT state FROM integration.sync_status('crm.contacts', '4') WHERE target = 'hubspot'",
    )
    .remove(0)
}

#[test]
fn a_deleted_row_is_archived_in_hubspot() {
    let mut crm = in_step(&[]);
    let id = id_of(&crm, PERSON);
    crm.run("DELETE FROM crm.contacts WHERE id = 4");
    crm.converges();
    let archived = crm.remote.archived(ObjectType::Contact);
    assert_eq!(
        archived.iter().map(|record| record.id).collect::<Vec<_>>(),
        [id]
    );
}

#[test]
fn a_deleted_row_is_erased_in_hubspot_if_that_is_set() {
    let mut crm = in_step(&[("hubspot_on_delete", "gdpr")]);
    crm.run("DELETE FROM crm.contacts WHERE id IN (4, 6); DELETE FROM crm.companies");
    crm.converges();
    assert!(crm.remote.archived(ObjectType::Contact).is_empty());
    // Companies cannot be erased.
    assert_eq!(crm.remote.archived(ObjectType::Company).len(), 1);
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration._archived"),
        0
    );
    let webhooks = told(&crm);
    assert!(
        webhooks
            .iter()
            .any(|webhook| webhook.body.contains("privacyDeletion"))
    );
    import_all(&mut crm, &webhooks);
    crm.converges();
    // HubSpot keeps the address out: explained, and no loop.
    crm.run("INSERT INTO crm.contacts (email, first_name) VALUES ('person4@example.org', 'Again')");
    crm.settle();
    let why = crm.rows("SELECT category FROM integration.dlq WHERE resolution IS NULL");
    assert_eq!(why, ["validation"]);
}

#[test]
fn a_deleted_row_is_left_alone_in_hubspot_if_that_is_set() {
    let mut crm = in_step(&[("hubspot_on_delete", "ignore")]);
    let before = crm.remote.writes_to(Service::HubSpot);
    crm.run("DELETE FROM crm.contacts WHERE id = 4; DELETE FROM crm.companies");
    crm.settle();
    assert_eq!(crm.remote.writes_to(Service::HubSpot), before);
    assert!(crm.remote.contact(PERSON).is_some());
    assert_eq!(
        crm.remote.status_of(PERSON),
        Some(Status::Archived),
        "that is Mailchimp's own setting"
    );
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.link WHERE record_key = '4'"),
        0
    );
}

#[test]
fn too_many_erasures_by_deletion_hold_hubspot() {
    let mut crm = in_step(&[("hubspot_on_delete", "gdpr"), ("guard_deletes", "3/1min")]);
    crm.run("DELETE FROM crm.contacts");
    wait_until("it is held", SOON, || {
        crm.ask::<bool>("SELECT state = 'held' FROM integration.status WHERE target = 'hubspot'")
            .then_some(())
    });
    assert_eq!(crm.remote.contacts().len(), 10, "nobody has been erased");
    crm.run("SELECT integration.resume('hubspot'); SELECT integration.resume('mailchimp')");
    crm.settle();
    assert!(crm.remote.contacts().is_empty());
}

#[test]
fn unknown_policies_are_refused() {
    let mut crm = in_step(&[]);
    for (name, value) in [
        ("hubspot_on_delete", "permanent"),
        ("hubspot_on_remote_delete", "archive"),
    ] {
        let sql = format!("ALTER SYSTEM SET integration.{name} = '{value}'");
        let error = integration_tests::sql::refused(&mut crm.client, &sql);
        assert_eq!(error.code().code(), "22023", "{name}");
    }
}

#[test]
fn deleted_in_hubspot_a_record_is_not_created_again() {
    let mut crm = in_step(&[]);
    deleted_in_hubspot(&mut crm, PERSON);
    assert!(is_in_crm(&mut crm, 4));
    crm.run("UPDATE crm.contacts SET phone = '+49 30 4' WHERE id = 4");
    crm.settle();
    assert_eq!(crm.remote.contact(PERSON), None);
    assert_eq!(status(&mut crm), "withheld");
    // Mailchimp hears of the change.
    assert_eq!(
        crm.remote.member(PERSON).unwrap().merge_fields["PHONE"],
        "+49 30 4"
    );
    assert_eq!(
        crm.rows("SELECT record_key, target, reason FROM integration.withheld"),
        ["4|hubspot|deleted"]
    );
    for job in [
        "backfill('crm.contacts')",
        "reconcile('crm.contacts', repair => true)",
    ] {
        crm.run(&format!("SELECT integration.{job}"));
        assert!(crm.ask::<bool>("SELECT integration.wait_idle('30s')"));
        assert_eq!(crm.remote.contact(PERSON), None, "{job}");
    }
    assert!(crm.ask::<bool>("SELECT integration.allow_again('crm.contacts', '4')"));
    crm.converges();
    assert_eq!(status(&mut crm), "synced");
}

#[test]
fn a_change_that_was_waiting_does_not_undo_the_deletion() {
    let mut crm = in_step(&[]);
    crm.run("SELECT integration.pause('hubspot')");
    crm.run("UPDATE crm.contacts SET phone = '+49 30 4' WHERE id = 4");
    let id = id_of(&crm, PERSON);
    crm.remote.delete_record(ObjectType::Contact, id).unwrap();
    for webhook in told(&crm) {
        import(&mut crm, &webhook);
    }
    wait_until("it is applied", SOON, || {
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM integration.inbox WHERE state = 'applied')")
            .then_some(())
    });
    crm.run("SELECT integration.resume('hubspot')");
    crm.settle();
    assert_eq!(crm.remote.contact(PERSON), None);
}

#[test]
fn a_restored_record_is_linked_again_and_brought_up_to_date() {
    let mut crm = in_step(&[]);
    let id = deleted_in_hubspot(&mut crm, PERSON);
    crm.run("UPDATE crm.contacts SET phone = '+49 30 4' WHERE id = 4");
    crm.settle();
    crm.remote.restore_record(ObjectType::Contact, id).unwrap();
    let webhooks = told(&crm);
    import_all(&mut crm, &webhooks);
    crm.converges();
    assert_eq!(
        id_of(&crm, PERSON),
        id,
        "the same record, and no second one"
    );
    assert_eq!(status(&mut crm), "synced");
}

#[test]
fn restored_after_its_row_was_deleted_a_record_stays() {
    let mut crm = in_step(&[]);
    let id = deleted_in_hubspot(&mut crm, PERSON);
    crm.run("DELETE FROM crm.contacts WHERE id = 4");
    crm.settle();
    crm.remote.restore_record(ObjectType::Contact, id).unwrap();
    let webhooks = told(&crm);
    import_all(&mut crm, &webhooks);
    assert!(crm.remote.contact(PERSON).is_some());
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.withheld"),
        0
    );
}

#[test]
fn deleted_for_privacy_reasons_a_record_stays_away() {
    // HubSpot tells of it twice, in either order.
    for reversed in [false, true] {
        let mut crm = in_step(&[]);
        let id = id_of(&crm, PERSON);
        crm.remote.erase_record(ObjectType::Contact, id).unwrap();
        let mut webhooks = told(&crm);
        let body = webhooks
            .iter()
            .map(|webhook| webhook.body.clone())
            .collect::<String>();
        assert!(
            body.contains("contact.deletion") && body.contains("privacyDeletion"),
            "{body}"
        );
        if reversed {
            webhooks.reverse();
        }
        for webhook in webhooks {
            import_all(&mut crm, &[webhook]);
        }
        assert!(is_in_crm(&mut crm, 4));
        crm.run("UPDATE crm.contacts SET phone = '+49 30 4' WHERE id = 4");
        crm.settle();
        assert_eq!(crm.remote.contact(PERSON), None);
        assert_eq!(
            crm.rows("SELECT record_key, target, reason FROM integration.withheld"),
            ["4|hubspot|privacy"]
        );
    }
}

#[test]
fn deleted_in_hubspot_the_row_goes_as_well_if_that_is_set() {
    let mut crm = in_step(&[("hubspot_on_remote_delete", "delete")]);
    let before = crm.remote.writes_to(Service::HubSpot);
    deleted_in_hubspot(&mut crm, PERSON);
    assert!(!is_in_crm(&mut crm, 4));
    // On to Mailchimp, but not back.
    assert_eq!(crm.remote.status_of(PERSON), Some(Status::Archived));
    holds_for("nothing goes back", Duration::from_millis(500), || {
        crm.remote.writes_to(Service::HubSpot) == before
    });
    crm.remote
        .delete_record(ObjectType::Company, crm.remote.companies()[0].0)
        .unwrap();
    let webhooks = told(&crm);
    import_all(&mut crm, &webhooks);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM crm.companies"), 0);
    crm.converges();
}

#[test]
fn a_row_that_the_crm_does_not_let_go_stays_and_people_can_see_why() {
    let mut crm = in_step(&[("hubspot_on_remote_delete", "delete")]);
    crm.run(
        "CREATE TABLE crm.orders (id int PRIMARY KEY, contact_id bigint REFERENCES crm.contacts (id) DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO crm.orders VALUES (1, 4)",
    );
    deleted_in_hubspot(&mut crm, PERSON);
    assert!(is_in_crm(&mut crm, 4));
    let said: String = crm.ask("SELECT state || ': ' || detail FROM integration.inbox");
    assert!(
        said.starts_with("failed: ") && said.contains("23503"),
        "{said}"
    );
    // What people in HubSpot did not want is not created again.
    crm.run("UPDATE crm.contacts SET phone = '+49 30 4' WHERE id = 4");
    crm.settle();
    assert_eq!(crm.remote.contact(PERSON), None);
    // A CRM that keeps what it deletes.
    crm.run(
        "CREATE FUNCTION crm.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE crm.contacts SET notes = ''deleted'' WHERE id = OLD.id; RETURN NULL; END';
         CREATE TRIGGER keep BEFORE DELETE ON crm.contacts FOR EACH ROW EXECUTE FUNCTION crm.keep()",
    );
    deleted_in_hubspot(&mut crm, "person6@example.org");
    assert_eq!(
        crm.ask::<String>("SELECT notes FROM crm.contacts WHERE id = 6"),
        "deleted"
    );
    assert_eq!(crm.remote.contact("person6@example.org"), None);
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.withheld"),
        2
    );
}

#[test]
fn our_own_deletions_coming_back_change_nothing() {
    for app_id in ["", "50780459"] {
        let mut crm = in_step(&[
            ("hubspot_on_remote_delete", "delete"),
            ("hubspot_app_id", app_id),
        ]);
        crm.run("DELETE FROM crm.contacts WHERE id = 4");
        crm.settle();
        let webhooks = told(&crm);
        assert!(!webhooks.is_empty());
        import_all(&mut crm, &webhooks);
        assert_eq!(crm.ask::<i64>("SELECT count(*) FROM crm.contacts"), 9);
        assert_eq!(
            crm.ask::<i64>("SELECT count(*) FROM integration.withheld"),
            0
        );
        crm.converges();
    }
}

#[test]
fn a_merge_is_no_deletion() {
    let mut crm = in_step(&[("hubspot_on_remote_delete", "delete")]);
    let (primary, other) = (id_of(&crm, PERSON), id_of(&crm, "person5@example.org"));
    crm.remote
        .merge_records(ObjectType::Contact, primary, other)
        .unwrap();
    let webhooks = told(&crm);
    import_all(&mut crm, &webhooks);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM crm.contacts"), 10);
    // The survivor is one row's; the other one is told of.
    let letters = "SELECT category, error ~ '^records (4 and 5|5 and 4) are one' FROM integration.dlq WHERE resolution IS NULL";
    assert_eq!(crm.rows(letters), ["conflict|t"]);
    let shared = "SELECT count(*) FROM integration.link WHERE target = 'hubspot' GROUP BY source, remote_id HAVING count(*) > 1";
    assert_eq!(crm.rows(shared), [""; 0]);
}
