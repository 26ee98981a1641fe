//! Everything unsafe that an extension needs of PostgreSQL, in safe functions: running code of
//! others, surviving a SQL error, shared memory.

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
