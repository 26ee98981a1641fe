//! Settings that change what values look like, what statements mean, or whether they run at all.
//! Databases and roles may set them freely, so the worker pins those it relies on.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::pg_sys;

type Setting = (&'static CStr, &'static CStr);

/// Everything the worker relies on. Settings of resources and logging, and those that the CRM's
/// triggers use for their own data, such as `default_text_search_config`, are left alone.
const WORKER: [Setting; 45] = [
    (c"application_name", c"integration worker"),
    // The temporary schema is searched last, not first: code of others may have left types there.
    (c"search_path", c"pg_catalog, pg_temp"),
    // What values look like, and how they are read.
    (c"DateStyle", c"ISO, MDY"),
    (c"IntervalStyle", c"postgres"),
    (c"TimeZone", c"UTC"),
    (c"timezone_abbreviations", c"Default"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"1"),
    (c"xmlbinary", c"base64"),
    (c"xmloption", c"content"),
    // What statements mean.
    (c"standard_conforming_strings", c"on"),
    (c"backslash_quote", c"safe_encoding"),
    (c"array_nulls", c"on"),
    (c"quote_all_identifiers", c"off"),
    (c"transform_null_equals", c"off"),
    (c"lo_compat_privileges", c"off"),
    (c"gin_fuzzy_search_limit", c"0"),
    (c"check_function_bodies", c"on"),
    (c"session_replication_role", c"origin"),
    // Whether statements may do what they do.
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_deferrable", c"off"),
    (c"row_security", c"on"),
    (c"restrict_nonsystem_relation_kind", c""),
    (c"exit_on_error", c"off"),
    // How long statements may take.
    (c"statement_timeout", c"0"),
    (c"transaction_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"idle_session_timeout", c"0"),
    (c"lock_timeout", c"2s"),
    // A commit that a crash undoes is a write that is repeated; where that is not enough, the
    // transaction says so.
    (c"synchronous_commit", c"off"),
    // Few keys against large tables: always an index, whatever the statistics say.
    (c"enable_seqscan", c"off"),
    (c"enable_hashjoin", c"off"),
    (c"enable_mergejoin", c"off"),
    (c"enable_nestloop", c"on"),
    (c"enable_indexscan", c"on"),
    (c"enable_indexonlyscan", c"on"),
    (c"enable_bitmapscan", c"on"),
    (c"enable_tidscan", c"on"),
    (c"enable_sort", c"on"),
    (c"enable_partition_pruning", c"on"),
    (c"plan_cache_mode", c"auto"),
    (c"from_collapse_limit", c"8"),
    (c"join_collapse_limit", c"8"),
    (c"jit", c"off"),
];

/// Pins what the worker's session relies on, for as long as it lasts. Call it before the first
/// transaction: the settings of a database may keep that from beginning.
pub fn pin_for_worker() {
    for (name, value) in WORKER {
        set(name, value);
    }
}

/// Sets those that this version of the server knows.
fn set(name: &CStr, value: &CStr) {
    // SAFETY: names and values are constants, and the server copies what it keeps.
    unsafe {
        if pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null() {
            return;
        }
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
        );
    }
}
