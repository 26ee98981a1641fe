//! What is measured, a section of the table each.

pub mod audience;
pub mod backfill;
pub mod bulk;
pub mod drain;
pub mod idle;
pub mod latency;
pub mod objects;
pub mod optout;
pub mod pgq;
pub mod snapshot;
pub mod tps;
