//! Tags, interest groups and marketing permissions: given, taken back, and others' left alone.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Fault, FaultKind, MemberAction, Service, Status, When, unlimited},
    sql::quote_literal,
    wait::{later, wait_until},
};

use crate::jobs::backfill::wait_for;
use integration_tests::people::{LIST, OTHER, letters, mapped, people_on};

const EMAIL: &str = "p1@example.org";

fn start() -> Crm {
    start_on(Cluster::shared())
}

fn start_on(cluster: Arc<Cluster>) -> Crm {
    let mut config = unlimited();
    config.mailchimp.other_lists = vec![OTHER.to_owned()];
    let mut crm = people_on(
        cluster,
        config,
        ", tags text[], groups text[], permits text[], list text",
    );
    for list in [LIST, OTHER] {
        crm.remote
            .define_groups(list, "Topics", &["News", "Art, old"])
            .unwrap();
        crm.remote
            .define_groups(list, "Places", &["Berlin", "News"])
            .unwrap();
        crm.remote
            .define_permissions(list, &["Email", "Post"])
            .unwrap();
    }
    mapped(
        &mut crm,
        &[
            ("tags", "tags"),
            ("groups", "interests"),
            ("permits", "marketing_permissions"),
            ("list", "list_id"),
        ],
    );
    crm
}

fn add(crm: &mut Crm, id: i32, tags: &str, groups: &str, permits: &str) {
    crm.run(&format!(
        "INSERT INTO crm.people VALUES ({id}, 'p{id}@example.org', true, '{tags}', '{groups}', '{permits}', NULL)"
    ));
    crm.settle();
}

fn set(crm: &mut Crm, column: &str, value: &str) {
    crm.run(&format!(
        "UPDATE crm.people SET {column} = {value} WHERE id = 1"
    ));
    crm.settle();
}

fn tags(crm: &Crm) -> Vec<String> {
    let mut tags = crm.remote.member(EMAIL).unwrap().tags;
    tags.sort();
    tags
}

fn groups(crm: &Crm) -> Vec<String> {
    crm.remote.member(EMAIL).unwrap().interests
}

fn permissions(crm: &Crm) -> Vec<String> {
    crm.remote.member(EMAIL).unwrap().permissions
}

fn tag_calls(crm: &Crm) -> usize {
    let sent = crm.remote.requests_to(Service::Mailchimp);
    sent.iter()
        .filter(|sent| sent.path.ends_with("/tags"))
        .count()
}

#[test]
fn tags_of_ours_come_and_go_and_others_stay() {
    let mut crm = start();
    add(&mut crm, 1, "{VIP,crm}", "{}", "{}");
    assert_eq!(tags(&crm), ["VIP", "crm"]);
    assert_eq!(tag_calls(&crm), 0, "they travel in bulk");
    crm.remote.tag_member(LIST, EMAIL, "theirs", true).unwrap();
    set(&mut crm, "tags", "'{vip,new}'");
    assert_eq!(tags(&crm), ["VIP", "new", "theirs"]);
    set(&mut crm, "tags", "'{VIP,NEW}'");
    assert_eq!(tag_calls(&crm), 1, "case is no difference");
    set(&mut crm, "tags", "NULL");
    assert_eq!(tags(&crm), ["theirs"]);
    assert_eq!(
        crm.ask::<Option<String>>("SELECT given::text FROM integration._link"),
        None
    );
    // With a change of address.
    set(&mut crm, "tags", "'{a,b}'");
    crm.run("UPDATE crm.people SET email = 'eda@example.org', tags = '{b,c}'");
    crm.settle();
    let mut tags = crm.remote.member("eda@example.org").unwrap().tags;
    tags.sort();
    assert_eq!(tags, ["b", "c", "theirs"]);
    assert_eq!(letters(&mut crm), []);
}

