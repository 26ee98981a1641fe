//! Values that a service reports, into CRM columns by the conflict rules.

use integration_engine::delivery::call::Link;
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::mapping::{Direction, Field, SourceMap};
use integration_engine::record::{Lane, RecordRef, Target, Timestamp};
use integration_engine::refusal::RefusalCause;
use integration_engine::sync::clock::{Agreed, Tick, ValueHash, Writer};
use integration_engine::sync::conflict::{self, ConflictDecision};
use integration_engine::sync::drift::{self, Remedy};
use integration_engine::webhook;
use pgrx::spi::SpiResult;

use super::write::Held;
use super::{Alert, ApplyContext, Fate, Refused, applied, failed, ignored};
use crate::capture;
use crate::services;
use crate::store::inbound::inbox::FAILED_ALERT;
use crate::store::links::{self, LinkCause};
use crate::store::sources::Source;

/// Mailchimp: `fired_at` has whole seconds, so that what happened within one has no order.
const TICK_OF_THEIR_CLOCK: i64 = 1_000;

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// Something changed there, at the time it is stamped with.
    News,
    /// This is what it holds.
    State,
}

/// A record that a service reports values of.
pub struct Reported<'a> {
    pub apply_context: &'a ApplyContext<'a>,
    pub source: &'a Source,
    pub target: Target,
    pub knowledge: Knowledge,
    pub record: RecordRef,
    pub link: Link,
    /// The link is to be stored even if no value changes it.
    pub moved: bool,
    pub at: Timestamp,
}

/// What became of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldOutcome {
    Written,
    /// The CRM's value stays; whether it is sent.
    Kept {
        sent: bool,
    },
    /// The service's value has no form for the column.
    Unreadable(String),
    /// The CRM refused the value.
    Refused(Refused),
}

/// What became of a report.
pub enum Taken {
    /// There is nothing to write it to.
    Pointless(&'static str),
    /// The CRM does not take them now.
    Refused(Refused),
    /// By the names of the service's fields.
    Took(Vec<(String, FieldOutcome)>),
}

/// What one value comes to.
enum FieldStep {
    Nothing,
    /// Both sides agree now.
    Agreed,
    /// The CRM's value goes back to the service.
    SendOurs,
    Write(Option<String>),
    Unreadable(String),
}

impl Reported<'_> {
    /// Takes over what the rules say, field by field, and returns what that means for an event.
    pub(super) fn take(self, values: &[(String, Option<String>)]) -> SpiResult<Fate> {
        let source = self.source;
        let key = self.record.key.clone();
        let (at, apply_context) = (self.at, self.apply_context);
        Ok(match self.enter(values, |_| at)? {
            Taken::Pointless(why) => ignored(why),
            Taken::Refused(why) => Fate::Refused(why),
            Taken::Took(done) => fate(apply_context, source, key.as_str(), done),
        })
    }

