//! The worker's session: who it is.
#![allow(unsafe_code)]

use pgrx::pg_sys;

use crate::config;
use crate::pg::guarded;
use crate::store::server::session;

/// Takes on `integration.worker_role`, or the worker's own. `Err` says why it could not. Inside a
/// transaction.
pub fn assume_role() -> Result<(), String> {
    let Some(role) = config::worker_role() else {
        return match is_myself() {
            true => Ok(()),
            false => become_role("none").map(|_| ()),
        };
    };
    let why = match become_role(&role) {
        Ok(true) => return Ok(()),
        Ok(false) => "it has to be a member of the role that owns the extension".to_owned(),
        Err(why) => why,
    };
    become_role("none")?;
    Err(format!("integration.worker_role: {role}: {why}"))
}

fn is_myself() -> bool {
    let myself = pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID);
    // SAFETY: plain queries of this process.
    unsafe { pg_sys::GetUserId() == myself && pg_sys::GetSessionUserId() == myself }
}

/// Whether the role may do the worker's work.
fn become_role(role: &str) -> Result<bool, String> {
    let role = role.to_owned();
    match guarded(move || session::become_role(&role)) {
        Ok(Ok(may)) => Ok(may),
        Ok(Err(why)) => Err(why.to_string()),
        Err(why) => Err(why.message),
    }
}
