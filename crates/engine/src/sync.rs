//! Two sides of a record: what they agreed on, where they differ, and which one has its way.

pub mod clock;
pub mod conflict;
pub mod drift;
