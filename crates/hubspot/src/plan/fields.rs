//! What row, link and map say of a record's fields.

use std::borrow::Cow;

use super::{RecordPlan, Row};
use crate::{
    EMAIL,
    objects::{self, PipelineProperties},
    values,
};
use integration_engine::{
    delivery::{
        call::Link,
        outcome::{Category, Verdict},
        verdicts::{dead, unmappable},
    },
    record::mapping::{Direction, Field},
    sync::clock::{Tick, ValueHash, Writer},
};

impl RecordPlan<'_> {
    /// The fields that travel to HubSpot, with their places in a row.
    pub(super) fn pushed(&self) -> impl Iterator<Item = (usize, &Field)> {
        self.map.fields.iter().enumerate().filter(|(_, field)| {
            field.direction != Direction::Pull
                // Ours to set, not the map's.
                && !field.remote.eq_ignore_ascii_case(&self.settings.external_id_property)
        })
    }

    /// The property that holds a stage, where its pipeline changes. HubSpot: a stage belongs to a
    /// pipeline, so that one is not changed without the other.
    pub(super) fn moved_stage(
        &self,
        row: &Row,
        link: &Link,
    ) -> Result<Option<&'static str>, Verdict> {
        let Some(PipelineProperties { pipeline, stage }) = objects::of(self.map.entity).pipeline
        else {
            return Ok(None);
        };
        let Some((at, field)) = self.pushed().find(|(_, field)| field.remote == pipeline) else {
            return Ok(None);
        };
        let value = self.value(row, at, field)?;
        let moved = ValueHash::of(value.as_deref()) != agreed(link, field);
        Ok(moved.then_some(stage))
    }

    pub(super) fn email(&self, row: &Row) -> Result<Option<String>, Verdict> {
        if !self.map.entity.is_person() {
            return Ok(None);
        }
        let found = self.pushed().find(|(_, field)| self.is_email(field));
        let Some((at, field)) = found else {
            return Ok(None);
        };
        self.value(row, at, field)
            .map(|value| value.map(Cow::into_owned))
    }

    pub(super) fn is_email(&self, field: &Field) -> bool {
        self.map.entity.is_person() && field.remote.eq_ignore_ascii_case(EMAIL)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.settings.external_id_ready.contains(&self.map.entity)
    }

    pub(super) fn tick(&self, field: &Field, hash: ValueHash) -> Tick {
        Tick {
            field: field.id,
            hash,
            at: self.work.changed_at,
            by: Writer::Crm,
        }
    }

    pub(super) fn is_doubtful(&self, field: &Field) -> bool {
        let link = self.work.link.as_ref();
        link.is_some_and(|link| link.clock.is_doubtful(field.id))
    }

    pub(super) fn value<'t>(
        &self,
        row: &'t Row,
        at: usize,
        field: &Field,
    ) -> Result<Option<Cow<'t, str>>, Verdict> {
        values::to_remote(self.map, row, at).map_err(|error| {
            let text = row.get(at).and_then(Option::as_deref);
            unmappable(self.map, field, "property", text, &error)
        })
    }

    pub(super) fn refuse_rival(&self, email: Option<&str>) -> Result<(), Verdict> {
        let (Some(rival), Some(email)) = (&self.work.rival, email) else {
            return Ok(());
        };
        Err(dead(
            Category::Conflict,
            format!(
                "records {} and {rival} of {} have the same e-mail address {email}, and HubSpot \
                 has one contact for it, which belongs to {rival}; change one of them, or merge \
                 them",
                self.work.key.as_str(),
                self.map.name
            ),
        ))
    }
}

/// A field never agreed on counts as empty: clearing it could only destroy something.
pub(super) fn agreed(link: &Link, field: &Field) -> ValueHash {
    let tick = link.clock.get(field.id);
    tick.map_or(ValueHash::of(None), |tick| tick.hash)
}
