//! What a service said about a person's consent goes into the CRM's own column at once.

use integration_engine::consent;
use integration_engine::record::Target;
use pgrx::spi::SpiResult;

use super::World;
use super::settle::ConsentNews;
use crate::store::{self, apply};

/// Records refusals in the CRM, so that nobody tries again and people can see why.
pub fn tell_crm(world: &World, news: Vec<(Target, ConsentNews)>) -> SpiResult<()> {
    for (target, ConsentNews { record, status }) in news {
        let Some(source) = world.sources.get(&record.source) else {
            continue;
        };
        let Some(map) = source.maps.get(&target) else {
            continue;
        };
        let Some((index, field)) = map.field_named("status") else {
            continue;
        };
        store::transaction(|| {
            let rows = source.read(map, &[&record.key])?;
            let Some(present) = rows.get(&record.key) else {
                return Ok(());
            };
            let present = present.get(index).cloned().flatten();
            let value = consent::to_column(field.kind, status);
            if present.as_deref().is_some_and(|text| {
                consent::read(field.kind, Some(text)) == consent::read(field.kind, Some(value))
            }) {
                return Ok(());
            }
            match apply::set_column(
                source,
                &record.key,
                &field.column,
                present.as_deref(),
                Some(value),
            )? {
                apply::Applied::Written | apply::Applied::Moved => {}
                apply::Applied::Refused(why) => {
                    pgrx::warning!(
                        "integration: cannot record consent of {} {}: {}",
                        source.name,
                        record.key.as_str(),
                        why.message
                    );
                }
            }
            Ok::<(), pgrx::spi::Error>(())
        })?;
    }
    Ok(())
}
