//! Whose member an event is about: audiences have members of their own.

use integration_engine::consent::membership::Membership;
use integration_engine::crypto::subscriber_hash;
use integration_engine::delivery::call::Link;
use integration_engine::record::{RecordRef, RemoteId, Target};
use integration_mailchimp::audience_of;
use pgrx::spi::SpiResult;

use super::ApplyContext;
use crate::store::{crm::people, links};

/// Where the CRM row with an address is, as seen from an audience.
pub enum AudiencePlace {
    /// In this audience, or meant to be; with the link as it is to be used.
    Here(RecordRef, Link),
    /// It was in this audience, and has been moved to another one.
    Left(RecordRef, Link),
    Elsewhere,
    Nowhere,
}

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
pub fn place(apply_context: &ApplyContext, list: &str, email: &str) -> SpiResult<AudiencePlace> {
    let members = links::by_remote_key(Target::Mailchimp, email)?;
    let tracked = |(record, _): &&(RecordRef, Link)| apply_context.source(record).is_some();
    let found = |wanted: &dyn Fn(&Link) -> bool| {
        let mut members = members.iter().filter(tracked);
        members.find(|(_, link)| wanted(link)).cloned()
    };
    if let Some((record, link)) = found(&|link| apply_context.is_in(link, list)) {
        return Ok(AudiencePlace::Here(record, link));
    }
    if let Some((record, link)) = found(&|link| link.membership.was_in(list)) {
        return Ok(AudiencePlace::Left(record, link));
    }
    let known = people::by_email(apply_context.context.sources.values(), email)?;
    let Some((record, link)) = known.filter(|(record, _)| apply_context.source(record).is_some())
    else {
        return Ok(AudiencePlace::Nowhere);
    };
    match link {
        Some(link) if apply_context.is_in(&link, list) => Ok(AudiencePlace::Here(record, link)),
        Some(link) if link.membership.was_in(list) => Ok(AudiencePlace::Left(record, link)),
        Some(link) if !link.is_nowhere() => Ok(AudiencePlace::Elsewhere),
        _ if !apply_context.belongs(&record, list)? => Ok(AudiencePlace::Elsewhere),
        link => Ok(AudiencePlace::Here(record, joined(link, list, email))),
    }
}

/// Somebody who became a member without us.
fn joined(link: Option<Link>, list: &str, email: &str) -> Link {
    let past = link.map(|link| link.membership).unwrap_or_default();
    Link {
        remote_id: Some(RemoteId::from(subscriber_hash(email).as_str())),
        remote_key: Some(email.to_owned()),
        membership: Membership {
            list: Some(list.to_owned()),
            ..past
        },
        ..Link::default()
    }
}
