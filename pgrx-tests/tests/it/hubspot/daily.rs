//! A limit of our own for HubSpot's day, where HubSpot does not tell how much of it is used.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::Service,
    wait::{holds_for, wait_until},
};

use crate::hubspot::oauth::{app, with_oauth_on};
use crate::operate::access::{alerts, nothing_died, until_state};

/// A time zone in which no day ends while a test runs.
fn amid_the_day() -> &'static str {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    match now.as_secs() / 3_600 % 24 {
        6..18 => "UTC",
        _ => "Etc/GMT-12",
    }
}

fn made(crm: &Crm) -> usize {
    crm.remote.requests_to(Service::HubSpot).len()
}

/// Makes work until the limit is reached.
fn use_up(crm: &mut Crm) -> String {
    wait_until("the day is used up", SOON, || {
        crm.run("UPDATE crm.contacts SET first_name = coalesce(first_name, '') || 'x'");
        let line = crm
            .rows("SELECT state, reason FROM integration.status WHERE target = 'hubspot'")
            .remove(0);
        line.starts_with("throttled|").then_some(line)
    })
}

#[track_caller]
fn nothing_leaves(crm: &mut Crm, limit: usize) {
    crm.run("UPDATE crm.contacts SET last_name = coalesce(last_name, '') || 'y'");
    holds_for("no request leaves", Duration::from_secs(1), || {
        made(crm) == limit
    });
}

#[test]
fn requests_of_the_day_are_counted_where_hubspot_does_not_tell_whoever_made_them() {
    let mut config = app();
    config.hubspot.time_zone = amid_the_day().to_owned();
    // Its worker is killed.
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut crm = with_oauth_on(cluster, config, None);
    crm.add_contacts(1, 3);
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('C', 'c.example.org')");
    crm.converges();
    let requests = crm.remote.requests_to(Service::HubSpot);
    assert!(
        requests
            .iter()
            .any(|request| request.path.ends_with("/search")),
        "searches count as well, so there should be one"
    );
    // Set in the middle of a day, it is about all of the day.
    let limit = made(&crm) + 8;
    crm.set("hubspot_daily_limit", &limit.to_string());
    let line = use_up(&mut crm);
    for part in [
        format!("the {limit} requests a day"),
        "next day's begin at 20".to_owned(),
        format!("00:00 {}", amid_the_day()),
    ] {
        assert!(line.contains(&part), "{part}: {line}");
    }
    // The last one may have left, and not yet arrived.
    wait_until("the limit is used up", SOON, || {
        (made(&crm) == limit).then_some(())
    });
    assert_eq!(alerts(&mut crm, "throttled").len(), 1);
    nothing_leaves(&mut crm, limit);
    // Another worker knows what this one did.
    crm.kill_worker();
    nothing_leaves(&mut crm, limit);
    until_state(&mut crm, "hubspot", "throttled");
    // A few more are a few more. (A new worker fetches a token, and asks who we are.)
    crm.set("hubspot_daily_limit", &(limit + 8).to_string());
    wait_until("they are used", SOON, || {
        crm.run("UPDATE crm.contacts SET first_name = coalesce(first_name, '') || 'x'");
        (made(&crm) == limit + 8).then_some(())
    });
    until_state(&mut crm, "hubspot", "throttled");
    nothing_leaves(&mut crm, limit + 8);
    nothing_died(&mut crm);
    // Without a limit all of it arrives.
    crm.set("hubspot_daily_limit", "0");
    crm.converges();
    assert_eq!(alerts(&mut crm, "throttled"), [] as [&str; 0]);
}
