//! Values for the fields of a map, whatever is known of them.

use std::borrow::Cow;

use integration_engine::{
    record::{
        field_type::FieldType,
        kind::{Convention, Takes},
        mapping::{Field, ValueKind},
    },
    value::{self, Value, ValueError},
};

use crate::fields::merge;
use crate::{EMAIL_ADDRESS, LANGUAGE, STATUS};

/// The fields that `track()` maps by itself.
pub const CONVENTIONS: [Convention; 6] = [
    text(EMAIL_ADDRESS, "email email_address e_mail mail"),
    text("FNAME", "first_name firstname given_name forename"),
    text("LNAME", "last_name lastname family_name surname"),
    text("PHONE", "phone phone_number telephone tel"),
    text(LANGUAGE, "language locale lang"),
    Convention {
        remote_field: STATUS,
        takes: Takes::Bool,
        columns: "email_subscription_status marketing_opt_in marketing_consent email_opt_in newsletter_opt_in opt_in opted_in subscribed newsletter",
    },
];

const fn text(remote_field: &'static str, columns: &'static str) -> Convention {
    Convention {
        remote_field,
        takes: Takes::Text,
        columns,
    }
}

/// A column's text as the field's value; `None` clears it.
pub(crate) fn to_remote<'a>(field: &Field, text: Option<&'a str>) -> Value<'a> {
    match (text, &field.remote_type) {
        (Some(text), _) if is_identity(field) && !text.trim().is_empty() => {
            value::email_key(text).map(|key| Some(Cow::Owned(key)))
        }
        (text, FieldType::Merge(merge)) => merge::to_remote(field.kind, merge, text),
        (text, _) => unknown(field.kind, text),
    }
}

/// By the column's type: what the field holds is not known.
fn unknown(kind: ValueKind, text: Option<&str>) -> Value<'_> {
    let value = value::to_remote(kind, text)?;
    if let (ValueKind::Text | ValueKind::TextArray, Some(text)) = (kind, &value) {
        merge::check_length(text)?;
    }
    Ok(value)
}

/// The field's value as Mailchimp returns it, in the form that [`to_remote`] produces.
pub(crate) fn canonical<'a>(field: &Field, remote: Option<&'a str>) -> Value<'a> {
    match (remote, &field.remote_type) {
        (Some(text), _) if is_identity(field) && !text.trim().is_empty() => {
            Ok(Some(Cow::Owned(text.trim().to_lowercase())))
        }
        (remote, FieldType::Merge(merge)) => merge::canonical(field.kind, merge, remote),
        (remote, _) => value::canonical(field.kind, remote),
    }
}

/// The field's value as text for the column, in the manner of what stands there at present.
pub(crate) fn to_column(
    field: &Field,
    remote: Option<&str>,
    present: Option<&str>,
) -> Result<Option<String>, ValueError> {
    match &field.remote_type {
        FieldType::Merge(merge) => merge::to_column(field.kind, merge, remote, present),
        _ => value::to_column(field.kind, remote),
    }
}

/// Whether what Mailchimp holds is what would be sent, although it is not written alike.
pub(crate) fn same(field: &Field, crm: Option<&str>, remote: Option<&str>) -> bool {
    match &field.remote_type {
        FieldType::Merge(merge) => merge::same(merge, crm, remote),
        _ => false,
    }
}

/// Whether the field holds the address by which Mailchimp knows the member. Addresses are compared
/// in lower case.
fn is_identity(field: &Field) -> bool {
    field.remote.eq_ignore_ascii_case(EMAIL_ADDRESS)
}
