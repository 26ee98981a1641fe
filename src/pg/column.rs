//! Looking up columns by number in the present catalogue.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::spi::quote_identifier;

/// A column of a relation, both parts quoted as SQL requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, with its modifier.
    pub type_name: String,
}

/// Returns a column by its number, which a rename does not change. Call it with a lock on the
/// relation, so that the result stays true. `None`: the column was dropped.
pub fn column(relation: pg_sys::Oid, number: i16) -> Option<Column> {
    let (mut kind, mut modifier, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: look-ups in the system caches inside a transaction; the texts are copies, freed with
    // the memory of the transaction.
    unsafe {
        let name = pg_sys::get_attname(relation, number, true);
        if name.is_null() || pg_sys::get_atttype(relation, number) == pg_sys::InvalidOid {
            return None;
        }
        pg_sys::get_atttypetypmodcoll(relation, number, &mut kind, &mut modifier, &mut collation);
        let type_name = pg_sys::format_type_with_typemod(kind, modifier);
        Some(Column {
            name: quote_identifier(CStr::from_ptr(name).to_string_lossy()),
            type_name: CStr::from_ptr(type_name).to_string_lossy().into_owned(),
        })
    }
}
