//! Whose member an event is about: audiences have members of their own.

use integration_engine::consent::place::{AudienceAddress, AudiencePlace};
use integration_engine::delivery::call::Link;
use integration_engine::record::{RecordRef, Target};
use integration_mailchimp::audience_of;
use pgrx::spi::SpiResult;

use super::ApplyContext;
use crate::store::{crm::people, links};

impl ApplyContext<'_> {
    fn default_list(&self) -> &str {
        &self.context.settings.mailchimp_api.list
    }

    /// The audience that a link leads into.
    pub fn list_of<'s>(&'s self, link: &'s Link) -> &'s str {
        let known = link.membership.list.as_deref();
        known.unwrap_or(self.default_list())
    }

    /// Whether a link leads into this audience.
    pub fn is_in(&self, link: &Link, list: &str) -> bool {
        !link.is_nowhere() && self.list_of(link) == list
    }

    /// Whether a record's row names this audience.
    fn belongs(&self, record: &RecordRef, list: &str) -> SpiResult<bool> {
        let source = self.context.sources.get(&record.source);
        let Some((source, map)) =
            source.and_then(|source| Some((source, source.maps.get(&Target::Mailchimp)?)))
        else {
            return Ok(list == self.default_list());
        };
        let rows = source.read(map, &[&record.key])?;
        let Some(row) = rows.get(&record.key) else {
            return Ok(list == self.default_list());
        };
        let named = audience_of(map, row, &self.context.settings.mailchimp_api);
        Ok(named.is_ok_and(|named| named == list))
    }
}

/// Looks for the person an event is about. `email` in lower case.
pub fn place(
    apply_context: &ApplyContext,
    list: &str,
    email: &str,
) -> SpiResult<AudiencePlace<RecordRef>> {
    let members = links::by_remote_key(Target::Mailchimp, email)?;
    let here = AudienceAddress {
        list,
        email,
        default: apply_context.default_list(),
    };
    let tracked = |(record, _): &(RecordRef, Link)| apply_context.source(record).is_some();
    if let Some(place) = here.among(members.into_iter().filter(tracked)) {
        return Ok(place);
    }
    let known = people::by_email(apply_context.context.sources.values(), email)?;
    let Some((record, link)) = known.filter(|(record, _)| apply_context.source(record).is_some())
    else {
        return Ok(AudiencePlace::Nowhere);
    };
    here.of_row(record, link, |record| apply_context.belongs(record, list))
}