    /// Takes over what the rules say, field by field. `at`: when each was written there.
    pub fn enter(
        mut self,
        values: &[(String, Option<String>)],
        at: impl Fn(&str) -> Timestamp,
    ) -> SpiResult<Taken> {
        let list = self.apply_context.list_of(&self.link);
        let Some(map) = self.source.map_in(self.target, list) else {
            return Ok(Taken::Pointless("the table is not sent there"));
        };
        let rows = self.source.read(map, &[&self.record.key])?;
        let Some(row) = rows.get(&self.record.key) else {
            return Ok(Taken::Pointless("the CRM row is gone"));
        };
        let mut done = Vec::new();
        for (name, reported) in values {
            let Some((index, field)) = map.field_named(name).filter(|(_, field)| {
                // Consent has rules of its own.
                self.target != Target::Mailchimp || field.remote != "status"
            }) else {
                continue;
            };
            self.at = webhook::not_in_future(at(name), self.apply_context.now.timestamp);
            let present = row.get(index).cloned().flatten();
            let became = match self.step(map, row, index, reported.as_deref()) {
                FieldStep::Nothing => continue,
                FieldStep::Agreed => None,
                FieldStep::SendOurs => Some(FieldOutcome::Kept {
                    sent: field.direction != Direction::Pull,
                }),
                FieldStep::Unreadable(why) => {
                    done.push((field.column.clone(), FieldOutcome::Unreadable(why)));
                    continue;
                }
                FieldStep::Write(column_value) => {
                    let (value, reported) = (column_value.as_deref(), reported.as_deref());
                    let found = present.as_deref();
                    match self.write(map, index, found, value, reported)? {
                        Ok(held) => {
                            self.agree(map, field, reported, held);
                            done.push((field.column.clone(), FieldOutcome::Written));
                        }
                        Err(refused)
                            if RefusalCause::of(&refused.sqlstate) != RefusalCause::Value =>
                        {
                            return Ok(Taken::Refused(refused));
                        }
                        Err(refused) => {
                            done.push((field.column.clone(), FieldOutcome::Refused(refused)));
                        }
                    }
                    continue;
                }
            };
            self.agree(map, field, reported.as_deref(), Held::Same);
            done.extend(became.map(|became| (field.column.clone(), became)));
        }
        self.store(&done)?;
        Ok(Taken::Took(done))
    }

    fn store(self, done: &[(String, FieldOutcome)]) -> SpiResult<()> {
        let (source, key) = (self.record.source, self.record.key.clone());
        if self.moved {
            let entry = LinkEntry {
                record: self.record,
                link: self.link,
            };
            links::write(self.target, LinkCause::Pulled, &[entry].into())?;
        }
        if done
            .iter()
            .any(|(_, done)| *done == FieldOutcome::Kept { sent: true })
        {
            let lane = match self.knowledge {
                Knowledge::News => Lane::Live,
                Knowledge::State => Lane::Reconcile,
            };
            capture::enqueue(self.target, source, lane, [key.as_str()]);
        }
        Ok(())
    }

    /// Both sides agree on what was reported, as far as the column holds it.
    fn agree(&mut self, map: &SourceMap, field: &Field, reported: Option<&str>, held: Held) {
        if let Ok(canonical) = services::canonical(map, field, reported) {
            self.moved = true;
            let remote = ValueHash::of(canonical.as_deref());
            let tick = Tick {
                field: field.id,
                hash: match held {
                    Held::Same => remote,
                    Held::Less(crm) => crm,
                },
                at: self.at,
                by: Writer::Remote,
            };
            let held = remote;
            self.link.clock.agree(Agreed { tick, held });
        }
    }

    fn step(
        &self,
        map: &SourceMap,
        row: &[Option<String>],
        index: usize,
        reported: Option<&str>,
    ) -> FieldStep {
        let Some(field) = map.fields.get(index) else {
            return FieldStep::Nothing;
        };
        let remote = match services::canonical(map, field, reported) {
            Ok(canonical) => ValueHash::of(canonical.as_deref()),
            Err(why) => return FieldStep::Unreadable(format!("{}: {why}", field.column)),
        };
        let local = services::to_remote(map, row, index).map_or(ValueHash(u64::MAX), |canonical| {
            ValueHash::of(canonical.as_deref())
        });
        let agreed = self.link.clock.agreed(field.id);
        let last = agreed.map(|agreed| agreed.tick);
        let changed_at =
            self.apply_context
                .crm_changed_at(self.target, &self.record, last.as_ref(), local);
        let news_to_us = agreed.is_none_or(|agreed| agreed.held != remote);
        let decision = match self.knowledge {
            Knowledge::State => {
                match drift::remedy(field, self.at, remote, local, agreed.as_ref(), changed_at) {
                    Remedy::Pull => ConflictDecision::Apply,
                    Remedy::Push => return FieldStep::SendOurs,
                    Remedy::Leave => return FieldStep::Nothing,
                }
            }
            Knowledge::News => conflict::decide(
                field.conflict,
                field.direction,
                self.at,
                remote,
                local,
                agreed.as_ref(),
                changed_at,
            ),
        };
        match decision {
            ConflictDecision::AlreadyEqual if news_to_us => FieldStep::Agreed,
            ConflictDecision::KeepCrm if !news_to_us => FieldStep::Nothing,
            // Which was first nobody knows; ties go to the CRM, and both sides shall hold its value.
            ConflictDecision::Older if news_to_us && self.at_the_same_tick(last.as_ref()) => {
                FieldStep::SendOurs
            }
            ConflictDecision::AlreadyEqual | ConflictDecision::Older => FieldStep::Nothing,
            ConflictDecision::KeepCrm => FieldStep::SendOurs,
            ConflictDecision::Apply => {
                let present = row.get(index).and_then(Option::as_deref);
                match services::to_column(map.target, field, reported, present) {
                    Ok(column_value) => FieldStep::Write(column_value),
                    Err(why) => FieldStep::Unreadable(format!("{}: {why}", field.column)),
                }
            }
        }
    }

