//! What people see and call: status, sync_status, preview, wait_idle, pause, jobs, the log.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Fault, FaultBody, FaultKind, Service, When, unlimited},
    sql::refused_with_hint,
    uncommitted::Uncommitted,
    wait::{holds_for, wait_until},
};

#[test]
fn status_tells_what_is_going_on() {
    let mut crm = Crm::start();
    wait_until("both run", SOON, || {
        (crm.rows("SELECT target, state FROM integration.status ORDER BY 1")
            == ["hubspot|running", "mailchimp|running"])
        .then_some(())
    });
    crm.run("SELECT integration.pause('hubspot', 'moving house')");
    crm.add_contacts(1, 30);
    wait_until("the pause shows", SOON, || {
        let line = crm
            .rows("SELECT state, reason, pending FROM integration.status WHERE target = 'hubspot'")
            .remove(0);
        (line.starts_with("paused|") && line.contains("moving house") && line.ends_with("|30"))
            .then_some(())
    });
    assert!(crm.ask::<bool>("SELECT oldest_pending IS NOT NULL OR pending = 30 FROM integration.status WHERE target = 'hubspot'"));
    assert!(crm.remote.contacts().is_empty());
    crm.run("SELECT integration.resume('hubspot')");
    crm.converges();
    let line = crm.rows("SELECT state, pending, retrying, in_flight, dead, last_success_at IS NOT NULL FROM integration.status WHERE target = 'hubspot'");
    assert_eq!(line, ["running|0|0|0|0|t"]);
}

#[test]
fn status_is_quick_whatever_the_backlog() {
    let mut crm = Crm::start();
    crm.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    crm.add_contacts(1, 200_000);
    crm.rows("SELECT * FROM integration.status");
    let began = Instant::now();
    for _ in 0..10 {
        crm.rows("SELECT * FROM integration.status");
    }
    let each = began.elapsed() / 10;
    assert!(
        each < Duration::from_millis(50),
        "{each:?}, with an unoptimised build"
    );
    assert_eq!(
        crm.rows("SELECT pending FROM integration.status WHERE target = 'hubspot'"),
        ["200000"]
    );
}

#[test]
fn sync_status_follows_a_record() {
    let mut crm = Crm::start();
    let states =
        "SELECT target, state FROM integration.sync_status('crm.contacts', '1') ORDER BY 1";
    crm.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    crm.add_contact("ada@example.org", true);
    assert_eq!(crm.rows(states), ["hubspot|pending", "mailchimp|pending"]);
    crm.remote.go_down(Service::HubSpot);
    crm.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp')");
    wait_until("Mailchimp has it and HubSpot is retried", SOON, || {
        (crm.rows(states) == ["hubspot|retrying", "mailchimp|synced"]).then_some(())
    });
    let error: Option<String> = crm.ask("SELECT last_error FROM integration.sync_status('crm.contacts', '1') WHERE target = 'hubspot'");
    assert!(error.is_some());
    crm.remote.come_up(Service::HubSpot).unwrap();
    crm.converges();
    assert_eq!(crm.rows(states), ["hubspot|synced", "mailchimp|synced"]);
    let (id, _) = crm.remote.contact("ada@example.org").unwrap();
    let told: String = crm.ask("SELECT remote_id FROM integration.sync_status('crm.contacts', '1') WHERE target = 'hubspot' AND pushed_at IS NOT NULL");
    assert_eq!(told, id.to_string());
    assert!(crm.rows("SELECT state FROM integration.sync_status('crm.contacts', '999') WHERE state NOT IN ('untracked', 'no_consent')").is_empty());
}

#[test]
fn each_record_counts_once_wherever_it_is() {
    let mut crm = Crm::start();
    crm.set("retry_base", "1s");
    crm.set("retry_max", "1s");
    let figures =
        "SELECT pending, retrying, in_flight FROM integration.status WHERE target = 'hubspot'";
    let state =
        "SELECT state FROM integration.sync_status('crm.contacts', '1') WHERE target = 'hubspot'";
    let slow = Fault::new(FaultKind::Delay { ms: 1_500 }, When::UntilCleared)
        .service(Service::HubSpot)
        .path("/batch/upsert");
    let busy = FaultKind::Status {
        code: 500,
        body: FaultBody::Json,
        retry_after: None,
    };
    crm.remote.add_fault(slow);
    // Once only: a target that fails as a whole is another matter.
    crm.remote.add_fault(
        Fault::new(busy, When::NextN(1))
            .service(Service::HubSpot)
            .path("/batch/upsert"),
    );
    crm.add_contact("ada@example.org", false);
    let until = |crm: &mut Crm, wanted: &str, counted: &str| {
        wait_until(&format!("it is {wanted}"), SOON, || {
            (crm.rows(state) == [wanted] && crm.rows(figures) == [counted]).then_some(())
        });
    };
    until(&mut crm, "in_flight", "0|0|1");
    until(&mut crm, "retrying", "0|1|0");
    until(&mut crm, "in_flight", "0|0|1");
    crm.settle();
    assert_eq!(crm.rows(state), ["synced"]);
    assert_eq!(crm.rows(figures), ["0|0|0"]);
}

