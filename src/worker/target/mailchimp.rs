//! What a Mailchimp target knows of the account's audiences: which exist, and which do not.

use std::collections::BTreeSet;

use integration_engine::delivery::call::CallKind;
use integration_engine::wire::{Reply, TransportError};
use integration_mailchimp::{MailchimpCall, unknown_audience};
use pgrx::spi::SpiResult;

use crate::store::consent::audiences;

/// See the module's documentation.
#[derive(Default)]
pub struct Audiences {
    /// As stored.
    met: BTreeSet<String>,
    /// Mailchimp does not know them.
    missing: BTreeSet<String>,
    /// What is to be stored.
    news: Vec<AudienceNews>,
}

/// Something to be stored.
enum AudienceNews {
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
    pub fn hear(&mut self, kind: &MailchimpCall, result: &Result<Reply, TransportError>) {
        let Ok(reply) = result else { return };
        if let Some(list) = unknown_audience(kind, reply) {
            self.met.remove(list);
            if self.missing.insert(list.to_owned()) {
                self.news.push(AudienceNews::Missing(list.to_owned()));
            }
            return;
        }
        // A page of HTML is none of Mailchimp's answers.
        let told = reply.status == 200 && reply.body.starts_with(b"{");
        let Some(list) = kind.list().filter(|_| told) else {
            return;
        };
        self.missing.remove(list);
        if !self.met.contains(list) {
            self.met.insert(list.to_owned());
            self.news.push(AudienceNews::Met(list.to_owned()));
        }
    }

    /// Whether something is to be stored.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Stores it, and raises an alert about an audience that is not there.
    pub fn tell(&mut self) -> SpiResult<()> {
        let news = std::mem::take(&mut self.news);
        news.iter().try_for_each(|news| match news {
            AudienceNews::Met(list) => audiences::meet(list),
            AudienceNews::Missing(list) => audiences::miss(list),
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
