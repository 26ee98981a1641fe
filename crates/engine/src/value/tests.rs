use proptest::prelude::*;

use super::*;

#[test]
fn columns_become_canonical_values() {
    use ValueKind::*;
    let cases = [
        (Text, "  Ada  ", Some("Ada")),
        (Text, "\u{a0}Ada\t", Some("Ada")),
        (Text, "   ", None),
        (Integer, "9223372036854775807", Some("9223372036854775807")),
        (Integer, "-5", Some("-5")),
        (Integer, "0", Some("0")),
        (Decimal, "1.50", Some("1.5")),
        (Decimal, "100.00", Some("100")),
        (Decimal, "0.00", Some("0")),
        (Decimal, "-0.10", Some("-0.1")),
        (
            Decimal,
            "12345678901234567890.12345",
            Some("12345678901234567890.12345"),
        ),
        (Float, "-0", Some("0")),
        (Float, "1e+20", Some("100000000000000000000")),
        (Float, "1.5e-07", Some("0.00000015")),
        (Float, "1.25e+01", Some("12.5")),
        (Float, "-2.5e+00", Some("-2.5")),
        (Bool, "t", Some("true")),
        (Bool, "f", Some("false")),
        (Bool, "true", Some("true")),
        (Date, "2024-02-29", Some("2024-02-29")),
        (
            Timestamp,
            "2024-01-31 12:34:56",
            Some("2024-01-31T12:34:56Z"),
        ),
        (
            Timestamp,
            "2024-01-31 12:34:56.5",
            Some("2024-01-31T12:34:56.500Z"),
        ),
        (
            Timestamp,
            "2024-01-31 12:34:56.000999",
            Some("2024-01-31T12:34:56Z"),
        ),
        (
            TimestampTz,
            "2024-01-31 12:34:56.123456+00",
            Some("2024-01-31T12:34:56.123Z"),
        ),
        (
            TimestampTz,
            "2024-01-31 00:30:00+02",
            Some("2024-01-30T22:30:00Z"),
        ),
        (
            TimestampTz,
            "2024-01-31 00:30:00.25+05:30",
            Some("2024-01-30T19:00:00.250Z"),
        ),
        (TextArray, "{b,a}", Some("a;b")),
        (TextArray, "{\"b c\",a,NULL,a}", Some("a;b c")),
        (
            TextArray,
            "{\"say \\\"hi\\\"\",\"NULL\"}",
            Some("NULL;say \"hi\""),
        ),
        (TextArray, "[0:1]={x,y}", Some("x;y")),
        (TextArray, "{}", None),
        (Json, "{\"a\": 1}", Some("{\"a\": 1}")),
    ];
    for (kind, text, expected) in cases {
        let value = to_remote(kind, Some(text));
        assert_eq!(
            value.as_ref().map(Option::as_deref),
            Ok(expected),
            "{kind:?} {text:?}"
        );
        assert!(
            same(kind, value.unwrap().as_deref(), expected),
            "{kind:?} {text:?} compares equal when read again"
        );
    }
    assert_eq!(to_remote(Text, None), Ok(None));
}

#[test]
fn what_has_no_counterpart_is_an_error() {
    use ValueKind::*;
    let cases = [
        (Decimal, "NaN", ValueError::NotANumber),
        (Float, "Infinity", ValueError::NotANumber),
        (Float, "-Infinity", ValueError::NotANumber),
        (Float, "1e+999999999", ValueError::NotANumber),
        (Decimal, ".", ValueError::NotANumber),
        (Bool, "maybe", ValueError::NotABoolean),
        (Date, "infinity", ValueError::NotADate),
        (Date, "0044-03-15 BC", ValueError::NotADate),
        (Date, "10000-01-01", ValueError::NotADate),
        (Timestamp, "-infinity", ValueError::NotATime),
        (Timestamp, "0044-03-15 10:00:00 BC", ValueError::NotATime),
        (
            TimestampTz,
            "0044-03-15 10:00:00+00 BC",
            ValueError::NotATime,
        ),
        (TimestampTz, "12024-01-31 12:34:56+00", ValueError::NotATime),
        (TextArray, "{{a},{b}}", ValueError::NotAnArray),
        (TextArray, "a,b", ValueError::NotAnArray),
        (TextArray, "{a,}", ValueError::NotAnArray),
        (TextArray, "{\"a", ValueError::NotAnArray),
        (TextArray, "{a;b}", ValueError::Semicolon),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(
            to_remote(kind, Some(text)),
            Err(expected),
            "{kind:?} {text:?}"
        );
    }
}

