//! What is remembered of the addresses of records that are being planned.

use std::collections::BTreeSet;

use integration_engine::consent::standing;
use integration_engine::delivery::call::Work;
use integration_engine::delivery::settlement::InFlight;
use integration_engine::record::mapping::SourceMap;
use integration_mailchimp as mailchimp;
use pgrx::spi::SpiResult;

use crate::store::consent::suppressions;
use crate::worker::Context;

/// Looks up what is remembered of records, at once for all of them, before anything is decided.
pub fn recall(
    context: &Context,
    map: &SourceMap,
    works: &mut [Work],
    flights: &mut [InFlight],
) -> SpiResult<()> {
    let settings = &context.settings.mailchimp_api;
    let sought: Vec<_> = works
        .iter()
        .map(|work| mailchimp::seek(work, map, settings))
        .collect();
    let hashes: BTreeSet<String> = sought
        .iter()
        .flat_map(mailchimp::Sought::hashes)
        .map(str::to_owned)
        .collect();
    let suppressions = suppressions::read(&hashes)?;
    for ((sought, work), flight) in sought.into_iter().zip(works).zip(flights) {
        let link = work.link.as_ref();
        let weigh = |hash: &str, list: &str| standing::weigh(suppressions.of(hash), list, link);
        let identity = sought.identity(weigh);
        work.standing = identity.standing;
        flight.identity = Some(identity);
    }
    Ok(())
}
