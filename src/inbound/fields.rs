//! Values that Mailchimp reports, into CRM columns by the conflict rules.

use integration_engine::call::Link;
use integration_engine::clock::{Tick, ValueHash, Writer};
use integration_engine::conflict::{self, Decision};
use integration_engine::mapping::{Direction, Field, SourceMap};
use integration_engine::queue::RecordRef;
use integration_engine::record::{Lane, Target, Timestamp};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::{Fate, Scene, applied, failed, ignored};
use crate::capture;
use crate::store::links::{self, Cause, Entry};
use crate::store::{apply, apply::Applied, sources::Source};

/// Mailchimp: `fired_at` has whole seconds, so that what happened within one has no order.
const TICK_OF_THEIR_CLOCK: i64 = 1_000;

/// A record that Mailchimp reports values of.
pub struct Reported<'a> {
    pub scene: &'a Scene<'a>,
    pub source: &'a Source,
    pub record: RecordRef,
    pub link: Link,
    /// The link is to be stored even if no value changes it.
    pub moved: bool,
    pub at: Timestamp,
}

/// What became of the values, as a person wants to read it.
#[derive(Default)]
struct Notes {
    written: Vec<String>,
    kept: Vec<String>,
    refused: Vec<String>,
}

/// What one value comes to.
enum Step {
    Nothing,
    /// Both sides agree now.
    Agreed,
    /// The CRM's value goes back to Mailchimp.
    SendOurs,
    Write(Option<String>),
    Unreadable(String),
}

impl Reported<'_> {
    /// Takes over what the rules say, field by field.
    pub fn take(mut self, values: &[(String, Option<String>)]) -> SpiResult<Fate> {
        let Some(map) = self.source.maps.get(&Target::Mailchimp) else {
            return Ok(ignored("the table is not sent to Mailchimp"));
        };
        let rows = self.source.read(map, &[&self.record.key])?;
        let Some(row) = rows.get(&self.record.key) else {
            return Ok(ignored("the CRM row is gone"));
        };
        let mut notes = Notes::default();
        let mut send = false;
        for (name, reported) in values {
            let Some((index, field)) = map
                .field_named(name)
                .filter(|(_, field)| field.remote != "status")
            else {
                continue;
            };
            let present = row.get(index).cloned().flatten();
            let step = self.step(map, field, present.as_deref(), reported.as_deref());
            match step {
                Step::Nothing => continue,
                Step::Agreed => {}
                Step::SendOurs => {
                    send |= field.direction != Direction::Pull;
                    notes.kept.push(field.column.clone());
                }
                Step::Unreadable(why) => {
                    notes.refused.push(why);
                    continue;
                }
                Step::Write(column_value) => {
                    match apply::set_column(
                        self.source,
                        &self.record.key,
                        &field.column,
                        present.as_deref(),
                        column_value.as_deref(),
                    )? {
                        Applied::Written => notes.written.push(field.column.clone()),
                        Applied::Moved => return Ok(Fate::Again),
                        Applied::Refused(why) => {
                            notes.refused.push(format!(
                                "{}: the CRM refused the value: {}",
                                field.column, why.message
                            ));
                            continue;
                        }
                    }
                }
            }
            self.agree(map, field, reported.as_deref());
        }
        if self.moved {
            links::write(
                Target::Mailchimp,
                Cause::Pulled,
                &[Entry {
                    record: self.record.clone(),
                    link: self.link,
                }],
            )?;
        }
        if send {
            capture::enqueue(
                Target::Mailchimp,
                self.record.source,
                Lane::Live,
                [self.record.key.as_str()],
            );
        }
        Ok(notes.fate(self.source, self.record.key.as_str()))
    }

    fn agree(&mut self, map: &SourceMap, field: &Field, reported: Option<&str>) {
        if let Ok(canonical) = value::field_canonical(map, field, reported) {
            self.moved = true;
            self.link.clock.set(Tick {
                field: field.id,
                hash: ValueHash::of(canonical.as_deref()),
                at: self.at,
                by: Writer::Remote,
            });
        }
    }

    fn step(
        &self,
        map: &SourceMap,
        field: &Field,
        present: Option<&str>,
        reported: Option<&str>,
    ) -> Step {
        let remote = match value::field_canonical(map, field, reported) {
            Ok(canonical) => ValueHash::of(canonical.as_deref()),
            Err(why) => return Step::Unreadable(format!("{}: {why}", field.column)),
        };
        let local = value::field_to_remote(map, field, present)
            .map_or(ValueHash(u64::MAX), |canonical| {
                ValueHash::of(canonical.as_deref())
            });
        let agreed = self.link.clock.get(field.id).copied();
        let same_second = agreed.is_some_and(|agreed| {
            agreed.by == Writer::Crm
                && (self.at.0..self.at.0 + TICK_OF_THEIR_CLOCK).contains(&agreed.at.0)
        });
        match conflict::decide(
            field.conflict,
            field.direction,
            self.at,
            remote,
            local,
            agreed.as_ref(),
            self.scene
                .crm_changed_at(Target::Mailchimp, &self.record, agreed.as_ref(), local),
        ) {
            Decision::AlreadyEqual if agreed.is_none_or(|agreed| agreed.hash != remote) => {
                Step::Agreed
            }
            Decision::KeepCrm if agreed.is_some_and(|agreed| agreed.hash == remote) => {
                Step::Nothing
            }
            // Which was first nobody knows; ties go to the CRM, and both sides shall hold its value.
            Decision::Older
                if same_second && agreed.is_some_and(|agreed| agreed.hash != remote) =>
            {
                Step::SendOurs
            }
            Decision::AlreadyEqual | Decision::Older => Step::Nothing,
            Decision::KeepCrm => Step::SendOurs,
            Decision::Apply => match value::to_column(field.kind, reported) {
                Ok(column_value) => Step::Write(column_value),
                Err(why) => Step::Unreadable(format!("{}: {why}", field.column)),
            },
        }
    }
}

impl Notes {
    fn fate(self, source: &Source, key: &str) -> Fate {
        let mut parts = Vec::new();
        if !self.written.is_empty() {
            parts.push(format!(
                "{} {key}: {} written",
                source.name,
                self.written.join(", ")
            ));
        }
        if !self.kept.is_empty() {
            parts.push(format!(
                "the CRM's {} wins, and is sent again",
                self.kept.join(", ")
            ));
        }
        parts.extend(self.refused.iter().cloned());
        let text = parts.join("; ");
        match (self.written.is_empty(), self.refused.is_empty()) {
            (false, _) => applied(text),
            (true, false) => failed(text),
            (true, true) if text.is_empty() => ignored("nothing new"),
            (true, true) => ignored(text),
        }
    }
}
