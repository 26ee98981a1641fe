//! Copies of whole servers, and servers that take the place of another.

use std::{sync::Arc, time::Duration};

use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, SOON},
    remote::{MemberAction, Status, unlimited},
    wait::wait_until,
};

use super::copies::{goes_on, is_fenced, original, restart, sends_nothing};

/// A promoted standby is promised to go on within five seconds; three times that on a busy machine.
const FAIL_OVER: Duration = Duration::from_secs(15);

#[test]
fn base_backup_started_beside_its_original_is_fenced() {
    let mut original = original(&[]);
    let mut copy = original.copied_to(original.cluster.base_backup());
    is_fenced(&mut copy, "made from a copy of another one");
    sends_nothing(&mut copy);
    goes_on(&mut original, "Original");
    restart(&mut original);
    goes_on(&mut original, "Again");
    // Nor does a restart of the copy lift the fence.
    restart(&mut copy);
    is_fenced(&mut copy, "made from a copy of another one");
    original.cluster.stop(Stop::Fast);
    // It is older than what the original has sent since.
    copy.run("SELECT integration.adopt(); UPDATE crm.contacts SET last_name = 'Copy'");
    copy.converges();
    restart(&mut copy);
    goes_on(&mut copy, "Adopted");
    original.cluster.launch();
}

#[test]
fn copied_files_are_fenced() {
    let mut original = original(&[]);
    original.cluster.stop(Stop::Immediate);
    let mut copy = original.copied_to(original.cluster.copied_files());
    is_fenced(&mut copy, "copied or moved");
    sends_nothing(&mut copy);
    original.cluster.launch();
    original.client = original.connect();
    goes_on(&mut original, "Original");
}

#[test]
fn server_restored_to_a_point_in_time_is_fenced() {
    let mut original = original(&[]);
    let copy = original.cluster.restored();
    wait_until("the recovery is over", SOON, || {
        let over = copy
            .connect("postgres")
            .query_one("SELECT NOT pg_is_in_recovery()", &[])
            .unwrap();
        over.get::<_, bool>(0).then_some(())
    });
    let mut copy = original.copied_to(copy);
    is_fenced(&mut copy, "restored to a point in time");
    sends_nothing(&mut copy);
    goes_on(&mut original, "Original");
}

#[test]
fn server_restored_from_its_archive_is_fenced_until_adopted() {
    let archiving = [
        ("archive_mode", "on"),
        (
            "archive_command",
            "mkdir -p ../archive && cp %p ../archive/%f",
        ),
    ];
    let cluster = Arc::new(Cluster::start(&archiving, &[]));
    let mut original = Crm::start_on(cluster, unlimited());
    original.add_contacts(1, 20);
    original.converges();
    let copy = original.cluster.backed_up();
    original.run("UPDATE crm.contacts SET last_name = 'Kept'");
    original.converges();
    original.run("SELECT pg_create_restore_point('before_the_accident')");
    original.run(
        "UPDATE crm.contacts SET last_name = 'Undone';
         DELETE FROM crm.contacts WHERE id > 10",
    );
    original.converges();
    let last: String = original.ask("SELECT pg_walfile_name(pg_current_wal_lsn())");
    original.run("SELECT pg_switch_wal()");
    let archived =
        format!("SELECT coalesce(last_archived_wal >= '{last}', false) FROM pg_stat_archiver");
    wait_until("all is archived", SOON, || {
        original.ask::<bool>(&archived).then_some(())
    });
    let archive = original.cluster.socket_dir().join("archive");
    original.cluster.stop(Stop::Fast);
    copy.recover(&archive, "before_the_accident");
    wait_until("the recovery is over", SOON, || {
        let over = copy
            .connect("postgres")
            .query_one("SELECT NOT pg_is_in_recovery()", &[])
            .unwrap();
        over.get::<_, bool>(0).then_some(())
    });
    let mut copy = original.copied_to(copy);
    assert_eq!(
        copy.rows("SELECT last_name, count(*) FROM crm.contacts GROUP BY 1"),
        ["Kept|20"]
    );
    is_fenced(&mut copy, "restored to a point in time");
    sends_nothing(&mut copy);
    restart(&mut copy);
    is_fenced(&mut copy, "restored to a point in time");
    // It is older than what was sent since.
    copy.run("SELECT integration.adopt(); UPDATE crm.contacts SET last_name = 'Restored'");
    copy.settle();
    // Whether they left before they were archived, nobody can tell: they are asked.
    let opted_in = copy.rows("SELECT email FROM crm.contacts WHERE id > 10 AND marketing_opt_in");
    assert_eq!(opted_in.len(), 5);
    for email in &opted_in {
        assert_eq!(
            copy.remote.status_of(email),
            Some(Status::Pending),
            "{email}"
        );
        let merge_fields = Default::default();
        let confirms = MemberAction::Subscribe { merge_fields };
        copy.remote.member_does(email, confirms).unwrap();
    }
    copy.converges();
    original.cluster.launch();
}

