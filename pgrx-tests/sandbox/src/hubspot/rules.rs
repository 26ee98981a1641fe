//! What administrators require of records. HubSpot: enforced from version 2026-09 on; those before
//! pay no heed to it.

use std::borrow::Cow;

use super::definitions::{Definition, PropertyKey};
use super::errors::Problem;
use super::store::Store;
use super::validate;

/// Checks what a write would make of a record.
pub(crate) fn check(
    store: &Store,
    target: Option<usize>,
    values: &[(PropertyKey, Cow<'_, str>)],
) -> Result<(), Problem> {
    let after = |name: &str| {
        let (key, _) = store.definitions.find(name)?;
        let sent = values.iter().find(|(known, _)| *known == key);
        let stored = || Some(&*store.records[target?].value(key)?.value);
        sent.map(|(_, value)| &**value)
            .or_else(stored)
            .filter(|value| !value.is_empty())
    };
    let lacks =
        |definition: &&Definition| !definition.archived && after(&definition.name).is_none();
    for definition in store.definitions.all().iter().filter(lacks) {
        if definition.required && target.is_none() {
            return Err(validate::refuse(
                &definition.name,
                "MISSING_REQUIRED_PROPERTY",
                format!("Property \"{}\" is required", definition.name),
            ));
        }
        if let Some(rule) = &definition.required_when
            && after(&rule.property) == Some(&*rule.value)
        {
            return Err(validate::refuse(
                &definition.name,
                "MISSING_CONDITIONAL_REQUIRED_PROPERTY",
                format!(
                    "Property \"{}\" is required when \"{}\" is \"{}\"",
                    definition.name, rule.property, rule.value
                ),
            ));
        }
    }
    Ok(())
}
