//! Several Mailchimp audiences: a row names the one it belongs to, and may name another one later.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::Crm,
    remote::{Config, MemberAction, Service, Status, unlimited},
    sql::quote_literal,
};

use Status::{Archived, Pending, Subscribed, Unsubscribed};

pub const FIRST: &str = "a6b5da1054";
pub const OTHER: &str = "bbbbbbbbbb";
pub const THIRD: &str = "cccccccccc";

pub fn several() -> Config {
    let mut config = unlimited();
    config.mailchimp.other_lists = vec![OTHER.to_owned(), THIRD.to_owned()];
    config
}

/// Contacts whose column `audience` names the list.
pub fn start() -> Crm {
    start_on(Cluster::shared())
}

pub fn start_on(cluster: Arc<Cluster>) -> Crm {
    let mut crm = Crm::start_on(cluster, several());
    crm.run(
        "ALTER TABLE crm.contacts ADD audience text;
         SELECT integration.map_field('crm.contacts', 'audience', 'mailchimp', 'list_id')",
    );
    crm
}

pub fn add(crm: &mut Crm, email: &str, list: Option<&str>) -> i64 {
    let list = list.map_or("NULL".to_owned(), quote_literal);
    crm.ask(&format!(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in, audience)
         VALUES ({}, 'Ada', true, {list}) RETURNING id",
        quote_literal(email)
    ))
}

pub fn move_to(crm: &mut Crm, id: i64, list: &str) {
    crm.run(&format!(
        "UPDATE crm.contacts SET audience = {} WHERE id = {id}",
        quote_literal(list)
    ));
}

pub fn status(crm: &Crm, list: &str, email: &str) -> Option<Status> {
    crm.remote
        .member_of(list, email)
        .map(|member| member.status)
}

/// What each of the three audiences says of somebody.
pub fn everywhere(crm: &Crm, email: &str) -> [Option<Status>; 3] {
    [FIRST, OTHER, THIRD].map(|list| status(crm, list, email))
}

pub fn says(crm: &mut Crm, id: i64) -> Option<bool> {
    crm.ask(&format!(
        "SELECT marketing_opt_in FROM crm.contacts WHERE id = {id}"
    ))
}

pub fn letters(crm: &mut Crm) -> Vec<String> {
    crm.rows(
        "SELECT record_key, category FROM integration.dlq WHERE resolution IS NULL ORDER BY id",
    )
}

#[test]
fn rows_are_in_the_audience_they_name() {
    let mut crm = start();
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in, audience)
         SELECT format('p%s@example.org', n), 'P' || n, true,
                CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN 'bbbbbbbbbb' ELSE ' cccccccccc ' END
         FROM generate_series(1, 30) n",
    );
    crm.settle();
    assert_eq!(letters(&mut crm), [""; 0]);
    for list in [FIRST, OTHER, THIRD] {
        let members = crm.remote.members_of(list);
        assert_eq!(members.len(), 10, "{list}");
        assert!(members.iter().all(|member| member.status == Subscribed));
    }
    // Calls are as full as the audiences allow: these are one statement's rows.
    let sent = crm.remote.requests_to(Service::Mailchimp);
    let bulk = sent.iter().filter(|sent| sent.method == "POST").count();
    assert_eq!(bulk, 3);
    assert_eq!(
        crm.rows("SELECT list_id, count(*) FROM integration.link WHERE target = 'mailchimp' GROUP BY 1 ORDER BY 1"),
        ["a6b5da1054|10", "bbbbbbbbbb|10", "cccccccccc|10"]
    );
    // An update goes to where the member is.
    crm.run("UPDATE crm.contacts SET first_name = 'New' WHERE email = 'p1@example.org'");
    crm.settle();
    let member = crm.remote.member_of(OTHER, "p1@example.org").unwrap();
    assert_eq!(member.merge_fields["FNAME"], "New");
    assert_eq!(status(&crm, FIRST, "p1@example.org"), None);
    // So do opt-outs and deletions.
    crm.run(
        "UPDATE crm.contacts SET marketing_opt_in = false WHERE email = 'p1@example.org';
         DELETE FROM crm.contacts WHERE email = 'p2@example.org'",
    );
    crm.settle();
    assert_eq!(status(&crm, OTHER, "p1@example.org"), Some(Unsubscribed));
    assert_eq!(status(&crm, THIRD, "p2@example.org"), Some(Archived));
}

