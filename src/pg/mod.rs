//! The fence of unsafe code around what PostgreSQL lets an extension do: running code of others,
//! and surviving a SQL error.

pub mod clock;
mod column;
pub mod extension;
pub mod fence;
pub mod gate;
mod guard;
mod limit;
mod random;
pub mod settings;
pub mod shmem;
pub mod statement;
pub mod watch;

pub use column::{Column, column};
pub use guard::{SqlError, guarded};
pub use random::random_id;
