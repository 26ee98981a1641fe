//! Companies, contacts and deals with their associations: within HubSpot's limits, and without any.

use std::time::{Duration, Instant};

use crate::{
    error::Result,
    options::Options,
    remote::Remote,
    report::{Goal, Report, Row, Unit, thousands},
    server::Server,
    site::{CONNECTIONS, Site},
};

/// HubSpot, Professional: 190 requests in 10 s.
const LIMIT: f64 = 19.0;

/// HubSpot: 100 records in a call.
const BATCH: f64 = 100.0;

const DELAY: Duration = Duration::from_millis(50);

const TABLES: &str = "
    CREATE SCHEMA crm;
    CREATE TABLE crm.companies (id bigint PRIMARY KEY, name text);
    CREATE TABLE crm.contacts (id bigint PRIMARY KEY, email text, first_name text, company_id bigint);
    CREATE TABLE crm.deals (id bigint PRIMARY KEY, title text, stage text, contact_id bigint, company_id bigint);
    SELECT integration.track('crm.companies', 'company', targets => '{hubspot}'),
           integration.track('crm.contacts', 'contact', targets => '{hubspot}'),
           integration.track('crm.deals', 'deal', targets => '{hubspot}');
    SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies'),
           integration.map_association('crm.deals', 'contact_id', 'crm.contacts'),
           integration.map_association('crm.deals', 'company_id', 'crm.companies')";

/// What one first load took.
struct Load {
    records: f64,
    /// Until the last record, and until the last association.
    seconds: (f64, f64),
    /// Calls that carried records; associations have a limit of their own.
    calls: f64,
    refused: u64,
}

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let contacts = options.contacts;
    let what = format!(
        "{} contacts, {} companies, {} deals",
        thousands(contacts.into()),
        thousands((contacts / 10).into()),
        thousands((contacts / 5).into())
    );
    let remote = Remote::start()?;
    remote.limit(190, 100)?;
    let limited = load(server, &remote, "190/10s", contacts)?;
    if limited.refused > 0 {
        return Err(format!("{} requests were refused", limited.refused).into());
    }
    report.add(
        Row::new(
            format!("{what}, 190 requests in 10 s: of the requests allowed, used"),
            Unit::Ratio,
            limited.calls / (LIMIT * limited.seconds.0),
            Goal::AtLeast(0.95),
        )
        .note(format!("{:.0} s; none refused", limited.seconds.0)),
    );
    report.add(Row::new(
        format!("{what}: calls per record"),
        Unit::Ratio,
        limited.calls / limited.records,
        Goal::AtMost(0.012),
    ));
    let remote = Remote::start()?;
    remote.delay(DELAY)?;
    let free = load(server, &remote, "off", contacts)?;
    let ceiling = f64::from(CONNECTIONS) * BATCH / DELAY.as_secs_f64();
    let rate = free.records / free.seconds.0;
    report.add(
        Row::new(
            format!("{what}, unlimited, answers in 50 ms: records"),
            Unit::Rate,
            rate,
            Goal::None,
        )
        .note(format!(
            "{:.2} of {CONNECTIONS} connections' {}/s; associations done after {:.1} s",
            rate / ceiling,
            thousands(ceiling),
            free.seconds.1
        )),
    );
    Ok(())
}

fn load(server: &Server, remote: &Remote, rate: &str, contacts: u32) -> Result<Load> {
    let mut site = Site::create(server, remote.address())?;
    site.run(&format!(
        "ALTER DATABASE {} SET integration.hubspot_rate_limit = '{rate}';
         ALTER DATABASE {} SET integration.hubspot_association_rate_limit = '{}'",
        site.name(),
        site.name(),
        if rate == "off" { "off" } else { "100/10s" },
    ))?;
    site.run("SELECT integration.reload()")?;
    site.worker();
    site.run(TABLES)?;
    site.provision()?;
    site.pause()?;
    let (companies, deals) = (contacts / 10, contacts / 5);
    site.run(&format!(
        "INSERT INTO crm.companies SELECT n, 'Company ' || n FROM generate_series(1, {companies}) n;
         INSERT INTO crm.contacts SELECT n, 'p' || n || '@example.org', 'Person ' || n, 1 + n % {companies} FROM generate_series(1, {contacts}) n;
         INSERT INTO crm.deals SELECT n, 'Deal ' || n, 'qualifiedtobuy', n, 1 + n % {companies} FROM generate_series(1, {deals}) n"
    ))?;
    let before = remote.counted()?;
    let begun = Instant::now();
    site.resume()?;
    site.drained()?;
    let records_done = begun.elapsed().as_secs_f64();
    site.associated()?;
    let all_done = begun.elapsed().as_secs_f64();
    let after = remote.counted()?;
    let calls: i64 = site.ask(
        "SELECT count(*) FROM integration.request_log WHERE path LIKE '/crm/objects/%/batch/%'",
    )?;
    let expected = u64::from(contacts) + u64::from(deals) * 2;
    let agreed: i64 =
        site.ask("SELECT count(*) FROM integration.association WHERE state = 'agreed'")?;
    if u64::try_from(agreed)? != expected {
        return Err(format!("{agreed} associations instead of {expected}").into());
    }
    Ok(Load {
        records: f64::from(contacts + companies + deals),
        seconds: (records_done, all_done),
        calls: calls as f64,
        refused: after.failed - before.failed,
    })
}
