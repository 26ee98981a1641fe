//! Whatever goes wrong ends the run with a sentence.

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
