//! Records' parts of bodies become calls.

use crate::{Call, MailchimpCall, MailchimpSettings, OnDelete};
use integration_engine::{
    delivery::{
        batch::{Group, group},
        call::Item,
    },
    record::Target,
    wire::{Method, Request},
};

use super::erasure::erase_path;
use crate::answer::fault::is_opt_out;

/// Who wants no more mail is let go whatever their merge fields are. Everybody else's have to be as
/// the audience wants them, or it would fill with members that its forms and campaigns do not expect.
const LENIENT: &str = "?skip_merge_validation=true";

/// Puts records together into as few calls as the rules allow; only bulk calls take several.
pub(crate) fn assemble(
    sends: Vec<(MailchimpCall, Item)>,
    settings: &MailchimpSettings,
) -> Vec<Call> {
    let (leaving, others): (Vec<_>, Vec<_>) =
        sends.into_iter().partition(|(_, item)| is_opt_out(item));
    [leaving, others]
        .into_iter()
        .flat_map(group)
        .map(|group| call(group, settings))
        .collect()
}

fn call(group: Group<MailchimpCall>, settings: &MailchimpSettings) -> Call {
    let Group { kind, items, .. } = group;
    let single = || items.first().map(|item| item.fragment.clone());
    let leaving = !items.is_empty() && items.iter().all(is_opt_out);
    let lenient = if leaving { LENIENT } else { "" };
    let (method, path, body) = match &kind {
        MailchimpCall::Bulk { list } => (
            Method::Post,
            format!("/lists/{list}{lenient}"),
            Some(bulk_body(&items)),
        ),
        MailchimpCall::Put { list, hash } => (
            Method::Put,
            format!("/lists/{list}/members/{hash}{lenient}"),
            single(),
        ),
        MailchimpCall::Patch { list, hash } => (
            Method::Patch,
            format!("/lists/{list}/members/{hash}{lenient}"),
            single(),
        ),
        MailchimpCall::Tags { list, hash } => (
            Method::Post,
            format!("/lists/{list}/members/{hash}/tags"),
            single(),
        ),
        // Only a gone record is erased for good; erased people can never be added again.
        MailchimpCall::Archive { list, hash } => match settings.on_delete {
            OnDelete::Permanent if items.iter().all(|item| item.member_status.is_none()) => {
                (Method::Post, erase_path(list, hash), None)
            }
            OnDelete::Archive | OnDelete::Permanent | OnDelete::Ignore => (
                Method::Delete,
                format!("/lists/{list}/members/{hash}"),
                None,
            ),
        },
        MailchimpCall::Meet { list } => (Method::Get, super::audience_request(list).path, None),
        MailchimpCall::Look { list, hash, .. } => {
            let fields = "fields=contact_id,id,email_address,status,timestamp_opt";
            let path = format!("/lists/{list}/members/{hash}?{fields}");
            (Method::Get, path, None)
        }
        MailchimpCall::Leave { list, hash } | MailchimpCall::Discard { list, hash } => (
            Method::Delete,
            format!("/lists/{list}/members/{hash}"),
            None,
        ),
        MailchimpCall::Erase { list, hash } => (Method::Post, erase_path(list, hash), None),
    };
    let body = body.map(String::into_bytes);
    let request = Request {
        target: Target::Mailchimp,
        method,
        path,
        body,
    };
    Call {
        kind,
        request,
        items,
    }
}

fn bulk_body(items: &[Item]) -> String {
    let fragments: usize = items.iter().map(|item| item.fragment.len() + 1).sum();
    let mut body = String::with_capacity(fragments + 64);
    body.push_str("{\"members\":[");
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            body.push(',');
        }
        body.push_str(&item.fragment);
    }
    // Without sync_tags, tags are added and others' stay.
    body.push_str("],\"update_existing\":true,\"sync_tags\":false}");
    body
}
