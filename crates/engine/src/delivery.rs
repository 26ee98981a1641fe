//! What is sent for a record, and what its answer means.

pub mod address_owner;
pub mod batch;
pub mod call;
pub mod given;
pub mod intents;
pub mod notice;
pub mod outbound;
pub mod outcome;
pub mod own;
pub mod settlement;
pub mod target_state;
pub mod verdicts;
