use proptest::prelude::*;

use super::*;
use crate::record::kind::sample::CONTACT;
use crate::{
    record::{
        SourceId, Target,
        field_type::FieldType,
        mapping::{FieldId, ValueKind},
    },
    service::plain::Plain,
    sync::clock::{Tick, Writer},
};

fn field(kind: ValueKind, direction: Direction, conflict: ConflictRule) -> Field {
    Field {
        id: FieldId(1),
        column: "c".to_owned(),
        kind,
        remote: "f".to_owned(),
        remote_type: FieldType::Unknown,
        direction,
        conflict,
        on_lossy: Default::default(),
        words: Default::default(),
    }
}

fn map(field: Field, target: Target) -> SourceMap {
    SourceMap {
        external_ids: Default::default(),
        source: SourceId(1),
        name: "crm.contacts".to_owned(),
        entity: CONTACT,
        target,
        fields: vec![field],
    }
}

fn tick(hash: ValueHash, at: i64, by: Writer) -> Agreed {
    Agreed::from(Tick {
        field: FieldId(1),
        hash,
        at: Timestamp(at),
        by,
    })
}

fn of(text: &str) -> ValueHash {
    ValueHash::of(Some(text))
}

#[test]
fn which_values_are_alike() {
    use ValueKind::*;
    let cases = [
        (Text, Some("a"), Some("a"), true),
        (Text, Some(" a "), Some("a"), true),
        (Text, Some("a"), Some("b"), false),
        (Text, Some("a"), None, false),
        (Text, Some("a"), Some(""), false),
        (Text, None, Some("b"), false),
        (Text, None, Some(""), true),
        (Text, Some(""), None, true),
        (Text, None, None, true),
        (Decimal, Some("1.50"), Some("1.5"), true),
        (Integer, Some("7"), Some("7.0"), true),
        (Integer, Some("7"), Some("8"), false),
        // What is no number is still there to be seen.
        (Integer, Some("7"), Some("many"), false),
        (Bool, Some("t"), Some("true"), true),
        (Date, Some("2026-02-03"), Some("2026-02-03"), true),
        (TextArray, Some("{a,b}"), Some("a;b"), true),
        (TextArray, Some("{}"), None, true),
        (Json, Some(r#"{"a": 1}"#), Some(r#"{"a":1}"#), true),
    ];
    for (kind, crm, remote, alike) in cases {
        let map = map(
            field(kind, Direction::Both, ConflictRule::LastWriteWins),
            Target::HubSpot,
        );
        let row = [crm.map(str::to_owned)];
        let found = differences::<Plain>(&map, &row, |_| Some(remote), |_| None);
        assert_eq!(found.is_empty(), alike, "{kind:?} {crm:?} {remote:?}");
    }
}

#[test]
fn nothing_is_said_about_what_the_crm_leaves_open() {
    use {ConflictRule::*, Direction::*};
    let agreed = tick(of("x"), 1, Writer::Crm);
    let cases = [
        (Push, LastWriteWins, None, true),
        (Both, CrmWins, None, true),
        (Both, LastWriteWins, None, false),
        (Both, RemoteWins, None, false),
        (Pull, LastWriteWins, None, false),
        // It was cleared here, or is to be.
        (Push, LastWriteWins, Some(agreed), false),
        (Both, CrmWins, Some(agreed), false),
    ];
    for (direction, rule, agreed, silent) in cases {
        let map = map(field(ValueKind::Text, direction, rule), Target::HubSpot);
        let found = differences::<Plain>(&map, &[None], |_| Some(Some("theirs")), |_| agreed);
        assert_eq!(found.is_empty(), silent, "{direction:?} {rule:?}");
    }
}

#[test]
fn what_is_not_asked_for_is_not_compared() {
    let map = map(
        field(ValueKind::Text, Direction::Both, ConflictRule::CrmWins),
        Target::HubSpot,
    );
    let row = [Some("ours".to_owned())];
    assert_eq!(differences::<Plain>(&map, &row, |_| None, |_| None), []);
}

#[test]
fn who_gets_their_way() {
    use {
        ConflictRule::*,
        Direction::{Both, Push},
        Writer::*,
    };
    let (pull, push, leave) = (Remedy::Pull, Remedy::Push, Remedy::Leave);
    let (ours, theirs, before) = (of("ours"), of("theirs"), of("before"));
    // direction, rule, written there at, agreed, CRM changed at, remedy
    let cases = [
        // Only the service changed.
        (Both, LastWriteWins, 5, Some(tick(ours, 3, Crm)), None, pull),
        (Both, CrmWins, 5, Some(tick(ours, 3, Crm)), None, pull),
        (Push, RemoteWins, 5, Some(tick(ours, 3, Crm)), None, push),
        // Only the CRM did.
        (
            Both,
            RemoteWins,
            2,
            Some(tick(theirs, 3, Crm)),
            Some(9),
            push,
        ),
        (
            Direction::Pull,
            LastWriteWins,
            2,
            Some(tick(theirs, 1, Remote)),
            Some(9),
            pull,
        ),
        (
            Direction::Pull,
            CrmWins,
            2,
            Some(tick(theirs, 1, Remote)),
            Some(9),
            leave,
        ),
        // Both did.
        (Both, CrmWins, 5, Some(tick(before, 3, Crm)), Some(9), push),
        (
            Both,
            RemoteWins,
            5,
            Some(tick(before, 3, Crm)),
            Some(9),
            pull,
        ),
        (
            Both,
            LastWriteWins,
            5,
            Some(tick(before, 3, Crm)),
            Some(9),
            push,
        ),
        (
            Both,
            LastWriteWins,
            9,
            Some(tick(before, 3, Crm)),
            Some(5),
            pull,
        ),
        // What is there is older than what was agreed on.
        (Both, LastWriteWins, 2, Some(tick(ours, 3, Crm)), None, push),
        (
            Direction::Pull,
            LastWriteWins,
            2,
            Some(tick(ours, 3, Remote)),
            None,
            pull,
        ),
        // Nothing was ever agreed on.
        (Both, CrmWins, 5, None, Some(9), push),
        (Both, RemoteWins, 5, None, Some(9), pull),
        (Push, RemoteWins, 5, None, None, push),
    ];
    for (direction, rule, at, agreed, changed, expected) in cases {
        let field = field(ValueKind::Text, direction, rule);
        let found = remedy(
            &field,
            Timestamp(at),
            theirs,
            ours,
            agreed.as_ref(),
            changed.map(Timestamp),
        );
        assert_eq!(found, expected, "{direction:?} {rule:?} {at} {agreed:?}");
    }
}

#[test]
fn consent_moves_towards_less_mail_only() {
    use {Consent::*, ConsentRemedy::*, MemberStatus::*};
    let cases = [
        (OptedIn, Subscribed, Some(Subscribed), None),
        (OptedIn, Pending, None, None),
        (
            OptedIn,
            UnsubscribedByMember,
            Some(Subscribed),
            Some(TellCrm),
        ),
        (OptedIn, Cleaned, Some(Subscribed), Some(TellCrm)),
        (OptedIn, UnsubscribedByMember, None, Some(TellCrm)),
        (
            OptedIn,
            UnsubscribedByMember,
            Some(UnsubscribedByMember),
            Some(Leave),
        ),
        (
            OptedIn,
            UnsubscribedByMember,
            Some(UnsubscribedByCrm),
            Some(Leave),
        ),
        (OptedIn, Cleaned, Some(Cleaned), Some(Leave)),
        (OptedIn, Archived, Some(Subscribed), Some(Leave)),
        (
            OptedOut,
            Subscribed,
            Some(UnsubscribedByCrm),
            Some(TellService),
        ),
        (
            OptedOut,
            Subscribed,
            Some(UnsubscribedByMember),
            Some(TellService),
        ),
        (OptedOut, Pending, None, Some(TellService)),
        (OptedOut, UnsubscribedByMember, None, None),
        (OptedOut, Cleaned, None, None),
        (Unknown, Subscribed, Some(Subscribed), Some(TellService)),
        (Unknown, Pending, Some(Pending), None),
        (Unknown, Archived, None, None),
    ];
    for (crm, held, known, expected) in cases {
        assert_eq!(
            consent_remedy(crm, held, known),
            expected,
            "{crm:?} {held:?} {known:?}"
        );
    }
}

fn columns() -> impl Strategy<Value = (ValueKind, String)> {
    prop_oneof![
        "\\PC{0,40}".prop_map(|text| (ValueKind::Text, text)),
        any::<i64>().prop_map(|number| (ValueKind::Integer, number.to_string())),
        (any::<i32>(), 0u32..1_000_000)
            .prop_map(|(whole, part)| (ValueKind::Decimal, format!("{whole}.{part:06}"))),
        any::<bool>().prop_map(|yes| (ValueKind::Bool, if yes { "t" } else { "f" }.to_owned())),
        (1i32..9999, 1u8..13, 1u8..29)
            .prop_map(|(y, m, d)| (ValueKind::Date, format!("{y:04}-{m:02}-{d:02}"))),
        (1971i32..2100, 1u8..13, 1u8..29, 0u8..24, 0u32..1_000_000).prop_map(
            |(y, m, d, h, micros)| (
                ValueKind::TimestampTz,
                format!("{y:04}-{m:02}-{d:02} {h:02}:30:15.{micros:06}+00")
            )
        ),
        prop::collection::vec("[a-z]{1,6}", 0..4)
            .prop_map(|parts| (ValueKind::TextArray, format!("{{{}}}", parts.join(",")))),
    ]
}

proptest! {
    /// The service holds what was sent to it: there is no difference.
    #[test]
    fn what_was_just_sent_is_no_difference(
        (kind, text) in columns(),
        target in prop::sample::select(vec![Target::HubSpot, Target::Mailchimp]),
        direction in prop::sample::select(vec![Direction::Push, Direction::Pull, Direction::Both]),
    ) {
        let map = map(field(kind, direction, ConflictRule::LastWriteWins), target);
        let row = [Some(text)];
        if let Ok(sent) = Plain::to_remote(&map, &row, 0) {
            let held = sent.as_deref();
            let found = differences::<Plain>(&map, &row, |_| Some(held), |_| None);
            prop_assert!(found.is_empty(), "{:?} {:?}", row, found);
        }
    }

    /// Once it has been put right, nothing is left to do.
    #[test]
    fn a_remedy_is_final(
        direction in prop::sample::select(vec![Direction::Push, Direction::Pull, Direction::Both]),
        rule in prop::sample::select(vec![
            ConflictRule::CrmWins, ConflictRule::RemoteWins, ConflictRule::LastWriteWins,
        ]),
        at in 1i64..20, agreed in prop::option::of((0u64..4, 1i64..20, any::<bool>())),
        changed in prop::option::of(1i64..20), remote in 0u64..4, crm in 0u64..4,
    ) {
        let field = field(ValueKind::Text, direction, rule);
        let agreed = agreed.map(|(hash, at, ours)| {
            tick(ValueHash(hash), at, if ours { Writer::Crm } else { Writer::Remote })
        });
        let changed = changed.map(Timestamp);
        let found = remedy(
            &field, Timestamp(at), ValueHash(remote), ValueHash(crm), agreed.as_ref(), changed,
        );
        // A field is never moved against its direction.
        prop_assert!(!(found == Remedy::Pull && direction == Direction::Push));
        prop_assert!(!(found == Remedy::Push && direction == Direction::Pull));
        let after = match found {
            Remedy::Pull => remote,
            Remedy::Push => crm,
            Remedy::Leave => return Ok(()),
        };
        let again = remedy(
            &field, Timestamp(at), ValueHash(after), ValueHash(after), agreed.as_ref(), changed,
        );
        prop_assert_eq!(again, Remedy::Leave);
    }
}
