//! A call was under way when the worker was killed, and what it carried is taken back in the CRM
//! before there is another worker. The service has it, nobody here has heard of it, and the row is as
//! it was agreed before: yet both sides are equal in the end.

use crate::crash::kills::reconnect;
use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, LATER, SOON},
    remote::{Fault, FaultBody, FaultKind, ObjectType, Service, Status, When, unlimited},
    wait::wait_until,
};
use std::sync::Arc;

/// Answers come so late that the worker does not live to hear them.
pub const LATE: u64 = 4_000;

#[derive(Clone, Copy)]
pub enum Death {
    Worker,
    Server,
    /// Nobody is killed, but it does not wait for answers either.
    Restart,
}

pub fn own_server() -> Arc<Cluster> {
    Arc::new(Cluster::start(&[], &[]))
}

/// One contact that both services know.
pub fn ada_on(cluster: Arc<Cluster>) -> Crm {
    let mut crm = Crm::start_on(cluster, unlimited());
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, phone, marketing_opt_in)
         VALUES ('ada@example.org', 'Ada', '1', true)",
    );
    crm.converges();
    crm
}

/// Makes a change, ends the worker while the services have it and have not said so, makes another
/// one while nobody looks, and goes on.
#[track_caller]
pub fn interrupted(
    crm: &mut Crm,
    change: &str,
    arrived: impl Fn(&Crm) -> bool,
    death: Death,
    meanwhile: &str,
) {
    crm.remote.configure(|config| config.delay_ms = LATE);
    crm.run(change);
    wait_until("the services have the change", SOON, || {
        arrived(crm).then_some(())
    });
    // So that the next worker sends nothing by itself.
    crm.run(
        "SELECT integration.pause('hubspot', 'a test'), integration.pause('mailchimp', 'a test')",
    );
    match death {
        Death::Worker => crm.kill_worker(),
        Death::Server => {
            crm.cluster.kill9();
            crm.cluster.launch();
            reconnect(crm);
        }
        Death::Restart => {
            crm.cluster.stop(Stop::Fast);
            crm.cluster.launch();
            reconnect(crm);
        }
    }
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.run(meanwhile);
    crm.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp')");
}

pub fn phone(crm: &Crm, email: &str) -> Option<String> {
    crm.remote.contact(email)?.1.get("phone").cloned()
}

pub fn merge_field(crm: &Crm, email: &str, tag: &str) -> Option<String> {
    let member = crm.remote.member(email)?;
    member.merge_fields.get(tag)?.as_str().map(str::to_owned)
}

pub fn both_have(crm: &Crm, value: &str) -> bool {
    let email = "ada@example.org";
    phone(crm, email).as_deref() == Some(value)
        && merge_field(crm, email, "PHONE").as_deref() == Some(value)
}

#[test]
fn value_that_was_taken_back_is_sent_again() {
    let mut crm = ada_on(own_server());
    for (round, death) in [Death::Worker, Death::Server, Death::Restart]
        .into_iter()
        .enumerate()
    {
        let value = format!("2{round}");
        interrupted(
            &mut crm,
            &format!("UPDATE crm.contacts SET phone = '{value}'"),
            |crm| both_have(crm, &value),
            death,
            "UPDATE crm.contacts SET phone = '1'",
        );
        crm.converges();
        assert!(both_have(&crm, "1"));
    }
}

/// An opt-out was carried out without our hearing of it, and the CRM opts the person in again.
#[test]
fn opt_out_that_was_taken_back_is_undone() {
    let mut crm = ada_on(own_server());
    let status = |crm: &Crm| crm.remote.status_of("ada@example.org");
    let consent = |says| format!("UPDATE crm.contacts SET marketing_opt_in = {says}");
    let is_out = |crm: &Crm| status(crm) == Some(Status::Unsubscribed);
    for death in [Death::Worker, Death::Server, Death::Restart] {
        interrupted(&mut crm, &consent(false), is_out, death, &consent(true));
        crm.converges();
        assert_eq!(status(&crm), Some(Status::Subscribed));
    }
    // Nobody dies, and an answer gets lost.
    let lost = Fault::new(FaultKind::AnswerLost, When::NextN(1)).service(Service::Mailchimp);
    crm.remote.add_fault(lost);
    crm.run(&consent(false));
    wait_until("the opt-out is carried out", SOON, || {
        is_out(&crm).then_some(())
    });
    crm.run(&consent(true));
    crm.converges();
    assert_eq!(status(&crm), Some(Status::Subscribed));
}

/// What never was agreed on before counts as empty on both sides.
#[test]
fn value_that_was_empty_before_is_emptied_again() {
    let mut crm = ada_on(own_server());
    crm.run("UPDATE crm.contacts SET phone = NULL");
    crm.converges();
    interrupted(
        &mut crm,
        "UPDATE crm.contacts SET company = 'Engines', last_name = 'King'",
        |crm| {
            crm.remote
                .contact("ada@example.org")
                .is_some_and(|(_, fields)| fields.contains_key("company"))
                && merge_field(crm, "ada@example.org", "LNAME").as_deref() == Some("King")
        },
        Death::Worker,
        "UPDATE crm.contacts SET company = NULL, last_name = NULL",
    );
    crm.converges();
    let (_, fields) = crm.remote.contact("ada@example.org").unwrap();
    assert_eq!(fields.get("company").map_or("", String::as_str), "");
    let name = merge_field(&crm, "ada@example.org", "LNAME");
    assert_eq!(name.unwrap_or_default(), "");
}

