//! Definitions as HubSpot answers them, and values converted in their light.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    definitions::{PortalDefinitions, read_owners, read_pipelines, read_properties},
    values::{self, to_column, to_remote},
};
use integration_engine::{
    record::field_type::{FieldType, Owners, Pipelines},
    value::ValueError,
};

const PROPERTIES: &str = r#"{"results":[
    {"name":"email","type":"string","fieldType":"text","options":[]},
    {"name":"plain","type":"string","fieldType":"textarea","unknownField":{"a":1}},
    {"name":"number","type":"number","fieldType":"number","options":null},
    {"name":"day","type":"date","fieldType":"date"},
    {"name":"moment","type":"datetime","fieldType":"date"},
    {"name":"flag","type":"bool","fieldType":"booleancheckbox","options":[{"value":"true","label":"Yes"},{"value":"false","label":"No"}]},
    {"name":"one","type":"enumeration","fieldType":"select","options":[{"value":"g","label":"Gold"},{"value":"s","label":"Silver"},{"value":"G","label":"Grey"}]},
    {"name":"many","type":"enumeration","fieldType":"checkbox","options":[{"value":"a","label":"Ah"},{"value":"b","label":"Be"},{"value":"c","label":"Ce"}]},
    {"name":"open","type":"enumeration","fieldType":"select","options":[],"externalOptions":true},
    {"name":"rep","type":"enumeration","fieldType":"select","externalOptions":true,"referencedObjectType":"OWNER"},
    {"name":"hubspot_owner_id","type":"enumeration","fieldType":"select"},
    {"name":"sum","type":"number","fieldType":"calculation_equation","calculated":true},
    {"name":"fixed","type":"string","fieldType":"text","modificationMetadata":{"readOnlyValue":true}},
    {"name":"gone","type":"string","fieldType":"text","archived":true},
    {"name":"dealstage","type":"enumeration","fieldType":"radio","options":[{"value":"s1","label":"Open"}]},
    {"name":"pipeline","type":"enumeration","fieldType":"select","options":[{"value":"p1","label":"Sales"}]}]}"#;

const PIPELINES: &str = r#"{"results":[
    {"id":"p2","label":"Renewals","displayOrder":1,"stages":[{"id":"r2","label":"Won","displayOrder":2},{"id":"r1","label":"Open","displayOrder":1}]},
    {"id":"p1","label":"Sales","displayOrder":0,"archived":false,"stages":[{"id":"s1","label":"Open"},{"id":"s9","label":"Old","archived":true}]}]}"#;

fn owners() -> Owners {
    let page = r#"{"results":[{"id":"7","email":"Ada@Example.com"},{"id":"8","email":null},{"id":"9","email":"gone@example.com","archived":true}]}"#;
    let (owners, next) = read_owners(page.as_bytes()).unwrap();
    assert_eq!(next, None);
    owners
}

fn pipelines() -> Pipelines {
    read_pipelines(PIPELINES.as_bytes()).unwrap()
}

/// Everything is known of deals.
fn catalog() -> PortalDefinitions {
    let names = [
        "plain",
        "number",
        "day",
        "moment",
        "flag",
        "one",
        "many",
        "open",
        "rep",
        "sum",
        "fixed",
        "gone",
        "dealstage",
        "pipeline",
        "hubspot_owner_id",
    ];
    let read = read_properties(PROPERTIES.as_bytes(), &names.map(str::to_owned)).unwrap();
    PortalDefinitions {
        objects: [(DEAL, read)].into(),
        owners: Some(Arc::new(owners())),
        pipelines: [(DEAL, Arc::new(pipelines()))].into(),
        ..PortalDefinitions::default()
    }
}

fn mapped(fields: Vec<Field>) -> SourceMap {
    SourceMap {
        fields,
        ..map(DEAL)
    }
}

/// The field as it is once the definitions are known.
fn typed(property: &str, kind: ValueKind) -> Field {
    let map = mapped(vec![field(1, property, kind, Direction::Both)]);
    let (refined, dropped) = catalog().refine(&map, &settings(&[]));
    assert_eq!(dropped, []);
    refined.fields.into_iter().next().unwrap()
}

