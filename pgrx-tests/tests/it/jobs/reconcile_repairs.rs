//! What a comparison writes to the CRM: record by record, so that nobody waits for it, and none is
//! held up by another one.

use integration_tests::{
    crm::{Crm, SOON},
    remote::MemberAction,
    wait::wait_until,
};
use postgres::Client;

use crate::jobs::backfill::wait_for;
use crate::jobs::reconcile::{begin, few, found};

/// All contacts have another name at HubSpot, and nobody told us.
fn renamed() -> Crm {
    let crm = few();
    for number in 1..=12 {
        let email = format!("person{number}@example.org");
        let (id, _) = crm.remote.contact(&email).unwrap();
        crm.remote.person_sets(id, "firstname", "Augusta");
    }
    crm.remote.clear_webhooks();
    crm
}

fn hold(crm: &Crm, id: u32) -> Client {
    let mut client = crm.connect();
    let sql = format!("BEGIN; SELECT FROM crm.contacts WHERE id = {id} FOR UPDATE");
    client.batch_execute(&sql).unwrap();
    client
}

fn written(crm: &mut Crm) -> i64 {
    crm.ask("SELECT count(*) FROM crm.contacts WHERE first_name = 'Augusta'")
}

#[test]
fn one_row_after_the_other_is_free_again_at_once() {
    let mut crm = renamed();
    crm.run(
        "CREATE FUNCTION crm.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.pg_sleep(0.2); RETURN NEW; END $$;
         CREATE TRIGGER a_slow BEFORE UPDATE ON crm.contacts FOR EACH ROW
         WHEN (NEW.first_name IS DISTINCT FROM OLD.first_name) EXECUTE FUNCTION crm.slow()",
    );
    let job = begin(&mut crm, "hubspot", true);
    // All of them together take longer than that; who waits for it fails.
    let mut user = crm.connect();
    user.batch_execute("SET lock_timeout = '1500ms'").unwrap();
    let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
    wait_until("the comparison is over", SOON, || {
        user.batch_execute("SELECT FROM crm.contacts WHERE id = 1 FOR UPDATE")
            .unwrap();
        crm.ask::<bool>(&done).then_some(())
    });
    assert_eq!(written(&mut crm), 12);
}

#[test]
fn row_that_is_held_or_refused_keeps_no_other_from_being_repaired() {
    let mut crm = renamed();
    crm.run(
        "CREATE FUNCTION crm.never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
         CREATE TRIGGER a_never BEFORE UPDATE ON crm.contacts FOR EACH ROW
         WHEN (NEW.id = 3 AND NEW.first_name = 'Augusta') EXECUTE FUNCTION crm.never()",
    );
    let (mut for_a_while, _for_ever) = (hold(&crm, 2), hold(&crm, 4));
    let job = begin(&mut crm, "hubspot", true);
    wait_until("all others are repaired", SOON, || {
        (written(&mut crm) == 9).then_some(())
    });
    for_a_while.batch_execute("COMMIT").unwrap();
    wait_for(&mut crm, job, "state = 'done'");
    let found = found(&mut crm, "hubspot");
    assert_eq!(found.len(), 12, "{found:#?}");
    let of = |key: &str| {
        let begin = format!("field|{key}|firstname|");
        let mut rows = found.iter().filter(|row| row.starts_with(&begin));
        rows.next().unwrap_or_else(|| panic!("{found:#?}"))
    };
    for key in ["1", "2", "12"] {
        assert!(of(key).ends_with("|written to the CRM|t"), "{found:#?}");
    }
    assert!(of("3").contains("never (P0001)|f"), "{found:#?}");
    assert!(of("4").contains("(55P03)|f"), "{found:#?}");
    assert_eq!(written(&mut crm), 10);
}

#[test]
fn who_left_is_opted_out_though_another_row_is_held() {
    let mut crm = few();
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true");
    crm.settle();
    for number in [2, 3] {
        let email = format!("person{number}@example.org");
        crm.remote
            .member_does(&email, MemberAction::Unsubscribe { abuse: false })
            .unwrap();
    }
    crm.remote.clear_webhooks();
    let mut holder = hold(&crm, 2);
    let job = begin(&mut crm, "mailchimp", true);
    let out =
        "SELECT string_agg(id::text, ',' ORDER BY id) FROM crm.contacts WHERE NOT marketing_opt_in";
    wait_until("the other one is opted out", SOON, || {
        (crm.rows(out) == ["3"]).then_some(())
    });
    holder.batch_execute("COMMIT").unwrap();
    wait_for(&mut crm, job, "state = 'done'");
    assert_eq!(crm.rows(out), ["2,3"]);
    let found = found(&mut crm, "mailchimp");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found
            .iter()
            .all(|row| row.ends_with("|written to the CRM|t")),
        "{found:#?}"
    );
}