#[test]
fn unchanged_values_are_borrowed() {
    use ValueKind::*;
    let cases = [
        (Text, "Ada"),
        (Integer, "17"),
        (Decimal, "1.5"),
        (Bool, "t"),
        (Date, "2024-01-31"),
    ];
    for (kind, text) in cases {
        let value = to_remote(kind, Some(text)).unwrap().unwrap();
        assert!(matches!(value, Cow::Borrowed(_)), "{kind:?}");
    }
}

#[test]
fn remote_values_compare_by_meaning() {
    use ValueKind::*;
    let equal = [
        (Decimal, "1.0", "1"),
        (Integer, "5.0", "5"),
        (Float, "1E3", "1000"),
        (Bool, "TRUE", "true"),
        (Date, "1706659200000", "2024-01-31"),
        (Date, "2024-01-31T00:00:00Z", "2024-01-31"),
        (TimestampTz, "1706704496123", "2024-01-31T12:34:56.123Z"),
        (
            TimestampTz,
            "2024-01-31T12:34:56.000Z",
            "2024-01-31T12:34:56Z",
        ),
        (
            TimestampTz,
            "2024-01-31T13:34:56+01:00",
            "2024-01-31T12:34:56Z",
        ),
        (TextArray, ";b;a", "a;b"),
        (Json, "{\"a\":1,\"b\":2}", "{\"b\": 2, \"a\": 1}"),
        (Text, " Ada ", "Ada"),
    ];
    for (kind, a, b) in equal {
        assert!(same(kind, Some(a), Some(b)), "{kind:?} {a} = {b}");
    }
    for kind in [Text, Decimal, Date, TimestampTz, TextArray] {
        assert!(same(kind, None, Some("")), "{kind:?}");
        assert!(!same(kind, Some("x"), Some("")), "{kind:?}");
    }
    assert!(!same(Text, Some("ada"), Some("Ada")));
}

#[test]
fn remote_values_become_columns() {
    use ValueKind::*;
    let cases = [
        (Text, " as is ", Ok(Some(" as is "))),
        (Text, "", Ok(None)),
        (Integer, "5.0", Ok(Some("5"))),
        (Integer, "5.5", Err(ValueError::NotWhole)),
        (Decimal, "1234.50", Ok(Some("1234.5"))),
        (Decimal, "1,5", Err(ValueError::NotANumber)),
        (Bool, "false", Ok(Some("false"))),
        (Date, "1706659200000", Ok(Some("2024-01-31"))),
        (
            Timestamp,
            "2024-01-31T12:34:56.120Z",
            Ok(Some("2024-01-31 12:34:56.120")),
        ),
        (
            TimestampTz,
            "2024-01-31T12:34:56Z",
            Ok(Some("2024-01-31 12:34:56+00")),
        ),
        (TimestampTz, "soon", Err(ValueError::NotATime)),
        (
            TextArray,
            "a;say \"hi\";c\\d",
            Ok(Some("{\"a\",\"say \\\"hi\\\"\",\"c\\\\d\"}")),
        ),
        (Json, "{\"a\":1}", Ok(Some("{\"a\":1}"))),
        (Json, "{a:1}", Err(ValueError::NotJson)),
    ];
    for (kind, remote, expected) in cases {
        assert_eq!(
            to_column(kind, Some(remote)),
            expected.map(|value| value.map(str::to_owned)),
            "{kind:?} {remote:?}"
        );
    }
    assert_eq!(to_column(Text, None), Ok(None));
}

