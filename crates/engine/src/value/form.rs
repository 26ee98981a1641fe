//! `application/x-www-form-urlencoded` bodies, bounded: what webhooks of Mailchimp's are made of.

use serde_json::{Map, Value};

/// Mandrill's bodies are the largest: up to 1,000 events of a few kilobytes each.
const MAX_BYTES: usize = 8 << 20;
const MAX_PAIRS: usize = 2_000;
/// Mailchimp nests `data[merges][ADDRESS][addr1]`.
const MAX_DEPTH: usize = 4;

/// Why a form cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("the body has {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLarge { bytes: usize },
    #[error("the body has more than {MAX_PAIRS} fields")]
    TooManyPairs,
    #[error("a percent sign is not followed by two hexadecimal digits")]
    BadEscape,
    #[error("a name or value is not UTF-8")]
    NotUtf8,
    #[error("the name {0} is nested more than {MAX_DEPTH} levels deep")]
    TooDeep(String),
    #[error("the brackets of the name {0} do not match")]
    BadName(String),
    #[error("the name {0} is used both for a value and for a group of values")]
    Clash(String),
}

/// Names and values in the order they came.
pub fn pairs(body: &[u8]) -> Result<Vec<(String, String)>, FormError> {
    if body.len() > MAX_BYTES {
        return Err(FormError::TooLarge { bytes: body.len() });
    }
    check_escapes(body)?;
    // Decoding below is lossy; a whole that is UTF-8 has parts that are.
    let decoded = percent_encoding::percent_decode(body);
    decoded.decode_utf8().map_err(|_| FormError::NotUtf8)?;
    let mut pairs = Vec::new();
    for (name, value) in form_urlencoded::parse(body) {
        if pairs.len() == MAX_PAIRS {
            return Err(FormError::TooManyPairs);
        }
        pairs.push((name.into_owned(), value.into_owned()));
    }
    Ok(pairs)
}

fn check_escapes(body: &[u8]) -> Result<(), FormError> {
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match rest[at + 1..] {
            [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = &rest[at + 3..];
            }
            _ => return Err(FormError::BadEscape),
        }
    }
    Ok(())
}

/// Nested names as nested objects: `data[merges][FNAME]=Ada` becomes
/// `{"data":{"merges":{"FNAME":"Ada"}}}`. All values are strings; of repeated names the last counts.
pub fn tree(pairs: &[(String, String)]) -> Result<Value, FormError> {
    let mut root = Map::new();
    for (name, value) in pairs {
        insert(&mut root, name, &path(name)?, value)?;
    }
    Ok(Value::Object(root))
}

fn path(name: &str) -> Result<Vec<&str>, FormError> {
    let bad = || FormError::BadName(short(name));
    let (first, mut rest) = name.split_at(name.find('[').unwrap_or(name.len()));
    let mut path = vec![first];
    while !rest.is_empty() {
        let inner = rest.strip_prefix('[').ok_or_else(bad)?;
        let (key, after) = inner.split_once(']').ok_or_else(bad)?;
        if key.contains('[') {
            return Err(bad());
        }
        if path.len() > MAX_DEPTH {
            return Err(FormError::TooDeep(short(name)));
        }
        path.push(key);
        rest = after;
    }
    Ok(path)
}

/// As much of a name as helps to find it.
fn short(name: &str) -> String {
    name.chars().take(100).collect()
}

fn insert(
    object: &mut Map<String, Value>,
    name: &str,
    path: &[&str],
    value: &str,
) -> Result<(), FormError> {
    let clash = || FormError::Clash(short(name));
    match path {
        [] => Ok(()),
        [key] => {
            // `a[]=x&a[]=y` is a list; numbers are its keys.
            let key = if key.is_empty() {
                object.len().to_string()
            } else {
                (*key).to_owned()
            };
            match object.insert(key, Value::String(value.to_owned())) {
                Some(Value::Object(_)) => Err(clash()),
                _ => Ok(()),
            }
        }
        [key, rest @ ..] => {
            let inner = object
                .entry((*key).to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(inner) => insert(inner, name, rest, value),
                _ => Err(clash()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(body: &str) -> Result<Value, FormError> {
        tree(&pairs(body.as_bytes())?)
    }

    #[test]
    fn names_nest() {
        let cases = [
            (
                "type=subscribe&data%5Bemail%5D=a%40b.co",
                json!({"type": "subscribe", "data": {"email": "a@b.co"}}),
            ),
            (
                "data[merges][ADDRESS][addr1]=Stra%C3%9Fe+1",
                json!({"data": {"merges": {"ADDRESS": {"addr1": "Straße 1"}}}}),
            ),
            (
                "data[g][0][id]=1&data[g][1][id]=2",
                json!({"data": {"g": {"0": {"id": "1"}, "1": {"id": "2"}}}}),
            ),
            ("a[]=x&a[]=y", json!({"a": {"0": "x", "1": "y"}})),
            ("a=1&a=2&b", json!({"a": "2", "b": ""})),
            ("", json!({})),
        ];
        for (body, expected) in cases {
            assert_eq!(read(body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let deep = "a[b][c][d][e][f]=1";
        let cases = [
            ("a=%", FormError::BadEscape),
            ("a=%4", FormError::BadEscape),
            ("a=%zz", FormError::BadEscape),
            ("a=%C3%28", FormError::NotUtf8),
            (deep, FormError::TooDeep(deep[..deep.len() - 2].to_owned())),
            ("a[b=1", FormError::BadName("a[b".into())),
            ("a[b]c=1", FormError::BadName("a[b]c".into())),
            ("a[[b]]=1", FormError::BadName("a[[b]]".into())),
            ("a=1&a[b]=2", FormError::Clash("a[b]".into())),
            ("a[b]=2&a=1", FormError::Clash("a".into())),
        ];
        for (body, expected) in cases {
            assert_eq!(read(body), Err(expected), "{body}");
        }
        assert!(read("a[b][c][d][e]=1").is_ok());
        let large = vec![b'a'; MAX_BYTES + 1];
        assert!(matches!(pairs(&large), Err(FormError::TooLarge { .. })));
        assert_eq!(
            pairs("a=1&".repeat(MAX_PAIRS + 1).as_bytes()),
            Err(FormError::TooManyPairs)
        );
        assert!(pairs("a=1&".repeat(MAX_PAIRS).as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(fields in prop::collection::btree_map("[a-z]{1,5}", ".*", 0..8)) {
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
            let read = pairs(body.as_bytes()).unwrap();
            prop_assert_eq!(read, fields.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(pairs) = pairs(&body) {
                let _ = tree(&pairs);
            }
        }
    }
}
