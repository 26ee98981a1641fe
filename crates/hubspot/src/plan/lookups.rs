//! Looking for a record instead of writing it: by a unique property, or by what it may share with
//! records that others made.

use super::{RecordPlan, Row};
use crate::{Decision, HubSpotCall};
use crate::{EMAIL, objects};
use integration_engine::{delivery::own::Own, value::json::push_member};

/// A longer one is no domain, and HubSpot's searches are limited in size.
const VALUE_MAX: usize = 253;

impl RecordPlan<'_> {
    pub(super) fn find(&self, id_property: &str, id: &str) -> Decision {
        let mut fragment = String::with_capacity(64);
        fragment.push('{');
        push_member(&mut fragment, "id", id);
        fragment.push('}');
        let kind = HubSpotCall::Find {
            entity: self.map.entity,
            id_property: id_property.to_owned(),
        };
        let key = (id_property == EMAIL).then(|| id.to_owned());
        Decision::Send(kind, self.item(id.to_owned(), key, Vec::new(), fragment))
    }

    /// Looks whether there is a record, and whether it is somebody else's, before anything is
    /// written.
    pub(super) fn find_own(&self, row: &Row, id_property: &str, id: &str) -> Decision {
        let mut decision = self.find(id_property, id);
        if let Decision::Send(_, item) = &mut decision {
            item.own = Some(self.own(row));
        }
        decision
    }

    /// Looks for records that others made, by a property that several may hold.
    pub(super) fn look_for(&self, row: &Row, property: &str, value: String) -> Decision {
        let kind = HubSpotCall::Match {
            entity: self.map.entity,
            property: property.to_owned(),
        };
        let mut item = self.item(value, None, Vec::new(), String::new());
        item.own = Some(self.own(row));
        Decision::Send(kind, item)
    }

    /// Whether a record that has a contact's address may be somebody else's.
    pub(super) fn looks_first(&self) -> bool {
        let shared = &self.settings.external_id_shared;
        self.is_ready() && (self.map.external_ids.chosen || shared.contains(&self.map.entity))
    }

    pub(super) fn own(&self, row: &Row) -> Box<Own> {
        let telling = objects::of(self.map.entity).telling;
        let telling = self
            .pushed()
            .filter(|(_, field)| telling.contains(&field.remote.as_str()));
        let value = |(at, field)| {
            let value = self.value(row, at, field).ok()??;
            Some((field.remote.clone(), value.into_owned()))
        };
        Box::new(Own {
            ids: self.map.external_ids.clone(),
            key: self.work.key.clone(),
            traits: telling.filter_map(value).collect(),
        })
    }

    /// The property and the value by which a record that others made may be there already.
    pub(super) fn shared_value(&self, row: &Row) -> Option<(&'static str, String)> {
        let property = objects::of(self.map.entity).shared?;
        let mut pushed = self.pushed();
        let (at, field) = pushed.find(|(_, field)| field.remote.eq_ignore_ascii_case(property))?;
        let value = self.value(row, at, field).ok()??;
        let value = value.trim().to_lowercase();
        (!value.is_empty() && value.len() <= VALUE_MAX).then_some((property, value))
    }
}
