//! `DROP EXTENSION` and the worker: one that is busy is interrupted, one that sleeps is woken.

use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::find;
use crate::capture;
use crate::latch::{self, Wake};
use crate::pg::ddl;

// SAFETY (of both): written once, in `_PG_init`; read by the hooks that are set afterwards.
static mut NEXT_UTILITY: pg_sys::ProcessUtility_hook_type = None;
static mut NEXT_ACCESS: pg_sys::object_access_hook_type = None;

/// Has this process see drops of extensions. Only while `shared_preload_libraries` are loaded.
pub fn watch() {
    // SAFETY: as all preloaded libraries do it; whoever was there before is called by us.
    unsafe {
        NEXT_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
        NEXT_ACCESS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(access);
    }
}

/// Something is done to an object: whatever drops an extension comes by here.
#[pg_guard]
unsafe extern "C-unwind" fn access(
    kind: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: c_int,
    argument: *mut c_void,
) {
    // SAFETY: the hook of before gets what we got.
    unsafe {
        if let Some(next) = NEXT_ACCESS {
            next(kind, class, object, part, argument);
        }
    }
    if kind == pg_sys::ObjectAccessType::OAT_DROP && class == pg_sys::ExtensionRelationId {
        capture::tell_at_commit(Wake::CONFIG);
    }
    ddl::heard(kind, class, object);
}

#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "PostgreSQL's signature")]
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL passes a valid statement; everything is handed on as it came.
    unsafe {
        if drops_us((*statement).utilityStmt) {
            make_way();
        }
        match NEXT_UTILITY {
            Some(next) => next(
                statement,
                text,
                read_only,
                context,
                params,
                environment,
                receiver,
                completion,
            ),
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only,
                context,
                params,
                environment,
                receiver,
                completion,
            ),
        }
    }
}

/// # Safety
/// `statement` is a node.
unsafe fn drops_us(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag says which node it is; the objects of this one are names of extensions.
    unsafe {
        if statement.is_null() || (*statement).type_ != pg_sys::NodeTag::T_DropStmt {
            return false;
        }
        let drop = &*statement.cast::<pg_sys::DropStmt>();
        if drop.removeType != pg_sys::ObjectType::OBJECT_EXTENSION || drop.objects.is_null() {
            return false;
        }
        let names = &*drop.objects;
        (0..names.length as usize).any(|place| {
            let name = (*names.elements.add(place)).ptr_value;
            let name = name.cast::<pg_sys::String>();
            CStr::from_ptr((*name).sval) == c"integration"
        })
    }
}

/// Takes the lock that dropping takes first; where the worker holds it, has it let go.
fn make_way() {
    let extension = find();
    if extension != pg_sys::InvalidOid && is_mine(extension) && !try_lock(extension) {
        latch::interrupt_worker();
    }
}

fn is_mine(extension: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalogue inside a transaction.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_extension_ownercheck(extension, pg_sys::GetUserId());
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(
            pg_sys::ExtensionRelationId,
            extension,
            pg_sys::GetUserId(),
        );
    }
}

fn try_lock(extension: pg_sys::Oid) -> bool {
    // SAFETY: a lock on an object of this database, in a transaction whose end releases it.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: pg_sys::ExtensionRelationId.to_u32(),
            locktag_field3: extension.to_u32(),
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        let mode = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
        pg_sys::LockAcquire(&tag, mode, false, true)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