#[test]
fn who_moves_is_archived_here_and_added_there() {
    let mut crm = start();
    let email = "ada@example.org";
    let id = add(&mut crm, email, None);
    crm.settle();
    assert_eq!(everywhere(&crm, email), [Some(Subscribed), None, None]);
    move_to(&mut crm, id, OTHER);
    crm.settle();
    assert_eq!(
        everywhere(&crm, email),
        [Some(Archived), Some(Subscribed), None]
    );
    let member = crm.remote.member_of(OTHER, email).unwrap();
    assert_eq!(member.merge_fields["FNAME"], "Ada");
    // Under another address, too.
    crm.run(&format!(
        "UPDATE crm.contacts SET audience = 'cccccccccc', email = 'eda@example.org' WHERE id = {id}"
    ));
    crm.settle();
    assert_eq!(
        everywhere(&crm, email),
        [Some(Archived), Some(Archived), None]
    );
    assert_eq!(status(&crm, THIRD, "eda@example.org"), Some(Subscribed));
    // And back to where it began (NULL is the default): nobody is asked again.
    crm.run(&format!(
        "UPDATE crm.contacts SET audience = NULL, email = {} WHERE id = {id}",
        quote_literal(email)
    ));
    crm.settle();
    assert_eq!(
        everywhere(&crm, email),
        [Some(Subscribed), Some(Archived), None]
    );
    assert_eq!(status(&crm, THIRD, "eda@example.org"), Some(Archived));
    assert_eq!(letters(&mut crm), [""; 0]);
    // What is unchanged is not sent.
    let before = crm.remote.writes_to(Service::Mailchimp);
    crm.run("UPDATE crm.contacts SET notes = 'x', first_name = first_name");
    crm.settle();
    assert_eq!(crm.remote.writes_to(Service::Mailchimp), before);
}

#[test]
fn unknown_audience_is_explained_and_the_others_go_on() {
    let mut crm = start();
    let wrong = add(&mut crm, "wrong@example.org", Some("0000000000"));
    let odd = add(&mut crm, "odd@example.org", Some("../lists"));
    add(&mut crm, "right@example.org", Some(OTHER));
    let moved = add(&mut crm, "moved@example.org", None);
    crm.settle();
    assert_eq!(status(&crm, OTHER, "right@example.org"), Some(Subscribed));
    // Nobody leaves an audience for one that is not there.
    move_to(&mut crm, moved, "0000000000");
    crm.settle();
    assert_eq!(status(&crm, FIRST, "moved@example.org"), Some(Subscribed));
    let mut dead = letters(&mut crm);
    dead.sort_unstable();
    assert_eq!(
        dead,
        [
            format!("{wrong}|not_found"),
            format!("{odd}|unmappable"),
            format!("{moved}|not_found")
        ]
    );
    let why: String = crm.ask(&format!(
        "SELECT error FROM integration.dlq WHERE record_key = '{wrong}'"
    ));
    assert!(why.contains("the audience 0000000000"), "{why}");
    assert_eq!(
        crm.rows("SELECT target, state FROM integration.status WHERE target = 'mailchimp'"),
        ["mailchimp|running"]
    );
    let open = "SELECT count(*) FROM integration.alert WHERE kind = 'audience' AND message LIKE '%0000000000%' AND cleared_at IS NULL";
    assert_eq!(crm.ask::<i64>(open), 1);
    // A whole audience is deleted at Mailchimp, the default one even.
    crm.remote.delete_audience(FIRST);
    let late = add(&mut crm, "late@example.org", None);
    add(&mut crm, "third@example.org", Some(THIRD));
    crm.settle();
    assert_eq!(status(&crm, THIRD, "third@example.org"), Some(Subscribed));
    assert!(letters(&mut crm).contains(&format!("{late}|not_found")));
    // Corrected, they are sent.
    crm.run("UPDATE crm.contacts SET audience = 'bbbbbbbbbb'");
    crm.settle();
    for email in ["wrong", "odd", "right", "moved", "late", "third"] {
        let email = format!("{email}@example.org");
        let asked = email == "moved@example.org";
        let expected = if asked { Pending } else { Subscribed };
        // Whoever was a member and cannot be found any more is asked.
        assert_eq!(status(&crm, OTHER, &email), Some(expected), "{email}");
    }
    assert_eq!(letters(&mut crm), [""; 0]);
}

