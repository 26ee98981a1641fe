//! Mailchimp as the mechanism sees it.

use std::time::Duration;

use integration_engine::{
    delivery::{
        call::{Item, Link, Reading, Work},
        outbound::Outbound,
    },
    queue::traces::Watched,
    record::{
        Target,
        mapping::{Direction, Field, SourceMap},
    },
    service::{
        Service,
        failure::{BLOCKED_WAIT, Class, FailedReply},
    },
    value::{self, Value, ValueError},
    wire::{Reply, TransportError},
};

use super::{
    BULK_MAX, Call, Decision, EMAIL_ADDRESS, LIST_ID, MailchimpCall, MailchimpSettings, STATUS,
    answer, calls, intents, plan,
};
use crate::fields::values;

/// It sends no Retry-After; its limit is 10 connections at a time.
const CROWDED_WAIT: Duration = Duration::from_secs(2);

/// The service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mailchimp;

impl Outbound for Mailchimp {
    type Settings = MailchimpSettings;
    type Kind = MailchimpCall;

    const BATCH: usize = BULK_MAX;

    fn decide(
        work: &Work,
        index: usize,
        map: &SourceMap,
        settings: &MailchimpSettings,
    ) -> Decision {
        plan::decide(work, index, map, settings)
    }

    fn assemble(sends: Vec<(MailchimpCall, Item)>, settings: &MailchimpSettings) -> Vec<Call> {
        calls::assemble(sends, settings)
    }

    fn to_note(known: Option<&Link>, item: &Item, kind: &MailchimpCall) -> Option<Link> {
        intents::to_note(known, item, kind)
    }

    fn read(
        call: &Call,
        reply: Result<&Reply, &TransportError>,
        settings: &MailchimpSettings,
    ) -> Reading {
        answer::read(call, reply, settings)
    }
}

impl Service for Mailchimp {
    const TARGET: Target = Target::Mailchimp;
    const CREDENTIAL: &'static str = "integration.mailchimp_api_key";
    const SLOWS_DOWN: bool = true;

    fn judge(refusal: &FailedReply<'_>) -> Option<Class> {
        let crowded = |why| Class::Crowded {
            why,
            wait: refusal.wait.unwrap_or(CROWDED_WAIT),
            counted: false,
        };
        Some(match refusal.status {
            // It throttles in this way. If it goes on, the network in front of it blocks this server.
            403 if refusal.body.is_none() => crowded(
                "Mailchimp refused without a reason (HTTP 403): too many requests at once, or this \
                 server's address is blocked"
                    .to_owned(),
            ),
            403 => Class::Unauthorized {
                why: format!(
                    "{}: the account or its user may not do this (HTTP 403{})",
                    Mailchimp::TARGET,
                    refusal.said()
                ),
            },
            // Not requests a second but connections at a time are limited.
            429 => crowded(refusal.too_many(Mailchimp::TARGET)),
            // The network in front of it, which may block this server.
            503 if refusal.body.is_none() && !refusal.is_empty() => Class::Failing {
                why: "the network in front of Mailchimp refuses requests (HTTP 503); it may have \
                      blocked this server's address"
                    .to_owned(),
                wait: Some(refusal.wait.unwrap_or(BLOCKED_WAIT)),
                counted: false,
            },
            _ => return None,
        })
    }

    fn watched(field: &Field, number: Option<i16>) -> Option<Watched> {
        let remote = field.remote.as_str();
        // In which audience somebody is a member is noted before each call that changes it.
        let travels = field.direction != Direction::Pull && remote != LIST_ID;
        travels.then_some(Watched {
            field: field.id,
            number,
            // Members keep the address they are known by, and that they were archived is noted
            // before.
            returns: !matches!(remote, EMAIL_ADDRESS | STATUS),
        })
    }

    fn to_remote<'r>(map: &SourceMap, row: &'r [Option<String>], index: usize) -> Value<'r> {
        let field = map.fields.get(index).zip(row.get(index));
        field.map_or(Ok(None), |(field, text)| {
            values::to_remote(field, text.as_deref())
        })
    }

    fn canonical<'t>(_: &SourceMap, field: &Field, remote: Option<&'t str>) -> Value<'t> {
        values::canonical(field, remote)
    }

    fn to_column(
        field: &Field,
        remote: Option<&str>,
        present: Option<&str>,
    ) -> Result<Option<String>, ValueError> {
        values::to_column(field, remote, present)
    }

    fn same(field: &Field, crm: Option<&str>, remote: Option<&str>) -> bool {
        values::same(field, crm, remote) || value::same(field.kind, crm, remote)
    }
}
