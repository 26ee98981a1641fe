//! What is wrong with a batch as a whole, and how its problems are told.

use std::borrow::Cow;

use rustc_hash::FxHashSet;

use super::batch::Verb;
use super::errors::Problem;
use super::inputs::Input;
use super::store::Store;
use super::types::ObjectType;
use super::validate::{self, Values};
use super::write::Plan;

/// HubSpot: 100 records per batch call.
const MAX_INPUTS: usize = 100;

pub(crate) fn check_size(inputs: usize) -> Result<(), Problem> {
    match inputs {
        0 => Err(Problem::validation(
            "Invalid input: 'inputs' must not be empty",
        )),
        1..=MAX_INPUTS => Ok(()),
        _ => Err(Problem::validation(format!(
            "Batch size {inputs} is greater than the maximum of {MAX_INPUTS}"
        ))),
    }
}

/// The property that identifies the records of the call: `None` is the record id.
pub(crate) fn check_id_property(
    store: &Store,
    verb: Verb,
    inputs: &[Input<'_>],
) -> Result<Option<u16>, Problem> {
    let name_of = |input: &Input<'_>| {
        input
            .id_property
            .as_ref()
            .map(|name| name.0.clone().into_owned())
    };
    let first = inputs.first().and_then(name_of);
    if verb == Verb::Create {
        return Ok(None);
    }
    if inputs.iter().any(|input| input.id.is_none()) {
        return Err(Problem::validation("Invalid input: some inputs have no id"));
    }
    if inputs
        .iter()
        .any(|input| input.id_property.as_ref().map(|name| &*name.0) != first.as_deref())
    {
        return Err(Problem::validation(
            "All inputs must have the same idProperty",
        ));
    }
    match first.as_deref() {
        None | Some("hs_object_id") if verb == Verb::Update => Ok(None),
        None => Err(Problem::validation("idProperty is required for upsert")),
        Some("email") if verb == Verb::Update && store.object == ObjectType::Contact => Err(
            Problem::validation("Unable to perform update by email, use the record id"),
        ),
        Some(name) => unique_key(store, name).map(Some),
    }
}

pub(crate) fn unique_key(store: &Store, name: &str) -> Result<u16, Problem> {
    match store.definitions.find(name) {
        Some((key, _)) if store.is_unique(key) => Ok(key),
        _ => Err(Problem::validation(format!(
            "Unable to perform update/upsert by non-unique {} property {name}",
            store.object.number()
        ))),
    }
}

/// HubSpot: the same id (or address, in whatever case) twice fails the whole call.
pub(crate) fn check_duplicates(
    store: &Store,
    verb: Verb,
    inputs: &[Input<'_>],
) -> Result<(), Problem> {
    if verb == Verb::Create {
        return Ok(());
    }
    let by_email = store.object == ObjectType::Contact
        && inputs
            .first()
            .and_then(|input| input.id_property.as_ref())
            .is_some_and(|name| name.0 == "email");
    let mut seen = FxHashSet::with_capacity_and_hasher(inputs.len(), rustc_hash::FxBuildHasher);
    for input in inputs {
        let Some(id) = &input.id else { continue };
        let id = Cow::Borrowed(&*id.0);
        if !seen.insert(if by_email {
            validate::lower(id.clone())
        } else {
            id.clone()
        }) {
            return Err(Problem::validation(format!(
                "Duplicate IDs found in batch input: [{id}]. IDs must be unique"
            ))
            .context("ids", vec![id.into_owned()]));
        }
    }
    Ok(())
}

/// The same unique value in two inputs is refused as a whole (which status is not documented).
pub(crate) fn check_batch_conflicts(
    store: &Store,
    plans: &[Result<Plan, Problem>],
    values: &Values<'_>,
) -> Result<(), Problem> {
    let mut seen = FxHashSet::default();
    for plan in plans.iter().flatten() {
        for (key, value) in &values[plan.values.clone()] {
            if !value.is_empty() && store.is_unique(*key) && !seen.insert((*key, &**value)) {
                let name = &store.definitions.get(*key).name;
                return Err(Problem::validation(format!(
                    "Duplicate values for unique property {name} in batch input: [{value}]"
                )));
            }
        }
    }
    Ok(())
}

/// Verdicts per record need a trace id on every input, all different.
pub(crate) fn all_traced(inputs: &[Input<'_>]) -> bool {
    let mut seen = FxHashSet::with_capacity_and_hasher(inputs.len(), rustc_hash::FxBuildHasher);
    inputs.iter().all(|input| {
        input
            .object_write_trace_id
            .as_ref()
            .is_some_and(|trace| seen.insert(&*trace.0))
    })
}

/// Missing ids give 207 even without trace ids; all else fails the whole call.
pub(crate) fn fatal(plan: &Result<Plan, Problem>) -> Option<&Problem> {
    plan.as_ref()
        .err()
        .filter(|problem| problem.category != "OBJECT_NOT_FOUND")
}

/// Without trace ids a conflict does not say which record is in the way.
pub(crate) fn untraced(mut problem: Problem) -> Problem {
    if problem.status == 409 {
        problem.message = "Contact already exists".into();
        problem.context.clear();
    }
    problem
}

pub(crate) fn unread(object: ObjectType, ids: Vec<String>) -> Problem {
    let class = object.singular().to_uppercase();
    Problem::new(
        404,
        "OBJECT_NOT_FOUND",
        format!("Could not get some {class} objects, they may be deleted or not exist. Check that ids are valid."),
    )
    .context("ids", ids)
}

pub(crate) fn unknown(object: ObjectType, id: &str) -> Problem {
    unread(object, vec![id.to_owned()])
}
