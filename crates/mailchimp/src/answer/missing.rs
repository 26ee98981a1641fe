//! Mailchimp has nobody under the name that was asked for: under which other one to look, and what
//! it means when there is none left.

use integration_engine::{
    crypto::subscriber_hash,
    delivery::{
        call::{Item, Leaver},
        outcome::{Relink, Verdict},
    },
    record::RemoteId,
};

use crate::answer::fault::is_opt_out;
use crate::plan::displaced::gone_by_any_name;
use crate::{answer::unheeded, in_path};

/// No member under this name. A change of address may have happened in a call whose answer was
/// lost: the person is looked for under the contact's id, the old address and the present one.
pub(crate) fn other_name(item: &Item, path: &str) -> Option<Verdict> {
    let mut addresses = vec![item.name.as_str()];
    addresses.extend(item.remote_key.as_deref());
    addresses.dedup();
    let mut names = Vec::new();
    for address in addresses {
        names.push(subscriber_hash(address));
        // How Mailchimp hashes what is not ASCII is not documented, but it knows members by their
        // addresses as well.
        if !address.is_ascii() {
            names.push(in_path(address));
        }
    }
    let next = names
        .iter()
        .position(|name| name == path)
        .map_or(0, |tried| tried + 1);
    Some(Verdict::Again {
        relink: Some(Relink::Adopt(RemoteId::from(names.get(next)?.as_str()))),
        batch_cap: None,
        why: "Mailchimp has nobody under the name last known".to_owned(),
    })
}

/// No member under this name, nor under another one.
pub(crate) fn no_such_member(item: &Item, path: &str) -> Verdict {
    // Under the address is what a call of ours created.
    let displaced = is_opt_out(item) && item.beside.more;
    if let Some(verdict) = other_name(item, path).filter(|_| !displaced) {
        return verdict;
    }
    if let (Leaver::Unheeded, Some(status)) = (item.leaver, item.member_status) {
        return unheeded(item, status);
    }
    if is_opt_out(item) && !displaced {
        return Verdict::Delivered {
            remote_id: None,
            remote_key: item.remote_key.clone(),
            member_status: item.member_status,
            ticks: item.ticks.clone(),
            met: false,
        };
    }
    gone_by_any_name()
}
