//! Mailchimp's audiences as their answers tell of them: which exist, and which do not.

use std::collections::BTreeSet;

use integration_engine::delivery::call::CallKind;
use integration_engine::record::Target;
use integration_engine::wire::{Reply, TransportError};
use integration_mailchimp::unknown_audience;
use pgrx::spi::SpiResult;

use super::Context;
use crate::store::consent::audiences;

/// See the module's documentation.
#[derive(Default)]
pub struct Audiences {
    /// As stored.
    met: BTreeSet<String>,
    /// Mailchimp does not know them.
    missing: BTreeSet<String>,
}

/// Something to be stored.
pub enum AudienceNews {
    Met(String),
    Missing(String),
}

impl Audiences {
    /// What the table says now.
    pub fn load(&mut self) -> SpiResult<()> {
        self.met = audiences::known()?.into_iter().collect();
        Ok(())
    }

    /// Takes in what an answer says about the audience it came from.
    pub fn hear(
        &mut self,
        kind: &CallKind,
        result: &Result<Reply, TransportError>,
    ) -> Option<AudienceNews> {
        let reply = result.as_ref().ok()?;
        if let Some(list) = unknown_audience(kind, reply) {
            self.met.remove(list);
            let news = self.missing.insert(list.to_owned());
            return news.then(|| AudienceNews::Missing(list.to_owned()));
        }
        // A page of HTML is none of Mailchimp's answers.
        let told = reply.status == 200 && reply.body.starts_with(b"{");
        let list = kind.list().filter(|_| told)?;
        self.missing.remove(list);
        let news = !self.met.contains(list);
        news.then(|| {
            self.met.insert(list.to_owned());
            AudienceNews::Met(list.to_owned())
        })
    }

    pub fn is_met(&self, list: &str) -> bool {
        self.met.contains(list)
    }

    /// Those that records may be in: the default, and all that were ever written to.
    pub fn in_use(&self, default: &str) -> Vec<String> {
        let others = self.met.iter().filter(|list| *list != default);
        std::iter::once(default.to_owned())
            .chain(others.cloned())
            .collect()
    }
}

/// Whether some table's rows say which audience they belong to.
pub fn are_named(context: &Context) -> bool {
    let mut maps = context
        .sources
        .values()
        .filter_map(|source| source.maps.get(&Target::Mailchimp));
    maps.any(|map| map.field_named("list_id").is_some())
}

/// Stores it, and raises an alert about an audience that is not there.
pub fn tell(news: &[AudienceNews]) -> SpiResult<()> {
    news.iter().try_for_each(|news| match news {
        AudienceNews::Met(list) => audiences::meet(list),
        AudienceNews::Missing(list) => audiences::miss(list),
    })
}
