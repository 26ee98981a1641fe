//! What only HubSpot has.

pub mod associations;