/// The only field of a map, with this text.
fn sent(field: &Field, text: Option<&str>) -> Result<Option<String>, ValueError> {
    let row = [text.map(str::to_owned)];
    let value = to_remote(&mapped(vec![field.clone()]), &row, 0)?;
    Ok(value.map(|value| value.into_owned()))
}

fn held(field: &Field, remote: Option<&str>) -> Result<Option<String>, ValueError> {
    let value = values::canonical(&mapped(vec![field.clone()]), field, remote)?;
    Ok(value.map(|value| value.into_owned()))
}

#[test]
fn length_counts_characters() {
    let field = field(1, "anything", ValueKind::Text, Direction::Both);
    let fits = "é".repeat(65_536);
    assert_eq!(sent(&field, Some(&fits)), Ok(Some(fits.clone())));
    let error = ValueError::TooLong { characters: 65_537 };
    assert_eq!(sent(&field, Some(&format!("{fits}é"))), Err(error));
}

#[test]
fn what_cannot_be_served_is_dropped() {
    use Direction::*;
    let map = mapped(vec![
        field(1, "plain", ValueKind::Text, Both),
        field(2, "missing", ValueKind::Text, Both),
        field(3, "gone", ValueKind::Text, Pull),
        field(4, "fixed", ValueKind::Text, Both),
        field(5, "sum", ValueKind::Decimal, Push),
        field(6, "sum", ValueKind::Decimal, Pull),
        field(7, "crm_id", ValueKind::Text, Both),
    ]);
    let (refined, dropped) = catalog().refine(&map, &settings(&[]));
    let kept: Vec<(i16, Direction)> = refined
        .fields
        .iter()
        .map(|field| (field.id.0, field.direction))
        .collect();
    assert_eq!(kept, [(1, Both), (4, Pull), (6, Pull), (7, Both)]);
    let said: Vec<String> = dropped.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "column missing_column of crm.people: property missing of HubSpot's deals does not exist",
            "column gone_column of crm.people: property gone of HubSpot's deals does not exist",
            "column fixed_column of crm.people: property fixed of HubSpot's deals is read-only",
            "column sum_column of crm.people: property sum of HubSpot's deals is read-only",
        ]
    );
    // Of an object that has not been read nothing is known.
    let (same, dropped) = PortalDefinitions::default().refine(&map, &settings(&[]));
    assert_eq!((same, dropped), (map, Vec::new()));
}

#[test]
fn unreadable_definitions_are_refused() {
    for body in [
        "",
        "{}",
        "<html>",
        r#"{"results":[]}"#,
        r#"{"results":[{"type":"string"}]}"#,
    ] {
        assert!(read_properties(body.as_bytes(), &[]).is_err(), "{body}");
    }
    let page = r#"{"results":[],"paging":{"next":{"after":"77","link":"x"}}}"#;
    assert_eq!(
        read_owners(page.as_bytes()).unwrap().1.as_deref(),
        Some("77")
    );
}

