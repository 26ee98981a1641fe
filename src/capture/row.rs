//! A changed row, as the server hands it to the trigger.
#![allow(unsafe_code)]

use std::ffi::CStr;

use integration_engine::record::consent::Consent;
use integration_engine::record::consent::words::{self, Words};
use integration_engine::record::mapping::ValueKind;
use pgrx::pg_sys;

use super::plan::PlanColumn;

/// A row's columns as the server passes them to the trigger.
pub struct TriggerRow {
    values: *const pg_sys::Datum,
    nulls: *const bool,
    columns: i16,
}

impl TriggerRow {
    /// # Safety
    /// `slot` holds a row and keeps it for as long as the result is used.
    pub unsafe fn read(slot: *mut pg_sys::TupleTableSlot, columns: i16) -> TriggerRow {
        // SAFETY: as the caller promises; columns that the slot has not unpacked yet are unpacked.
        unsafe {
            let columns = columns.min((*(*slot).tts_tupleDescriptor).natts as i16);
            if (*slot).tts_nvalid < columns {
                pg_sys::slot_getsomeattrs_int(slot, i32::from(columns));
            }
            TriggerRow {
                values: (*slot).tts_values,
                nulls: (*slot).tts_isnull,
                columns,
            }
        }
    }

    fn get(&self, column: PlanColumn) -> Option<pg_sys::Datum> {
        if column.number < 1 || column.number > self.columns {
            return None;
        }
        let index = column.number as usize - 1;
        // SAFETY: `read` unpacked the columns up to `self.columns`.
        unsafe { (!*self.nulls.add(index)).then(|| *self.values.add(index)) }
    }

    /// Returns whether both rows have the same bytes. Values that are equal but stored differently
    /// count as changed; the worker finds out that nothing has to be sent.
    pub fn same(&self, other: &TriggerRow, column: PlanColumn) -> bool {
        match (self.get(column), other.get(column)) {
            (None, None) => true,
            (Some(a), Some(b)) if column.by_value => a == b,
            (Some(a), Some(b)) if a == b => true,
            // SAFETY: both are values of the column's type.
            (Some(a), Some(b)) => unsafe { bytes(a, column.length) == bytes(b, column.length) },
            _ => false,
        }
    }

    pub fn consent(&self, column: PlanColumn, words: &Words) -> Consent {
        match self.get(column) {
            None => Consent::Unknown,
            Some(value) if column.type_oid == pg_sys::BOOLOID => {
                if value.value() != 0 {
                    Consent::OptedIn
                } else {
                    Consent::OptedOut
                }
            }
            Some(value) => {
                let mut text = String::new();
                output(column.type_oid, value, &mut text);
                words::read(ValueKind::Text, words, Some(&text))
            }
        }
    }

    /// Returns the row's key, as the text of a record key.
    pub fn key(&self, columns: &[PlanColumn], into: &mut String) {
        if let [column] = columns {
            if let Some(value) = self.get(*column) {
                output(column.type_oid, value, into);
            }
            return;
        }
        let parts: Vec<String> = columns
            .iter()
            .map(|column| {
                let mut part = String::new();
                if let Some(value) = self.get(*column) {
                    output(column.type_oid, value, &mut part);
                }
                part
            })
            .collect();
        into.push_str(&serde_json::Value::from(parts).to_string());
    }
}

/// Returns the stored bytes of a value that is passed by reference.
///
/// # Safety
///
/// `value` is of a type with this length (-1: with a length word, -2: a C string).
unsafe fn bytes<'a>(value: pg_sys::Datum, length: i16) -> &'a [u8] {
    let start = value.cast_mut_ptr::<u8>();
    // SAFETY: as the caller promises.
    unsafe {
        let size = match length {
            -1 => pgrx::varlena::varsize_any(start.cast()),
            -2 => CStr::from_ptr(start.cast()).count_bytes(),
            fixed => fixed as usize,
        };
        std::slice::from_raw_parts(start, size)
    }
}

/// Appends a value's text form.
fn output(type_oid: pg_sys::Oid, value: pg_sys::Datum, into: &mut String) {
    use std::fmt::Write as _;
    // Writing to a String cannot fail.
    let _ = match type_oid {
        pg_sys::INT8OID => write!(into, "{}", value.value() as i64),
        pg_sys::INT4OID => write!(into, "{}", value.value() as i32),
        pg_sys::INT2OID => write!(into, "{}", value.value() as i16),
        _ => {
            into.push_str(&output_by_function(type_oid, value));
            Ok(())
        }
    };
}

fn output_by_function(type_oid: pg_sys::Oid, value: pg_sys::Datum) -> String {
    // SAFETY: the type's own output function, given a value of the type; the text is copied.
    unsafe {
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        pg_sys::getTypeOutputInfo(type_oid, &mut function, &mut is_varlena);
        let text = pg_sys::OidOutputFunctionCall(function, value);
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        pg_sys::pfree(text.cast());
        copy
    }
}
