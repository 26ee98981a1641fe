//! Holds: what is wrong with one tracked table keeps its records from being sent, while all other
//! tables go on.
//!
//! The worker, which alone writes holds, has them in memory; the table shows them to people, and
//! keeps them for the worker that comes after it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use integration_engine::record::{SourceId, Target};
use pgrx::spi::SpiResult;

use super::{execute, select, trouble};

/// The kind of alert about held tables; its subject names the table.
pub const ALERT: &str = "held_table";

/// What is wrong with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The table was dropped.
    Table,
    /// A column of the key was dropped, or cannot be used as a key any more.
    Key,
    /// The consent column was dropped, or does not hold consent any more.
    Consent,
    /// Row security hides rows from the table's owner.
    RowSecurity,
    /// The table or its payload view cannot be read.
    Unreadable,
    /// Code of the table, its view or its triggers took too long.
    Timeout,
}

impl Cause {
    const ALL: [Cause; 6] = [
        Cause::Table,
        Cause::Key,
        Cause::Consent,
        Cause::RowSecurity,
        Cause::Unreadable,
        Cause::Timeout,
    ];

    /// Returns what `_hold.cause` holds.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Table => "table",
            Cause::Key => "key",
            Cause::Consent => "consent",
            Cause::RowSecurity => "row_security",
            Cause::Unreadable => "unreadable",
            Cause::Timeout => "timeout",
        }
    }

    /// Returns what to do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Cause::Table => "integration.untrack() what is gone",
            Cause::Key => {
                "make it what it was, or integration.untrack() the table and integration.track() it by another key"
            }
            Cause::Consent => {
                "name the column that holds consent: SELECT integration.map_field(table, 'column', 'mailchimp', 'status');"
            }
            Cause::RowSecurity => {
                "ALTER TABLE … NO FORCE ROW LEVEL SECURITY, or give the table an owner with BYPASSRLS; it is tried again by itself"
            }
            Cause::Unreadable => "once that is put right, it is tried again by itself",
            Cause::Timeout => {
                "make the view or the trigger faster, or integration.crm_timeout longer; it is tried again by itself, at once after SELECT integration.resume(target);"
            }
        }
    }

    /// Whether the worker finds out by itself, by trying, that it is over.
    pub const fn is_tried(self) -> bool {
        matches!(
            self,
            Cause::RowSecurity | Cause::Unreadable | Cause::Timeout
        )
    }

    fn from_name(name: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.name() == name)
    }
}

#[derive(Default)]
struct Holds {
    /// Goes up with every change.
    generation: u64,
    reasons: BTreeMap<(SourceId, Target, Cause), String>,
}

thread_local! {
    static HOLDS: RefCell<Holds> = RefCell::default();
}

// Holds of what is no longer sent to a target are over.
const DROP_OLD: &str = "\
    DELETE FROM integration._hold h USING integration.tracked_table t \
    WHERE t.id = h.source AND NOT h.target = ANY (t.targets)";

const LOAD: &str = "SELECT h.source, h.target, h.cause, h.reason FROM integration._hold h";

/// Reads what is held: at the worker's start, and whenever its configuration is read.
pub fn load() -> SpiResult<()> {
    let rows = select(LOAD, &[], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        let source = SourceId(row.get(1)?.unwrap_or(0));
        let named = Target::from_name(&text(2)?).zip(Cause::from_name(&text(3)?));
        Ok(named.map(|(target, cause)| ((source, target, cause), row.get::<String>(4))))
    })?;
    let mut reasons = BTreeMap::new();
    for (key, reason) in rows.into_iter().flatten() {
        reasons.insert(key, reason?.unwrap_or_default());
    }
    let any = !reasons.is_empty();
    let before = HOLDS.with_borrow_mut(|holds| {
        holds.generation += 1;
        std::mem::replace(&mut holds.reasons, reasons)
    });
    if any && execute(DROP_OLD, &[])? > 0 {
        return load();
    }
    match any || !before.is_empty() {
        true => tell(),
        false => Ok(()),
    }
}

const PUT: &str = "\
    INSERT INTO integration._hold AS h (source, target, cause, reason, since) \
    SELECT t.id, x.target, $3, $4, pg_catalog.clock_timestamp() \
    FROM integration.tracked_table t CROSS JOIN LATERAL unnest(t.targets) AS x(target) \
    WHERE t.id = $1 AND x.target = $2 \
    ON CONFLICT (source, target, cause) DO UPDATE SET reason = excluded.reason";

