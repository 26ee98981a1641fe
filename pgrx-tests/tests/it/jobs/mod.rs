//! Backfills, comparisons and erasures go on wherever they were interrupted.

pub mod backfill;
mod backfill_stops;
pub mod erasure;
mod erasure_reach;
mod erasure_stops;
pub mod reconcile;
mod reconcile_members;
mod reconcile_repairs;
mod reconcile_stops;
