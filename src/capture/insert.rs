//! Puts queue rows into `integration._change`.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::mem::size_of;
use std::ptr::null_mut;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::buffer::Chunk;
use super::layout::{FIELDS, Layout, Way};

thread_local! {
    /// The transaction of the rows written last, and how many rows it has. Rows of a subtransaction
    /// that is rolled back count, so that no number is used twice.
    static WRITTEN: Cell<(u64, i32)> = const { Cell::new((0, 0)) };
}

/// # Safety
/// `relation` is `integration._change`, open for writing, and has this layout.
pub unsafe fn rows(relation: pg_sys::Relation, layout: &Layout, chunks: &[Chunk]) {
    // SAFETY: as the caller promises.
    unsafe {
        match layout.way {
            Way::Direct => directly(relation, layout, chunks),
            Way::Executor => by_executor(relation, layout, chunks),
        }
    }
}

/// Inserts as the server does into its own catalogs, without parser, planner or executor.
///
/// # Safety
///
/// As of [`rows`]; no index has an expression, a predicate, or an exclusion constraint.
unsafe fn directly(relation: pg_sys::Relation, layout: &Layout, chunks: &[Chunk]) {
    // SAFETY: as the caller promises; the tuple is this table's, and the indexes are closed again.
    unsafe {
        let indexes = pg_sys::CatalogOpenIndexes(relation);
        for chunk in chunks {
            let (mut values, mut nulls) = row(layout, chunk);
            let tuple = pg_sys::heap_form_tuple(
                (*relation).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            pg_sys::CatalogTupleInsertWithInfo(relation, tuple, indexes);
            pg_sys::heap_freetuple(tuple);
        }
        pg_sys::CatalogCloseIndexes(indexes);
    }
}

/// Fills, checks and indexes what others have added to the table, as an INSERT does. It fires no
/// triggers: one that swallows a row would lose a change.
///
/// # Safety
///
/// As of [`rows`].
unsafe fn by_executor(relation: pg_sys::Relation, layout: &Layout, chunks: &[Chunk]) {
    // SAFETY: as the caller promises. The executor's state, the slot and the indexes are released
    // again; an error ends the (sub)transaction, which does so by itself. No constraint is
    // deferrable, so there is nothing to check later.
    unsafe {
        let descriptor = (*relation).rd_att;
        let state = pg_sys::CreateExecutorState();
        let result = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
        pg_sys::InitResultRelInfo(result, relation, 0, null_mut(), 0);
        pg_sys::ExecOpenIndices(result, false);
        let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsHeapTuple);
        let context = pg_sys::MakePerTupleExprContext(state);
        let defaults: Vec<(usize, *mut pg_sys::ExprState)> = layout
            .defaults
            .iter()
            .map(|number| {
                let default = pg_sys::build_column_default(relation, i32::from(*number));
                (
                    *number as usize - 1,
                    pg_sys::ExecPrepareExpr(default.cast(), state),
                )
            })
            .collect();
        for chunk in chunks {
            let (mut values, mut nulls) = row(layout, chunk);
            for (at, default) in &defaults {
                values[*at] = evaluate(*default, context, &mut nulls[*at]);
            }
            let tuple =
                pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::ExecStoreHeapTuple(tuple, slot, false);
            if !(*descriptor).constr.is_null() {
                pg_sys::ExecConstraints(result, slot, state);
            }
            pg_sys::simple_heap_insert(relation, tuple);
            // It is set again because the row has a place in the table now.
            pg_sys::ExecStoreHeapTuple(tuple, slot, false);
            insert_index_tuples(result, slot, state);
            pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::ExecCloseIndices(result);
        pg_sys::FreeExecutorState(state);
    }
}

/// Returns the value of an expression, in memory that lasts until the next row.
///
/// # Safety
///
/// `expression` is prepared, for an executor's state that has this context.
unsafe fn evaluate(
    expression: *mut pg_sys::ExprState,
    context: *mut pg_sys::ExprContext,
    null: &mut bool,
) -> pg_sys::Datum {
    // SAFETY: as the caller promises; an error of the server is one of ours from here on. This is
    // what the inline `ExecEvalExprSwitchContext` does.
    unsafe {
        let before = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
        let value = match (*expression).evalfunc {
            Some(evaluate) => {
                pg_sys::ffi::pg_guard_ffi_boundary(|| evaluate(expression, context, null))
            }
            None => pg_sys::Datum::from(0),
        };
        pg_sys::MemoryContextSwitchTo(before);
        value
    }
}

/// # Safety
/// The arguments belong together, and the slot's tuple is in the table.
unsafe fn insert_index_tuples(
    result: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    state: *mut pg_sys::EState,
) {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::ExecInsertIndexTuples(result, slot, state, false, false, null_mut(), null_mut());
        #[cfg(not(feature = "pg15"))]
        pg_sys::ExecInsertIndexTuples(
            result,
            slot,
            state,
            false,
            false,
            null_mut(),
            null_mut(),
            false,
        );
    }
}

/// Returns a queue row's values, and which of them are NULL.
fn row(layout: &Layout, chunk: &Chunk) -> (Vec<pg_sys::Datum>, Vec<bool>) {
    let shape = &chunk.shape;
    // SAFETY: inside a transaction.
    let (xid, now) = unsafe {
        (
            pg_sys::GetTopFullTransactionId().value,
            pg_sys::GetCurrentStatementStartTimestamp(),
        )
    };
    let (last, count) = WRITTEN.get();
    let seq = if last == xid { count + 1 } else { 0 };
    WRITTEN.set((xid, seq));
    let changed = shape.changed.as_ref().map(|set| set.bytes());
    let fields: [Option<pg_sys::Datum>; FIELDS.len()] = [
        Some((xid as i64).into()),
        Some(now.into()),
        Some(seq.into()),
        Some(shape.source.into()),
        Some((chunk.records as i32).into()),
        Some(shape.targets.bits().into()),
        Some((shape.lane as i16).into()),
        Some((shape.kind.letter() as i8).into()),
        chunk.keys.as_slice().into_datum(),
        changed.and_then(IntoDatum::into_datum),
    ];
    let mut values = vec![pg_sys::Datum::from(0); layout.width];
    let mut nulls = vec![true; layout.width];
    for (number, field) in layout.numbers.iter().zip(fields) {
        if let Some(value) = field {
            let at = *number as usize - 1;
            (values[at], nulls[at]) = (value, false);
        }
    }
    (values, nulls)
}
