//! Killed, stopped or dropped at any moment: nothing is lost, and nothing is in the way.

mod busy;
mod drops;
mod histories;
mod intents;
pub mod kills;
mod lifecycle;
pub mod processes;
mod reverts;
mod reverts_of_rows;
