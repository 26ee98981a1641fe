//! A request, as the services see it.

use std::time::Instant;

use crate::clock::Now;
use crate::query::Query;

pub(crate) struct Call<'a> {
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub query: Query,
    pub authorization: Option<&'a str>,
    pub body: &'a [u8],
    /// When the headers were in.
    pub arrived: Instant,
    pub now: Now,
    /// When the answer is going to leave.
    pub answered: Instant,
}
