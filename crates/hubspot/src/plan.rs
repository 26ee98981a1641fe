//! What is to be sent to HubSpot for one record.

mod fields;
mod lookups;

use std::{borrow::Cow, time::Duration};

use crate::{Decision, HubSpotCall, HubSpotOnDelete, HubSpotSettings};
use integration_engine::{
    delivery::{
        call::{Item, Link, Work},
        outcome::{Category, Verdict},
        verdicts::{dead, later},
    },
    record::{
        RemoteId,
        mapping::{FieldId, SourceMap},
    },
    sync::clock::{Tick, ValueHash, Writer},
    value::json::{push_member, push_name},
};

use fields::agreed;

use super::{EMAIL, not_provisioned};

/// How long to wait for somebody to create the unique property.
const PROVISION_WAIT: Duration = Duration::from_secs(60);

/// Decides about one record. `index` is the caller's number for `work`.
///
/// A record without a link is sent whole, by a key that makes repeating it harmless; a linked one
/// by its record id, with changed fields only.
pub(crate) fn decide(
    work: &Work,
    index: usize,
    map: &SourceMap,
    settings: &HubSpotSettings,
) -> Decision {
    let plan = RecordPlan {
        work,
        index,
        map,
        settings,
    };
    match &work.row {
        None => plan.gone(),
        Some(row) => plan.present(row).unwrap_or_else(Decision::Settled),
    }
}

struct RecordPlan<'a> {
    work: &'a Work,
    index: usize,
    map: &'a SourceMap,
    settings: &'a HubSpotSettings,
}

type Row = [Option<String>];