#[test]
fn tags_are_taken_back_after_a_crash_and_a_lost_answer_too() {
    let mut crm = start_on(Arc::new(Cluster::start(&[], &[])));
    crm.remote.add_fault(
        Fault::new(FaultKind::AnswerLost, When::UntilCleared)
            .service(Service::Mailchimp)
            .method("POST"),
    );
    // The answer to the first write is lost, and the worker with it: meanwhile the tag goes.
    crm.run("INSERT INTO crm.people VALUES (1, 'p1@example.org', true, '{gone,kept}', '{}', '{}', NULL)");
    wait_until("it is there", SOON, || {
        crm.remote
            .member(EMAIL)
            .filter(|member| !member.tags.is_empty())
            .map(|_| ())
    });
    crm.kill_worker();
    crm.remote.clear_faults();
    crm.run("UPDATE crm.people SET tags = '{kept}' WHERE id = 1");
    crm.settle();
    assert_eq!(tags(&crm), ["kept"]);
}

#[test]
fn backfills_set_off_no_automations() {
    let mut crm = start();
    add(&mut crm, 1, "{a,b}", "{}", "{}");
    crm.run("ALTER TABLE crm.people DISABLE TRIGGER ALL; UPDATE crm.people SET tags = '{b}'; ALTER TABLE crm.people ENABLE TRIGGER ALL");
    crm.remote.keep_bodies(true);
    let job: i64 = crm.ask("SELECT integration.backfill('crm.people', 'mailchimp')");
    wait_for(&mut crm, job, "state = 'done'");
    crm.settle();
    assert_eq!(tags(&crm), ["b"]);
    let sent = crm.remote.requests_to(Service::Mailchimp);
    let call = sent
        .iter()
        .find(|sent| sent.path.ends_with("/tags"))
        .unwrap();
    let body = call.body.clone().unwrap_or_default();
    assert!(body.contains("\"is_syncing\":true"), "{body}");
}

#[test]
fn interests_are_named_by_the_column_and_unknown_ones_explained() {
    let mut crm = start();
    add(&mut crm, 1, "{}", r#"{topics: news,"Art, old"}"#, "{}");
    assert_eq!(groups(&crm), ["Topics: News", "Topics: Art, old"]);
    let joined = MemberAction::Groups {
        groups: [("Berlin".to_owned(), true)].into(),
    };
    crm.remote.member_does(EMAIL, joined).unwrap();
    crm.remote.clear_webhooks();
    set(&mut crm, "groups", r#"'{"Art, old"}'"#);
    assert_eq!(
        groups(&crm),
        ["Topics: Art, old", "Places: Berlin"],
        "theirs stays"
    );
    add(&mut crm, 2, "{}", "{News}", "{}");
    add(&mut crm, 3, "{}", "{Sports}", "{}");
    add(&mut crm, 4, "{}", "{Berlin}", "{}");
    let found = letters(&mut crm);
    let keys: Vec<&str> = found.iter().map(|(key, ..)| key.as_str()).collect();
    assert_eq!(keys, ["2", "3"], "{found:?}");
    assert!(found[0].2.contains("more than one"), "{found:?}");
    for word in ["Sports", "Topics: News", "Places: Berlin"] {
        assert!(found[1].2.contains(word), "{found:?}");
    }
    // Known by now.
    crm.remote.define_groups(LIST, "More", &["Sports"]).unwrap();
    wait_until("the new group is found", SOON, || {
        crm.run("SELECT integration.dlq_retry()");
        crm.settle();
        (letters(&mut crm).len() == 1).then_some(())
    });
    assert_eq!(
        crm.remote.member("p3@example.org").unwrap().interests,
        ["More: Sports"]
    );
    // What they choose at Mailchimp comes into the column, in its manner.
    let left = MemberAction::Groups {
        groups: [("Art, old".to_owned(), false)].into(),
    };
    crm.remote.member_does(EMAIL, left).unwrap();
    let body = crm.remote.webhooks_of(Service::Mailchimp).remove(0).body;
    let at = body
        .split('&')
        .find(|pair| pair.starts_with("fired_at="))
        .unwrap();
    let fired_at = format!("fired_at={}", later(1).replace(' ', "+"));
    let later = body.replace(at, &fired_at);
    crm.run(&format!(
        "SELECT integration.import_mailchimp_webhook({}, '{{}}', 'path-secret')",
        quote_literal(&later)
    ));
    crm.settle();
    assert_eq!(
        crm.rows("SELECT groups FROM crm.people WHERE id = 1"),
        ["{Berlin}"]
    );
}

#[test]
fn permissions_are_given_once_there_is_a_member_and_never_beyond_the_column() {
    let mut crm = start();
    add(&mut crm, 1, "{}", "{}", "{Email}");
    assert_eq!(letters(&mut crm), []);
    assert_eq!(permissions(&crm), ["Email"]);
    set(&mut crm, "permits", "'{post}'");
    assert_eq!(permissions(&crm), ["Post"]);
    add(&mut crm, 2, "{}", "{}", "{Carrier pigeon}");
    let found = letters(&mut crm);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].2.contains("Carrier pigeon") && found[0].2.contains("Email, Post"),
        "{found:?}"
    );
    assert_eq!(
        crm.remote.member("p2@example.org").unwrap().status,
        Status::Subscribed
    );
    assert_eq!(
        crm.remote.member("p2@example.org").unwrap().permissions,
        [""; 0]
    );
    // Nobody who is not opted in is given anything.
    crm.run(
        "INSERT INTO crm.people VALUES (3, 'p3@example.org', false, '{}', '{}', '{Email}', NULL)",
    );
    crm.settle();
    assert_eq!(crm.remote.member("p3@example.org"), None);
}

