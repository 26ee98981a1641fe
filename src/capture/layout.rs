//! The present layout of `integration._change`: where its columns are, and what has been added to
//! it. It is looked up once for each version of the table that the session sees.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::pg_sys;

use super::table::{self, QueueColumn};

/// The columns of a queue row, in the order of `sql/queue.sql`.
pub const FIELDS: [QueueColumn; 10] = [
    QueueColumn::new(c"xid", pg_sys::XID8OID),
    QueueColumn::new(c"enqueued_at", pg_sys::TIMESTAMPTZOID),
    QueueColumn::new(c"seq", pg_sys::INT4OID),
    QueueColumn::new(c"source", pg_sys::INT4OID),
    QueueColumn::new(c"records", pg_sys::INT4OID),
    QueueColumn::new(c"targets", pg_sys::INT2OID),
    QueueColumn::new(c"lane", pg_sys::INT2OID),
    QueueColumn::new(c"op", pg_sys::CHAROID),
    QueueColumn::new(c"keys", pg_sys::BYTEAOID),
    QueueColumn::new(c"changed", pg_sys::BYTEAOID),
];

/// How rows are inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The table and its indexes are as we created them.
    Direct,
    /// Somebody has added something that the executor has to fill or check: an index over an
    /// expression or over some of the rows, an exclusion or check constraint, a column with a
    /// default.
    Executor,
}

/// See the module's documentation.
pub struct Layout {
    /// The numbers of the columns of [`FIELDS`].
    pub numbers: [i16; FIELDS.len()],
    /// How many columns there are, including dropped ones.
    pub width: usize,
    /// The numbers of other columns that have a default.
    pub defaults: Vec<i16>,
    pub way: Way,
}

thread_local! {
    static KNOWN: RefCell<Option<(pg_sys::Oid, Rc<Layout>)>> = const { RefCell::new(None) };
}

/// Returns the table's layout, or what keeps rows from being inserted.
///
/// # Safety
///
/// `relation` is `integration._change`, open and locked.
pub unsafe fn of(relation: pg_sys::Relation) -> Result<Rc<Layout>, String> {
    // SAFETY: as the caller promises.
    let oid = unsafe { (*relation).rd_id };
    let known = KNOWN.with_borrow(|known| {
        let known = known.as_ref().filter(|(of, _)| *of == oid);
        known.map(|(_, layout)| layout.clone())
    });
    if let Some(layout) = known {
        return Ok(layout);
    }
    // SAFETY: as the caller promises.
    let layout = Rc::new(unsafe { look(relation) }?);
    KNOWN.set(Some((oid, layout.clone())));
    Ok(layout)
}

/// Forgets the layout if this table has changed, or if it is not known which table has.
pub fn forget(relation: pg_sys::Oid) {
    KNOWN.with_borrow_mut(|known| {
        known.take_if(|(of, _)| relation == pg_sys::InvalidOid || *of == relation);
    });
}

/// # Safety
/// As of [`of`].
unsafe fn look(relation: pg_sys::Relation) -> Result<Layout, String> {
    // SAFETY: as the caller promises; `rd_rel` and `rd_att` are there while a relation is open.
    unsafe {
        let class = &*(*relation).rd_rel;
        if class.relkind as u8 != pg_sys::RELKIND_RELATION
            || class.relam != pg_sys::HEAP_TABLE_AM_OID
        {
            return Err(format!("{} is no ordinary table", table::label(relation)));
        }
        let numbers = table::numbers(relation, &FIELDS)?;
        let defaults = others(relation, &numbers)?;
        let checked = class.relchecks > 0;
        let plain = defaults.is_empty() && !checked && indexes_are_plain(relation)?;
        Ok(Layout {
            numbers,
            width: (*(*relation).rd_att).natts as usize,
            defaults,
            way: if plain { Way::Direct } else { Way::Executor },
        })
    }
}

/// Returns those of the columns unknown to the library that have a default.
///
/// # Safety
///
/// As of [`of`].
unsafe fn others(relation: pg_sys::Relation, known: &[i16]) -> Result<Vec<i16>, String> {
    let mut defaults = Vec::new();
    // SAFETY: as the caller promises.
    let attributes = unsafe { table::attributes(relation) };
    for attribute in attributes.filter(|one| !one.attisdropped && !known.contains(&one.attnum)) {
        let cannot = match attribute {
            one if one.attgenerated != 0 => "is generated",
            one if one.atthasdef || one.attidentity != 0 => {
                defaults.push(one.attnum);
                continue;
            }
            one if one.attnotnull => "must not be NULL",
            _ => continue,
        };
        return Err(format!(
            "column \"{}\" of {}, which the library does not know, {cannot}",
            attribute.name(),
            table::label(relation)
        ));
    }
    Ok(defaults)
}

/// # Safety
/// As of [`of`].
unsafe fn indexes_are_plain(relation: pg_sys::Relation) -> Result<bool, String> {
    let mut plain = true;
    // SAFETY: as the caller promises; each index is closed again, its lock stays until the
    // transaction ends, as that of the table does.
    unsafe {
        let list = pg_sys::RelationGetIndexList(relation);
        for oid in table::oids(list) {
            let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as i32);
            let form = &*(*index).rd_index;
            let name = std::ffi::CStr::from_ptr((*(*index).rd_rel).relname.data.as_ptr());
            let deferrable = !form.indimmediate;
            plain &= !form.indisexclusion
                && pg_sys::RelationGetIndexExpressions(index).is_null()
                && pg_sys::RelationGetIndexPredicate(index).is_null();
            let name = name.to_string_lossy().into_owned();
            pg_sys::index_close(index, pg_sys::NoLock as i32);
            if deferrable {
                return Err(format!(
                    "constraint \"{name}\" of {} is deferrable",
                    table::label(relation)
                ));
            }
        }
        pg_sys::list_free(list);
    }
    Ok(plain)
}
