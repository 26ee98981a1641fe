//! What our SQL asks about kinds of objects.

use integration_engine::record::Target;
use integration_engine::record::kind::Convention;
use integration_hubspot::objects;
use pgrx::prelude::*;

use crate::services;

/// Returns the names of all kinds, parents first.
#[pg_extern(immutable, parallel_safe)]
fn _kinds() -> SetOfIterator<'static, &'static str> {
    SetOfIterator::new(objects::all().map(|object| object.entity().name()))
}

/// Returns the properties of a kind; no row: there is none with this name.
#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelt out")]
fn _kind(
    entity: &str,
) -> TableIterator<
    'static,
    (
        name!(targets, Vec<&'static str>),
        name!(is_person, bool),
        name!(type_id, Option<String>),
        name!(required, Vec<&'static str>),
        name!(parents, Vec<&'static str>),
    ),
> {
    let kind = services::entity(entity).map(|entity| {
        let object = objects::of(entity);
        let targets = Target::ALL.into_iter().filter(|to| to.accepts(entity));
        (
            targets.map(Target::name).collect(),
            entity.is_person(),
            objects::type_id(entity).map(|number| number.to_string()),
            object.required.to_vec(),
            objects::parents(entity),
        )
    });
    TableIterator::new(kind)
}

/// Returns the column names that `track()` recognises, best first, and the kinds of value each may
/// contain.
#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelt out")]
fn _conventions(
    entity: &str,
) -> TableIterator<
    'static,
    (
        name!(target, &'static str),
        name!(remote_field, &'static str),
        name!(names, Vec<&'static str>),
        name!(value_kinds, Vec<&'static str>),
    ),
> {
    let lines = services::entity(entity).into_iter().flat_map(|entity| {
        let targets = Target::ALL.into_iter().filter(move |to| to.accepts(entity));
        targets.flat_map(move |target| {
            let lines = services::conventions(target, entity);
            lines.iter().map(move |line: &Convention| {
                (
                    target.name(),
                    line.remote_field,
                    line.columns.split(' ').collect(),
                    line.takes.value_kinds().to_vec(),
                )
            })
        })
    });
    TableIterator::new(lines)
}