#[test]
fn values_go_by_the_property() {
    use ValueKind::*;
    let cases = [
        ("plain", Text, "  x ", Ok("x")),
        ("plain", Bool, "t", Ok("true")),
        ("number", Text, "1,5", Err(ValueError::NotANumber)),
        ("number", Text, "01.50", Ok("1.5")),
        (
            "number",
            Decimal,
            "9007199254740993.10",
            Ok("9007199254740993.1"),
        ),
        ("number", Bool, "t", Err(ValueError::NotANumber)),
        ("day", Date, "2026-01-02", Ok("2026-01-02")),
        (
            "day",
            TimestampTz,
            "2026-01-02 23:30:00-05",
            Ok("2026-01-03"),
        ),
        ("day", Timestamp, "2026-01-02 23:30:00", Ok("2026-01-02")),
        ("day", Text, "2026-02-30", Err(ValueError::NotADate)),
        ("day", Text, "2026-01-02", Ok("2026-01-02")),
        ("day", Integer, "1767312000000", Ok("2026-01-02")),
        ("moment", Date, "2026-01-02", Ok("2026-01-02T00:00:00Z")),
        (
            "moment",
            TimestampTz,
            "2026-01-02 03:04:05.678901+00",
            Ok("2026-01-02T03:04:05.678Z"),
        ),
        (
            "moment",
            Text,
            "2026-01-02T03:04:05+02:00",
            Ok("2026-01-02T01:04:05Z"),
        ),
        ("moment", Text, "soon", Err(ValueError::NotATime)),
        ("flag", Integer, "1", Ok("true")),
        ("flag", Text, "No", Ok("false")),
        ("flag", Text, "perhaps", Err(ValueError::NotABoolean)),
        ("one", Text, "s", Ok("s")),
        ("one", Text, "SILVER", Ok("s")),
        // A value is exact: this one is not mistaken for another's label.
        ("one", Text, "G", Ok("G")),
        ("many", TextArray, "{c,Ah,a}", Ok("a;c")),
        ("many", Text, "; b ;a", Ok("a;b")),
        ("open", Text, "anything", Ok("anything")),
        ("rep", Text, "ADA@example.com", Ok("7")),
        ("hubspot_owner_id", Text, "12", Ok("12")),
        (
            "hubspot_owner_id",
            Text,
            "gone@example.com",
            Err(ValueError::NoOwner),
        ),
        ("pipeline", Text, "renewals", Ok("p2")),
        ("pipeline", Text, "p1", Ok("p1")),
        ("dealstage", Text, "Won", Ok("r2")),
        // The first of the pipelines that have it.
        ("dealstage", Text, "open", Ok("s1")),
    ];
    for (property, kind, text, expected) in cases {
        let value = sent(&typed(property, kind), Some(text));
        let expected = expected.map(|text| Some(text.to_owned()));
        assert_eq!(value, expected, "{kind:?} {text} to {property}");
    }
    let refusals = [
        ("one", "bronze", "g (Gold), s (Silver), G (Grey)"),
        ("many", "a;z", "a (Ah), b (Be), c (Ce)"),
        ("pipeline", "nowhere", "p1 (Sales), p2 (Renewals)"),
        ("dealstage", "s9", "s1 (Open), r1 (Open), r2 (Won)"),
    ];
    for (property, text, allowed) in refusals {
        let why = sent(&typed(property, ValueKind::Text), Some(text)).unwrap_err();
        assert!(
            why.to_string().contains(allowed) && why.may_be_outdated(),
            "{why}"
        );
    }
    for property in ["plain", "number", "one", "many", "rep"] {
        assert_eq!(sent(&typed(property, ValueKind::Text), Some(" ")), Ok(None));
    }
}

#[test]
fn stage_is_one_of_the_records_pipeline() {
    let fields = ["pipeline", "dealstage"].map(|name| typed(name, ValueKind::Text));
    let map = mapped(fields.to_vec());
    let stage = |pipeline: Option<&str>, stage: &str| {
        let row = [pipeline.map(str::to_owned), Some(stage.to_owned())];
        to_remote(&map, &row, 1).map(|value| value.unwrap_or_default().into_owned())
    };
    assert_eq!(stage(Some("Renewals"), "open").as_deref(), Ok("r1"));
    assert_eq!(stage(Some("p1"), "open").as_deref(), Ok("s1"));
    assert_eq!(stage(None, "won").as_deref(), Ok("r2"));
    let why = stage(Some("sales"), "r2").unwrap_err().to_string();
    assert!(
        why.contains("pipeline Sales") && why.contains("s1 (Open)"),
        "{why}"
    );
}

#[test]
fn stage_travels_with_a_changed_pipeline() {
    let mut fields = ["pipeline", "dealstage"].map(|name| typed(name, ValueKind::Text));
    (fields[0].id, fields[1].id) = (FieldId(1), FieldId(2));
    let map = mapped(fields.to_vec());
    let sent = |pipeline: &str, stage: &str| {
        let row = [pipeline, stage].map(|text| Some(text.to_owned())).to_vec();
        let work = work(Some(row), link(Some("5"), None, &[(1, "p1"), (2, "s1")]));
        match decide(&work, 0, &map, &settings(&[])) {
            Decision::Send(_, item) => item.fragment,
            Decision::Settled(verdict) => format!("{verdict:?}"),
        }
    };
    let both = r#"{"id":"5","properties":{"pipeline":"p2","dealstage":"r1"}}"#;
    assert_eq!(sent("Renewals", "Open"), both);
    assert_eq!(sent("Sales", "Open"), "Unchanged");
    assert!(sent("Sales", "Won").contains("stage of pipeline Sales"));
}

