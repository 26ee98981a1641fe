//! Reading and writing the CRM's tables, within the fence.

pub mod apply;
pub mod people;
pub mod reading;
pub mod trouble;
