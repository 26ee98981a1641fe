//! HubSpot's limits: each 429 means what its policy says, and the headers correct the settings.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Config, Fault, FaultBody, FaultKind, Rate, Service, When, unlimited},
    wait::wait_until,
};

use crate::operate::access::{nothing_died, until_state};

/// HubSpot's refusal for a limit of this name.
fn refusal(policy: &str, retry_after: Option<u32>, when: When) -> Fault {
    let body = format!(
        r#"{{"status":"error","message":"You have reached your limit.","errorType":"RATE_LIMIT","policyName":"{policy}"}}"#
    );
    let kind = FaultKind::Status {
        code: 429,
        body: FaultBody::Text(body),
        retry_after,
    };
    Fault::new(kind, when).service(Service::HubSpot)
}

fn refused(crm: &Crm) -> usize {
    let requests = crm.remote.requests_to(Service::HubSpot);
    requests
        .iter()
        .filter(|request| request.status == 429)
        .count()
}

/// A CRM whose worker knows of this rate before it asks HubSpot for anything.
fn with_rate(config: Config, rate: &str) -> Crm {
    let cluster = Cluster::shared();
    let mut crm = Crm::configured(cluster, config, &[("hubspot_rate_limit", rate)]);
    crm.track();
    crm
}

fn searches_are_refused(rate: &str) {
    let mut crm = with_rate(unlimited(), rate);
    crm.remote
        .add_fault(refusal("SECONDLY", None, When::UntilCleared).path("/companies/search"));
    // Two rows with one domain need searches.
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('Acme', 'acme.example.org'), ('Acme', 'acme.example.org')");
    wait_until("a search is refused", SOON, || {
        (refused(&crm) > 0).then_some(())
    });
    for round in 0..5 {
        let from = round * 100 + 1;
        crm.add_contacts(from, from + 99);
        wait_until("contacts arrive all the same", SOON, || {
            (crm.remote.stats().contacts >= from as usize + 99).then_some(())
        });
        let state = crm.rows("SELECT state FROM integration.status WHERE target = 'hubspot'");
        assert_eq!(state, ["running"]);
    }
    assert!(crm.remote.companies().len() < 2);
    crm.remote.clear_faults();
    crm.converges_within(LATER);
    nothing_died(&mut crm);
}

#[test]
fn refused_searches_stop_nothing_else() {
    searches_are_refused("1000/10s");
}

#[test]
fn refused_searches_stop_nothing_else_where_no_limit_is_set() {
    searches_are_refused("off");
}

/// The target rests as long as it is told to, and no record is to blame.
fn rests(retry_after: Option<u32>, at_least_ms: i64) {
    let mut crm = with_rate(unlimited(), "1000/10s");
    crm.settle();
    crm.remote.reset_log();
    crm.remote
        .add_fault(refusal("TEN_SECONDLY_ROLLING", retry_after, When::NextN(1)).path("/contacts/"));
    crm.add_contacts(1, 10);
    let line = until_state(&mut crm, "hubspot", "throttled");
    assert!(line.contains("429"), "{line}");
    crm.converges();
    let at: Vec<(u16, i64)> = crm
        .remote
        .requests_to(Service::HubSpot)
        .iter()
        .map(|request| (request.status, request.at))
        .collect();
    let [(429, before), (_, after), ..] = at.as_slice() else {
        panic!("first a refusal, then what came of it: {at:?}");
    };
    assert!(after - before >= at_least_ms, "{at:?}");
    assert_eq!(refused(&crm), 1);
    let counted: i64 = crm.ask("SELECT count(*) FROM integration.request_log WHERE attempt > 1");
    assert_eq!(counted, 0, "being refused for a limit counts for no record");
    nothing_died(&mut crm);
}

#[test]
fn rolling_limit_is_waited_for_as_long_as_hubspot_says() {
    rests(Some(3), 3_000);
}

#[test]
fn rolling_limit_without_a_time_is_waited_for_as_long_as_its_window() {
    rests(None, 10_000);
}

#[test]
fn daily_limit_says_when_it_is_over() {
    let mut crm = with_rate(unlimited(), "1000/10s");
    crm.settle();
    let fault = crm
        .remote
        .add_fault(refusal("DAILY", None, When::UntilCleared));
    crm.add_contacts(1, 10);
    let line = until_state(&mut crm, "hubspot", "throttled");
    assert!(
        line.contains("next day's begin at 20") && line.contains("Europe/Berlin"),
        "{line}"
    );
    // One call was refused; none follows, whatever is changed.
    assert_eq!(refused(&crm), 1);
    crm.run("UPDATE crm.contacts SET first_name = 'Later'");
    until_state(&mut crm, "hubspot", "throttled");
    assert_eq!(refused(&crm), 1);
    nothing_died(&mut crm);
    crm.remote.remove_fault(fault);
    crm.run("SELECT integration.reload()");
    crm.converges();
}

#[test]
fn lower_limit_than_the_setting_is_obeyed() {
    let mut config = unlimited();
    config.hubspot.rate = Some(Rate {
        max: 50,
        interval_ms: 5_000,
    });
    let mut crm = with_rate(config, "1900/10s");
    crm.add_contacts(1, 9_000);
    crm.converges_within(LATER);
    assert_eq!(refused(&crm), 0);
}

#[test]
fn what_another_app_uses_is_left_to_it() {
    let mut config = unlimited();
    let rate = Rate {
        max: 100,
        interval_ms: 4_000,
    };
    config.hubspot.rate = Some(rate);
    // Half of what there is.
    config.hubspot.others = Some(Rate { max: 50, ..rate });
    let mut crm = with_rate(config, "100/4s");
    crm.add_contacts(1, 20_000);
    crm.converges_within(LATER);
    let requests = crm.remote.requests_to(Service::HubSpot);
    let began = requests.first().map_or(0, |first| first.at);
    for (number, request) in requests.iter().enumerate() {
        let window = request.at - 4_000..request.at;
        let ours = requests[..number]
            .iter()
            .filter(|known| window.contains(&known.at));
        let (after, before) = (request.at - began, ours.count());
        let told = format!(
            "request {number}, {after} ms after the first, {before} in the window: {} {}",
            request.method, request.path
        );
        assert_ne!(request.status, 429, "{told}");
    }
    assert_eq!(refused(&crm), 0);
    nothing_died(&mut crm);
}
