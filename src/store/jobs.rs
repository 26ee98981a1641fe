//! Jobs that span many records: backfills, comparisons, erasures.

pub mod backfills;
pub mod drift;
pub mod erasures;
