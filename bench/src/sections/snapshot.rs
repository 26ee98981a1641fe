//! The drain while another connection holds a snapshot open: nothing that dies after it was taken
//! can be cleaned up, and the queue must not mind.

use crate::{
    error::Result,
    options::Options,
    report::{Goal, Report, Row, Unit, thousands},
    sections::drain::{Changes, Drains},
    server::Server,
    stats::median,
};

const GOAL: f64 = 0.97;

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let mut drains = Drains::new(server, options.contacts)?;
    drains.first_load()?;
    drains.round(Changes::OneStatement)?;
    let records = thousands(options.contacts.into());
    for (changes, passes, how) in [
        (Changes::OneStatement, options.snapshot_passes, "changed"),
        (Changes::OneByOne, 1, "changed in a transaction each"),
    ] {
        let rounds = options.snapshot_rounds;
        let (mut ratios, mut plain, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..passes {
            let (freely, last) = pass(&mut drains, changes, rounds)?;
            ratios.push(last / freely);
            plain.push(freely);
            held.push(last);
        }
        report.add(
            Row::new(
                format!("drain of {records} contacts {how}, held snapshot / plain: records/s"),
                Unit::Ratio,
                median(&ratios),
                Goal::AtLeast(GOAL),
            )
            .note(format!(
                "{}/s (round {rounds}) of {}/s",
                thousands(median(&held)),
                thousands(median(&plain))
            )),
        );
    }
    Ok(())
}

/// Records a second without a snapshot, and of the last round with one.
fn pass(drains: &mut Drains<'_>, changes: Changes, rounds: usize) -> Result<(f64, f64)> {
    const TABLES: &str =
        "ours.contacts, integration._link, integration._change, integration.request_log";
    drains.site.vacuum(TABLES)?;
    let mut freely = Vec::new();
    for _ in 0..rounds - 1 {
        freely.push(drains.round(changes)?);
        drains.site.vacuum("ours.contacts")?;
    }
    drains.site.vacuum(TABLES)?;
    let mut holder = drains.site.session();
    let mut transaction = holder
        .build_transaction()
        .isolation_level(postgres::IsolationLevel::RepeatableRead)
        .start()?;
    transaction.query_one("SELECT count(*) FROM ours.contacts WHERE id = 1", &[])?;
    let mut held = Vec::new();
    for _ in 0..rounds {
        held.push(drains.round(changes)?);
    }
    transaction.rollback()?;
    crate::say(&format!(
        "    {changes:?}: plain {freely:.0?}, held {held:.0?} records/s"
    ));
    Ok((median(&freely), held.last().copied().unwrap_or(f64::NAN)))
}
