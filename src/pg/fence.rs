//! The fence: the one place in which code of others can run.
//!
//! A CRM table's triggers, the functions in its payload view, its index expressions, its types and
//! a backfill's filter belong to the owner of the table, and to those whom the owner lets write
//! them. They are planned and run with the owner's rights as a *security-restricted operation*,
//! like the changes that PostgreSQL's own logical replication applies: they can neither change
//! their identity, nor leave behind a trigger, a cursor, a temporary table or a setting that takes
//! effect after they have ended.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::{SpiResult, quote_qualified_identifier};
use pgrx::{PgRelation, pg_sys};

use super::column::{Column, column};
use super::guard::{SqlError, guarded};
use super::limit::Limit;
use crate::pg::shmem::{self, Doing};

/// The table to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableToOpen {
    /// The CRM table.
    pub oid: pg_sys::Oid,
    /// The view that is read instead of it, if there is one.
    pub payload: Option<pg_sys::Oid>,
}

/// The kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The payload view, or the table if it has none, is read.
    ReadPayload,
    /// The table itself is read.
    ReadTable,
    /// The table itself is written.
    Write,
}

/// Why a table could not be read or written.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Somebody holds a lock on the table, or on one of its rows.
    Busy,
    /// The table no longer exists.
    Gone,
    /// Row security hides rows from the owner; this names the relation.
    Hidden(String),
    /// It took longer than `integration.crm_timeout`.
    TimedOut,
    /// An error in the statement, or in code of others.
    Failed(SqlError),
}

impl Refusal {
    /// Returns the refusal as a SQL error.
    pub fn into_error(self) -> SqlError {
        let (code, message) = match self {
            Refusal::Busy => (
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
                "somebody holds a lock on the table, or on one of its rows".to_owned(),
            ),
            Refusal::Gone => (
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                "the table does not exist any more".to_owned(),
            ),
            Refusal::Hidden(relation) => (
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("row security hides rows of {relation} from its owner"),
            ),
            Refusal::TimedOut => (
                PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
                "code of the table, its payload view or its triggers took longer than integration.crm_timeout"
                    .to_owned(),
            ),
            Refusal::Failed(error) => return error,
        };
        SqlError { code, message }
    }

    /// Raises the refusal as a SQL error.
    pub fn raise(self) -> ! {
        let SqlError { code, message } = self.into_error();
        raise(code, message)
    }
}

/// A locked table, as it is now.
pub struct Opened {
    /// `schema.table`, quoted as SQL requires.
    pub table: String,
    /// What is read: the table, or its payload view.
    pub reads: String,
    owner: pg_sys::Oid,
    oid: pg_sys::Oid,
    reads_oid: pg_sys::Oid,
}

impl Opened {
    /// Returns a column of the table by its number, as it is now; `None`: it was dropped.
    pub fn column(&self, number: i16) -> Option<Column> {
        column(self.oid, number)
    }

    /// Returns the same for what is read: the table, or its payload view.
    pub fn column_read(&self, number: i16) -> Option<Column> {
        column(self.reads_oid, number)
    }
}

/// Opens a table, verifies it under its lock, and runs statements on it with its owner's rights,
/// within one time limit for all of them.
///
/// `work` has to name relations and columns as [`Opened`] does: names and owner change.
pub fn run<T>(
    table: TableToOpen,
    access: Access,
    time: Duration,
    work: impl FnOnce(&Opened) -> SpiResult<T>,
) -> Result<T, Refusal> {
    let limit = Limit::start(time, table.oid);
    shmem::doing(
        match access {
            Access::ReadPayload | Access::ReadTable => Doing::Reading,
            Access::Write => Doing::Writing,
        },
        Some(table.oid),
    );
    let ran = guarded(AssertUnwindSafe(|| {
        let opened = open(table, access)?;
        let inside = Inside::enter(opened.owner, access);
        let result = match work(&opened) {
            Ok(result) => result,
            Err(why) => raise(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, why.to_string()),
        };
        inside.leave();
        Ok(result)
    }));
    let ran = ran.unwrap_or_else(|error| Err(refusal(error, &limit)));
    drop(limit);
    release_session_locks();
    shmem::doing(Doing::Housekeeping, None);
    ran
}

