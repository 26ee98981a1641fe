//! What is waiting to be sent, what was given up on, and what is withheld.

pub mod changes;
pub mod dead_letters;
pub mod withheld;
