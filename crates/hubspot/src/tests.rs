mod answers;
mod associations;
mod contract;
mod erasure;
mod plans;
mod preflight;
mod refusals;
mod setup;
mod sharing;
mod values;

use std::time::Duration;

use super::*;
use crate::objects::named::*;
use crate::{Call, HubSpotCall, HubSpotOnDelete, HubSpotSettings};
use crate::{answer::read, calls::assemble, plan::decide};
use integration_engine::{
    delivery::{
        call::{Item, Link, Work},
        outcome::{Category, Relink, TargetSignal, Verdict},
    },
    record::{
        RemoteId, SourceId, Target, Timestamp,
        mapping::{ConflictRule, Direction, Field, FieldId, SourceMap, ValueKind},
    },
    sync::clock::{FieldClock, Tick, ValueHash, Writer},
    wire::{Method, Reply},
};

fn settings(ready: &[Entity]) -> HubSpotSettings {
    HubSpotSettings {
        api_version: "2026-09".into(),
        external_id_property: "crm_id".into(),
        external_id_ready: ready.to_vec(),
        external_id_shared: Vec::new(),
        on_delete: HubSpotOnDelete::Archive,
    }
}

fn field(id: i16, remote: &str, kind: ValueKind, direction: Direction) -> Field {
    Field {
        id: FieldId(id),
        column: format!("{remote}_column"),
        kind,
        remote: remote.into(),
        remote_type: integration_engine::record::field_type::FieldType::Unknown,
        direction,
        conflict: ConflictRule::LastWriteWins,
        on_lossy: Default::default(),
        words: Default::default(),
    }
}

/// email, firstname, amount (a number), score (only pulled).
fn map(entity: Entity) -> SourceMap {
    SourceMap {
        external_ids: Default::default(),
        source: SourceId(1),
        name: "crm.people".into(),
        entity,
        target: Target::HubSpot,
        fields: vec![
            field(1, "email", ValueKind::Text, Direction::Both),
            field(2, "firstname", ValueKind::Text, Direction::Both),
            field(3, "amount", ValueKind::Decimal, Direction::Push),
            field(4, "score", ValueKind::Integer, Direction::Pull),
        ],
    }
}

fn row(texts: [Option<&str>; 4]) -> Option<Vec<Option<String>>> {
    Some(texts.iter().map(|text| text.map(str::to_owned)).collect())
}

fn work(row: Option<Vec<Option<String>>>, link: Option<Link>) -> Work {
    Work {
        source: SourceId(1),
        key: "17".into(),
        row,
        link,
        changed_at: Timestamp(1_000),
        batch_cap: 100,
        rival: None,
        gives_way: false,
        audience_met: true,
        syncing: false,
        standing: None,
        objection: None,
    }
}

fn link(remote_id: Option<&str>, remote_key: Option<&str>, agreed: &[(i16, &str)]) -> Option<Link> {
    let mut clock = FieldClock::default();
    for (field, value) in agreed {
        let hash = ValueHash::of(Some(value));
        clock.set(Tick {
            field: FieldId(*field),
            hash,
            at: Timestamp(1),
            by: Writer::Crm,
        });
    }
    Some(Link {
        remote_id: remote_id.map(RemoteId::from),
        remote_key: remote_key.map(str::to_owned),
        member_status: None,
        clock,
        membership: Default::default(),
        version: None,
    })
}

fn item(name: &str) -> Item {
    Item {
        work: 0,
        name: name.into(),
        ticks: Vec::new(),
        remote_key: name.contains('@').then(|| name.to_owned()),
        member_status: None,
        expected: None,
        intent: false,
        leaver: Default::default(),
        batch_cap: 100,
        fragment: r#"{"id":"x"}"#.into(),
        beside: Default::default(),
        own: None,
    }
}

/// One call with records of these names.
fn call(kind: HubSpotCall, names: &[&str]) -> Call {
    let sends = names
        .iter()
        .map(|name| (kind.clone(), item(name)))
        .collect();
    assemble(sends, &settings(&every_kind())).remove(0)
}

fn upsert() -> HubSpotCall {
    HubSpotCall::Upsert {
        entity: CONTACT,
        id_property: "email".into(),
    }
}

fn update() -> HubSpotCall {
    HubSpotCall::Update { entity: CONTACT }
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}