/// The create is known to be under way; what it carried besides is not.
#[test]
fn value_of_a_new_record_that_was_taken_back_is_emptied() {
    let mut crm = Crm::start_on(own_server(), unlimited());
    crm.settle();
    interrupted(
        &mut crm,
        "INSERT INTO crm.contacts (email, first_name, phone, marketing_opt_in)
         VALUES ('ada@example.org', 'Ada', '2', true)",
        |crm| both_have(crm, "2"),
        Death::Server,
        "UPDATE crm.contacts SET phone = NULL",
    );
    crm.converges();
    assert_eq!(crm.remote.contacts().len(), 1);
    let email = "ada@example.org";
    let held = [phone(&crm, email), merge_field(&crm, email, "PHONE")];
    assert_eq!(
        held.map(Option::unwrap_or_default),
        ["", ""],
        "what we gave is taken back"
    );
}

/// What waits for another attempt does not say what changed, but what takes it back does.
#[test]
fn value_that_was_under_way_again_is_sent_again_once_it_was_taken_back() {
    let mut crm = ada_on(own_server());
    let locked = FaultKind::Status {
        code: 423,
        body: FaultBody::Json,
        retry_after: None,
    };
    crm.remote.add_fault(
        Fault::new(locked, When::NextN(1))
            .service(Service::HubSpot)
            .method("POST"),
    );
    interrupted(
        &mut crm,
        "UPDATE crm.contacts SET phone = '2'",
        |crm| both_have(crm, "2"),
        Death::Worker,
        "UPDATE crm.contacts SET phone = '1'",
    );
    crm.converges();
}

/// The next worker has read the change already, and is not let in to send it.
#[test]
fn value_is_sent_again_if_it_is_taken_back_while_the_next_worker_waits() {
    let mut crm = ada_on(own_server());
    crm.set("retry_base", "2s");
    crm.set("retry_max", "2s");
    for (value, code) in [("2", 423), ("3", 429)] {
        crm.remote.configure(|config| config.delay_ms = LATE);
        crm.run(&format!("UPDATE crm.contacts SET phone = '{value}'"));
        wait_until("the services have the change", SOON, || {
            both_have(&crm, value).then_some(())
        });
        let kind = FaultKind::Status {
            code,
            body: FaultBody::Json,
            retry_after: Some(2),
        };
        let refused = Fault::new(kind, When::NextN(1))
            .service(Service::HubSpot)
            .path("/batch/update");
        let refused = crm.remote.add_fault(refused);
        crm.remote.configure(|config| config.delay_ms = 0);
        crm.kill_worker();
        wait_until("the next worker was refused", SOON, || {
            let faults = crm.remote.faults();
            let mut hit = faults.iter().filter(|known| known.hit > 0);
            hit.any(|known| known.id == refused).then_some(())
        });
        crm.run("UPDATE crm.contacts SET phone = '1'");
        crm.converges();
        assert!(both_have(&crm, "1"));
    }
}

/// No crash: what a lost answer leaves in doubt is known exactly.
#[test]
fn value_that_is_taken_back_while_its_call_is_under_way_is_sent_again() {
    let mut crm = ada_on(Cluster::shared());
    crm.remote.configure(|config| config.delay_ms = 700);
    crm.run("UPDATE crm.contacts SET phone = '2'");
    wait_until("the services have it", SOON, || {
        both_have(&crm, "2").then_some(())
    });
    crm.run("UPDATE crm.contacts SET phone = '1'");
    crm.converges();
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.remote
        .add_fault(Fault::new(FaultKind::AnswerLost, When::NextN(2)).method("POST"));
    crm.run("UPDATE crm.contacts SET phone = '3'");
    wait_until("the services have it", SOON, || {
        both_have(&crm, "3").then_some(())
    });
    crm.run("UPDATE crm.contacts SET phone = '1'");
    crm.converges();
    assert!(both_have(&crm, "1"));
}

/// What a change does not name was not under way: it is not said again, whoever dies.
#[test]
fn nothing_else_is_sent_again() {
    let mut crm = Crm::start_on(own_server(), unlimited());
    crm.add_contacts(1, 300);
    crm.converges();
    let (id, fields) = crm.remote.contact("person2@example.org").unwrap();
    assert_eq!(fields["jobtitle"], "Clerk");
    // Somebody's value there, of which nobody has told us.
    let set = crm
        .remote
        .set_property(ObjectType::Contact, id, "jobtitle", "Countess");
    set.unwrap();
    for death in [Death::Worker, Death::Server, Death::Restart] {
        interrupted(
            &mut crm,
            "UPDATE crm.contacts SET phone = phone || '0' WHERE id = 2",
            |crm| phone(crm, "person2@example.org").is_some_and(|phone| phone.ends_with('0')),
            death,
            "UPDATE crm.contacts SET phone = rtrim(phone, '0') WHERE id = 2",
        );
        crm.settle();
    }
    let (_, fields) = crm.remote.contact("person2@example.org").unwrap();
    assert_eq!(fields["jobtitle"], "Countess", "it was not in the call");
    // A backfill of what is there already has nothing to send, in however many attempts.
    let before = crm.remote.writes_to(Service::HubSpot) + crm.remote.writes_to(Service::Mailchimp);
    crm.run(
        "SELECT integration.pause('hubspot', 'a test'), integration.pause('mailchimp', 'a test')",
    );
    let job: i64 = crm.ask("SELECT integration.backfill('crm.contacts')");
    crm.cluster.kill9();
    crm.cluster.launch();
    reconnect(&mut crm);
    crm.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp')");
    let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
    wait_until("the backfill is done", LATER, || {
        crm.ask::<bool>(&done).then_some(())
    });
    let after = crm.remote.writes_to(Service::HubSpot) + crm.remote.writes_to(Service::Mailchimp);
    assert_eq!(after, before);
}
