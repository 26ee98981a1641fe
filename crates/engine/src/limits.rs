//! How much may be asked of a target, how fast, and when again.

pub mod breaker;
pub mod concurrency;
pub mod daily;
pub mod locks;
pub mod missing_scopes;
pub mod rate;
pub mod retry;

use std::time::Duration;

/// What the answer's headers say about the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetReport {
    pub max: Option<u32>,
    pub remaining: Option<u32>,
    pub interval: Option<Duration>,
    pub daily: Option<u32>,
    pub daily_remaining: Option<u32>,
    /// How long the answer took: what it tells may be so old.
    pub took: Option<Duration>,
}
