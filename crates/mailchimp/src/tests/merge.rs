//! Merge fields of every type: what is sent, what is compared, what comes back.

use crate::fields::values;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use integration_engine::{
    record::field_type::{FieldType, MergeType, NamedInterest},
    service::Service,
    value::ValueError,
};

fn field(kind: ValueKind, merge: MergeType) -> Field {
    Field {
        id: FieldId(3),
        column: "column".into(),
        kind,
        remote: "TAG".into(),
        remote_type: FieldType::Merge(merge),
        direction: Direction::Both,
        conflict: ConflictRule::LastWriteWins,
        on_lossy: Default::default(),
        words: Default::default(),
    }
}

fn to_remote(
    kind: ValueKind,
    merge: &MergeType,
    text: Option<&str>,
) -> Result<Option<String>, ValueError> {
    let sent = values::to_remote(&field(kind, merge.clone()), text)?;
    Ok(sent.map(|sent| sent.into_owned()))
}

fn held(kind: ValueKind, merge: &MergeType, text: Option<&str>) -> Option<String> {
    let held = values::canonical(&field(kind, merge.clone()), text);
    held.unwrap().map(|held| held.into_owned())
}

fn named(id: &str, category: &str, name: &str) -> NamedInterest {
    NamedInterest {
        id: id.into(),
        name: name.into(),
        category: category.into(),
    }
}

fn choices() -> MergeType {
    MergeType::Choice(["Gold", "Silver", "yes", "No"].map(str::to_owned).into())
}

fn groups() -> MergeType {
    MergeType::Interests(Some(Arc::from([
        named("a1", "Topics", "News"),
        named("b2", "Topics", "Art, old"),
        named("c3", "Places", "Berlin"),
        named("d4", "Places", "News"),
    ])))
}

const ADDRESS: &str = r#"{"zip":"10115","addr1":" Chausseestr. 1 ","city":"Berlin","state":"BE","addr2":"","note":1}"#;
const SENT_ADDRESS: &str =
    r#"{"addr1":"Chausseestr. 1","city":"Berlin","state":"BE","zip":"10115"}"#;

#[test]
fn length_of_what_is_not_known_counts_bytes() {
    let field = Field {
        remote_type: FieldType::Unknown,
        ..field(ValueKind::Text, MergeType::Text)
    };
    let fits = "é".repeat(127);
    for text in [fits.clone(), format!("{fits}x")] {
        let sent = values::to_remote(&field, Some(&text));
        assert_eq!(sent, Ok(Some(text.as_str().into())));
    }
    let error = ValueError::TooManyBytes { bytes: 256 };
    let long = format!("{fits}é");
    assert_eq!(values::to_remote(&field, Some(&long)), Err(error));
}