#[test]
fn preview_shows_what_would_be_sent_and_sends_nothing() {
    let mut crm = Crm::start();
    crm.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    let before = crm.remote.writes();
    let id = crm.add_contact("ada@example.org", true);
    let preview: serde_json::Value = crm.ask(&format!(
        "SELECT jsonb_object_agg(target, request) FROM integration.preview('crm.contacts', '{id}')"
    ));
    let (hubspot, mailchimp) = (
        preview["hubspot"].to_string(),
        preview["mailchimp"].to_string(),
    );
    assert!(
        hubspot.contains("ada@example.org") && hubspot.contains("Lovelace"),
        "{preview}"
    );
    assert!(
        mailchimp.contains("FNAME") && mailchimp.contains("subscribed"),
        "{preview}"
    );
    let id = crm.add_contact("bob@example.org", false);
    let preview: serde_json::Value = crm.ask(&format!(
        "SELECT jsonb_object_agg(target, request) FROM integration.preview('crm.contacts', '{id}')"
    ));
    assert!(
        !preview["mailchimp"].to_string().contains("bob@example.org"),
        "no consent: {preview}"
    );
    // What the worker had asked for when it was paused may still arrive.
    holds_for("nothing is sent", Duration::from_secs(1), || {
        crm.remote.writes() == before
    });
}

#[test]
fn wait_idle_waits_until_everything_is_sent() {
    let mut crm = Crm::start();
    crm.remote.configure(|config| config.delay_ms = 100);
    crm.add_contacts(1, 1_000);
    assert!(crm.ask::<bool>("SELECT integration.wait_idle('60s')"));
    crm.converges();
    crm.run("SELECT integration.pause('hubspot')");
    crm.add_contacts(1_001, 1_001);
    let began = Instant::now();
    assert!(!crm.ask::<bool>("SELECT integration.wait_idle('500ms')"));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(crm.ask::<bool>("SELECT integration.wait_idle('30s', 'mailchimp')"));
}

#[test]
fn request_log_tells_every_request() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 250);
    crm.converges();
    let sent = crm
        .remote
        .requests_to(Service::HubSpot)
        .iter()
        .filter(|request| request.path.contains("/batch/"))
        .count();
    wait_until("they are logged", SOON, || {
        let logged: i64 = crm.ask("SELECT count(*) FROM integration.request_log WHERE target = 'hubspot' AND path LIKE '%/batch/%'");
        (logged == i64::try_from(sent).unwrap()).then_some(())
    });
    let odd = crm.rows(
        "SELECT method, path, status, duration_ms, records, attempt, at, error FROM integration.request_log
         WHERE status NOT BETWEEN 200 AND 299 AND path NOT LIKE '%/properties/%' OR duration_ms < 0 OR at > clock_timestamp() OR error <> ''",
    );
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(crm.ask::<bool>(
        "SELECT sum(records) >= 250 FROM integration.request_log WHERE target = 'hubspot'"
    ));
}

#[test]
fn guard_stops_an_accident_until_resumed() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.set("guard_deletes", "100/10min");
    crm.track();
    crm.add_contacts(1, 400);
    crm.converges();
    crm.run("DELETE FROM crm.contacts");
    wait_until("the target is held", SOON, || {
        (crm.rows("SELECT state FROM integration.status WHERE target = 'hubspot'") == ["held"])
            .then_some(())
    });
    let left = crm.remote.contacts().len();
    assert!(left >= 300, "{left} of 400 left, at most 100 may go");
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.alert WHERE kind = 'held' AND target = 'hubspot' AND cleared_at IS NULL"), 1);
    holds_for("no more are deleted", Duration::from_secs(1), || {
        crm.remote.contacts().len() == left
    });
    crm.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp')");
    crm.converges_within(LATER);
}

#[test]
fn switched_off_nothing_is_sent() {
    let mut crm = Crm::start();
    crm.set("enabled", "off");
    let before = crm.remote.writes();
    crm.add_contacts(1, 10);
    holds_for("nothing is sent", Duration::from_secs(1), || {
        crm.remote.writes() == before
    });
    crm.set("enabled", "on");
    crm.converges();
}

#[test]
fn settings_of_the_whole_server_are_taken_over_on_reload() {
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut crm = Crm::start_on(cluster, unlimited());
    crm.add_contacts(1, 5);
    crm.converges();
    crm.cluster
        .set("integration.mailchimp_on_delete", "permanent");
    // What the worker goes by shows only in what it does.
    wait_until("a deleted person is forgotten", SOON, || {
        let id = crm.add_contact("leaving@example.org", true);
        crm.settle();
        crm.run(&format!("DELETE FROM crm.contacts WHERE id = {id}"));
        crm.settle();
        crm.remote.is_forgotten("leaving@example.org").then_some(())
    });
}

