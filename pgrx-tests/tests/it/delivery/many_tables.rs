//! Several tables of one kind of record: nobody's records are overwritten, and nothing stops.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER},
    remote::unlimited,
};

/// Tables `crm.a` to `crm.e`, tracked as contacts for both services.
fn five_tables() -> Crm {
    let mut crm = Crm::start_on(Cluster::shared(), unlimited());
    for name in ["a", "b", "c", "d", "e"] {
        crm.run(&format!(
            "CREATE TABLE crm.{name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text, first_name text, marketing_opt_in boolean);
             SELECT integration.track('crm.{name}', 'contact')"
        ));
    }
    crm
}

/// Rows of tables that are neither at a service nor explained.
fn unexplained(crm: &mut Crm) -> Vec<String> {
    let tables = ["a", "b", "c", "d", "e"].map(|name| {
        format!(
            "SELECT 'crm.{name}' AS source, r.id, s.target, s.state, s.last_error
             FROM crm.{name} r CROSS JOIN LATERAL integration.sync_status('crm.{name}', r.id::text) s"
        )
    });
    crm.rows(&format!(
        "SELECT * FROM ({}) AS t WHERE state NOT IN ('synced', 'dead')",
        tables.join(" UNION ALL ")
    ))
}

#[test]
fn five_tables_with_the_same_addresses_end_and_nothing_stops() {
    let mut crm = five_tables();
    let pid = crm.worker_pid();
    let filled = ["a", "b", "c", "d", "e"].map(|name| {
        format!(
            "INSERT INTO crm.{name} (email, first_name, marketing_opt_in)
             SELECT format('person%s@example.org', n), '{name}', true FROM generate_series(1, 20) n;"
        )
    });
    // In one transaction, so that they meet in one round.
    crm.run(&filled.concat());
    crm.settle_within(LATER);
    assert_eq!(crm.worker_pid(), pid, "the worker has not ended");
    assert_eq!(
        crm.rows("SELECT target, state FROM integration.status ORDER BY 1"),
        ["hubspot|running", "mailchimp|running"]
    );
    assert_eq!(unexplained(&mut crm), [""; 0]);
    assert_eq!(
        crm.rows(
            "SELECT target, category, count(*) FROM integration.dlq WHERE resolution IS NULL GROUP BY 1, 2 ORDER BY 1"
        ),
        ["hubspot|conflict|80", "mailchimp|conflict|80"]
    );
    assert_eq!(crm.remote.contacts().len(), 20);
}