#[test]
fn values_go_by_the_field() {
    use MergeType::*;
    use ValueKind as Kind;
    let cases: Vec<(Kind, MergeType, &str, Option<&str>)> = vec![
        (Kind::Text, Text, " Ada ", Some("Ada")),
        (Kind::Bool, Text, "t", Some("true")),
        (Kind::Integer, Text, "7", Some("7")),
        (Kind::TextArray, Text, "{b,a}", Some("a;b")),
        (Kind::Text, Text, "  ", None),
        (Kind::Decimal, Number, "1.50", Some("1.5")),
        (Kind::Text, Number, " 7 ", Some("7")),
        (Kind::Text, choices(), "gold", Some("Gold")),
        (Kind::Text, choices(), "Silver", Some("Silver")),
        (Kind::Bool, choices(), "t", Some("yes")),
        (Kind::Bool, choices(), "f", Some("No")),
        (Kind::Date, Date, "2026-01-31", Some("2026-01-31")),
        (
            Kind::Timestamp,
            Date,
            "2026-01-31 23:59:59",
            Some("2026-01-31"),
        ),
        (
            Kind::TimestampTz,
            Date,
            "2026-01-31 23:59:59+00",
            Some("2026-01-31"),
        ),
        (Kind::Text, Date, "31-01-2026", Some("2026-01-31")),
        (Kind::Text, Date, "01/31/2026", Some("2026-01-31")),
        (Kind::Text, Date, "2026/1/31", Some("2026-01-31")),
        (Kind::Date, Birthday, "1815-12-10", Some("12/10")),
        (
            Kind::TimestampTz,
            Birthday,
            "1815-12-10 00:00:00+00",
            Some("12/10"),
        ),
        (Kind::Text, Birthday, "2/29", Some("02/29")),
        (Kind::Text, Birthday, "--12-10", Some("12/10")),
        (Kind::Text, Birthday, "10-12-1815", Some("12/10")),
        (Kind::Json, Address, ADDRESS, Some(SENT_ADDRESS)),
        (Kind::Text, Address, ADDRESS, Some(SENT_ADDRESS)),
        (Kind::Json, Address, r#"{"addr1":"","city":null}"#, None),
        (Kind::Text, Zip, "02134", Some("02134")),
        (Kind::Integer, Zip, "2134", Some("02134")),
        (Kind::Text, Phone, " +49 30 1 ", Some("+49 30 1")),
        (
            Kind::Text,
            Url,
            "https://example.org/a?b",
            Some("https://example.org/a?b"),
        ),
        (
            Kind::TextArray,
            Tags,
            r#"{VIP," crm ",vip,"a;b"}"#,
            Some(r#"["a;b","crm","vip"]"#),
        ),
        (Kind::Text, Tags, "One Tag", Some(r#"["one tag"]"#)),
        (
            Kind::Json,
            Tags,
            r#"["VIP","crm"]"#,
            Some(r#"["crm","vip"]"#),
        ),
        (Kind::TextArray, Tags, "{}", None),
        (
            Kind::TextArray,
            groups(),
            "{c3,berlin,topics: news}",
            Some(r#"["a1","c3"]"#),
        ),
        (Kind::Text, groups(), "Art, old", Some(r#"["b2"]"#)),
    ];
    for (kind, merge, text, expected) in cases {
        let sent = to_remote(kind, &merge, Some(text));
        assert_eq!(
            sent,
            Ok(expected.map(str::to_owned)),
            "{kind:?} {merge:?} {text}"
        );
    }
    assert_eq!(to_remote(Kind::Text, &Text, None), Ok(None));
}

#[test]
fn what_the_field_does_not_take_is_refused() {
    use MergeType::*;
    use ValueKind as Kind;
    let cases: Vec<(Kind, MergeType, String)> = vec![
        (Kind::Text, Text, "é".repeat(128)),
        (Kind::Text, Number, "seven".into()),
        (Kind::Text, choices(), "bronze".into()),
        (Kind::Text, Date, "2026-02-30".into()),
        (Kind::Text, Date, "tomorrow".into()),
        (Kind::Date, Date, "infinity".into()),
        (Kind::Text, Birthday, "13/01".into()),
        (Kind::Text, Birthday, "02/30".into()),
        (
            Kind::Json,
            Address,
            r#"{"addr1":"x","city":"Berlin"}"#.into(),
        ),
        (Kind::Json, Address, "[]".into()),
        (Kind::Text, Address, "Chausseestr. 1".into()),
        (Kind::Text, Zip, "1011".into()),
        (Kind::Text, Zip, "SW1A 1AA".into()),
        (Kind::Integer, Zip, "123456".into()),
        (Kind::Text, Url, "www.example.org".into()),
        (Kind::Text, Url, "https://exa mple.org".into()),
        (Kind::Text, Url, "http://".into()),
        (Kind::Json, Tags, r#"{"a":1}"#.into()),
        (Kind::Json, Tags, "[1]".into()),
        (Kind::TextArray, groups(), "{News}".into()),
        (Kind::TextArray, groups(), "{Sports}".into()),
        (Kind::Text, Interests(None), "News".into()),
        (Kind::Text, Permissions(None), "News".into()),
    ];
    for (kind, merge, text) in cases {
        assert!(
            to_remote(kind, &merge, Some(&text)).is_err(),
            "{merge:?} {text}"
        );
    }
    let listed = to_remote(ValueKind::Text, &groups(), Some("Sports")).unwrap_err();
    assert_eq!(
        listed.to_string(),
        "names \"Sports\", which the audience does not have; it has: Topics: News, Topics: Art, old, Places: Berlin, Places: News"
    );
    let missing = to_remote(
        ValueKind::Json,
        &MergeType::Address,
        Some(r#"{"addr1":"x","city":"Berlin"}"#),
    );
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .ends_with("without state, zip")
    );
}

#[test]
fn what_mailchimp_holds_becomes_a_column() {
    use MergeType::*;
    use ValueKind as Kind;
    let cases: Vec<(Kind, MergeType, &str, &str, Option<&str>)> = vec![
        (Kind::Text, Text, "Ada", "", Some("Ada")),
        (Kind::Integer, Number, "7", "", Some("7")),
        (Kind::Bool, choices(), "yes", "", Some("true")),
        (Kind::Date, Date, "01/31/2026", "", Some("2026-01-31")),
        (
            Kind::Date,
            Birthday,
            "12/11",
            "1815-12-10",
            Some("1815-12-11"),
        ),
        (
            Kind::Timestamp,
            Birthday,
            "12/11",
            "1815-12-10 01:02:03",
            Some("1815-12-11 01:02:03"),
        ),
        (Kind::Text, Birthday, "12/11", "12/10", Some("12/11")),
        (
            Kind::Text,
            Birthday,
            "12/11",
            "1815-12-10",
            Some("1815-12-11"),
        ),
        (Kind::Json, Address, ADDRESS, "", Some(SENT_ADDRESS)),
        (Kind::Text, Phone, "", "1", None),
        (
            Kind::TextArray,
            Tags,
            r#"["VIP","a,b"]"#,
            "",
            Some(r#"{"VIP","a,b"}"#),
        ),
        (Kind::Json, Tags, r#"["VIP"]"#, "", Some(r#"["VIP"]"#)),
        // As webhooks say it, in the manner of the column.
        (
            Kind::TextArray,
            groups(),
            "Berlin, Art\\, old",
            "",
            Some(r#"{"Berlin","Art, old"}"#),
        ),
        (
            Kind::TextArray,
            groups(),
            r#"["a1","c3"]"#,
            "{c3}",
            Some(r#"{"a1","c3"}"#),
        ),
        (
            Kind::TextArray,
            groups(),
            r#"["c3"]"#,
            "{places: news}",
            Some(r#"{"Places: Berlin"}"#),
        ),
        (
            Kind::TextArray,
            groups(),
            r#"["a1"]"#,
            "{Berlin}",
            Some(r#"{"Topics: News"}"#),
        ),
        (Kind::Text, groups(), "Berlin", "", Some("Berlin")),
    ];
    for (kind, merge, remote, present, expected) in cases {
        let field = field(kind, merge);
        let column = values::to_column(&field, Some(remote), Some(present));
        assert_eq!(
            column,
            Ok(expected.map(str::to_owned)),
            "{field:?} {remote}"
        );
    }
    for (kind, merge, remote, present) in [
        (Kind::Date, Birthday, "12/11", ""),
        (Kind::Date, Birthday, "02/29", "2026-01-01"),
        (Kind::Text, Tags, r#"["a","b"]"#, ""),
    ] {
        let field = field(kind, merge);
        let column = values::to_column(&field, Some(remote), Some(present));
        assert!(column.is_err(), "{field:?} {remote}");
    }
}

#[test]
fn what_is_written_otherwise_may_be_the_same() {
    let same = |kind, merge, crm, remote| {
        <Mailchimp as Service>::same(&field(kind, merge), Some(crm), Some(remote))
    };
    let (text, json) = (ValueKind::Text, ValueKind::Json);
    assert!(same(
        text,
        MergeType::Phone,
        "(555) 010-9999",
        "555-010-9999"
    ));
    assert!(!same(text, MergeType::Phone, "+49 30 1", "+49 30 2"));
    let there = SENT_ADDRESS.replace('}', r#","country":"US","addr2":""}"#);
    assert!(same(json, MergeType::Address, SENT_ADDRESS, &there));
    let here = SENT_ADDRESS.replace('}', r#","country":"DE"}"#);
    assert!(!same(json, MergeType::Address, &here, &there));
}

/// As the fact sheets say of the service: what is kept of a value that was accepted.
fn kept(merge: &MergeType, sent: &str) -> String {
    match merge {
        MergeType::Number | MergeType::Address => {
            serde_json::from_str::<Json>(sent).unwrap().to_string()
        }
        // Mailchimp: cut at 255 bytes.
        MergeType::Text => sent[..sent.floor_char_boundary(255)].to_owned(),
        _ => sent.to_owned(),
    }
}

fn texts(kind: ValueKind) -> BoxedStrategy<String> {
    match kind {
        ValueKind::Bool => prop_oneof![Just("t".to_owned()), Just("f".to_owned())].boxed(),
        ValueKind::Integer => any::<i32>().prop_map(|n| n.to_string()).boxed(),
        ValueKind::Decimal => (any::<i32>(), 0..1_000)
            .prop_map(|(n, f)| format!("{n}.{f:03}"))
            .boxed(),
        ValueKind::Date => "(1|2)[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|2[0-8])".boxed(),
        ValueKind::TimestampTz => {
            "(1|2)[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|2[0-8]) [01][0-9]:[0-5][0-9]:[0-5][0-9]\\+00"
                .boxed()
        }
        ValueKind::TextArray => "\\{(\"[a-zA-Zé ,]{0,8}\",){0,4}[a-zé]{1,4}\\}".boxed(),
        ValueKind::Json => (".{0,9}", ".{0,9}")
            .prop_map(|(a, b)| {
                serde_json::json!({"addr1": a, "city": b, "state": "BE", "zip": "1", "country": b})
                    .to_string()
            })
            .boxed(),
        _ => prop_oneof![
            ".{0,300}",
            "[0-9]{1,6}",
            "(0?[1-9]|1[0-2])/(0?[1-9]|2[0-8])",
            "https?://[a-z]{1,9}\\.org/[a-z]{0,9}",
            "(gold|SILVER|Yes|no)",
        ]
        .boxed(),
    }
}

proptest! {
    // Whatever is sent is equal to what is read back, by hash: a comparison finds nothing.
    #[test]
    fn what_is_sent_is_read_back_equal(
        (kind, text) in prop::sample::select(vec![
            ValueKind::Text, ValueKind::Bool, ValueKind::Integer, ValueKind::Decimal, ValueKind::Date,
            ValueKind::TimestampTz, ValueKind::TextArray, ValueKind::Json,
        ]).prop_flat_map(|kind| (Just(kind), texts(kind))),
        merge in prop::sample::select(vec![
            MergeType::Other, MergeType::Text, MergeType::Number, choices(), MergeType::Date,
            MergeType::Birthday, MergeType::Address, MergeType::Zip, MergeType::Phone,
            MergeType::Url, MergeType::Tags,
        ]),
    ) {
        if let Ok(Some(sent)) = to_remote(kind, &merge, Some(&text)) {
            let back = kept(&merge, &sent);
            prop_assert_eq!(held(kind, &merge, Some(&back)), Some(sent.clone()));
            prop_assert!(merge != MergeType::Text || sent.len() <= 255);
            // And what came into the column is sent as the same.
            let field = field(kind, merge.clone());
            if let Ok(Some(column)) = values::to_column(&field, Some(&back), Some(&text)) {
                let readable = !matches!(kind, ValueKind::Bool) || column != "true" && column != "false";
                if readable {
                    prop_assert_eq!(to_remote(kind, &merge, Some(&column)), Ok(Some(sent)));
                }
            }
        }
    }

    #[test]
    fn nothing_panics(text in ".{0,40}", remote in ".{0,40}") {
        for merge in [
            MergeType::Other, MergeType::Text, MergeType::Number, choices(), MergeType::Date,
            MergeType::Birthday, MergeType::Address, MergeType::Zip, MergeType::Phone,
            MergeType::Url, MergeType::Tags, groups(), MergeType::Interests(None),
        ] {
            for kind in [ValueKind::Text, ValueKind::Date, ValueKind::Integer, ValueKind::TextArray, ValueKind::Json] {
                let field = field(kind, merge.clone());
                let _ = values::to_remote(&field, Some(&text));
                let _ = values::canonical(&field, Some(&remote));
                let _ = values::to_column(&field, Some(&remote), Some(&text));
            }
        }
    }
}
