//! What concerns the server and its processes: which workers run, whether one is stuck, and whether
//! this is a copy.

pub mod heartbeat;
pub mod incarnation;
pub mod roster;
