//! An opt-out on any row of an address is an opt-out in whatever audience the address is a member.

use integration_tests::{
    crm::{Crm, SOON},
    remote::Status,
    wait::wait_until,
};

use crate::audiences::several::{OTHER, add, everywhere, move_to, start};
use Status::{Subscribed, Unsubscribed};

const ADA: &str = "ada@example.org";

#[track_caller]
fn become_all(crm: &mut Crm, expected: [Option<Status>; 3], when: &str) {
    wait_until(&format!("{expected:?} {when}"), SOON, || {
        (everywhere(crm, ADA) == expected).then_some(())
    });
    crm.settle();
    assert_eq!(everywhere(crm, ADA), expected, "{when}");
}

fn opts(crm: &mut Crm, id: i64, opted_in: bool) {
    crm.run(&format!(
        "UPDATE crm.contacts SET marketing_opt_in = {opted_in} WHERE id = {id}"
    ));
}

fn comes_opted_out(crm: &mut Crm, audience: &str) -> i64 {
    crm.ask(&format!(
        "INSERT INTO crm.contacts (email, marketing_opt_in, audience)
         VALUES ('Ada@example.org', false, {audience}) RETURNING id"
    ))
}

#[test]
fn opt_out_of_a_member_reaches_the_one_in_the_other_audience() {
    let mut crm = start();
    let first = add(&mut crm, ADA, None);
    let second = add(&mut crm, ADA, Some(OTHER));
    let both = [Some(Subscribed), Some(Subscribed), None];
    let neither = [Some(Unsubscribed), Some(Unsubscribed), None];
    become_all(&mut crm, both, "both rows are members");
    for (out, other) in [(second, first), (first, second)] {
        opts(&mut crm, out, false);
        become_all(&mut crm, neither, "one of them opts out");
        // Sent again, whatever for.
        crm.run("UPDATE crm.contacts SET first_name = first_name || '.'");
        become_all(&mut crm, neither, "as long as it does");
        // As for rows of one audience, the other one is named.
        let why: String = crm.ask(&format!(
            "SELECT error FROM integration.dlq WHERE record_key = '{other}' AND resolution IS NULL ORDER BY id DESC LIMIT 1"
        ));
        assert!(why.contains(&format!("record {out}, ")), "{why}");
        opts(&mut crm, out, true);
        become_all(&mut crm, both, "both are opted in");
    }
}

#[test]
fn row_that_comes_opted_out_for_another_audience_opts_out() {
    let mut crm = start();
    let first = add(&mut crm, ADA, None);
    become_all(&mut crm, [Some(Subscribed), None, None], "it is alone");
    let second = comes_opted_out(&mut crm, "'bbbbbbbbbb'");
    let out = [Some(Unsubscribed), None, None];
    become_all(&mut crm, out, "the second row is opted out");
    // That it goes is no opt-in.
    crm.run(&format!("DELETE FROM crm.contacts WHERE id = {second}"));
    crm.settle();
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta'");
    become_all(&mut crm, out, "though it is gone");
    opts(&mut crm, first, false);
    crm.settle();
    opts(&mut crm, first, true);
    become_all(&mut crm, [Some(Subscribed), None, None], "opted in anew");
}

#[test]
fn row_that_is_changing_its_audience_takes_no_opt_in_along() {
    let mut crm = start();
    let first = add(&mut crm, ADA, None);
    become_all(&mut crm, [Some(Subscribed), None, None], "it is alone");
    crm.run("SELECT integration.pause('mailchimp', 'to change both')");
    let second = comes_opted_out(&mut crm, "NULL");
    move_to(&mut crm, first, OTHER);
    crm.run("SELECT integration.resume('mailchimp')");
    crm.settle();
    let out = [Some(Unsubscribed), None, None];
    become_all(&mut crm, out, "nobody moves who is opted out");
    opts(&mut crm, second, true);
    crm.settle();
    assert_eq!(
        everywhere(&crm, ADA)[1],
        Some(Subscribed),
        "all are opted in"
    );
}

/// Nothing of either is known to be at Mailchimp when the other one is planned.
#[test]
fn rows_that_become_members_together_have_met() {
    let mut crm = start();
    crm.run(
        "INSERT INTO crm.contacts (email, marketing_opt_in, audience)
         VALUES ('ada@example.org', true, NULL), ('ada@example.org', true, 'bbbbbbbbbb')",
    );
    let both = [Some(Subscribed), Some(Subscribed), None];
    become_all(&mut crm, both, "both rows are members");
    // One opts out, which nobody has told yet when the other one gets another address.
    crm.run(
        "SET session_replication_role = replica;
         UPDATE crm.contacts SET marketing_opt_in = false WHERE audience IS NULL;
         RESET session_replication_role;
         UPDATE crm.contacts SET email = 'ada.l@example.org' WHERE audience IS NOT NULL",
    );
    crm.settle();
    for email in [ADA, "ada.l@example.org"] {
        assert_ne!(everywhere(&crm, email)[1], Some(Subscribed), "{email}");
    }
}
