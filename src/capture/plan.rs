//! What a trigger has to watch, parsed from its argument and kept per trigger.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use integration_engine::record::Target;
use pgrx::pg_sys;
use serde::Deserialize;

/// The trigger's argument, as `integration._trigger_plan()` writes it.
#[derive(Deserialize)]
struct Written {
    source: i32,
    key: Vec<String>,
    targets: Vec<WrittenTarget>,
}

#[derive(Deserialize)]
struct WrittenTarget {
    target: String,
    /// Absent: any column.
    columns: Option<Vec<String>>,
    consent: Option<String>,
}

/// A column of the table at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// From 1.
    pub number: i16,
    pub type_oid: pg_sys::Oid,
    pub by_value: bool,
    pub length: i16,
}

/// What one target wants to know about.
pub struct Watch {
    pub target: Target,
    pub columns: Vec<Column>,
    pub consent: Option<Column>,
}

/// One trigger's instructions.
pub struct Plan {
    pub source: i32,
    pub key: Vec<Column>,
    pub watches: Vec<Watch>,
    /// Columns up to here are looked at.
    pub last_column: i16,
}

/// Plans by trigger, with the table each is on; `None` where none could be made.
type Plans = HashMap<u32, (pg_sys::Oid, Option<Rc<Plan>>)>;

thread_local! {
    static PLANS: RefCell<Plans> = RefCell::default();
}

/// The plan of a trigger. `None` when its argument or the table no longer fits: then nothing is
/// captured, and `warn` is called once a session.
pub fn of(
    trigger: pg_sys::Oid,
    relation: pg_sys::Oid,
    argument: impl Fn() -> Option<String>,
    columns: impl Fn() -> Vec<(String, Column)>,
    warn: impl Fn(&str),
) -> Option<Rc<Plan>> {
    let known = PLANS.with_borrow(|plans| {
        plans
            .get(&trigger.to_u32())
            .filter(|(of, _)| *of == relation)
            .map(|(_, plan)| plan.clone())
    });
    if let Some(plan) = known {
        return plan;
    }
    let plan = match build(&argument().unwrap_or_default(), &columns()) {
        Ok(plan) => Some(Rc::new(plan)),
        Err(why) => {
            warn(&why);
            None
        }
    };
    PLANS.with_borrow_mut(|plans| plans.insert(trigger.to_u32(), (relation, plan.clone())));
    plan
}

/// Forgets the plans of a table that changed; of all tables if it is not said which.
pub fn forget(relation: pg_sys::Oid) {
    PLANS.with_borrow_mut(|plans| {
        plans.retain(|_, (of, _)| relation != pg_sys::InvalidOid && *of != relation)
    });
}

fn build(argument: &str, columns: &[(String, Column)]) -> Result<Plan, String> {
    let written: Written =
        serde_json::from_str(argument).map_err(|why| format!("trigger argument: {why}"))?;
    let column = |name: &String| {
        columns
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, column)| *column)
    };
    let key = written
        .key
        .iter()
        .map(|name| column(name).ok_or_else(|| format!("key column \"{name}\" is gone")))
        .collect::<Result<Vec<_>, _>>()?;
    let watches: Vec<Watch> = written
        .targets
        .into_iter()
        .filter_map(|watch| {
            Some(Watch {
                target: Target::from_name(&watch.target)?,
                columns: match &watch.columns {
                    Some(names) => names.iter().filter_map(column).collect(),
                    None => columns.iter().map(|(_, column)| *column).collect(),
                },
                consent: watch.consent.as_ref().and_then(column),
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
    Ok(Plan {
        source: written.source,
        key,
        watches,
        last_column,
    })
}
