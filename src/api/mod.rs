//! The SQL functions that people call; thin. What is easier to express in SQL is in `sql/`.

pub mod backfill;
mod connection;
pub mod erasure;
pub mod inspect;
pub mod internal;
pub mod kinds;
pub mod preview;
mod secrets;
pub mod wait;
