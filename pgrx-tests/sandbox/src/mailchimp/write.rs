//! Writing a member: what single calls and the bulk call share.

use super::Mailchimp;
use super::body::{Body, status};
use super::errors::Problem;
use super::people::Subscribed;
use super::status::{Actor, Decision, Status, Way, decide};
use super::store::{TIMESTAMP_OPT, hash_of, lower};
use super::validate::{check_merge, check_required};
use crate::clock::{Millis, Now};
use serde_json::Value;
use std::time::Instant;

/// Facts about the request that a write belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub now: Now,
    pub arrived: Instant,
    pub answered: Instant,
    pub by: Actor,
}

impl Moment {
    /// When the request came in.
    fn arrived_at(&self) -> Millis {
        let ago = self.now.mono.saturating_duration_since(self.arrived);
        self.now.wall - Millis::try_from(ago.as_millis()).unwrap_or_default()
    }
}

/// Which member a write is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    New([u8; 32]),
    Known(usize),
}

/// A write that passed all checks.
#[derive(Debug)]
pub(crate) struct Checked {
    target: Target,
    status: Option<Status>,
    merge: Vec<(usize, Value)>,
    rename: Option<(String, [u8; 32])>,
}

impl Mailchimp {
    /// Who an address is in an audience: unknown, a member, or forgotten for good.
    pub(crate) fn target(&self, list: usize, address: &str) -> Result<Target, Problem> {
        let audience = &self.audiences[list];
        let hash = hash_of(&lower(address));
        if audience.forgotten.contains(&hash) {
            return Err(Problem::forgotten(address));
        }
        Ok(audience
            .by_hash
            .get(&hash)
            .map_or(Target::New(hash), |at| Target::Known(*at)))
    }

    /// All checks of a write; nothing is changed.
    pub(crate) fn check(
        &self,
        list: usize,
        target: Target,
        body: &mut Body<'_>,
        way: Way,
        skip_required: bool,
    ) -> Result<Checked, Problem> {
        let audience = &self.audiences[list];
        let sent = status("status", body.status.as_deref())?;
        let if_new = status("status_if_new", body.status_if_new.as_deref())?;
        body.check_details()?;
        if let Some(interests) = &body.interests {
            audience.check_interests(interests)?;
        }
        if let Some(permissions) = &body.marketing_permissions {
            audience.check_permissions(permissions)?;
        }
        let mut rename = None;
        let status = match target {
            Target::New(_) => Some(
                if_new
                    .or(sent)
                    .ok_or_else(|| Problem::field("status", "This value should not be blank."))?,
            ),
            Target::Known(at) => {
                let member = &audience.members[at];
                if let Some(address) = body
                    .email_address
                    .as_deref()
                    .filter(|address| lower(address) != lower(&member.email))
                {
                    rename = Some(self.check_rename(list, address)?);
                }
                match sent.map(|to| decide(member.status, member.status_by, to, way)) {
                    Some(Decision::Refuse) => return Err(Problem::compliance(&member.email)),
                    Some(Decision::Set(to)) => Some(to),
                    Some(Decision::Keep) | None => None,
                }
            }
        };
        let merge = check_merge(audience, body.merge_fields.take().unwrap_or_default())?;
        if !skip_required {
            check_required(audience, &merge, |field| match target {
                Target::New(_) => false,
                Target::Known(at) => audience.members[at].merge_value(field).is_some(),
            })?;
        }
        Ok(Checked {
            target,
            status,
            merge,
            rename,
        })
    }

    /// The new address must not be in the audience, archived members included.
    fn check_rename(&self, list: usize, address: &str) -> Result<(String, [u8; 32]), Problem> {
        super::validate::check_address(&self.config, address)?;
        match self.target(list, address)? {
            Target::New(hash) => Ok((address.to_owned(), hash)),
            Target::Known(at) => {
                let status = self.audiences[list].members[at].status.name();
                Err(Problem::field(
                    "email_address",
                    format!("\"{address}\" is already in this list with a status of \"{status}\"."),
                ))
            }
        }
    }