impl RecordPlan<'_> {
    fn gone(&self) -> Decision {
        match &self.work.link {
            None => Decision::Settled(Verdict::Removed),
            Some(_) if self.settings.on_delete == HubSpotOnDelete::Ignore => {
                Decision::Settled(Verdict::Removed)
            }
            Some(Link {
                remote_id: Some(id),
                ..
            }) => self.remove(id),
            // It may exist: nothing can be removed before that is known.
            Some(intent) => match &intent.remote_key {
                Some(email) => self.find(EMAIL, email),
                None if self.is_ready() => {
                    self.find(&self.settings.external_id_property, &self.external_id())
                }
                // Without the property no create can have been made by it.
                None => Decision::Settled(Verdict::Removed),
            },
        }
    }

    fn remove(&self, id: &RemoteId) -> Decision {
        let entity = self.map.entity;
        let (kind, name) = match self.settings.on_delete {
            HubSpotOnDelete::Gdpr if entity.is_person() => {
                (HubSpotCall::Erase { entity }, "objectId")
            }
            _ => (HubSpotCall::Archive { entity }, "id"),
        };
        let mut fragment = String::with_capacity(40);
        fragment.push('{');
        push_member(&mut fragment, name, id.as_str());
        fragment.push('}');
        let item = self.item(id.as_str().to_owned(), None, Vec::new(), fragment);
        Decision::Send(kind, item)
    }

    fn present(&self, row: &Row) -> Result<Decision, Verdict> {
        let email = self.email(row)?;
        match &self.work.link {
            Some(Link {
                remote_id: Some(id),
                remote_key: Some(_),
                ..
            }) if self.work.gives_way => Ok(self.give_way(id)),
            Some(link) if link.remote_id.is_some() => {
                if email.is_some() && email != link.remote_key {
                    self.refuse_rival(email.as_deref())?;
                }
                self.update(row, link, email)
            }
            Some(Link {
                remote_key: Some(old),
                ..
            }) if email.as_deref() != Some(old) => Ok(self.find(EMAIL, old)),
            // Created without an e-mail address, perhaps: the same key makes it the same record.
            Some(Link {
                remote_key: None, ..
            }) if self.is_ready() => {
                self.refuse_rival(email.as_deref())?;
                match email {
                    // HubSpot itself refuses what others named the same.
                    Some(email) if self.map.external_ids.chosen => self.upsert_by_email(row, email),
                    email => self.upsert_by_external_id(row, email),
                }
            }
            Some(_) | None => self.first_send(row, email),
        }
    }

    fn first_send(&self, row: &Row, email: Option<String>) -> Result<Decision, Verdict> {
        self.refuse_rival(email.as_deref())?;
        let is_new = self.work.link.is_none();
        if let Some(email) = email {
            return match is_new && self.looks_first() {
                true => Ok(self.find_own(row, EMAIL, &email)),
                false => self.upsert_by_email(row, email),
            };
        }
        if self.is_ready() {
            let known_by_others = is_new.then(|| self.shared_value(row)).flatten();
            return match known_by_others {
                Some((property, value)) => Ok(self.look_for(row, property, value)),
                None if is_new && self.map.external_ids.chosen => {
                    let property = &self.settings.external_id_property;
                    Ok(self.find_own(row, property, &self.external_id()))
                }
                None => self.upsert_by_external_id(row, None),
            };
        }
        let property = &self.settings.external_id_property;
        match self.map.entity.is_person() {
            true => Err(dead(
                Category::Unmappable,
                format!(
                    "record {} of {} has no e-mail address, by which HubSpot would know it; give \
                     it one, or run SELECT integration.provision('hubspot') to have the property \
                     {property} created",
                    self.work.key.as_str(),
                    self.map.name
                ),
            )),
            false => Err(later(not_provisioned(property), None, PROVISION_WAIT)),
        }
    }

    fn upsert_by_email(&self, row: &Row, email: String) -> Result<Decision, Verdict> {
        let mut fragment = self.open_upsert(&email, EMAIL);
        push_member(&mut fragment, EMAIL, &email);
        if self.is_ready() {
            let property = &self.settings.external_id_property;
            push_member(&mut fragment, property, &self.external_id());
        }
        self.upsert(row, EMAIL, email.clone(), Some(email), fragment)
    }

    fn upsert_by_external_id(&self, row: &Row, email: Option<String>) -> Result<Decision, Verdict> {
        let property = &self.settings.external_id_property;
        let id = self.external_id();
        let mut fragment = self.open_upsert(&id, property);
        push_member(&mut fragment, property, &id);
        if let Some(email) = &email {
            push_member(&mut fragment, EMAIL, email);
        }
        self.upsert(row, property, id, email, fragment)
    }

    fn open_upsert(&self, id: &str, property: &str) -> String {
        let mut fragment = String::with_capacity(128 + 48 * self.map.fields.len());
        fragment.push('{');
        push_member(&mut fragment, "id", id);
        push_member(&mut fragment, "idProperty", property);
        push_name(&mut fragment, "properties");
        fragment.push('{');
        fragment
    }

    fn upsert(
        &self,
        row: &Row,
        id_property: &str,
        name: String,
        email: Option<String>,
        mut fragment: String,
    ) -> Result<Decision, Verdict> {
        let mut ticks = Vec::with_capacity(self.map.fields.len() + 1);
        ticks.extend(self.is_ready().then(|| self.key_tick()));
        for (at, field) in self.pushed() {
            if self.is_email(field) {
                if let Some(email) = &email {
                    ticks.push(self.tick(field, ValueHash::of(Some(email))));
                }
                continue;
            }
            let value = self.value(row, at, field)?;
            // Nothing is said about a field that is empty: HubSpot may know more. Unless that is
            // ours: the answer to an earlier call was lost.
            if value.is_some() || self.is_doubtful(field) {
                push_member(&mut fragment, &field.remote, value.as_deref().unwrap_or(""));
                ticks.push(self.tick(field, ValueHash::of(value.as_deref())));
            }
        }
        fragment.push_str("}}");
        let kind = HubSpotCall::Upsert {
            entity: self.map.entity,
            id_property: id_property.to_owned(),
        };
        let mut item = self.item(name, email, ticks, fragment);
        item.intent = self.work.link.is_none();
        item.own = self.map.external_ids.chosen.then(|| self.own(row));
        Ok(Decision::Send(kind, item))
    }

    fn update(&self, row: &Row, link: &Link, email: Option<String>) -> Result<Decision, Verdict> {
        let id = link.remote_id.as_ref().map_or("", RemoteId::as_str);
        let alone = self.work.batch_cap <= 1;
        let mut fragment = String::with_capacity(128);
        fragment.push('{');
        if !alone {
            push_member(&mut fragment, "id", id);
        }
        push_name(&mut fragment, "properties");
        fragment.push('{');
        let mut ticks = Vec::new();
        let moved = self.moved_stage(row, link)?;
        for (at, field) in self.pushed() {
            let value = match (&email, self.is_email(field)) {
                (Some(email), true) => Some(Cow::Borrowed(email.as_str())),
                _ => self.value(row, at, field)?,
            };
            let hash = ValueHash::of(value.as_deref());
            let along = moved == Some(field.remote.as_str()) && value.is_some();
            if hash != agreed(link, field) || along {
                push_member(&mut fragment, &field.remote, value.as_deref().unwrap_or(""));
                ticks.push(self.tick(field, hash));
            }
        }
        if self.lacks_key(link, &ticks) {
            let property = &self.settings.external_id_property;
            push_member(&mut fragment, property, &self.external_id());
            ticks.insert(0, self.key_tick());
        }
        if ticks.is_empty() {
            return Ok(Decision::Settled(Verdict::Unchanged));
        }
        fragment.push_str("}}");
        let entity = self.map.entity;
        let kind = match &link.remote_id {
            Some(id) if alone => HubSpotCall::Patch {
                entity,
                id: id.clone(),
            },
            _ => HubSpotCall::Update { entity },
        };
        let mut item = self.item(id.to_owned(), email, ticks, fragment);
        item.own = self.map.external_ids.chosen.then(|| self.own(row));
        Ok(Decision::Send(kind, item))
    }

    /// Its address is wanted by a record whose address it wants: HubSpot takes neither before the
    /// other is free.
    fn give_way(&self, id: &RemoteId) -> Decision {
        let mut fragment = String::with_capacity(64);
        fragment.push('{');
        push_member(&mut fragment, "id", id.as_str());
        push_name(&mut fragment, "properties");
        fragment.push('{');
        push_member(&mut fragment, EMAIL, "");
        fragment.push_str("}}");
        let emails = self.pushed().filter(|(_, field)| self.is_email(field));
        let ticks = emails
            .map(|(_, field)| self.tick(field, ValueHash::of(None)))
            .collect();
        let entity = self.map.entity;
        let mut item = self.item(id.as_str().to_owned(), None, ticks, fragment);
        // Should the answer be lost, and the row have its old address again, that is not news to
        // what was agreed before.
        item.intent = true;
        Decision::Send(HubSpotCall::GiveWay { entity }, item)
    }

    /// Whether the record is named otherwise, or not at all though it is written anyway: it was found
    /// by its address, its row has another key by now, or the table's rows are named otherwise.
    fn lacks_key(&self, link: &Link, changes: &[Tick]) -> bool {
        let known = link.clock.get(FieldId::CRM_KEY);
        self.is_ready()
            && match known {
                Some(known) => known.hash != self.key_tick().hash,
                None => !changes.is_empty() || link.clock.ticks().is_empty(),
            }
    }

    /// The value of the unique property.
    fn external_id(&self) -> String {
        self.map.external_ids.of(&self.work.key)
    }

    fn key_tick(&self) -> Tick {
        Tick {
            field: FieldId::CRM_KEY,
            hash: ValueHash::of(Some(&self.external_id())),
            at: self.work.changed_at,
            by: Writer::Crm,
        }
    }

    fn item(
        &self,
        name: String,
        remote_key: Option<String>,
        ticks: Vec<Tick>,
        fragment: String,
    ) -> Item {
        Item {
            work: self.index,
            name,
            ticks,
            remote_key,
            member_status: None,
            expected: None,
            intent: false,
            leaver: Default::default(),
            batch_cap: self.work.batch_cap,
            fragment,
            beside: Default::default(),
            own: None,
        }
    }
}
