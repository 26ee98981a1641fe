//! Looking for a record instead of writing it: by a unique property, or by what it may share with
//! records that others made.

use super::{Plan, Row};
use crate::{
    call::{CallKind, Decision},
    hubspot::{DOMAIN, EMAIL},
    json::push_member,
    record::Entity,
};

/// A longer one is no domain, and HubSpot's searches are limited in size.
const DOMAIN_MAX: usize = 253;

impl Plan<'_> {
    pub(super) fn find(&self, id_property: &str, id: &str) -> Decision {
        let mut fragment = String::with_capacity(64);
        fragment.push('{');
        push_member(&mut fragment, "id", id);
        fragment.push('}');
        let kind = CallKind::HubSpotFind {
            entity: self.map.entity,
            id_property: id_property.to_owned(),
        };
        let key = (id_property == EMAIL).then(|| id.to_owned());
        Decision::Send(kind, self.item(id.to_owned(), key, Vec::new(), fragment))
    }

    /// Looks for records that others made, by a property that several may hold.
    pub(super) fn look_for(&self, property: &str, value: String) -> Decision {
        let kind = CallKind::HubSpotMatch {
            entity: self.map.entity,
            property: property.to_owned(),
        };
        Decision::Send(kind, self.item(value, None, Vec::new(), String::new()))
    }

    /// By which a company may be there already. HubSpot makes companies of its own from the
    /// domains of contacts' addresses.
    pub(super) fn domain(&self, row: &Row) -> Option<String> {
        let (at, field) = self.pushed().find(|(_, field)| {
            self.map.entity == Entity::Company && field.remote.eq_ignore_ascii_case(DOMAIN)
        })?;
        let value = self.value(row, at, field).ok()??;
        let domain = value.trim().to_lowercase();
        (!domain.is_empty() && domain.len() <= DOMAIN_MAX).then_some(domain)
    }
}
