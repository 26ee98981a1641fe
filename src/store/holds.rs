//! Holds: a fault of one tracked table keeps that table's records from being sent, and no others.
//!
//! The worker, the only writer of holds, has them in memory. The table shows them to people and to
//! the next worker.

mod cause;

pub use cause::HoldCause;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use integration_engine::record::{SourceId, Target};
use pgrx::spi::SpiResult;

use super::{crm::trouble, execute, select};

/// The kinds of alerts about faults of tables; the subject names the table or column.
pub const HELD: &str = "held_table";
pub const LEFT_OUT: &str = "left_out";

/// A fault of a table, as far as it concerns one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub source: SourceId,
    pub target: Target,
    pub cause: HoldCause,
    /// The part that is left out; empty: the whole table.
    pub subject: String,
    /// What is wrong, and what to do about it.
    pub reason: String,
}

/// Source, target, cause and subject of a fault.
type Key = (SourceId, Target, HoldCause, String);

#[derive(Default)]
struct Holds {
    /// Increases with every change.
    generation: u64,
    reasons: BTreeMap<Key, String>,
}

thread_local! {
    static HOLDS: RefCell<Holds> = RefCell::default();
}

// A fault does not concern a target to which the table is no longer sent.
const DROP_OLD: &str = "\
    DELETE FROM integration._hold h USING integration.tracked_table t \
    WHERE t.id = h.source AND NOT h.target = ANY (t.targets)";

const LOAD: &str =
    "SELECT h.source, h.target, h.cause, h.reason, h.subject FROM integration._hold h";

/// Reads what is held, at the worker's start and whenever its configuration is read.
pub fn load() -> SpiResult<()> {
    let any = read()?;
    if any && execute(DROP_OLD, &[])? > 0 {
        read()?;
    }
    tell()
}

/// Reads what is held and writes nothing. Returns `false` if nothing is held.
pub fn read() -> SpiResult<bool> {
    let rows = select(LOAD, &[], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        let source = SourceId(row.get(1)?.unwrap_or(0));
        let named = Target::from_name(&text(2)?).zip(HoldCause::from_name(&text(3)?));
        let (reason, subject) = (text(4)?, text(5)?);
        Ok(named.map(|(target, cause)| ((source, target, cause, subject), reason)))
    })?;
    let reasons: BTreeMap<Key, String> = rows.into_iter().flatten().collect();
    let any = !reasons.is_empty();
    HOLDS.with_borrow_mut(|holds| {
        if holds.reasons != reasons || holds.generation == 0 {
            holds.generation += 1;
            holds.reasons = reasons;
        }
    });
    Ok(any)
}

/// Forgets all holds: for backends, which go by [`read`] for one call.
pub fn forget() {
    HOLDS.with_borrow_mut(|holds| {
        holds.generation += 1;
        holds.reasons.clear();
    });
}

const PUT: &str = "\
    INSERT INTO integration._hold AS h (source, target, cause, subject, holds, reason, since) \
    SELECT t.id, x.target, $3, $4, $5, $6, pg_catalog.clock_timestamp() \
    FROM integration.tracked_table t CROSS JOIN LATERAL unnest(t.targets) AS x(target) \
    WHERE t.id = $1 AND x.target = $2 \
    ON CONFLICT (source, target, cause, subject) DO UPDATE SET reason = excluded.reason";

/// Holds a table for the targets that the cause concerns, and raises an alert that names it. Writes
/// nothing if the hold is known already. Call it in a transaction of the worker's, outside the
/// fence.
pub fn hold(source: SourceId, cause: HoldCause, reason: &str) -> SpiResult<()> {
    let reason = match cause.hint() {
        "" => reason.to_owned(),
        hint => format!("{reason}; {hint}"),
    };
    let mut news = false;
    for its in Target::ALL {
        if cause.target().is_none_or(|target| target == its) {
            news |= put(Finding {
                source,
                target: its,
                cause,
                subject: String::new(),
                reason: reason.clone(),
            })?;
        }
    }
    if news { tell() } else { Ok(()) }
}

/// Returns `false` if the fault is known already, or the table is not sent there.
fn put(finding: Finding) -> SpiResult<bool> {
    let Finding {
        source,
        target,
        cause,
        subject,
        reason,
    } = finding;
    let key = (source, target, cause, subject);
    if HOLDS.with_borrow(|holds| holds.reasons.get(&key) == Some(&reason)) {
        return Ok(false);
    }
    let args = [
        source.0.into(),
        target.name().into(),
        cause.name().into(),
        key.3.as_str().into(),
        cause.holds().into(),
        reason.as_str().into(),
    ];
    let stored = execute(PUT, &args)? > 0;
    if stored {
        HOLDS.with_borrow_mut(|holds| {
            holds.generation += 1;
            holds.reasons.insert(key, reason);
        });
    }
    Ok(stored)
}

const DROP: &str = "\
    DELETE FROM integration._hold h WHERE h.source = $1 AND h.target = $2 AND h.cause = $3 AND h.subject = $4";

/// Ends a hold: the table's records go on, unless it is held for another cause. Writes nothing
/// where nothing was held.
pub fn release(source: SourceId, cause: HoldCause) -> SpiResult<()> {
    match drop_if(|key| key.0 == source && key.2 == cause)? {
        true => tell(),
        false => Ok(()),
    }
}