    /// HubSpot's clock has milliseconds, as ours.
    fn at_the_same_tick(&self, agreed: Option<&Tick>) -> bool {
        self.target == Target::Mailchimp
            && agreed.is_some_and(|agreed| {
                agreed.by == Writer::Crm
                    && (self.at.0..self.at.0 + TICK_OF_THEIR_CLOCK).contains(&agreed.at.0)
            })
    }
}

/// What became of the values, as a person wants to read it. What the CRM refused is tried again,
/// unless it took something else of the same event.
fn fate(
    apply_context: &ApplyContext,
    source: &Source,
    key: &str,
    done: Vec<(String, FieldOutcome)>,
) -> Fate {
    let of = |wanted: fn(&FieldOutcome) -> bool| {
        let found = done.iter().filter(|(_, done)| wanted(done));
        found.map(|(column, _)| column.as_str()).collect::<Vec<_>>()
    };
    let written = of(|done| *done == FieldOutcome::Written);
    let kept = of(|done| matches!(done, FieldOutcome::Kept { .. }));
    let wrong: Vec<&str> = done.iter().filter_map(|(_, done)| done.wrong()).collect();
    let mut parts = Vec::new();
    if !written.is_empty() {
        parts.push(format!(
            "{} {key}: {} written",
            source.name,
            written.join(", ")
        ));
    }
    if !kept.is_empty() {
        parts.push(format!(
            "the CRM's {} wins, and is sent again",
            kept.join(", ")
        ));
    }
    parts.extend(wrong.iter().map(|why| (*why).to_owned()));
    let text = parts.join("; ");
    if !written.is_empty() {
        if !wrong.is_empty() {
            let message = format!("{} {key}: {}", source.name, wrong.join("; "));
            apply_context.alerts.borrow_mut().push(Alert {
                kind: FAILED_ALERT,
                subject: String::new(),
                message,
            });
        }
        return applied(text);
    }
    let refused = done.iter().find_map(|(_, done)| match done {
        FieldOutcome::Refused(why) => Some(why.sqlstate.clone()),
        _ => None,
    });
    match (refused, wrong.is_empty()) {
        (Some(sqlstate), _) => Fate::Refused(Refused { sqlstate, text }),
        (None, false) => failed(text),
        (None, true) if text.is_empty() => ignored("nothing new"),
        (None, true) => ignored(text),
    }
}

impl FieldOutcome {
    /// Why the field could not be written.
    pub fn wrong(&self) -> Option<&str> {
        match self {
            FieldOutcome::Unreadable(why) => Some(why),
            FieldOutcome::Refused(why) => Some(&why.text),
            FieldOutcome::Written | FieldOutcome::Kept { .. } => None,
        }
    }
}
