//! What audiences say of their merge fields: read, created where they are missing, and read again when
//! they have changed.

use super::merge_fields::{HOME, field, held};
use crate::jobs::backfill::wait_for;
use integration_tests::people::{LIST, OTHER, letters, mapped, people_with};
use integration_tests::portal::alert;
use integration_tests::{
    crm::SOON,
    remote::{Fault, FaultKind, LoggedRequest, Service, Status, When, unlimited},
    wait::wait_until,
};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn required_field_without_a_value_is_explained_and_people_can_still_leave() {
    let mut crm = people_with(unlimited(), ", level text");
    crm.remote
        .define_field(LIST, &field("text", "LEVEL"))
        .unwrap();
    mapped(&mut crm, &[("level", "LEVEL")]);
    crm.run("INSERT INTO crm.people VALUES (1, 'p1@example.org', true, NULL)");
    crm.settle();
    let mut required = field("text", "LEVEL");
    required.required = true;
    crm.remote.define_field(LIST, &required).unwrap();
    crm.run(
        "INSERT INTO crm.people VALUES (2, 'p2@example.org', true, NULL), (3, 'p3@example.org', true, 'x');
         UPDATE crm.people SET opt_in = false WHERE id = 1",
    );
    crm.settle();
    let found = letters(&mut crm);
    let [(key, category, error)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((key.as_str(), category.as_str()), ("2", "validation"));
    for word in ["LEVEL", "required", "map a column"] {
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(
        crm.remote.status_of("p3@example.org"),
        Some(Status::Subscribed)
    );
    assert_eq!(
        crm.remote.status_of("p1@example.org"),
        Some(Status::Unsubscribed)
    );
    crm.run("UPDATE crm.people SET level = 'now' WHERE id = 2");
    crm.settle();
    assert_eq!(letters(&mut crm), []);
    assert_eq!(held(&crm, 2, "LEVEL"), Some(json!("now")));
}

#[test]
fn unknown_tag_is_left_out_with_one_alert_until_it_is_provisioned() {
    let mut config = unlimited();
    config.mailchimp.other_lists = vec![OTHER.to_owned()];
    let mut crm = people_with(
        config,
        ", list text, score int, born date, home jsonb, first_name text",
    );
    mapped(
        &mut crm,
        &[
            ("list", "list_id"),
            ("score", "SCORE"),
            ("born", "BORN"),
            ("home", "HOME"),
            ("first_name", "FNAME"),
        ],
    );
    crm.run(&format!(
        "INSERT INTO crm.people VALUES (1, 'p1@example.org', true, NULL, 7, '1990-12-10', '{HOME}', 'Ada'),
                                       (2, 'p2@example.org', true, '{OTHER}', 8, NULL, NULL, 'Eda')"
    ));
    crm.settle();
    assert_eq!(letters(&mut crm), []);
    assert_eq!(held(&crm, 1, "FNAME"), Some(json!("Ada")));
    let said = alert(&mut crm, "properties").expect("an alert");
    for word in [
        "SCORE",
        "BORN",
        "crm.people",
        LIST,
        OTHER,
        "provision('mailchimp')",
    ] {
        assert!(said.contains(word), "{said} should say {word}");
    }
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.alert WHERE kind = 'properties'"),
        1
    );

    for again in [false, true] {
        let job: i64 = crm.ask("SELECT integration.provision('mailchimp')");
        wait_for(&mut crm, job, "state = 'done'");
        assert_eq!(
            crm.rows(&format!(
                "SELECT done, total, error FROM integration.job WHERE id = {job}"
            )),
            ["8|8|NULL"],
            "again: {again}"
        );
    }
    wait_until("the alert is cleared", SOON, || {
        alert(&mut crm, "properties").is_none().then_some(())
    });
    let posts = crm.remote.requests_to(Service::Mailchimp);
    let created = posts
        .iter()
        .filter(|sent| sent.method == "POST" && sent.path.ends_with("/merge-fields"));
    assert_eq!(created.count(), 6, "three in each audience, once");
    // What was left out is sent with the next change of a record, or by a backfill.
    let job: i64 = crm.ask("SELECT integration.backfill('crm.people', 'mailchimp')");
    wait_for(&mut crm, job, "state = 'done'");
    crm.settle();
    assert_eq!(held(&crm, 1, "SCORE"), Some(json!(7)));
    assert_eq!(held(&crm, 1, "BORN"), Some(json!("1990-12-10")));
    assert_eq!(
        held(&crm, 1, "HOME"),
        Some(serde_json::from_str(HOME).unwrap())
    );
    let there = crm.remote.member_of(OTHER, "p2@example.org").unwrap();
    assert_eq!(there.merge_fields["SCORE"], json!(8));
}

#[test]
fn full_plan_fails_the_job_and_says_what_is_left() {
    let mut config = unlimited();
    // Four are there from the start.
    config.mailchimp.merge_field_limit = 5;
    let mut crm = people_with(config, ", a text, b text, c text");
    mapped(&mut crm, &[("a", "FA"), ("b", "FB"), ("c", "FC")]);
    let job: i64 = crm.ask("SELECT integration.provision()");
    wait_for(&mut crm, job, "state = 'failed'");
    let error: String = crm.ask(&format!(
        "SELECT error FROM integration.job WHERE id = {job}"
    ));
    for word in ["the plan allows 5", "not created: FB, FC", LIST] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn definitions_that_change_meanwhile_are_read_again() {
    let mut crm = people_with(unlimited(), ", level text");
    crm.remote
        .define_field(LIST, &field("radio", "LEVEL"))
        .unwrap();
    mapped(&mut crm, &[("level", "LEVEL")]);
    crm.run("INSERT INTO crm.people VALUES (1, 'p1@example.org', true, 'gold')");
    crm.settle();
    // An option that is new, then a field that takes anything, then one of another type.
    let mut more = field("radio", "LEVEL");
    more.choices.push("Platinum".to_owned());
    crm.remote.define_field(LIST, &more).unwrap();
    crm.run("INSERT INTO crm.people VALUES (2, 'p2@example.org', true, 'platinum')");
    crm.settle();
    assert_eq!(held(&crm, 2, "LEVEL"), Some(json!("Platinum")));
    crm.remote
        .define_field(LIST, &field("birthday", "LEVEL"))
        .unwrap();
    crm.run("INSERT INTO crm.people VALUES (3, 'p3@example.org', true, 'Gold'), (4, 'p4@example.org', true, NULL)");
    crm.settle();
    let found = letters(&mut crm);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].2.contains("birthday"), "{found:?}");
    assert_eq!(
        crm.remote.status_of("p4@example.org"),
        Some(Status::Subscribed)
    );
}

