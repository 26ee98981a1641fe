//! What belongs to this server: accounts, secrets, the session, marks of copies.

pub mod accounts;
pub mod copies;
pub mod secrets;
pub mod session;
