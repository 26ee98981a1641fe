//! Rows that want each other's e-mail addresses, of which HubSpot takes each but once.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Config, crm_key, unlimited},
    wait::try_until,
};

use crate::inbound::webhooks::import;

/// Contacts of HubSpot only, with addresses `p1@example.org` and so on.
fn contacts(cluster: Arc<Cluster>, config: Config, number: u32) -> Crm {
    let mut crm = Crm::start_on(cluster, config);
    crm.run(&format!(
        "INSERT INTO crm.contacts (email, first_name) SELECT format('p%s@example.org', n), 'P' || n FROM generate_series(1, {number}) n"
    ));
    crm.settle();
    crm
}

/// HubSpot's contacts as they were: who has which address now.
fn addresses(crm: &Crm) -> Vec<(String, String)> {
    let contacts = crm.remote.contacts().into_iter();
    let mut found: Vec<_> = contacts
        .map(|(_, fields)| {
            let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
            (
                crm_key(&fields).unwrap_or_default().to_owned(),
                text("email"),
            )
        })
        .collect();
    found.sort();
    found
}

/// Rotates the addresses of the contacts `from..=to` by one, in one statement.
fn rotate(from: u32, to: u32) -> String {
    format!(
        "UPDATE crm.contacts SET email = format('p%s@example.org', CASE WHEN id = {to} THEN {from} ELSE id + 1 END) WHERE id BETWEEN {from} AND {to}"
    )
}

#[test]
fn swapped_addresses_arrive() {
    let mut crm = contacts(Cluster::shared(), unlimited(), 10);
    let ids: Vec<u64> = crm.remote.contacts().iter().map(|(id, _)| *id).collect();
    // A pair, a circle of three, a chain that ends in the open, and one that stays.
    crm.run(&format!(
        "BEGIN; {}; {}; UPDATE crm.contacts SET email = 'new@example.org' WHERE id = 7;
         UPDATE crm.contacts SET email = 'p7@example.org' WHERE id = 6; COMMIT",
        rotate(1, 2),
        rotate(3, 5)
    ));
    crm.converges();
    let pair = |key: &str, email: &str| (key.to_owned(), format!("{email}@example.org"));
    assert_eq!(
        addresses(&crm)[..8],
        [
            pair("1", "p2"),
            pair("10", "p10"),
            pair("2", "p1"),
            pair("3", "p4"),
            pair("4", "p5"),
            pair("5", "p3"),
            pair("6", "p7"),
            pair("7", "new"),
        ]
    );
    let now: Vec<u64> = crm.remote.contacts().iter().map(|(id, _)| *id).collect();
    assert_eq!(now, ids);
    assert_eq!(
        crm.rows("SELECT error FROM integration.dlq"),
        [] as [&str; 0]
    );
    // What HubSpot tells of it changes nothing, not even where it cannot be told from what others
    // do: one address was away for a moment.
    crm.set("hubspot_app_id", "1");
    let before: Vec<_> = crm.rows("SELECT id, email FROM crm.contacts ORDER BY id");
    for webhook in crm.remote.take_webhooks() {
        import(&mut crm, &webhook);
    }
    crm.converges();
    assert_eq!(
        crm.rows("SELECT id, email FROM crm.contacts ORDER BY id"),
        before
    );
}

#[test]
fn large_circle_of_addresses_arrives() {
    let mut crm = contacts(Cluster::shared(), unlimited(), 60);
    crm.run(&rotate(1, 60));
    crm.converges();
    assert_eq!(
        crm.rows("SELECT error FROM integration.dlq"),
        [] as [&str; 0]
    );
}

#[test]
fn swap_survives_a_crash_at_any_step() {
    let config = Config {
        delay_ms: 30,
        ..unlimited()
    };
    let mut crm = contacts(Arc::new(Cluster::start(&[], &[])), config, 4);
    for round in 0..4 {
        crm.run("UPDATE crm.contacts SET email = CASE email WHEN 'p1@example.org' THEN 'p2@example.org' ELSE 'p1@example.org' END WHERE id <= 2");
        let calls = crm.remote.stats().hubspot_requests;
        let _ = try_until(SOON, || {
            (crm.remote.stats().hubspot_requests > calls + round % 3 || crm.queue_is_empty())
                .then_some(())
        });
        crm.kill_worker();
    }
    crm.converges();
    assert_eq!(
        crm.rows("SELECT error FROM integration.dlq"),
        [] as [&str; 0]
    );
}
