//! Which audience a row names.

pub(crate) mod account;

use std::borrow::Cow;

use crate::{MailchimpCall, MailchimpSettings};
use integration_engine::{
    delivery::{
        call::CallKind,
        outcome::{Category, Verdict},
        verdicts::dead,
    },
    record::mapping::SourceMap,
    wire::Reply,
};

use super::{LIST_ID, member::Row};

/// Mailchimp: audience ids are ten hexadecimal digits; what else might come is allowed for.
const LONGEST: usize = 50;

/// The audience that a row belongs to: the one it names, or the default.
pub fn audience_of(
    map: &SourceMap,
    row: &Row,
    settings: &MailchimpSettings,
) -> Result<String, Verdict> {
    let Some((index, field)) = map.field_named(LIST_ID) else {
        return Ok(settings.list.clone());
    };
    let text = row.get(index).and_then(Option::as_deref).unwrap_or("");
    let named = text.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if named.is_empty() {
        Ok(settings.list.clone())
    } else if named.len() <= LONGEST && named.bytes().all(plain) {
        Ok(named.to_owned())
    } else {
        Err(dead(
            Category::Unmappable,
            format!(
                "column {} of {} holds {}, which is no id of a Mailchimp audience; it is shown in \
                 the audience's settings, such as a6b5da1054",
                field.column,
                map.name,
                quoted(named)
            ),
        ))
    }
}

fn quoted(text: &str) -> Cow<'_, str> {
    integration_engine::value::json::shortened(text, LONGEST)
}

/// The row names an audience that the account does not have.
pub(super) fn no_such_audience(list: &str, status: u16, settings: &MailchimpSettings) -> Verdict {
    let named_by = match list == settings.list {
        true => "it is the default, integration.mailchimp_list_id",
        false => "it is what the record's column for list_id names",
    };
    Verdict::Dead {
        category: Category::NotFound,
        status: Some(status),
        why: format!(
            "Mailchimp does not know the audience {list}: {named_by}; correct that, or have it \
             created anew, then integration.dlq_retry()"
        ),
        member_status: None,
    }
}

/// The audience that an answer says there is not, where that is to be told beside the records'
/// verdicts.
pub fn unknown_audience<'c>(kind: &'c MailchimpCall, reply: &Reply) -> Option<&'c str> {
    let says = matches!(
        kind,
        MailchimpCall::Bulk { .. } | MailchimpCall::Put { .. } | MailchimpCall::Meet { .. }
    );
    kind.list().filter(|_| says && reply.status == 404)
}
