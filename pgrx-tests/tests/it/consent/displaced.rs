//! Who changes their address at Mailchimp is never subscribed again under the one they left, whether
//! Mailchimp tells of it or not; and whoever was removed there is not added anew.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{
        Fault, FaultBody, FaultKind, MemberAction, Service, Status, When, path_secret, unlimited,
    },
    sql::quote_literal,
    wait::wait_until,
};

const OLD: &str = "ada@example.org";
const NEW: &str = "ada.k@example.org";

/// Ada and five others are subscribed; no webhooks wait.
fn subscribed() -> Crm {
    subscribed_in(Crm::start())
}

fn subscribed_in(mut crm: Crm) -> Crm {
    crm.add_contact(OLD, true);
    crm.add_contacts(1, 10);
    crm.converges();
    crm.remote.clear_webhooks();
    crm
}

fn moves(crm: &Crm) {
    let new_email = NEW.to_owned();
    let change = MemberAction::ChangeEmail { new_email };
    crm.remote.member_does(OLD, change).unwrap();
}

fn import(crm: &mut Crm) {
    for delivery in crm.remote.webhooks_of(Service::Mailchimp) {
        let secret = path_secret(&delivery).to_owned();
        crm.run(&format!(
            "SELECT integration.import_mailchimp_webhook({}, '{{}}', {})",
            quote_literal(&delivery.body),
            quote_literal(&secret)
        ));
    }
    crm.settle();
}

fn rename_all(crm: &mut Crm) {
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta'");
}

/// What was mailed at the address that was left: since then, nothing may be.
fn mailed_at_old(crm: &Crm) -> usize {
    let all = crm.remote.subscribed();
    all.iter().filter(|each| each.email == OLD).count()
}

/// The person goes on under the new address, in the CRM as well; what was created is out of the way.
#[track_caller]
fn has_followed(crm: &mut Crm, contact: &str) {
    wait_until("the CRM has the new address", SOON, || {
        let found = crm.rows("SELECT email FROM crm.contacts WHERE id = 1");
        (found == [NEW]).then_some(())
    });
    crm.converges();
    let member = crm.remote.member(NEW).unwrap();
    assert_eq!(member.contact_id, contact);
    assert_eq!(member.merge_fields["FNAME"], "Augusta");
    assert_eq!(mailed_at_old(crm), 1, "when they were added");
    assert!(
        matches!(crm.remote.status_of(OLD), None | Some(Status::Archived)),
        "{:?}",
        crm.remote.status_of(OLD)
    );
    assert_eq!(
        crm.rows(
            "SELECT remote_key, stray FROM integration._link WHERE target = 2 AND record_key = '1'"
        ),
        [format!("{NEW}|NULL")]
    );
    assert_eq!(
        crm.rows("SELECT category FROM integration.dlq WHERE resolution IS NULL"),
        [""; 0]
    );
}

#[test]
fn who_moved_untold_is_followed_by_the_next_change_of_their_row() {
    let mut crm = subscribed();
    let contact = crm.remote.member(OLD).unwrap().contact_id;
    moves(&crm);
    let told = crm.remote.webhooks_of(Service::Mailchimp);
    rename_all(&mut crm);
    has_followed(&mut crm, &contact);
    assert!(crm.remote.contact(NEW).is_some(), "HubSpot is told");
    // What Mailchimp has to say comes late, of the archived one as well.
    for delivery in told {
        let secret = path_secret(&delivery).to_owned();
        crm.run(&format!(
            "SELECT integration.import_mailchimp_webhook({}, '{{}}', {})",
            quote_literal(&delivery.body),
            quote_literal(&secret)
        ));
    }
    import(&mut crm);
    has_followed(&mut crm, &contact);
    assert_eq!(
        crm.rows("SELECT marketing_opt_in FROM crm.contacts WHERE id = 1"),
        ["t"]
    );
    // And everything goes on there.
    crm.run("UPDATE crm.contacts SET last_name = 'King' WHERE id = 1");
    has_followed(&mut crm, &contact);
    assert_eq!(
        crm.remote.member(NEW).unwrap().merge_fields["LNAME"],
        "King"
    );
}

#[test]
fn who_moved_untold_is_found_though_the_answer_was_lost() {
    let mut crm = subscribed();
    let contact = crm.remote.member(OLD).unwrap().contact_id;
    moves(&crm);
    let lost = Fault::new(FaultKind::AnswerLost, When::NextN(1))
        .service(Service::Mailchimp)
        .method("POST");
    crm.remote.add_fault(lost);
    rename_all(&mut crm);
    has_followed(&mut crm, &contact);
}

/// Between the answer and what follows from it, and then again.
#[test]
fn who_moved_untold_is_followed_through_crashes() {
    // A crash ends all sessions of a server.
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut crm = subscribed_in(Crm::start_on(cluster, unlimited()));
    let contact = crm.remote.member(OLD).unwrap().contact_id;
    moves(&crm);
    for method in ["GET", "DELETE"] {
        let slow = Fault::new(FaultKind::Delay { ms: 60_000 }, When::UntilCleared)
            .service(Service::Mailchimp)
            .method(method)
            .path("/members/");
        let slow = crm.remote.add_fault(slow);
        let asked = |crm: &Crm| {
            let requests = crm.remote.requests_to(Service::Mailchimp);
            let found = requests
                .iter()
                .filter(|request| request.method == method && request.path.contains("/members/"));
            found.count()
        };
        let before = asked(&crm);
        if method == "GET" {
            rename_all(&mut crm);
        }
        wait_until("it is on its way", SOON, || {
            (asked(&crm) > before).then_some(())
        });
        crm.kill_worker();
        crm.remote.remove_fault(slow);
        assert_eq!(mailed_at_old(&crm), 1);
        if method == "GET" {
            assert_eq!(
                crm.remote.status_of(OLD),
                Some(Status::Transactional),
                "gets no mail whatever happens to us"
            );
        }
    }
    has_followed(&mut crm, &contact);
}