#[test]
fn email_keys() {
    let good = [
        (" Ada@Example.COM ", "ada@example.com"),
        ("a+tag.x@sub.example.co", "a+tag.x@sub.example.co"),
        ("Ünal@exämple.de", "ünal@exämple.de"),
    ];
    for (text, key) in good {
        assert_eq!(email_key(text).as_deref(), Ok(key));
    }
    let long = format!("{}@example.com", "a".repeat(243));
    for text in [
        "",
        "ada",
        "@b.c",
        "a@",
        "a@b",
        "a@@b.c",
        "a b@c.de",
        "a@b..c",
        "a@.b",
        "a@b.",
        "a\u{7}@b.c",
        &long,
    ] {
        assert!(
            matches!(email_key(text), Err(ValueError::NotAnEmail(_))),
            "{text:?}"
        );
    }
}

proptest! {
    #[test]
    fn numbers_keep_their_value(whole in any::<i32>(), fraction in 0u32..1_000_000) {
        let text = format!("{whole}.{fraction:06}");
        let value = to_remote(ValueKind::Decimal, Some(&text)).unwrap().unwrap();
        prop_assert_eq!(value.parse::<f64>().unwrap(), text.parse::<f64>().unwrap());
        prop_assert!(!value.contains('.') || !value.ends_with('0'));
    }

    #[test]
    fn floats_keep_their_value(number in proptest::num::f64::NORMAL) {
        let text = format!("{number:e}");
        let value = to_remote(ValueKind::Float, Some(&text)).unwrap().unwrap();
        prop_assert_eq!(value.parse::<f64>().unwrap(), number);
    }

    #[test]
    fn canonical_values_stay_as_they_are(
        kind in prop::sample::select(vec![
            ValueKind::Text, ValueKind::Decimal, ValueKind::Bool, ValueKind::Date,
            ValueKind::Timestamp, ValueKind::TimestampTz, ValueKind::TextArray, ValueKind::Json,
        ]),
        text in prop_oneof![
            ".*",
            "-?[0-9]{1,5}(\\.[0-9]{0,4})?(e-?[0-9]{1,2})?",
            "(1|2)[0-9]{3}-0[1-9]-(0|1)[1-9]( [01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(\\+00|-03|\\+05:30)?)?",
            "\\{[a-z]{1,3}(,[a-z \"]{1,3}){0,3}\\}",
        ],
    ) {
        if let Ok(Some(value)) = to_remote(kind, Some(&text)) {
            let again = canonical(kind, Some(&value)).unwrap();
            prop_assert_eq!(again.as_deref(), Some(&*value));
        }
    }

    #[test]
    fn arrays_survive_the_journey(list in prop::collection::vec("[^;\\s\u{0}]{1,6}", 1..5)) {
        let sent: Vec<Cow<'_, str>> = list.iter().map(|item| Cow::Borrowed(item.as_str())).collect();
        let column = array::literal(&sent);
        let value = to_remote(ValueKind::TextArray, Some(&column)).unwrap().unwrap();
        let back = to_column(ValueKind::TextArray, Some(&value)).unwrap().unwrap();
        prop_assert!(same(ValueKind::TextArray, Some(&value),
            to_remote(ValueKind::TextArray, Some(&back)).unwrap().as_deref()));
    }

    #[test]
    fn nothing_panics(text in any::<String>()) {
        use ValueKind::*;
        for kind in [Text, Integer, Decimal, Float, Bool, Date, Timestamp, TimestampTz, TextArray, Json] {
            let _ = to_remote(kind, Some(&text));
            let _ = canonical(kind, Some(&text));
            let _ = to_column(kind, Some(&text));
        }
        let _ = email_key(&text);
    }
}
