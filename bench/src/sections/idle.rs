//! What the extension does when there is nothing to do.

use std::{thread, time::Duration};

use crate::{
    error::Result,
    options::Options,
    remote::Remote,
    report::{Goal, Report, Row, Unit},
    server::Server,
    site::Site,
    tables::Tracking,
};

/// For the worker to settle down after its last work.
const REST: Duration = Duration::from_secs(3);

/// Everything counts; autovacuum would use transaction ids of its own.
const SETTINGS: [(&str, &str); 2] = [("pg_stat_statements.track", "all"), ("autovacuum", "off")];

/// Which statements were counted, in short.
const WHICH: &str = "
    SELECT left(string_agg(DISTINCT regexp_replace(query, '\\s+', ' ', 'g'), ' · '), 150)
    FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'";

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    // A server of its own: to change its settings would give it something to do.
    let server = Server::start_with(&SETTINGS)?;
    let cluster = &server.cluster;
    let remote = Remote::start()?;
    let mut site = Site::create(&server, remote.address())?;
    site.add(Tracking::Ours, 1_000)?;
    site.provision()?;
    site.run("UPDATE ours.contacts SET phone = phone || '0'")?;
    site.drained()?;
    thread::sleep(REST);

    let mut observer = cluster.connect("postgres");
    let begin = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM pg_stat_statements_reset()";
    let end = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                      (SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%')";
    let begin = observer.prepare(begin)?;
    let end = observer.prepare(end)?;
    let first_xid: i64 = observer.query_one(&begin, &[])?.get(0);
    let log = cluster.log().len();
    thread::sleep(options.idle);
    let row = observer.query_one(&end, &[])?;
    let (xid, statements): (i64, i64) = (row.get(0), row.get(1));
    let which: Option<String> = observer.query_one(WHICH, &[])?.get(0);
    let lines = cluster
        .log()
        .get(log..)
        .map_or(0, |new| new.lines().count());

    // A counter that sees nothing proves nothing: a worker that does something has to show.
    site.run("UPDATE ours.contacts SET phone = phone || '1' WHERE id = 1")?;
    site.drained()?;
    let busy = observer.query_one(&end, &[])?;
    if busy.get::<_, i64>(0) <= xid || busy.get::<_, i64>(1) <= statements + 2 {
        return Err("the worker's statements and transactions are not counted".into());
    }

    let minutes = options.idle.as_secs_f64() / 60.0;
    let seconds = format!("{} s, autovacuum off", options.idle.as_secs());
    let which = which.map_or_else(|| seconds.clone(), |which| format!("{seconds}: {which}"));
    for (what, count, note) in [
        ("statements in pg_stat_statements", statements as f64, which),
        ("transaction ids", (xid - first_xid) as f64, seconds.clone()),
        ("log lines", lines as f64, seconds),
    ] {
        report.add(
            Row::new(
                format!("idle: {what} a minute"),
                Unit::Count,
                count / minutes,
                Goal::AtMost(0.0),
            )
            .note(note),
        );
    }
    Ok(())
}