#[test]
fn nobody_who_leaves_waits_for_definitions() {
    let mut crm = people_with(unlimited(), ", level text");
    crm.set("request_timeout", "20s");
    crm.run(
        "INSERT INTO crm.people VALUES (1, 'p1@example.org', true), (2, 'p2@example.org', true)",
    );
    crm.settle();
    crm.remote.add_fault(
        Fault::new(FaultKind::Delay { ms: 15_000 }, When::UntilCleared).path("/merge-fields"),
    );
    // A field that is new has to be read first.
    mapped(&mut crm, &[("level", "LEVEL")]);
    wait_until("definitions are asked for", SOON, || {
        let sent = crm.remote.requests_to(Service::Mailchimp);
        let asked = |sent: &LoggedRequest| sent.path.contains("/merge-fields");
        sent.iter().any(asked).then_some(())
    });
    let began = Instant::now();
    crm.run(
        "UPDATE crm.people SET level = 'x' WHERE id = 2;
         UPDATE crm.people SET opt_in = false WHERE id = 1",
    );
    wait_until("they are off the list", SOON, || {
        let status = crm.remote.status_of("p1@example.org");
        (status == Some(Status::Unsubscribed)).then_some(())
    });
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(!crm.queue_is_empty(), "the other change does wait");
}
