//! Functions that act with our rights for somebody else: they know who asks, and nobody can pretend
//! to be somebody else.
//!
//! A `SECURITY DEFINER` function sees its owner as `current_user`; `session_user` is whoever logged
//! in. So a function of mallory's that a superuser happens to call would act for the superuser, and
//! a role taken on by `SET ROLE` would not count. Therefore people call the gate, with their own
//! rights: it notes the current user, and then calls `_do_<name>`, which is `SECURITY DEFINER` and
//! which nobody else may execute.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};

thread_local! {
    /// The user for whom the gate acts; `None` outside the gate.
    static ASKER: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
}

/// The version of the calling convention, which `CREATE FUNCTION … LANGUAGE c` requires.
#[unsafe(no_mangle)]
#[doc(hidden)]
pub extern "C" fn pg_finfo_integration_gate() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

/// The body of every function that goes through the gate.
#[pg_guard]
#[unsafe(no_mangle)]
#[doc(hidden)]
pub unsafe extern "C-unwind" fn integration_gate(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: Postgres passes a valid call with its look-up information, whose `fn_extra` is ours and
    // lives as long as it.
    let (outer, inner) = unsafe {
        let outer = (*call).flinfo;
        if (*outer).fn_extra.is_null() {
            (*outer).fn_extra = look_up(&*outer).cast();
        }
        (outer, (*outer).fn_extra.cast::<pg_sys::FmgrInfo>())
    };
    // SAFETY: always known inside a transaction.
    let before = ASKER.replace(Some(unsafe { pg_sys::GetUserId() }));
    PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: the inner function has the same arguments and the same result, sets included, so
        // the call is as good for it; `SECURITY DEFINER` is done in the same way by Postgres itself.
        unsafe {
            (*call).flinfo = inner;
            (*inner).fn_addr.map_or(pg_sys::Datum::from(0), |inner| {
                pg_sys::ffi::pg_guard_ffi_boundary(|| inner(call))
            })
        }
    }))
    .finally(|| {
        ASKER.set(before);
        // SAFETY: as above.
        unsafe { (*call).flinfo = outer };
    })
    .execute()
}

/// Returns look-up information about the function behind a gate: `_do_` and its name, in the same
/// schema, with the same arguments. It checks no rights, for nobody has any.
///
/// # Safety
///
/// `outer` is what PostgreSQL looked up for a call that is under way.
unsafe fn look_up(outer: &pg_sys::FmgrInfo) -> *mut pg_sys::FmgrInfo {
    // SAFETY: look-ups in the catalogue inside a transaction; what is allocated lives as long as `outer`.
    unsafe {
        let gate = outer.fn_oid;
        let tuple =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, gate.into());
        if tuple.is_null() {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                "the function was dropped"
            );
        }
        let class = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let name = CStr::from_ptr((*class).proname.data.as_ptr()).to_string_lossy();
        let behind = format!("_do_{name}\0");
        let found = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(behind.as_ptr()),
            pg_sys::Datum::from(&raw const (*class).proargtypes),
            (*class).pronamespace.into(),
            pg_sys::Datum::from(0),
        );
        pg_sys::ReleaseSysCache(tuple);
        if found == pg_sys::InvalidOid {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                format!(
                    "there is no function integration.{} with these arguments",
                    behind.trim_end_matches('\0')
                )
            );
        }
        let inner = pg_sys::MemoryContextAllocZero(outer.fn_mcxt, size_of::<pg_sys::FmgrInfo>())
            .cast::<pg_sys::FmgrInfo>();
        pg_sys::fmgr_info_cxt(found, inner, outer.fn_mcxt);
        (*inner).fn_expr = outer.fn_expr;
        inner
    }
}

/// Returns who asks; outside the gate, the current user.
#[pg_extern(stable)]
fn _asker() -> pg_sys::Oid {
    // SAFETY: always known inside a transaction.
    ASKER
        .get()
        .unwrap_or_else(|| unsafe { pg_sys::GetUserId() })
}