#[test]
fn a_table_can_have_an_audience_of_its_own() {
    let mut crm = Crm::start_on(Cluster::shared(), several());
    crm.run(
        "CREATE TABLE crm.partners (id bigint PRIMARY KEY, email text, opt_in boolean);
         CREATE VIEW crm.partner_payload AS SELECT p.*, 'bbbbbbbbbb'::text AS audience FROM crm.partners p;
         SELECT integration.track('crm.partners', 'contact', targets => '{mailchimp}', payload => 'crm.partner_payload');
         SELECT integration.map_field('crm.partners', 'audience', 'mailchimp', 'list_id');
         INSERT INTO crm.partners VALUES (1, 'partner@example.org', true)",
    );
    crm.add_contact("ada@example.org", true);
    crm.settle();
    assert_eq!(
        everywhere(&crm, "partner@example.org"),
        [None, Some(Subscribed), None]
    );
    assert_eq!(
        everywhere(&crm, "ada@example.org"),
        [Some(Subscribed), None, None]
    );
}

#[test]
fn all_audiences_are_compared_tested_and_erased() {
    let mut crm = start();
    let ids = [None, Some(OTHER), Some(THIRD)].map(|list| {
        let email = format!("p{}@example.org", list.unwrap_or(FIRST));
        (add(&mut crm, &email, list), email)
    });
    crm.settle();
    let told = crm.rows("SELECT ok, detail FROM integration.test_connection('mailchimp')");
    for part in ["t|", FIRST, OTHER, THIRD] {
        assert!(told[0].contains(part), "{part}: {told:?}");
    }
    let compared = |crm: &mut Crm| {
        let job: i64 = crm.ask("SELECT integration.reconcile('crm.contacts', 'mailchimp')");
        assert!(crm.ask::<bool>("SELECT integration.wait_idle('1min')"));
        crm.rows(&format!(
            "SELECT coalesce(record_key, 'none'), kind FROM integration.drift WHERE job = {job} ORDER BY 1, 2"
        ))
    };
    assert_eq!(compared(&mut crm), [""; 0]);
    let leaves = MemberAction::AdminUnsubscribe;
    crm.remote.member_of_does(OTHER, &ids[1].1, leaves).unwrap();
    let erased = MemberAction::DeletePermanently;
    crm.remote.member_of_does(THIRD, &ids[2].1, erased).unwrap();
    let stray = MemberAction::Subscribe {
        merge_fields: Default::default(),
    };
    crm.remote.member_of_does(THIRD, &ids[0].1, stray).unwrap();
    assert_eq!(
        compared(&mut crm),
        [
            format!("{}|status", ids[1].0),
            format!("{}|missing_remote", ids[2].0),
            "none|missing_local".to_owned()
        ]
    );
    // Who is erased is erased wherever they have been.
    crm.set("mailchimp_on_delete", "permanent");
    let (id, email) = &ids[0];
    move_to(&mut crm, *id, OTHER);
    crm.settle();
    crm.run(&format!("DELETE FROM crm.contacts WHERE id = {id}"));
    crm.settle();
    for list in [FIRST, OTHER] {
        assert!(crm.remote.is_forgotten_in(list, email), "{list}");
    }
    assert_eq!(
        crm.rows(&format!(
            "SELECT list_id FROM integration.link WHERE target = 'mailchimp' AND record_key = '{id}'"
        )),
        [""; 0]
    );
}

#[test]
fn list_id_is_checked_when_it_is_mapped() {
    let mut crm = start();
    assert_eq!(
        crm.rows("SELECT direction FROM integration.field_map WHERE remote_field = 'list_id'"),
        ["push"]
    );
    for (sql, code) in [
        (
            "SELECT integration.map_field('crm.contacts', 'id', 'mailchimp', 'list_id')",
            "42804",
        ),
        (
            "SELECT integration.map_field('crm.contacts', 'audience', 'mailchimp', 'list_id', 'pull')",
            "22023",
        ),
    ] {
        let error = crm.client.batch_execute(sql).unwrap_err();
        assert_eq!(error.as_db_error().unwrap().code().code(), code, "{sql}");
    }
}
