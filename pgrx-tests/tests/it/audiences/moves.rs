//! Moves from one Mailchimp audience to another that are interrupted, and a default that changes.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Fault, FaultKind, Service, Status, When},
    wait::wait_until,
};

use crate::audiences::several::{
    FIRST, OTHER, THIRD, add, everywhere, letters, move_to, several, start_on, status,
};

use Status::{Archived, Subscribed};

/// Each call of a move in turn loses its answer, or is not even made, and the worker is killed.
#[test]
fn move_survives_a_crash_at_every_step() {
    // A server of its own, for killing a worker ends all sessions.
    let mut crm = start_on(Arc::new(Cluster::start(&[], &[])));
    crm.set("mailchimp_request_timeout", "60s");
    let steps = [
        ("GET", "/lists/bbbbbbbbbb"),
        ("GET", "/members/"),
        ("DELETE", "/members/"),
        ("POST", "/lists/bbbbbbbbbb"),
    ];
    for (number, (method, path)) in steps.into_iter().enumerate() {
        let email = format!("p{number}@example.org");
        let id = add(&mut crm, &email, None);
        crm.settle();
        // The sandbox applies it at once and answers when the worker is dead.
        let fault = Fault::new(FaultKind::Delay { ms: 20_000 }, When::NextN(1))
            .service(Service::Mailchimp)
            .method(method)
            .path(path);
        let fault = crm.remote.add_fault(fault);
        if number == 0 {
            crm.run("DELETE FROM integration.audience; SELECT integration.reload()");
        }
        move_to(&mut crm, id, OTHER);
        wait_until("the call has been made", SOON, || {
            let faults = crm.remote.faults();
            faults
                .iter()
                .any(|known| known.id == fault && known.hit > 0)
                .then_some(())
        });
        crm.kill_worker();
        crm.remote.remove_fault(fault);
        crm.settle();
        assert_eq!(
            everywhere(&crm, &email),
            [Some(Archived), Some(Subscribed), None],
            "{method} {path}"
        );
        // There and back, with the same step interrupted by a lost answer.
        let lost = Fault::new(FaultKind::AnswerLost, When::NextN(2))
            .service(Service::Mailchimp)
            .method(method)
            .path(if number == 2 { "/members/" } else { "/lists/" });
        let lost = crm.remote.add_fault(lost);
        crm.run(&format!(
            "UPDATE crm.contacts SET audience = NULL WHERE id = {id}"
        ));
        crm.settle();
        crm.remote.remove_fault(lost);
        assert_eq!(
            everywhere(&crm, &email),
            [Some(Subscribed), Some(Archived), None],
            "back: {method} {path}"
        );
    }
    assert_eq!(letters(&mut crm), [""; 0]);
}

/// Everybody moves again and again while answers get lost and the worker is killed: in the end each
/// is in the audience its row names, and gets mail from no other one.
#[test]
fn moves_end_where_the_rows_say_whatever_happens_on_the_way() {
    let mut crm = start_on(Arc::new(Cluster::start(&[], &[])));
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in)
         SELECT format('p%s@example.org', n), 'P' || n, true FROM generate_series(1, 30) n",
    );
    crm.settle();
    let fault =
        |kind, p, seed| Fault::new(kind, When::Probability { p, seed }).service(Service::Mailchimp);
    crm.remote.add_fault(fault(FaultKind::AnswerLost, 0.05, 11));
    crm.remote.add_fault(fault(FaultKind::Reset, 0.05, 12));
    crm.set("max_attempts", "1000");
    for round in 0..6_usize {
        crm.run(&format!(
            "UPDATE crm.contacts SET audience = (ARRAY[NULL, 'bbbbbbbbbb', 'cccccccccc'])[1 + (id * 7 + {round} * (1 + id % 2)) % 3]"
        ));
        let sent = crm.remote.stats().mailchimp_requests;
        wait_until("some of them move", SOON, || {
            (crm.remote.stats().mailchimp_requests > sent + 10).then_some(())
        });
        crm.kill_worker();
    }
    crm.remote.clear_faults();
    crm.settle();
    assert_eq!(letters(&mut crm), [""; 0]);
    let rows = crm.rows("SELECT email, coalesce(audience, 'a6b5da1054') FROM crm.contacts");
    assert_eq!(rows.len(), 30);
    for row in rows {
        let (email, audience) = row.split_once('|').unwrap();
        for list in [FIRST, OTHER, THIRD] {
            let held = status(&crm, list, email);
            match list == audience {
                true => assert_eq!(held, Some(Subscribed), "{email} in {list}"),
                false => assert!(
                    matches!(held, None | Some(Archived)),
                    "{email} in {list}: {held:?}"
                ),
            }
        }
    }
}

#[test]
fn another_default_moves_those_who_name_no_audience() {
    let mut crm = Crm::start_on(Cluster::shared(), several());
    let email = "ada@example.org";
    crm.add_contact(email, true);
    crm.settle();
    crm.set("mailchimp_list_id", OTHER);
    wait_until("the target is held", SOON, || {
        let held = "SELECT state = 'held' FROM integration.status WHERE target = 'mailchimp'";
        crm.ask::<bool>(held).then_some(())
    });
    crm.run("SELECT integration.resume('mailchimp'); SELECT integration.backfill('crm.contacts', 'mailchimp')");
    assert!(crm.ask::<bool>("SELECT integration.wait_idle('1min')"));
    assert_eq!(
        everywhere(&crm, email),
        [Some(Archived), Some(Subscribed), None]
    );
    assert_eq!(letters(&mut crm), [""; 0]);
}
