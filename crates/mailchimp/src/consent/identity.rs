//! Who a record is at Mailchimp, and what is remembered of that person.

use crate::MailchimpSettings;
use crate::{EMAIL_ADDRESS, audience_of, list_of};
use integration_engine::{
    consent::standing::{self, Standing},
    crypto::subscriber_hash,
    delivery::{
        call::{Link, Work},
        settlement::Identity,
    },
    record::mapping::SourceMap,
    value,
};

/// A record whose addresses have to be looked up.
pub struct Sought {
    list: String,
    address: Option<String>,
    /// Hash of its present address, and of the one that Mailchimp knows it under.
    present: Option<String>,
    linked: Option<String>,
    /// The audience that the row names.
    wanted: String,
    /// A change of its address may have been carried out in a call whose answer was lost.
    renamed: bool,
}

/// What has to be looked up of a record.
pub fn seek(work: &Work, map: &SourceMap, settings: &MailchimpSettings) -> Sought {
    let list = list_of(work, map, settings);
    let row = work.row.as_deref();
    let address = || {
        let (index, _) = map.field_named(EMAIL_ADDRESS)?;
        value::email_key(row?.get(index)?.as_deref()?).ok()
    };
    let address = address();
    let known = work.link.as_ref();
    let linked = known.and_then(|link| link.remote_key.as_deref());
    let wanted = row.and_then(|row| audience_of(map, row, settings).ok());
    let field = map.field_named(EMAIL_ADDRESS).map(|(_, field)| field.id);
    let doubtful = |link: &Link| field.is_some_and(|field| link.clock.is_doubtful(field));
    Sought {
        renamed: known.is_some_and(doubtful),
        present: address.as_deref().map(subscriber_hash),
        linked: linked.map(subscriber_hash),
        wanted: wanted.unwrap_or_else(|| list.clone()),
        list,
        address,
    }
}

impl Sought {
    /// The addresses to look up.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        [&self.present, &self.linked]
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// Who it is. `weigh` tells what counts for the record of all that is remembered of an address
    /// (by its hash) in an audience.
    pub fn identity(self, weigh: impl Fn(&str, &str) -> Option<Standing>) -> Identity {
        let of = |hash: &Option<String>, list: &str| weigh(hash.as_deref()?, list);
        let linked = || of(&self.linked, &self.list);
        let stays = self.present == self.linked && self.wanted == self.list;
        let standing = match self.present.is_none() || stays {
            true => linked(),
            false => standing::both(of(&self.present, &self.wanted), linked()),
        };
        Identity {
            standing,
            list: self.list,
            address: self.address,
            renamed: self.renamed,
        }
    }
}