#[test]
fn everything_goes_along_to_another_audience() {
    let mut crm = start();
    add(&mut crm, 1, "{VIP}", "{Berlin}", "{Email}");
    crm.run(&format!("UPDATE crm.people SET list = '{OTHER}'"));
    crm.settle();
    assert_eq!(letters(&mut crm), []);
    let member = crm.remote.member_of(OTHER, EMAIL).unwrap();
    assert_eq!(member.status, Status::Subscribed);
    assert_eq!(member.tags, ["VIP"]);
    assert_eq!(member.interests, ["Places: Berlin"]);
    assert_eq!(member.permissions, ["Email"]);
    set(&mut crm, "tags", "NULL");
    assert_eq!(crm.remote.member_of(OTHER, EMAIL).unwrap().tags, [""; 0]);
}

#[test]
fn comparisons_look_at_what_is_ours() {
    let mut crm = start();
    add(&mut crm, 1, "{VIP,crm}", "{Berlin}", "{Email}");
    let compared = |crm: &mut Crm, repair: bool| {
        let id: i64 = crm.ask(&format!(
            "SELECT integration.reconcile('crm.people', 'mailchimp', {repair})"
        ));
        wait_for(crm, id, "state = 'done'");
        crm.rows("SELECT remote_field, crm_value, remote_value FROM integration.drift ORDER BY 1")
    };
    // Others' tags, and others' spelling.
    crm.remote.tag_member(LIST, EMAIL, "theirs", true).unwrap();
    crm.remote.tag_member(LIST, EMAIL, "VIP", false).unwrap();
    crm.remote.tag_member(LIST, EMAIL, "vip", true).unwrap();
    assert_eq!(compared(&mut crm, true), [""; 0]);
    // One of ours that others took away is gone here, too, whenever that was.
    crm.remote.tag_member(LIST, EMAIL, "vip", false).unwrap();
    assert_eq!(compared(&mut crm, true), [r#"tags|["crm","vip"]|["crm"]"#]);
    crm.settle();
    assert_eq!(crm.rows("SELECT tags FROM crm.people"), ["{crm}"]);
    assert_eq!(tags(&crm), ["crm", "theirs"]);
    assert_eq!(compared(&mut crm, true), [""; 0]);
    // Where they are only pushed it is given again.
    crm.run("SELECT integration.map_field('crm.people', 'tags', 'mailchimp', 'tags', 'push')");
    crm.remote.tag_member(LIST, EMAIL, "crm", false).unwrap();
    assert_eq!(compared(&mut crm, true), [r#"tags|["crm"]|[]"#]);
    crm.settle();
    assert_eq!(tags(&crm), ["crm", "theirs"]);
    assert_eq!(compared(&mut crm, true), [""; 0]);
}
