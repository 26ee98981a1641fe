//! HubSpot: records and who they are, associations, properties, limits and credentials.

mod association_refusals;
pub mod associations;
mod bad_values;
mod collisions;
mod custom_objects;
mod daily;
mod external_ids;
mod identity;
mod kinds;
mod limits;
pub mod oauth;
mod scopes;
mod sensitive;
mod shared_portal;
mod swaps;
pub mod values;
mod versions;
