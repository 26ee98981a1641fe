//! Drops of the extension: a busy worker is interrupted, a sleeping one woken.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use super::ddl;
use crate::pg::extension::find;
use crate::pg::shmem::{self, Wake};

// SAFETY (of both): written once, in `_PG_init`; read by the hooks that are set afterwards.
static mut NEXT_UTILITY: pg_sys::ProcessUtility_hook_type = None;
static mut NEXT_ACCESS: pg_sys::object_access_hook_type = None;

/// Makes this process notice drops of extensions. Call it only while `shared_preload_libraries` are
/// loaded.
pub fn watch() {
    // SAFETY: as all preloaded libraries do it; whoever was there before is called by us.
    unsafe {
        NEXT_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
        NEXT_ACCESS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(access);
    }
}

/// Called when something is done to an object; a drop of an extension always comes by here.
#[pg_guard]
unsafe extern "C-unwind" fn access(
    kind: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: c_int,
    argument: *mut c_void,
) {
    // SAFETY: the hook of before gets what we got; its errors are PostgreSQL's.
    unsafe {
        if let Some(next) = NEXT_ACCESS {
            pg_guard_ffi_boundary(|| next(kind, class, object, part, argument));
        }
    }
    if kind == pg_sys::ObjectAccessType::OAT_DROP && class == pg_sys::ExtensionRelationId {
        super::tell_at_commit(Wake::CONFIG);
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
    // SAFETY: PostgreSQL passes a valid statement; everything is handed on as it came, and errors of
    // the hook of before are PostgreSQL's.
    unsafe {
        make_way((*statement).utilityStmt);
        match NEXT_UTILITY {
            Some(next) => pg_guard_ffi_boundary(|| {
                next(
                    statement,
                    text,
                    read_only,
                    context,
                    params,
                    environment,
                    receiver,
                    completion,
                );
            }),
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

/// Takes the lock that every transaction of the worker takes first, before anything else is locked,
/// and interrupts the worker if it has that lock. Does nothing for statements that do not drop the
/// extension, or that will be refused.
///
/// # Safety
///
/// `statement` is a node.
unsafe fn make_way(statement: *mut pg_sys::Node) {
    if statement.is_null() {
        return;
    }
    // SAFETY: the tag says which node it is.
    let extension = unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_DropStmt => dropped(&*statement.cast::<pg_sys::DropStmt>()),
            pg_sys::NodeTag::T_DropOwnedStmt => owned(&*statement.cast::<pg_sys::DropOwnedStmt>()),
            _ => None,
        }
    };
    if let Some(extension) = extension
        && !lock(extension, WaitForLock::No)
    {
        shmem::interrupt_worker();
        lock(extension, WaitForLock::Yes);
    }
}

/// Returns the extension, if the statement drops it or its schema.
///
/// # Safety
///
/// The statement is one of the parser's.
unsafe fn dropped(statement: &pg_sys::DropStmt) -> Option<pg_sys::Oid> {
    let me = || {
        // SAFETY: a plain look-up.
        unsafe { pg_sys::GetUserId() }
    };
    let may: fn(pg_sys::Oid, pg_sys::Oid) -> bool = match statement.removeType {
        pg_sys::ObjectType::OBJECT_EXTENSION => owns_extension,
        pg_sys::ObjectType::OBJECT_SCHEMA
            if statement.behavior == pg_sys::DropBehavior::DROP_CASCADE =>
        {
            owns_schema
        }
        _ => return None,
    };
    // SAFETY: the objects of both kinds are names.
    let named = unsafe {
        nodes::<pg_sys::String>(statement.objects)
            .any(|name| CStr::from_ptr((*name).sval) == c"integration")
    };
    let extension = named.then(find).filter(|oid| *oid != pg_sys::InvalidOid)?;
    may(extension, me()).then_some(extension)
}

/// Returns the extension, if the statement drops what its owner has.
///
/// # Safety
///
/// The statement is one of the parser's.
unsafe fn owned(statement: &pg_sys::DropOwnedStmt) -> Option<pg_sys::Oid> {
    let extension = Some(find()).filter(|oid| *oid != pg_sys::InvalidOid)?;
    // SAFETY: a list of roles; look-ups in the catalogue inside a transaction.
    let meant = unsafe {
        nodes::<pg_sys::RoleSpec>(statement.roles).any(|role| {
            let role = pg_sys::get_rolespec_oid(role, true);
            role != pg_sys::InvalidOid
                && owns_extension(extension, role)
                && pg_sys::has_privs_of_role(pg_sys::GetUserId(), role)
        })
    };
    meant.then_some(extension)
}

/// Returns the nodes of one kind in a list.
///
/// # Safety
///
/// `list` is NULL or a list of such nodes.
unsafe fn nodes<T>(list: *mut pg_sys::List) -> impl Iterator<Item = *mut T> {
    // SAFETY: as promised; nobody changes it meanwhile.
    let length = unsafe { list.as_ref().map_or(0, |list| list.length as usize) };
    // SAFETY: within its length.
    (0..length).map(move |place| unsafe { (*(*list).elements.add(place)).ptr_value.cast() })
}

fn owns_extension(extension: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalogue inside a transaction.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_extension_ownercheck(extension, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::ExtensionRelationId, extension, role);
    }
}

fn owns_schema(_: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalogue inside a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"integration".as_ptr(), true);
        #[cfg(feature = "pg15")]
        return pg_sys::pg_namespace_ownercheck(schema, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::NamespaceRelationId, schema, role);
    }
}

/// Whether to wait for a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitForLock {
    Yes,
    No,
}

/// Returns `false` if somebody else has the lock.
fn lock(extension: pg_sys::Oid, waiting: WaitForLock) -> bool {
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
        pg_sys::LockAcquire(&tag, mode, false, waiting == WaitForLock::No)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
