//! A record in a call under way, and what became of it.

use crate::{
    consent::{
        membership::Membership,
        standing::{Attempt, Standing},
    },
    delivery::{
        call::{Beside, Link},
        outcome::Verdict,
    },
    queue::{Change, Handle, traces::Watched},
    record::{Entity, Lane, Op, RecordRef, Timestamp},
    sync::clock::Tick,
};

/// A record in a call under way, as it was planned.
#[derive(Clone, Debug)]
pub struct InFlight {
    pub handle: Handle,
    pub record: RecordRef,
    pub entity: Entity,
    pub op: Op,
    pub lane: Lane,
    pub attempts: u32,
    /// How often in a row it has been planned again at once.
    pub rounds: u32,
    pub changed_at: Timestamp,
    pub link: Option<Link>,
    /// Mailchimp: the audience it is planned for.
    pub list: Option<String>,
    /// Mailchimp: who it is there.
    pub identity: Option<Identity>,
    /// Another record of ours that has what it wants: its address, or the remote record.
    pub holder: Option<RecordRef>,
    /// What the service may hold otherwise than the link says, by a call of an earlier worker's.
    pub doubts: Vec<Tick>,
}

/// Who a record is at Mailchimp, as it was planned.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The audience its member is in, or is to be in.
    pub list: String,
    /// The row's address, lower case; `None`: there is no row, or it has none.
    pub address: Option<String>,
    pub standing: Option<Standing>,
    /// A change of its address may have been carried out in a call whose answer was lost.
    pub renamed: bool,
}

impl Identity {
    /// What is stored of somebody who never was a member of ours.
    pub fn link(&self) -> Link {
        Link {
            remote_key: self.address.clone(),
            membership: Membership::of(&self.list),
            ..Link::default()
        }
    }

    fn attempt<'a>(&'a self, link: Option<&'a Link>) -> Attempt<'a> {
        Attempt {
            link,
            list: &self.list,
            address: self.address.as_deref(),
            standing: self.standing.as_ref(),
            renamed: self.renamed,
        }
    }
}

impl InFlight {
    /// Of a change that was taken out of the queue. `watched`: the fields that may be uncertain, for
    /// an earlier worker may have sent some of it.
    pub fn of(
        handle: Handle,
        rounds: u32,
        change: &Change,
        op: Op,
        link: Option<Link>,
        watched: &[Watched],
    ) -> InFlight {
        let doubts = link.as_ref().map_or_else(Vec::new, |link| {
            let traces = &change.traces;
            traces.doubts(&link.clock, watched, change.changed_at)
        });
        InFlight {
            handle,
            record: change.record.clone(),
            entity: change.entity,
            op,
            lane: change.lane,
            attempts: change.attempts,
            rounds,
            changed_at: change.changed_at,
            link,
            list: None,
            identity: None,
            holder: None,
            doubts,
        }
    }

    /// The link that planning goes by: it agrees on nothing that is uncertain.
    pub fn doubted_link(&self) -> Option<Link> {
        let mut link = self.link.clone()?;
        link.clock.doubt(&self.doubts);
        Some(link)
    }

    /// Mailchimp: who it is there, and how it was known.
    pub fn attempt(&self) -> Option<Attempt<'_>> {
        let identity = self.identity.as_ref()?;
        Some(identity.attempt(self.link.as_ref()))
    }

    /// How its address is known to have left, if it has.
    pub(super) fn left(&self) -> Option<Standing> {
        let standing = self.identity.as_ref()?.standing?;
        standing.has_left().then_some(standing)
    }

    pub(super) fn known(&self) -> Link {
        self.link.clone().unwrap_or_default()
    }
}

/// A record's verdict on its way to the tables.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub flight: InFlight,
    pub verdict: Verdict,
    /// What was sent for it, JSON.
    pub request: Option<String>,
    /// What the service may hold now or may not: the call was made, and its answer says nothing.
    pub doubtful: Vec<Tick>,
    /// The target as a whole is failing or resting: not this record's fault.
    pub resting: bool,
    /// What the call did besides writing fields.
    pub beside: Beside,
}
