//! Which scopes a call needs.

use super::definitions::Sensitivity;
use super::types::ObjectType;

/// The scopes that a call needs and the credential does not have; `None`: it may be made.
pub(crate) fn lacking(granted: &[String], method: &str, segments: &[&str]) -> Option<Vec<String>> {
    let lacking: Vec<String> = needed(method, segments)
        .into_iter()
        .filter(|scope| !granted.contains(scope))
        .collect();
    (!lacking.is_empty()).then_some(lacking)
}

/// The scope that sensitive properties of an object take, if it is not granted.
pub(crate) fn lacking_for(
    granted: &[String],
    object: ObjectType,
    verb: &str,
    sensitivity: Sensitivity,
) -> Option<String> {
    if sensitivity == Sensitivity::NonSensitive {
        return None;
    }
    let object = scope_object(object);
    let scope = format!("crm.objects.{object}.{}.{verb}.v2", sensitivity.name());
    (!granted.contains(&scope)).then_some(scope)
}

fn needed(method: &str, segments: &[&str]) -> Vec<String> {
    // The version stands before or behind the family.
    let (family, rest) = match segments {
        ["crm-object-schemas", ..] => return vec!["crm.schemas.custom.read".to_owned()],
        ["crm", version, family, rest @ ..] if super::is_version(version) => (*family, rest),
        ["crm", family, _, rest @ ..] => (*family, rest),
        _ => return Vec::new(),
    };
    let reads = method == "GET" || rest.contains(&"read") || rest.last() == Some(&"search");
    let verb = if reads { "read" } else { "write" };
    let of = |object: &&str| {
        let custom = || is_custom(object).then_some("custom");
        ObjectType::parse(object).map(scope_object).or_else(custom)
    };
    let objects = |objects: &[&str]| -> Vec<String> {
        objects
            .iter()
            .filter_map(of)
            .map(|object| format!("crm.objects.{object}.{verb}"))
            .collect()
    };
    match (family, rest) {
        ("objects", [object, _, "associations", "default", to, ..])
        | ("objects", [object, _, "associations", to, ..])
        | ("associations", [object, to, ..]) => objects(&[object, to]),
        ("objects" | "pipelines", [object, ..]) => objects(&[object]),
        ("properties", [object, ..]) if reads => objects(&[object]),
        // HubSpot: property definitions are part of the objects' schemas.
        ("properties", [object, ..]) => of(object)
            .map(|object| format!("crm.schemas.{object}.write"))
            .into_iter()
            .collect(),
        ("owners", _) => vec!["crm.objects.owners.read".to_owned()],
        _ => Vec::new(),
    }
}

/// `p12345_machines`, `2-123456`
fn is_custom(object: &str) -> bool {
    let qualified = object
        .strip_prefix('p')
        .and_then(|rest| rest.split_once('_'));
    let number = |(number, _): (&str, &str)| number.bytes().all(|byte| byte.is_ascii_digit());
    object.starts_with("2-") || qualified.is_some_and(number)
}

fn scope_object(object: ObjectType) -> &'static str {
    object.kind().scopes
}
