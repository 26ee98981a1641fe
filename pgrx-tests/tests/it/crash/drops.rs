//! Whatever drops the extension has the worker let go, however busy that is.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::unlimited,
    sql::refused,
    wait::wait_until,
};

use crate::crash::busy::{ends, reading};

/// A worker that is reading a slow view, and an extension that was made in this way.
fn busy(made: &str) -> Crm {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(&format!("DROP EXTENSION integration; {made}"));
    reading(60, crm)
}

#[track_caller]
fn is_gone(crm: &mut Crm) {
    let (cluster, database) = (crm.cluster.clone(), crm.database.clone());
    assert_eq!(
        crm.rows("SELECT FROM pg_extension WHERE extname = 'integration'"),
        [""; 0]
    );
    wait_until("the worker is gone", SOON, || {
        cluster.worker_pid(&database).is_none().then_some(())
    });
}

#[test]
fn slow_view_does_not_keep_the_schema_from_being_dropped() {
    let mut crm = busy("CREATE EXTENSION integration");
    ends("DROP SCHEMA", || crm.run("DROP SCHEMA integration CASCADE"));
    is_gone(&mut crm);
}

#[test]
fn slow_view_does_not_keep_what_its_owner_has_from_being_dropped() {
    let owner = "owner_of_the_extension";
    let mut crm = busy(&format!(
        "CREATE ROLE {owner} SUPERUSER; SET ROLE {owner}; CREATE EXTENSION integration; RESET ROLE"
    ));
    ends("DROP OWNED", || {
        crm.run(&format!("DROP OWNED BY {owner} CASCADE"));
    });
    is_gone(&mut crm);
    crm.run(&format!("DROP ROLE {owner}"));
}

#[test]
fn drops_that_are_refused_interrupt_nobody() {
    let mut crm = busy("CREATE EXTENSION integration");
    let pid = crm.worker_pid();
    let role = format!("{}_stranger", crm.database);
    crm.run(&format!("CREATE ROLE {role}; SET ROLE {role}"));
    for sql in [
        "DROP EXTENSION integration CASCADE",
        "DROP SCHEMA integration CASCADE",
        "DROP OWNED BY postgres CASCADE",
    ] {
        assert_eq!(
            refused(&mut crm.client, sql).code().code(),
            "42501",
            "{sql}"
        );
    }
    crm.run(&format!(
        "DROP OWNED BY {role} CASCADE; RESET ROLE; DROP ROLE {role}"
    ));
    assert_eq!(crm.worker_pid(), pid);
}