fn drop_if(over: impl Fn(&Key) -> bool) -> SpiResult<bool> {
    let keys: Vec<Key> = HOLDS.with_borrow(|holds| {
        let keys = holds.reasons.keys().filter(|key| over(key));
        keys.cloned().collect()
    });
    for key in &keys {
        let args = [
            key.0.0.into(),
            key.1.name().into(),
            key.2.name().into(),
            key.3.as_str().into(),
        ];
        execute(DROP, &args)?;
        HOLDS.with_borrow_mut(|holds| {
            holds.generation += 1;
            holds.reasons.remove(key);
        });
    }
    Ok(!keys.is_empty())
}

/// Replaces all faults of some causes: those not among the findings are over.
pub fn replace(causes: &[HoldCause], findings: Vec<Finding>) -> SpiResult<()> {
    let found: Vec<Key> = findings
        .iter()
        .map(|finding| {
            let Finding { source, target, .. } = finding;
            (*source, *target, finding.cause, finding.subject.clone())
        })
        .collect();
    let mut news = drop_if(|key| causes.contains(&key.2) && !found.contains(key))?;
    for finding in findings {
        news |= put(finding)?;
    }
    if news { tell() } else { Ok(()) }
}

// Brings alerts into line with the table of holds, and with the present names of the CRM tables.
const CLEAR: &str = "\
    UPDATE integration.alert a SET cleared_at = pg_catalog.clock_timestamp() \
    WHERE a.kind IN ($1, $2) AND a.cleared_at IS NULL AND NOT EXISTS ( \
        SELECT FROM integration._hold h JOIN integration.tracked_table t ON t.id = h.source \
        WHERE h.target = a.target AND a.kind = CASE WHEN h.holds THEN $1 ELSE $2 END \
          AND coalesce(nullif(h.subject, ''), t.source::text) = a.subject)";
const RAISE: &str = "\
    INSERT INTO integration.alert AS a (kind, target, subject, message) \
    SELECT CASE WHEN h.holds THEN $1 ELSE $2 END, h.target, coalesce(nullif(h.subject, ''), t.source::text), \
           string_agg(h.reason, E'\\n' ORDER BY h.cause) \
    FROM integration._hold h JOIN integration.tracked_table t ON t.id = h.source \
    GROUP BY 1, 2, 3 \
    ON CONFLICT (kind, target, subject) WHERE cleared_at IS NULL \
    DO UPDATE SET message = excluded.message, last_seen_at = pg_catalog.clock_timestamp(), count = a.count + 1 \
    WHERE a.message <> excluded.message";

fn tell() -> SpiResult<()> {
    execute(CLEAR, &[HELD.into(), LEFT_OUT.into()])?;
    execute(RAISE, &[HELD.into(), LEFT_OUT.into()]).map(|_| ())
}

/// Returns a number that changes whenever something is held or released.
pub fn generation() -> u64 {
    HOLDS.with_borrow(|holds| holds.generation) + trouble::generation()
}

/// Returns the tables that are held for a target, and those that somebody locks at present.
pub fn held(target: Target) -> HashSet<SourceId> {
    HOLDS.with_borrow(|holds| {
        let keys = holds.reasons.keys();
        keys.filter(|(_, its, cause, _)| *its == target && cause.holds())
            .map(|(source, ..)| *source)
            .chain(trouble::locked())
            .collect()
    })
}

/// Returns whether a table is held for this cause.
pub fn is_held(source: SourceId, cause: HoldCause) -> bool {
    HOLDS.with_borrow(|holds| {
        holds
            .reasons
            .keys()
            .any(|key| key.0 == source && key.2 == cause)
    })
}

/// Returns what stays held until the worker has tried again.
pub fn tried() -> BTreeSet<(SourceId, HoldCause)> {
    HOLDS.with_borrow(|holds| {
        let keys = holds.reasons.keys();
        keys.map(|(source, _, cause, _)| (*source, *cause))
            .filter(|(_, cause)| cause.is_tried())
            .collect()
    })
}

/// Returns whether a table is held for a target because of a fault. A lock does not count: it may
/// be gone by the time the table is read.
pub fn is_held_for(source: SourceId, target: Target) -> bool {
    HOLDS.with_borrow(|holds| {
        let mut keys = holds.reasons.keys();
        keys.any(|(its, wanted, cause, _)| {
            (*its, *wanted) == (source, target) && cause.holds() && *cause != HoldCause::Locked
        })
    })
}

/// The faults of a table, as far as they concern a target.
#[derive(Default)]
pub struct Wrong {
    /// Why the table is held; empty: it is not.
    pub held: Vec<String>,
    /// The parts that are left out.
    pub left_out: Vec<String>,
}

/// Returns a table's faults for a target.
pub fn wrong(source: SourceId, target: Target) -> Wrong {
    let mut wrong = Wrong::default();
    HOLDS.with_borrow(|holds| {
        for ((its, wanted, cause, _), reason) in &holds.reasons {
            if (*its, *wanted) == (source, target) {
                match cause.holds() {
                    true => &mut wrong.held,
                    false => &mut wrong.left_out,
                }
                .push(reason.clone());
            }
        }
    });
    wrong
}