    /// Carries out a checked write; returns the member's position.
    pub(crate) fn apply(
        &mut self,
        list: usize,
        checked: Checked,
        body: &Body<'_>,
        replace_tags: bool,
        moment: &Moment,
    ) -> usize {
        let audience = &mut self.audiences[list];
        let at = match checked.target {
            Target::New(hash) => audience.add(
                body.email_address.as_deref().unwrap_or_default(),
                hash,
                moment.now,
            ),
            Target::Known(at) => at,
        };
        let is_new = matches!(checked.target, Target::New(_));
        self.mark_busy(list, at, is_new, moment);
        let member = &mut self.audiences[list].members[at];
        let mut changed = is_new;
        for (field, value) in checked.merge {
            changed |= member.set_merge(field, value);
        }
        for (kept, sent) in [
            (&mut member.email_type, &body.email_type),
            (&mut member.language, &body.language),
        ] {
            if let Some(sent) = sent.as_deref().filter(|sent| *sent != &**kept) {
                *kept = sent.into();
                changed = true;
            }
        }
        if let Some(vip) = body.vip {
            changed |= std::mem::replace(&mut member.vip, vip) != vip;
        }
        body.store_details(&mut member.other);
        changed |= body
            .interests
            .as_ref()
            .is_some_and(|sent| member.set_groups(sent));
        if let Some(permissions) = &body.marketing_permissions {
            member.set_permissions(permissions);
        }
        if let Some(tags) = &body.tags {
            if replace_tags {
                member
                    .tags
                    .retain(|tag| tags.iter().any(|sent| sent.eq_ignore_ascii_case(tag)));
            }
            for tag in tags {
                member.tag(tag, true);
            }
        }
        if changed {
            member.last_changed = moment.now.wall;
        }
        if let Some((address, hash)) = checked.rename {
            self.rename(list, at, &address, hash, moment);
        }
        match checked.status {
            Some(status) => self.set_status(list, at, status, "", moment),
            None if changed && !is_new => self.tell(list, at, "profile", moment),
            None => {}
        }
        at
    }

    /// Mail goes to this address from now on.
    fn note_subscribed(&mut self, list: usize, at: usize, from: Option<Status>, moment: &Moment) {
        let audience = &self.audiences[list];
        self.subscribed.push(Subscribed {
            list_id: audience.id.clone(),
            email: audience.members[at].email.to_string(),
            by: moment.by,
            from,
            at: moment.now.wall,
            arrived: moment.arrived_at(),
        });
    }

    /// Notes that a write of this member is on its way, and whether another one is.
    pub(crate) fn mark_busy(&mut self, list: usize, at: usize, is_new: bool, moment: &Moment) {
        let member = &mut self.audiences[list].members[at];
        if !is_new && member.busy_until > moment.arrived && moment.by == Actor::Api {
            self.overlaps += 1;
        }
        member.busy_until = if is_new {
            moment.answered
        } else {
            member.busy_until.max(moment.answered)
        };
    }

    pub(crate) fn rename(
        &mut self,
        list: usize,
        at: usize,
        address: &str,
        hash: [u8; 32],
        moment: &Moment,
    ) {
        let audience = &mut self.audiences[list];
        let member = &mut audience.members[at];
        let old = std::mem::replace(&mut member.email, address.into());
        audience.by_hash.remove(&member.hash);
        member.hash = hash;
        member.last_changed = moment.now.wall;
        audience.by_hash.insert(hash, at);
        if self.audiences[list].members[at].status == Status::Subscribed {
            self.note_subscribed(list, at, None, moment);
        }
        let audience = &self.audiences[list];
        self.outgoing.upemail(
            audience,
            &audience.members[at],
            &old,
            moment.by,
            moment.now.wall,
        );
        self.tell(list, at, "profile", moment);
    }

    /// Sets a status and tells the hooks what happened.
    pub(crate) fn set_status(
        &mut self,
        list: usize,
        at: usize,
        status: Status,
        reason: &'static str,
        moment: &Moment,
    ) {
        let audience = &mut self.audiences[list];
        let member = &mut audience.members[at];
        let from = std::mem::replace(&mut member.status, status);
        member.status_by = moment.by;
        member.last_changed = moment.now.wall;
        member.unsubscribe_reason = match (status, moment.by) {
            (Status::Unsubscribed, Actor::User) if !reason.is_empty() => reason,
            (Status::Unsubscribed, Actor::User) => "N/A (Unsubscribed by the contact)",
            (Status::Unsubscribed, _) => "N/A (Unsubscribed by an admin)",
            _ => "",
        };
        if status == Status::Subscribed && from != status {
            member.opted_in = Some(moment.now.wall);
            if moment.by != Actor::Api {
                member.other.remove(TIMESTAMP_OPT);
            }
            self.note_subscribed(list, at, Some(from), moment);
        }
        let audience = &self.audiences[list];
        let member = &audience.members[at];
        let now = moment.now.wall;
        match status {
            Status::Subscribed => {
                self.outgoing
                    .member(audience, member, "subscribe", moment.by, now)
            }
            Status::Unsubscribed => {
                self.outgoing
                    .member(audience, member, "unsubscribe", moment.by, now)
            }
            Status::Cleaned => self.outgoing.cleaned(audience, member, moment.by, now),
            Status::Archived => self.outgoing.deleted(audience, member, moment.by, now),
            Status::Pending | Status::Transactional => {}
        }
    }

    pub(crate) fn tell(&mut self, list: usize, at: usize, event: &str, moment: &Moment) {
        let audience = &self.audiences[list];
        self.outgoing.member(
            audience,
            &audience.members[at],
            event,
            moment.by,
            moment.now.wall,
        );
    }
}