#[test]
fn upgraded_server_is_fenced_and_told_why_and_sends_what_it_captured_once_adopted() {
    let mut original = original(&[]);
    original.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    original.run("UPDATE crm.contacts SET last_name = 'Queued' WHERE id <= 5");
    original.cluster.stop(Stop::Fast);
    let mut upgraded = original.copied_to(original.cluster.upgraded());
    is_fenced(&mut upgraded, "or the server was upgraded by pg_upgrade");
    assert_eq!(
        upgraded.ask::<i64>("SELECT count(*) FROM integration.outbox WHERE target = 'hubspot'"),
        5
    );
    upgraded.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp')");
    sends_nothing(&mut upgraded);
    upgraded.run("DELETE FROM crm.contacts WHERE id = 20");
    upgraded.add_contacts(21, 30);
    let records = upgraded.remote.contacts().len();
    assert_eq!(records, 20, "nothing has left");
    upgraded.run("SELECT integration.adopt()");
    upgraded.converges();
    goes_on(&mut upgraded, "Adopted");
    original.cluster.launch();
}

#[test]
fn promoted_standby_goes_on_and_so_does_one_of_its_own() {
    let mut original = original(&[]);
    let standby = original.cluster.standby();
    goes_on(&mut original, "Original");
    original.cluster.stop(Stop::Fast);
    standby.promote();
    let began = std::time::Instant::now();
    let mut promoted = original.copied_to(standby);
    promoted.run("UPDATE crm.contacts SET last_name = 'Promoted' WHERE id = 1");
    let sent = promoted.ask::<bool>("SELECT integration.wait_idle('1min')");
    assert!(sent && began.elapsed() < FAIL_OVER, "{:?}", began.elapsed());
    promoted.converges();
    restart(&mut promoted);
    goes_on(&mut promoted, "Restarted");
    // And once more: it is nobody's copy.
    let second = promoted.cluster.standby();
    promoted.cluster.stop(Stop::Fast);
    second.promote();
    let mut second = promoted.copied_to(second);
    goes_on(&mut second, "Second");
    original.cluster.launch();
    promoted.cluster.launch();
}

#[test]
fn promoted_standby_of_a_fenced_copy_is_fenced() {
    let original = original(&[]);
    let mut copy = original.copied_to(original.cluster.base_backup());
    is_fenced(&mut copy, "made from a copy of another one");
    let standby = copy.cluster.standby();
    standby.promote();
    let mut promoted = copy.copied_to(standby);
    is_fenced(&mut promoted, "made from a copy of another one");
    sends_nothing(&mut promoted);
}

#[test]
fn base_backup_of_a_promoted_standby_is_fenced() {
    let original = original(&[]);
    let standby = original.cluster.standby();
    original.cluster.stop(Stop::Fast);
    standby.promote();
    let mut promoted = original.copied_to(standby);
    goes_on(&mut promoted, "Promoted");
    let mut copy = promoted.copied_to(promoted.cluster.base_backup());
    is_fenced(&mut copy, "made from a copy of another one");
    original.cluster.launch();
}

#[test]
fn moved_data_directory_is_fenced_unless_the_environment_says_that_it_is_meant() {
    let mut crm = original(&[("CRM_ENVIRONMENT", "production")]);
    crm.cluster.stop(Stop::Fast);
    crm.cluster.move_files();
    crm.cluster.launch();
    crm.client = crm.connect();
    is_fenced(&mut crm, "copied or moved");
    crm.set("environment", "env:CRM_ENVIRONMENT");
    is_fenced(&mut crm, "integration.environment was 'test'");
    crm.run("SELECT integration.adopt()");
    goes_on(&mut crm, "Adopted");
    crm.cluster.stop(Stop::Fast);
    crm.cluster.move_files();
    crm.cluster.launch();
    crm.client = crm.connect();
    goes_on(&mut crm, "Moved");
    // A base backup is one, whatever the environment.
    let mut copy = crm.copied_to(crm.cluster.base_backup());
    is_fenced(&mut copy, "made from a copy of another one");
}
