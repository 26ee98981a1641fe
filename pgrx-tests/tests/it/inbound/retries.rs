//! Events that were refused or ignored: tried again, given up, and applied when somebody asks for it.

use super::locks::{changed_in_hubspot, in_step, soon};
use crate::inbound::webhooks::import;
use integration_tests::crm::SOON;

#[test]
fn value_that_the_crm_refuses_fails_after_its_attempts_and_can_be_tried_again() {
    let mut crm = in_step();
    crm.run("ALTER TABLE crm.contacts ADD CONSTRAINT devilish CHECK (phone <> '666')");
    let bad = changed_in_hubspot(&mut crm, 4, "phone", "666");
    import(&mut crm, &bad);
    soon(
        &mut crm,
        "it has failed",
        SOON,
        "SELECT state = 'failed' AND attempts = 5 AND detail LIKE '%devilish%' FROM integration.inbox",
    );
    let status = "SELECT inbox_pending, inbox_retrying, inbox_failed FROM integration.status WHERE target = 'hubspot'";
    soon(
        &mut crm,
        "it is counted",
        SOON,
        "SELECT inbox_failed = 1 FROM integration.status WHERE target = 'hubspot'",
    );
    assert_eq!(crm.rows(status), ["0|0|1"]);
    let alert = "SELECT count(*) FROM integration.alert WHERE kind = 'inbox_failed' AND target = 'hubspot' AND message LIKE '%devilish%' AND cleared_at IS NULL";
    assert_eq!(crm.ask::<i64>(alert), 1);
    // Nobody else is affected.
    let good = changed_in_hubspot(&mut crm, 4, "jobtitle", "Countess");
    import(&mut crm, &good);
    crm.settle();
    assert_eq!(
        crm.ask::<String>("SELECT job_title FROM crm.contacts WHERE id = 4"),
        "Countess"
    );
    assert_eq!(
        crm.ask::<i64>("SELECT integration.inbox_retry(origin => 'mailchimp')"),
        0
    );
    crm.run("ALTER TABLE crm.contacts DROP CONSTRAINT devilish");
    assert_eq!(crm.ask::<i64>("SELECT integration.inbox_retry()"), 1);
    crm.settle();
    assert_eq!(
        crm.ask::<String>("SELECT phone FROM crm.contacts WHERE id = 4"),
        "666",
        "{}",
        crm.report()
    );
    soon(
        &mut crm,
        "nothing has failed any more",
        SOON,
        "SELECT inbox_failed = 0 FROM integration.status WHERE target = 'hubspot'",
    );
    assert_eq!(crm.ask::<i64>(alert), 0);
    crm.converges();
}

#[test]
fn event_that_was_ignored_is_applied_again_only_if_it_is_named() {
    let mut crm = in_step();
    let ignored = changed_in_hubspot(&mut crm, 4, "country", "Germany");
    import(&mut crm, &ignored);
    crm.settle();
    assert_eq!(
        crm.rows("SELECT DISTINCT state FROM integration.inbox"),
        ["ignored"]
    );
    assert_eq!(crm.ask::<i64>("SELECT integration.inbox_retry()"), 0);
    crm.run("ALTER TABLE crm.contacts ADD country text; SELECT integration.map_field('crm.contacts', 'country', 'hubspot', 'country')");
    let all = "SELECT integration.inbox_retry(ARRAY(SELECT id FROM integration.inbox))";
    assert!(crm.ask::<i64>(all) >= 1);
    crm.settle();
    assert_eq!(
        crm.ask::<String>("SELECT country FROM crm.contacts WHERE id = 4"),
        "Germany",
        "{}",
        crm.report()
    );
    let error = integration_tests::sql::refused(
        &mut crm.client,
        "SELECT integration.inbox_retry(origin => 'pigeon')",
    );
    assert_eq!(error.code().code(), "22023");
}