fn refusal(error: SqlError, limit: &Limit) -> Refusal {
    match error.code {
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
        | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        | PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE => Refusal::Busy,
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED if limit.exceeded() => Refusal::TimedOut,
        _ => Refusal::Failed(error),
    }
}

/// Locks what is read or written, and reads its present state.
fn open(table: TableToOpen, access: Access) -> Result<Opened, Refusal> {
    let payload = table.payload.filter(|_| access == Access::ReadPayload);
    let crm = lock(table.oid, access)?;
    let view = match payload.map(|view| lock(view, access)) {
        Some(Err(Refusal::Gone)) => return Err(Refusal::Failed(no_view())),
        view => view.transpose()?,
    };
    let kind = crm.kind();
    if kind != pg_sys::RELKIND_RELATION && kind != pg_sys::RELKIND_PARTITIONED_TABLE {
        return Err(Refusal::Gone);
    }
    for (oid, relation) in [(Some(table.oid), Some(&crm)), (payload, view.as_ref())] {
        let (Some(oid), Some(relation)) = (oid, relation) else {
            continue;
        };
        // SAFETY: look-ups in the catalogue, inside a transaction.
        let enabled = unsafe { pg_sys::check_enable_rls(oid, crm.owner(), true) };
        if enabled as u32 == pg_sys::CheckEnableRlsResult::RLS_ENABLED {
            return Err(Refusal::Hidden(relation.quoted()));
        }
    }
    let name = crm.quoted();
    Ok(Opened {
        reads: view.map_or_else(|| name.clone(), |view| view.quoted()),
        table: name,
        owner: crm.owner(),
        oid: table.oid,
        reads_oid: payload.unwrap_or(table.oid),
    })
}

fn no_view() -> SqlError {
    SqlError {
        code: PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        message: "the payload view does not exist any more".to_owned(),
    }
}

/// A relation that is locked until the transaction ends or the fence fails.
struct Locked(PgRelation);

fn lock(oid: pg_sys::Oid, access: Access) -> Result<Locked, Refusal> {
    let mode = match access {
        Access::ReadPayload | Access::ReadTable => pg_sys::AccessShareLock,
        Access::Write => pg_sys::RowExclusiveLock,
    } as pg_sys::LOCKMODE;
    // SAFETY: inside a transaction, whose end releases the lock; the relation may have gone by
    // then, which its entry in the cache says.
    unsafe {
        if shmem::is_worker() {
            if !pg_sys::ConditionalLockRelationOid(oid, mode) {
                return Err(Refusal::Busy);
            }
        } else {
            pg_sys::LockRelationOid(oid, mode);
        }
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return Err(Refusal::Gone);
        }
        Ok(Locked(PgRelation::from_pg_owned(relation)))
    }
}

/// Returns whether it is a partitioned table.
pub fn is_partitioned(oid: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the catalogue, inside a transaction.
    unsafe { pg_sys::get_rel_relkind(oid) as u8 == pg_sys::RELKIND_PARTITIONED_TABLE }
}

/// Returns whether all partitions attached before the latest snapshot are known by now.
///
/// Attaching does not wait for readers: its changes can be visible a moment before the caches learn
/// of it, and until then the rows of the new partition seem to be missing. The session that
/// attaches keeps a lock on the parent until the caches know.
pub fn knows_partitions_of(parents: &[pg_sys::Oid]) -> bool {
    let mode = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;
    parents.iter().all(|parent| {
        // SAFETY: inside a transaction. Taking the lock reads what the caches are to forget, which
        // is all that it is for.
        unsafe {
            let free = pg_sys::ConditionalLockRelationOid(*parent, mode);
            if free {
                pg_sys::UnlockRelationOid(*parent, mode);
            }
            free
        }
    })
}

