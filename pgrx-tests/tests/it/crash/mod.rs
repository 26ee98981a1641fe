//! Killed, stopped or dropped at any moment: nothing is lost, and nothing is in the way.

mod drops;
mod histories;
mod intents;
pub mod kills;
mod lifecycle;
pub mod processes;
mod reverts;