#[test]
fn opt_out_reaches_who_moved_untold_at_once() {
    let mut crm = subscribed();
    let contact = crm.remote.member(OLD).unwrap().contact_id;
    moves(&crm);
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 1");
    wait_until("they are unsubscribed", SOON, || {
        (crm.remote.status_of(NEW) == Some(Status::Unsubscribed)).then_some(())
    });
    rename_all(&mut crm);
    wait_until("the CRM has the new address", SOON, || {
        let found = crm.rows("SELECT email, marketing_opt_in FROM crm.contacts WHERE id = 1");
        (found == [format!("{NEW}|f")]).then_some(())
    });
    crm.converges();
    assert_eq!(mailed_at_old(&crm), 1);
    assert_eq!(crm.remote.status_of(OLD), Some(Status::Archived));
    // It was the CRM's, which may take it back.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true WHERE id = 1");
    has_followed(&mut crm, &contact);
    assert_eq!(crm.remote.status_of(NEW), Some(Status::Subscribed));
}

#[test]
fn opt_in_anew_reaches_who_moved_while_they_were_opted_out() {
    let mut crm = subscribed();
    let contact = crm.remote.member(OLD).unwrap().contact_id;
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 1");
    crm.converges();
    moves(&crm);
    crm.remote.clear_webhooks();
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true WHERE id = 1");
    crm.settle();
    rename_all(&mut crm);
    has_followed(&mut crm, &contact);
    assert_eq!(crm.remote.status_of(NEW), Some(Status::Subscribed));
}

#[test]
fn who_was_removed_untold_is_not_added_anew() {
    let mut crm = subscribed();
    crm.remote.member_does(OLD, MemberAction::Vanish).unwrap();
    rename_all(&mut crm);
    wait_until("the CRM is told", SOON, || {
        let says = crm.rows("SELECT marketing_opt_in FROM crm.contacts WHERE id = 1");
        (says == ["f"]).then_some(())
    });
    crm.settle();
    assert_eq!(mailed_at_old(&crm), 1);
    assert_eq!(crm.remote.status_of(OLD), Some(Status::Archived));
    assert_eq!(
        crm.rows(
            "SELECT category FROM integration.dlq WHERE record_key = '1' AND target = 'mailchimp'"
        ),
        ["consent"]
    );
    assert_eq!(
        crm.rows(&format!(
            "SELECT status, decided_by FROM integration.suppression WHERE subscriber_hash = md5('{OLD}')"
        )),
        ["unsubscribed_by_member|mailchimp"]
    );
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true WHERE id = 1");
    wait_until("the CRM is told again", SOON, || {
        let says = crm.rows("SELECT marketing_opt_in FROM crm.contacts WHERE id = 1");
        (says == ["f"]).then_some(())
    });
    crm.settle();
    assert_eq!(mailed_at_old(&crm), 1);
}

/// The address they have now is another row's already.
#[test]
fn who_moved_to_another_rows_address_is_a_conflict() {
    let mut crm = subscribed();
    crm.run(
        "SELECT integration.pause('mailchimp', 'so that it is first known under the new address')",
    );
    moves(&crm);
    crm.remote.clear_webhooks();
    crm.add_contact(NEW, true);
    rename_all(&mut crm);
    crm.run("SELECT integration.resume('mailchimp')");
    wait_until("there is a dead letter", SOON, || {
        let letters =
            crm.rows("SELECT record_key FROM integration.dlq WHERE category = 'conflict'");
        (!letters.is_empty()).then_some(())
    });
    crm.settle();
    assert_eq!(mailed_at_old(&crm), 1);
    assert_eq!(crm.remote.status_of(NEW), Some(Status::Subscribed));
}

/// Before the member that was created in vain is archived, the person is erased.
#[test]
fn who_is_erased_is_erased_under_the_address_they_left_as_well() {
    let mut crm = subscribed();
    let hash: String = crm.ask(&format!("SELECT md5('{OLD}')"));
    let refused = FaultKind::Status {
        code: 400,
        body: FaultBody::Json,
        retry_after: None,
    };
    let archive = Fault::new(refused, When::UntilCleared).service(Service::Mailchimp);
    crm.remote.add_fault(archive.method("DELETE").path(&hash));
    moves(&crm);
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta' WHERE id = 1");
    let stray = "SELECT stray FROM integration._link WHERE target = 2 AND record_key = '1'";
    wait_until(
        "the member under the old address waits to be archived",
        SOON,
        || {
            let followed = crm.rows("SELECT email FROM crm.contacts WHERE id = 1") == [NEW];
            (followed && crm.rows(stray) == [OLD]).then_some(())
        },
    );
    // The log of consent, which knows addresses by hash, is kept for a time only.
    crm.run("DELETE FROM integration.consent_log WHERE record_key = '1'");
    let job: i64 = crm.ask("SELECT integration.erase('crm.contacts', '1')");
    wait_until("she is erased", SOON, || {
        let state = crm.ask::<String>(&format!(
            "SELECT state FROM integration.job WHERE id = {job}"
        ));
        (state == "done").then_some(())
    });
    assert!(crm.remote.is_forgotten(NEW));
    assert!(crm.remote.is_forgotten(OLD));
}