/// Makes statements see what is committed by now, whatever the transaction's snapshot shows.
pub fn as_of_now<T>(read: impl FnOnce() -> T) -> T {
    // SAFETY: inside a transaction; an error in between ends it, which takes the snapshot back.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let result = read();
    // SAFETY: as above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

impl Locked {
    fn class(&self) -> &pg_sys::FormData_pg_class {
        // SAFETY: the relation is open, and so its entry in the cache has a row of pg_class.
        unsafe { &*self.0.rd_rel }
    }

    fn kind(&self) -> u8 {
        self.class().relkind as u8
    }

    fn owner(&self) -> pg_sys::Oid {
        self.class().relowner
    }

    /// Returns the present schema and name.
    fn quoted(&self) -> String {
        quote_qualified_identifier(self.0.namespace(), self.0.name())
    }
}

/// Settings with which code of others runs, and on which our statements on its tables rely.
const PINNED: [(&CStr, &CStr); 8] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"DateStyle", c"ISO, MDY"),
    (c"IntervalStyle", c"postgres"),
    (c"TimeZone", c"UTC"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"1"),
    (c"standard_conforming_strings", c"on"),
    (c"max_parallel_workers_per_gather", c"0"),
];

/// The worker waits for nobody.
const PINNED_IN_WORKER: [(&CStr, &CStr); 1] = [(c"lock_timeout", c"50")];

/// While something is read, a policy that would hide rows raises an error.
const READING: [(&CStr, &CStr); 1] = [(c"row_security", c"off")];

/// What triggers read is their own business; that the table itself hides nothing has been verified.
const WRITING: [(&CStr, &CStr); 1] = [(c"row_security", c"on")];

/// Takes on another user's identity. An error meanwhile ends the subtransaction, which undoes all
/// of it.
struct Inside {
    user: pg_sys::Oid,
    context: i32,
    settings: i32,
}

impl Inside {
    fn enter(owner: pg_sys::Oid, access: Access) -> Inside {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: inside a subtransaction of a process that has a user. In the worker no trigger of
        // anybody's is pending when constraints become immediate, and in a backend, where those
        // of the caller's may be, they are left alone.
        unsafe {
            let settings = pg_sys::NewGUCNestLevel();
            pin(&PINNED);
            pin(match access {
                Access::ReadPayload | Access::ReadTable => &READING,
                Access::Write => &WRITING,
            });
            if shmem::is_worker() {
                pin(&PINNED_IN_WORKER);
                // A trigger that waits for the end of the transaction cannot be queued in a
                // restricted operation, so all of them run at once.
                let mut immediate = pg_sys::ConstraintsSetStmt {
                    type_: pg_sys::NodeTag::T_ConstraintsSetStmt,
                    constraints: std::ptr::null_mut(),
                    deferred: false,
                };
                pg_sys::AfterTriggerSetState(&mut immediate);
            }
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(
                owner,
                context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32,
            );
            Inside {
                user,
                context,
                settings,
            }
        }
    }

    fn leave(self) {
        // SAFETY: what `enter` found and made, in the same subtransaction.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.settings);
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

/// Sets what is not set already, for the present nest level.
fn pin(settings: &[(&CStr, &CStr)]) {
    for (name, value) in settings {
        // SAFETY: names and values are constants; the server copies what it keeps.
        unsafe {
            let now = pg_sys::GetConfigOption(name.as_ptr(), true, false);
            if !now.is_null() && CStr::from_ptr(now) == *value {
                continue;
            }
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
}

/// Releases the session's advisory locks that code of others took, which outlive its transaction.
/// The worker takes none itself.
fn release_session_locks() {
    if shmem::is_worker() {
        // SAFETY: main thread; looks through the locks of this process.
        unsafe { pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID) };
    }
}

fn raise(code: PgSqlErrorCode, message: String) -> ! {
    ErrorReport::new(code, message, "integration").report(PgLogLevel::ERROR);
    unreachable!("an error does not return")
}
