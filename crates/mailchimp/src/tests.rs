mod answers;
mod contract;
mod erasure;
mod fields_contract;
mod intents;
mod merge;
mod model;
mod moves;
mod plans;
mod preflight;
mod refusals;
mod rest;
mod specs;

use super::*;
use crate::{
    Call, Decision, Leaving, MailchimpCall, MailchimpSettings, OnDelete, Resubscribe, answer::read,
    calls::assemble, plan::decide,
};
use integration_engine::{
    crypto::subscriber_hash,
    delivery::{
        call::{Item, Link, Work},
        outcome::{Category, Relink, TargetSignal, Verdict},
    },
    record::{
        Entity, RemoteId, SourceId, Target, Timestamp,
        consent::MemberStatus,
        kind::Kind,
        mapping::{ConflictRule, Direction, Field, FieldId, SourceMap, ValueKind},
    },
    sync::clock::{FieldClock, Tick, ValueHash, Writer},
    wire::Reply,
};

/// People, as the table of kinds has them.
static PEOPLE: Kind = Kind {
    name: "contact",
    place: 0,
    is_person: true,
    is_shared: false,
};

const CONTACT: Entity = Entity::of(&PEOPLE);

fn settings() -> MailchimpSettings {
    MailchimpSettings {
        list: "a1".into(),
        several: false,
        resubscribe: Resubscribe::Never,
        double_opt_in: false,
        on_delete: OnDelete::Archive,
    }
}

/// email_address, status (boolean), FNAME, SCORE (a number), tags.
fn map() -> SourceMap {
    let field = |id, remote: &str, kind| Field {
        id: FieldId(id),
        column: format!("{}_column", remote.to_lowercase()),
        kind,
        remote: remote.into(),
        remote_type: type_of(remote),
        direction: Direction::Both,
        conflict: ConflictRule::LastWriteWins,
        on_lossy: Default::default(),
        words: Default::default(),
    };
    SourceMap {
        external_ids: Default::default(),
        source: SourceId(1),
        name: "crm.people".into(),
        entity: CONTACT,
        target: Target::Mailchimp,
        fields: vec![
            field(1, "email_address", ValueKind::Text),
            field(2, "status", ValueKind::Bool),
            field(3, "FNAME", ValueKind::Text),
            field(4, "SCORE", ValueKind::Decimal),
            field(5, "tags", ValueKind::TextArray),
        ],
    }
}

fn row(texts: [Option<&str>; 5]) -> Option<Vec<Option<String>>> {
    Some(texts.iter().map(|text| text.map(str::to_owned)).collect())
}

fn work(row: Option<Vec<Option<String>>>, link: Option<Link>) -> Work {
    Work {
        source: SourceId(1),
        key: "17".into(),
        row,
        link,
        changed_at: Timestamp(1_000),
        batch_cap: 500,
        rival: None,
        gives_way: false,
        audience_met: true,
        syncing: false,
        standing: None,
        objection: None,
    }
}

fn link(
    id: Option<&str>,
    key: &str,
    status: Option<MemberStatus>,
    agreed: &[(i16, &str)],
) -> Option<Link> {
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
        remote_id: id.map(RemoteId::from),
        remote_key: Some(key.into()),
        member_status: status,
        clock,
        membership: Default::default(),
        version: None,
    })
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

#[test]
fn hashes_are_those_of_the_documentation() {
    assert_eq!(
        subscriber_hash("urist.mcvankab@freddiesjokes.com"),
        "62eeb292278cc15f5817cb78f7790b08"
    );
}
