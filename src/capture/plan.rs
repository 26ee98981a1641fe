//! What a trigger has to watch: made from what is stored for the tracked table, and kept per table.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use integration_engine::record::Target;
use integration_engine::record::consent::words::Words;
use pgrx::pg_sys;
use serde::Deserialize;

/// A plan, as `integration._trigger_plan()` writes it.
#[derive(Deserialize)]
struct Written {
    source: i32,
    key: Vec<NotedColumn>,
    targets: Vec<WrittenTarget>,
}

#[derive(Deserialize)]
struct WrittenTarget {
    target: String,
    /// Absent: any column.
    columns: Option<Vec<NotedColumn>>,
    consent: Option<NotedColumn>,
    /// The meaning of words in that column, as in `integration.field_map.value_map`.
    words: Option<BTreeMap<String, String>>,
}

/// A column of the tracked table: its name when the plan was written, and its number.
#[derive(Deserialize)]
struct NotedColumn(String, Option<i16>);

/// A stored plan, and the tracked table it is for.
pub struct StoredPlan {
    pub tracked: pg_sys::Oid,
    /// Whether the plan's column numbers are those of the tracked table; in a restored dump they
    /// are not.
    pub numbered: bool,
    pub plan: String,
}

/// A column of the table on which the trigger fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanColumn {
    /// From 1.
    pub number: i16,
    /// Its number in the tracked table, which differs if the trigger fired on a partition.
    pub noted: i16,
    pub type_oid: pg_sys::Oid,
    pub by_value: bool,
    pub length: i16,
}

/// What one target watches.
pub struct Watch {
    pub target: Target,
    pub columns: Vec<PlanColumn>,
    pub consent: Option<PlanColumn>,
    pub words: Words,
}

/// The plan for one table.
pub struct CapturePlan {
    pub source: i32,
    pub key: Vec<PlanColumn>,
    pub watches: Vec<Watch>,
    /// The last column that is watched.
    pub last_column: i16,
}

/// What is known about a table that has a trigger of ours.
struct KnownTable {
    /// The tracked table: the table itself, or one of which it is a partition.
    tracked: pg_sys::Oid,
    /// `None`: it is not tracked, or no plan could be made.
    plan: Option<Rc<CapturePlan>>,
}

thread_local! {
    static PLANS: RefCell<HashMap<u32, KnownTable>> = RefCell::default();
}

/// Where plans and columns are looked up.
pub trait Catalog {
    /// Returns the plan of a table, or of the nearest one of which it is a partition.
    fn stored(&self) -> Option<StoredPlan>;
    /// Returns a column of the table, by its number in the tracked table, or else by its name.
    fn column(&self, tracked: pg_sys::Oid, name: &str, number: Option<i16>) -> Option<PlanColumn>;
    /// Returns all columns of the table.
    fn columns(&self, tracked: pg_sys::Oid) -> Vec<PlanColumn>;
    /// Warns that nothing is captured, and why.
    fn warn(&self, why: &str);
}

/// Returns the plan of a table. `None`: it is not tracked, or its columns no longer fit the plan;
/// then nothing is captured, and the session is warned once.
pub fn of(relation: pg_sys::Oid, catalog: &impl Catalog) -> Option<Rc<CapturePlan>> {
    let known = PLANS.with_borrow(|plans| {
        plans
            .get(&relation.to_u32())
            .map(|known| known.plan.clone())
    });
    if let Some(plan) = known {
        return plan;
    }
    let known = match catalog.stored() {
        None => KnownTable {
            tracked: relation,
            plan: None,
        },
        Some(stored) => KnownTable {
            tracked: stored.tracked,
            plan: build(&stored, catalog)
                .map(Rc::new)
                .inspect_err(|why| catalog.warn(why))
                .ok(),
        },
    };
    let plan = known.plan.clone();
    PLANS.with_borrow_mut(|plans| plans.insert(relation.to_u32(), known));
    plan
}

/// Forgets the plans of a table that changed and of its partitions; of all tables if it is not
/// known which one changed.
pub fn forget(relation: pg_sys::Oid) {
    PLANS.with_borrow_mut(|plans| {
        plans.retain(|of, known| {
            relation != pg_sys::InvalidOid && *of != relation.to_u32() && known.tracked != relation
        })
    });
}

/// Returns what a truncation of a table, or of a partition of it, concerns: the number of the
/// source, and the targets.
pub fn concerned(stored: &StoredPlan) -> Option<(i32, Vec<Target>)> {
    let written: Written = serde_json::from_str(&stored.plan).ok()?;
    let targets = written.targets.iter();
    let targets = targets.filter_map(|watch| Target::from_name(&watch.target));
    Some((written.source, targets.collect()))
}

fn build(stored: &StoredPlan, catalog: &impl Catalog) -> Result<CapturePlan, String> {
    let written: Written =
        serde_json::from_str(&stored.plan).map_err(|why| format!("its plan: {why}"))?;
    let column = |NotedColumn(name, number): &NotedColumn| {
        let number = number.filter(|_| stored.numbered);
        catalog.column(stored.tracked, name, number)
    };
    let key = written
        .key
        .iter()
        .map(|named| column(named).ok_or_else(|| format!("key column \"{}\" is gone", named.0)))
        .collect::<Result<Vec<_>, _>>()?;
    let watches: Vec<Watch> = written
        .targets
        .into_iter()
        .filter_map(|watch| {
            Some(Watch {
                target: Target::from_name(&watch.target)?,
                columns: match &watch.columns {
                    Some(names) => names.iter().filter_map(column).collect(),
                    None => catalog.columns(stored.tracked),
                },
                consent: watch.consent.as_ref().and_then(column),
                words: Words::of(watch.words.unwrap_or_default()),
            })
        })
        .collect();
    let last_column = key
        .iter()
        .chain(
            watches
                .iter()
                .flat_map(|watch| watch.columns.iter().chain(&watch.consent)),
        )
        .map(|column| column.number)
        .max()
        .unwrap_or(0);
    Ok(CapturePlan {
        source: written.source,
        key,
        watches,
        last_column,
    })
}
