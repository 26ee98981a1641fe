//! What is remembered of the addresses of records that are being planned.

use std::collections::BTreeSet;

use integration_engine::delivery::call::{Link, Work};
use integration_engine::mailchimp::{self, subscriber_hash};
use integration_engine::membership::Membership;
use integration_engine::record::mapping::SourceMap;
use integration_engine::standing::{self, Attempt, Standing};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::World;
use super::fill;
use super::target::Flight;
use crate::store::standings::{self, Standings};

/// Who a record is at Mailchimp, as it was planned.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The audience its member is in, or is to be in.
    pub list: String,
    /// The row's address, lower case; `None`: there is no row, or it has none.
    pub address: Option<String>,
    pub standing: Option<Standing>,
}

impl Identity {
    fn of(map: &SourceMap, work: &Work, list: String) -> Identity {
        let address = || {
            let (index, _) = map.field_named("email_address")?;
            value::email_key(work.row.as_ref()?.get(index)?.as_deref()?).ok()
        };
        Identity {
            list,
            address: address(),
            standing: None,
        }
    }

    /// What is stored of somebody who never was a member of ours.
    pub fn link(&self) -> Link {
        Link {
            remote_key: self.address.clone(),
            membership: Membership::of(&self.list),
            ..Link::default()
        }
    }

    pub fn attempt<'a>(&'a self, link: Option<&'a Link>) -> Attempt<'a> {
        Attempt {
            link,
            list: &self.list,
            address: self.address.as_deref(),
            standing: self.standing.as_ref(),
        }
    }

    fn weigh(
        &self,
        standings: &Standings,
        hashes: &Hashes,
        link: Option<&Link>,
    ) -> Option<Standing> {
        let of = |hash: &Option<String>, list: &str| {
            let all = standings.of(hash.as_deref()?);
            standing::weigh(all, list, link)
        };
        let linked = || of(&hashes.linked, &self.list);
        let stays = hashes.present == hashes.linked && hashes.wanted == self.list;
        if hashes.present.is_none() || stays {
            return linked();
        }
        standing::both(of(&hashes.present, &hashes.wanted), linked())
    }
}

/// What a record's present address is known by, and that Mailchimp knows it under.
struct Hashes {
    present: Option<String>,
    linked: Option<String>,
    /// The audience that the row names.
    wanted: String,
}

/// Looks up what is remembered of records, at once for all of them, before anything is decided.
pub fn recall(
    world: &World,
    map: &SourceMap,
    works: &mut [Work],
    flights: &mut [Flight],
) -> SpiResult<()> {
    let identities: Vec<(Identity, Hashes)> = works
        .iter()
        .map(|work| {
            let list = mailchimp::list_of(work, map, &world.settings.mailchimp_api);
            let identity = Identity::of(map, work, list);
            let linked = work
                .link
                .as_ref()
                .and_then(|link| link.remote_key.as_deref());
            let named = work.row.as_deref();
            let named = named.and_then(|row| fill::named(world, map, row));
            let hashes = Hashes {
                present: identity.address.as_deref().map(subscriber_hash),
                linked: linked.map(subscriber_hash),
                wanted: named.unwrap_or_else(|| identity.list.clone()),
            };
            (identity, hashes)
        })
        .collect();
    let all: BTreeSet<String> = identities
        .iter()
        .flat_map(|(_, hashes)| [&hashes.present, &hashes.linked])
        .flatten()
        .cloned()
        .collect();
    let standings = standings::read(&all)?;
    for (((mut identity, hashes), work), flight) in identities.into_iter().zip(works).zip(flights) {
        if !standings.is_empty() {
            identity.standing = identity.weigh(&standings, &hashes, work.link.as_ref());
        }
        work.standing = identity.standing;
        flight.identity = Some(identity);
    }
    Ok(())
}