#[test]
fn values_come_back_in_the_manner_of_the_column() {
    let cases = [
        ("one", "s", Some("Gold"), "Silver"),
        ("one", "s", Some("g"), "s"),
        ("one", "s", None, "s"),
        ("one", "new", Some("Gold"), "new"),
        (
            "hubspot_owner_id",
            "7",
            Some("x@example.com"),
            "ada@example.com",
        ),
        ("hubspot_owner_id", "7", Some("9"), "7"),
        ("hubspot_owner_id", "99", Some("x@example.com"), "99"),
        ("pipeline", "p2", Some("sales"), "Renewals"),
        ("dealstage", "r2", Some("open"), "Won"),
        ("dealstage", "r2", Some("s1"), "r2"),
    ];
    for (property, remote, present, expected) in cases {
        let field = typed(property, ValueKind::Text);
        let column = to_column(&field, Some(remote), present).unwrap();
        assert_eq!(column.as_deref(), Some(expected), "{property} {present:?}");
        // Whatever its manner, it means the same.
        if expected != "new" {
            assert_eq!(
                sent(&field, Some(expected)),
                held(&field, Some(remote)),
                "{property}"
            );
        }
    }
}

/// Property, column, and texts as PostgreSQL writes them.
fn any_value() -> impl Strategy<Value = (&'static str, ValueKind, String)> {
    use ValueKind::*;
    let day =
        (1970..2100i32, 1..13u8, 1..29u8).prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}"));
    let moment = (day.clone(), 0..24u8, 0..60u8, 0..1_000_000u32)
        .prop_map(|(day, h, m, us)| format!("{day} {h:02}:{m:02}:07.{us:06}+00"));
    let names = prop::sample::subsequence(vec!["a", "Be", "c"], 1..=3).prop_shuffle();
    prop_oneof![
        (prop::sample::select(vec!["day", "moment", "plain"]), day)
            .prop_map(|(p, text)| (p, Date, text)),
        (prop::sample::select(vec!["day", "moment", "plain"]), moment).prop_map(|(p, text)| (
            p,
            TimestampTz,
            text
        )),
        (
            prop::sample::select(vec!["number", "plain"]),
            "-?[0-9]{1,20}(\\.[0-9]{1,6})?"
        )
            .prop_map(|(p, text)| (p, Decimal, text)),
        (prop::sample::select(vec!["flag", "plain"]), "[tf]").prop_map(|(p, text)| (p, Bool, text)),
        prop::sample::select(vec!["g", "gold", "Silver", "G"]).prop_map(|text| (
            "one",
            Text,
            text.to_owned()
        )),
        names
            .clone()
            .prop_map(|names| ("many", TextArray, format!("{{{}}}", names.join(",")))),
        names.prop_map(|names| ("many", Text, names.join(";"))),
        prop::sample::select(vec!["7", "Ada@example.com"]).prop_map(|text| (
            "rep",
            Text,
            text.to_owned()
        )),
        "\\PC{0,40}".prop_map(|text| ("plain", Text, text)),
    ]
}

proptest! {
    // What HubSpot returns of a value sent is taken for the same value, and so is what the column
    // holds once it has come back.
    #[test]
    fn values_survive_the_round_trip((property, kind, text) in any_value()) {
        let field = typed(property, kind);
        let value = sent(&field, Some(&text)).unwrap();
        // HubSpot: times with milliseconds, lists in any order.
        let returned = value.clone().map(|value| match (&field.remote_type, value.strip_suffix('Z')) {
            (FieldType::DateTime, Some(time)) if !time.contains('.') => format!("{time}.000Z"),
            (FieldType::Choices(_), _) => value.split(';').rev().collect::<Vec<_>>().join(";"),
            _ => value,
        });
        let read = held(&field, returned.as_deref()).unwrap();
        prop_assert_eq!(&read, &value);
        // Columns' texts are PostgreSQL's: what it makes of ours is not known here.
        if matches!(kind, ValueKind::Text | ValueKind::Decimal | ValueKind::Date) {
            let column = to_column(&field, returned.as_deref(), Some(&text)).unwrap();
            let again = sent(&field, column.as_deref()).unwrap();
            prop_assert_eq!(again, value);
        }
    }
}