/// Holds a table for a target, or for both, and raises an alert that names it. Idempotent: nothing
/// is written where that is known already. In a transaction of the worker's.
pub fn hold(source: SourceId, target: Option<Target>, cause: Cause, reason: &str) -> SpiResult<()> {
    let reason = format!("{reason}; {}", cause.hint());
    let mut news = false;
    for its in Target::ALL {
        let key = (source, its, cause);
        let known = HOLDS.with_borrow(|holds| holds.reasons.get(&key) == Some(&reason));
        if target.is_some_and(|target| target != its) || known {
            continue;
        }
        let args = [
            source.0.into(),
            its.name().into(),
            cause.name().into(),
            reason.as_str().into(),
        ];
        if execute(PUT, &args)? > 0 {
            news = true;
            HOLDS.with_borrow_mut(|holds| {
                holds.generation += 1;
                holds.reasons.insert(key, reason.clone());
            });
        }
    }
    if news { tell() } else { Ok(()) }
}

const DROP: &str = "DELETE FROM integration._hold h WHERE h.source = $1 AND h.cause = $2";

/// What held a table for this cause is over: its records go on, unless there is another cause.
/// Idempotent: nothing is written where nothing was held.
pub fn release(source: SourceId, cause: Cause) -> SpiResult<()> {
    let held = HOLDS.with_borrow(|holds| of(holds, source).any(|key| key.2 == cause));
    if !held {
        return Ok(());
    }
    execute(DROP, &[source.0.into(), cause.name().into()])?;
    HOLDS.with_borrow_mut(|holds| {
        holds.generation += 1;
        holds
            .reasons
            .retain(|(known, _, its), _| *known != source || *its != cause);
    });
    tell()
}

fn of(holds: &Holds, source: SourceId) -> impl Iterator<Item = (SourceId, Target, Cause)> {
    let keys = holds.reasons.keys().copied();
    keys.filter(move |(known, ..)| *known == source)
}

// Alerts follow the table of holds, and the present names of the CRM tables.
const CLEAR: &str = "\
    UPDATE integration.alert a SET cleared_at = pg_catalog.clock_timestamp() \
    WHERE a.kind = $1 AND a.cleared_at IS NULL AND NOT EXISTS ( \
        SELECT FROM integration._hold h JOIN integration.tracked_table t ON t.id = h.source \
        WHERE h.target = a.target AND t.source::text = a.subject)";
const RAISE: &str = "\
    INSERT INTO integration.alert AS a (kind, target, subject, message) \
    SELECT $1, h.target, t.source::text, string_agg(h.reason, E'\\n' ORDER BY h.cause) \
    FROM integration._hold h JOIN integration.tracked_table t ON t.id = h.source \
    GROUP BY h.target, t.source \
    ON CONFLICT (kind, target, subject) WHERE cleared_at IS NULL \
    DO UPDATE SET message = excluded.message, last_seen_at = pg_catalog.clock_timestamp(), count = a.count + 1 \
    WHERE a.message <> excluded.message";

fn tell() -> SpiResult<()> {
    execute(CLEAR, &[ALERT.into()])?;
    execute(RAISE, &[ALERT.into()]).map(|_| ())
}

/// Returns a number that is another one whenever something is held or released.
pub fn generation() -> u64 {
    HOLDS.with_borrow(|holds| holds.generation) + trouble::generation()
}

/// Returns the tables that are held for a target, and those that somebody locks at present.
pub fn held(target: Target) -> HashSet<SourceId> {
    HOLDS.with_borrow(|holds| {
        let keys = holds.reasons.keys();
        keys.filter(|(_, its, _)| *its == target)
            .map(|(source, ..)| *source)
            .chain(trouble::locked())
            .collect()
    })
}

/// Whether a table is held for this cause.
pub fn is_held(source: SourceId, cause: Cause) -> bool {
    HOLDS.with_borrow(|holds| of(holds, source).any(|key| key.2 == cause))
}

/// Returns what is held until the worker has tried again.
pub fn tried() -> BTreeSet<(SourceId, Cause)> {
    HOLDS.with_borrow(|holds| {
        let keys = holds.reasons.keys();
        keys.map(|(source, _, cause)| (*source, *cause))
            .filter(|(_, cause)| cause.is_tried())
            .collect()
    })
}

/// Returns why a table is held for a target; empty: it is not.
pub fn reasons(source: SourceId, target: Target) -> Vec<String> {
    HOLDS.with_borrow(|holds| {
        let keys = of(holds, source).filter(|(_, its, _)| *its == target);
        keys.filter_map(|key| holds.reasons.get(&key).cloned())
            .collect()
    })
}