#[test]
fn missing_credential_is_said() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.set("hubspot_access_token", "");
    crm.run("SELECT integration.track('crm.contacts', 'contact')");
    crm.add_contacts(1, 4);
    wait_until("it shows", SOON, || {
        let line = crm
            .rows("SELECT state, reason FROM integration.status WHERE target = 'hubspot'")
            .remove(0);
        (line.starts_with("unconfigured|") && line.contains("integration.hubspot_access_token"))
            .then_some(())
    });
    wait_until("the other target works", SOON, || {
        (crm.remote.members().len() == 2).then_some(())
    });
    let token = crm.secrets.hubspot.clone();
    crm.set("hubspot_access_token", &token);
    crm.run("SELECT integration.provision('hubspot')");
    crm.converges();
}

#[test]
fn missing_preload_is_said_and_writers_go_on() {
    let cluster = Arc::new(Cluster::start(&[("shared_preload_libraries", "")], &[]));
    let database = cluster.create_database();
    let mut client = cluster.connect(&database);
    client
        .batch_execute("CREATE EXTENSION integration")
        .unwrap();
    client
        .batch_execute(integration_tests::crm::TABLES)
        .unwrap();
    client
        .batch_execute("SELECT integration.track('crm.contacts', 'contact')")
        .unwrap();
    client
        .batch_execute("INSERT INTO crm.contacts (email) VALUES ('ada@example.org')")
        .unwrap();
    let queued: i64 = client
        .query_one("SELECT count(*) FROM integration.outbox", &[])
        .unwrap()
        .get(0);
    assert_eq!(queued, 2);
    let row = client
        .query_one(
            "SELECT state, reason FROM integration.status WHERE target = 'hubspot'",
            &[],
        )
        .unwrap();
    let (state, reason): (String, String) = (row.get(0), row.get(1));
    assert_eq!(state, "worker_down");
    assert!(reason.contains("shared_preload_libraries"), "{reason}");
    refused_with_hint(&mut client, "SELECT integration.wait_idle('1s')", "55000");
    refused_with_hint(&mut client, "SELECT integration.reload()", "55000");
}

#[test]
fn unknown_target_is_refused() {
    let mut crm = Crm::start();
    for call in [
        "pause('pipedrive')",
        "resume('pipedrive')",
        "dlq_retry(target => 'pipedrive')",
        "wait_idle('1s', 'pipedrive')",
        "provision('pipedrive')",
    ] {
        refused_with_hint(
            &mut crm.client,
            &format!("SELECT integration.{call}"),
            "42704",
        );
    }
}

#[test]
fn everything_public_has_a_comment_and_nothing_is_granted_to_everybody() {
    let mut crm = Crm::start();
    let silent = crm.rows(
        "SELECT c.relname, NULL FROM pg_class c WHERE c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid) IS NULL
         UNION ALL
         SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v') AND col_description(c.oid, a.attnum) IS NULL
         UNION ALL
         SELECT p.oid::regprocedure::text, NULL FROM pg_proc p WHERE p.pronamespace = 'integration'::regnamespace AND obj_description(p.oid) IS NULL",
    );
    assert!(silent.is_empty(), "without a comment: {silent:#?}");
    let open = crm.rows(
        "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'integration'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')
         UNION ALL
         SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v') AND has_table_privilege('public', c.oid, 'SELECT')",
    );
    assert_eq!(
        open,
        ["integration._capture()"],
        "owners of partitions create its triggers; on tables that are not tracked it does nothing"
    );
    let loose = crm.rows(
        "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'integration'::regnamespace AND p.prosecdef AND p.prosqlbody IS NULL
         AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')",
    );
    assert!(
        loose.is_empty(),
        "definer's rights without a fixed search_path: {loose:#?}"
    );
}

#[test]
fn version_says_which_build_runs() {
    let mut session = Uncommitted::begin();
    let said: String = session.ask("SELECT integration.version()");
    let version: String =
        session.ask("SELECT extversion FROM pg_extension WHERE extname = 'integration'");
    let build = said
        .strip_prefix(&format!("{version} ("))
        .and_then(|rest| rest.strip_suffix(')'));
    let build: Vec<&str> = build
        .unwrap_or_else(|| panic!("{said}"))
        .split(", ")
        .collect();
    assert!(matches!(build[0], "debug" | "release"), "{said}");
    // Sources without a repository have no commit.
    if let [_, commit, rest @ ..] = build.as_slice() {
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        assert!(commit.len() >= 12 && commit.chars().all(digit), "{said}");
        assert!(matches!(rest, [] | ["modified"]), "{said}");
    }
}
