//! What people call and look at.

pub mod access;
mod bad_input;
mod preview;
mod session_settings;
mod settings;
mod status;
mod tracking;
