//! Creates under way are noted in one row a call, and known as if they were links.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Config, Fault, FaultKind, Service, When, unlimited},
    wait::wait_until,
};

/// Contacts go to Mailchimp only, which takes its time.
fn slow(cluster: Arc<Cluster>) -> Crm {
    let config = Config {
        delay_ms: 1_500,
        ..unlimited()
    };
    let mut crm = Crm::untracked(cluster, config);
    crm.run("SELECT integration.track('crm.contacts', 'contact', targets => '{mailchimp}')");
    crm
}

fn opt_in(crm: &mut Crm, emails: &str, count: u32) {
    crm.run(&format!(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in)
         SELECT {emails}, 'Person ' || n, true FROM generate_series(1, {count}) n"
    ));
}

fn subscribed(crm: &Crm, count: usize) {
    wait_until(
        "the members to be there, and not answered for",
        SOON,
        || (crm.remote.members().len() == count).then_some(()),
    );
}

/// Keys noted, links that may be somebody's, and links that are.
fn known(crm: &mut Crm) -> (i64, i64, i64) {
    let noted = "SELECT coalesce(sum(cardinality(record_keys)), 0)::int8 FROM integration._intent";
    let perhaps = "SELECT count(*) FROM integration._link WHERE remote_id IS NULL";
    let certain = "SELECT count(*) FROM integration._link WHERE remote_id IS NOT NULL";
    (crm.ask(noted), crm.ask(perhaps), crm.ask(certain))
}

#[test]
fn call_under_way_is_one_row_and_settled_it_is_links() {
    let mut crm = slow(Cluster::shared());
    opt_in(&mut crm, "'person' || n || '@example.org'", 30);
    subscribed(&crm, 30);
    assert_eq!(known(&mut crm), (30, 0, 0));
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration._intent"),
        1
    );
    crm.settle();
    assert_eq!(known(&mut crm), (0, 0, 30));
}

#[test]
fn row_with_the_address_of_one_that_is_being_created_is_refused() {
    let mut crm = slow(Cluster::shared());
    opt_in(&mut crm, "'ada@example.org'", 1);
    subscribed(&crm, 1);
    opt_in(&mut crm, "'ADA@example.org'", 1);
    wait_until("it to be refused", SOON, || {
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM integration.dlq WHERE category = 'conflict' AND record_key = '2')")
            .then_some(())
    });
    crm.settle();
    assert_eq!(known(&mut crm), (0, 0, 1));
    assert_eq!(crm.remote.stats().overlaps, 0);
}

#[test]
fn next_worker_knows_what_the_killed_one_was_about_to_create() {
    let mut crm = slow(Arc::new(Cluster::start(&[], &[])));
    opt_in(&mut crm, "'person' || n || '@example.org'", 20);
    subscribed(&crm, 20);
    crm.remote.go_down(Service::Mailchimp);
    crm.kill_worker();
    wait_until("the links to be there", LATER, || {
        (known(&mut crm) == (0, 20, 0)).then_some(())
    });
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.remote.come_up(Service::Mailchimp).unwrap();
    crm.settle();
    assert_eq!(known(&mut crm), (0, 0, 20));
    assert_eq!(crm.remote.members().len(), 20);
}

#[test]
fn lost_answer_leaves_links_of_what_may_be_there() {
    let mut crm = slow(Cluster::shared());
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.set("retry_base", "900s");
    crm.remote.add_fault(
        Fault::new(FaultKind::AnswerLost, When::NextN(1))
            .service(Service::Mailchimp)
            .method("POST"),
    );
    opt_in(&mut crm, "'person' || n || '@example.org'", 10);
    wait_until("the changes to wait for another attempt", SOON, || {
        (crm.ask::<i64>("SELECT count(*) FROM integration.outbox WHERE last_error IS NOT NULL")
            == 10)
            .then_some(())
    });
    assert_eq!(known(&mut crm), (0, 10, 0));
}
