//! Our own tables as the trigger function opens them: it finds them by name, and uses them only if
//! their columns have the names and types that this library knows.
//!
//! The library and the extension's tables can be of different versions: the one stays in memory
//! until the server restarts, the others change with `ALTER EXTENSION integration UPDATE`. The
//! library works with the tables of its own version and of the one before, and with columns that a
//! later one has added, if they can do without a value. Anything else fails the user's statement: a
//! change that cannot be queued must not be committed.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::extension;

/// A column that the library knows.
pub struct QueueColumn {
    name: &'static CStr,
    type_oid: pg_sys::Oid,
}

impl QueueColumn {
    pub const fn new(name: &'static CStr, type_oid: pg_sys::Oid) -> QueueColumn {
        QueueColumn { name, type_oid }
    }
}

/// Opens a table of the extension. `None`: somebody is dropping the extension, and its tables are
/// gone.
pub fn find(name: &'static CStr) -> Option<pg_sys::Oid> {
    // SAFETY: look-ups in the system caches inside a transaction.
    let table = unsafe {
        let schema = pg_sys::get_namespace_oid(c"integration".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    if table == pg_sys::InvalidOid && extension::present() {
        refuse(&format!(
            "table integration.{} is missing",
            name.to_string_lossy()
        ));
    }
    (table != pg_sys::InvalidOid).then_some(table)
}

/// Returns the numbers of the fields' columns, or what does not fit.
///
/// # Safety
///
/// `relation` is open.
pub unsafe fn numbers<const N: usize>(
    relation: pg_sys::Relation,
    fields: &[QueueColumn; N],
) -> Result<[i16; N], String> {
    let mut numbers = [0; N];
    for (number, field) in numbers.iter_mut().zip(fields) {
        let name = field.name.to_string_lossy();
        // SAFETY: as the caller promises.
        let attribute = unsafe { attributes(relation) }
            .find(|attribute| !attribute.attisdropped && attribute.name() == name)
            .ok_or_else(|| format!("column \"{name}\" of {} is missing", label(relation)))?;
        if attribute.atttypid != field.type_oid {
            return Err(format!(
                "column \"{name}\" of {} has another type",
                label(relation)
            ));
        }
        *number = attribute.attnum;
    }
    Ok(numbers)
}

/// Returns all columns, including dropped ones.
///
/// # Safety
///
/// `relation` is open, and stays so for as long as the result is used.
pub unsafe fn attributes<'a>(
    relation: pg_sys::Relation,
) -> impl Iterator<Item = &'a pg_sys::FormData_pg_attribute> {
    // SAFETY: as the caller promises: an open relation has a descriptor, and it is that long.
    unsafe {
        let descriptor = (*relation).rd_att;
        let count = (*descriptor).natts as usize;
        std::slice::from_raw_parts((*descriptor).attrs.as_ptr(), count).iter()
    }
}

/// Returns the oids of a list of the server's.
///
/// # Safety
///
/// `list` is empty (null) or holds oids.
pub unsafe fn oids(list: *const pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: as the caller promises: it has that many elements.
    unsafe {
        match list.as_ref() {
            None => Vec::new(),
            Some(list) => std::slice::from_raw_parts(list.elements, list.length as usize)
                .iter()
                .map(|cell| cell.oid_value)
                .collect(),
        }
    }
}

/// Returns the table's name, for people.
pub fn label(relation: pg_sys::Relation) -> String {
    // SAFETY: relations are open wherever they are passed on in this module.
    let name = unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) };
    format!("table integration.{}", name.to_string_lossy())
}

/// Fails the user's statement.
pub fn refuse(why: &str) -> ! {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "integration cannot queue this change",
        "integration",
    )
    .set_detail(why.to_owned())
    .set_hint(HINT)
    .report(PgLogLevel::ERROR);
    unreachable!("an error was raised")
}

/// Returns what to do about tables that do not fit.
pub const HINT: &str = "The library and the extension's tables are of different versions, or somebody has changed these tables. Run ALTER EXTENSION integration UPDATE; if that has been done already, restart the server, so that it loads the new library.";
