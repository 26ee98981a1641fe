//! Rights, secrets and copies: nobody gains what is not theirs.

mod catalog;
mod copied_servers;
pub mod copies;
mod fence;
mod layout;
pub mod rights;
mod roles;
mod secrets;
mod stored_secrets;
mod strangers;
