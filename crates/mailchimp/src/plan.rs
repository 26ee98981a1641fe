//! What is to be sent to Mailchimp for one record. Consent decides first, then what changed.

pub(crate) mod displaced;
pub(crate) mod known;
pub(crate) mod moves;
pub(crate) mod opt_out;
pub(crate) mod rest;

use crate::{
    Decision, MailchimpCall, MailchimpSettings, OnDelete,
    consent::{self, ConsentAction, Person},
};
use integration_engine::{
    crypto::subscriber_hash,
    delivery::{
        call::{Beside, Item, Leaver, Link, Work},
        outcome::{Category, Verdict},
        verdicts::dead,
    },
    record::{
        consent::{Consent, MemberStatus},
        mapping::SourceMap,
    },
    value::json::push_member,
};

use super::{
    EMAIL_ADDRESS, STATUS,
    audience::audience_of,
    member::{Fields, MemberBody, Row, STATUS_IF_NEW, Tags, UNMAILED, status_text},
};
use crate::plan::known::MemberRef;

/// Decides about one record. `index` is the caller's number for `work`.
pub(crate) fn decide(
    work: &Work,
    index: usize,
    map: &SourceMap,
    settings: &MailchimpSettings,
) -> Decision {
    let plan = MemberPlan {
        work,
        index,
        map,
        settings,
    };
    match &work.row {
        None => plan.gone(),
        Some(row) => plan.present(row).unwrap_or_else(Decision::Settled),
    }
}

/// The audience that what is sent next for a record goes to, by which the map has to be refined.
pub fn list_of(work: &Work, map: &SourceMap, settings: &MailchimpSettings) -> String {
    let plan = MemberPlan {
        work,
        index: 0,
        map,
        settings,
    };
    plan.list()
}

pub(super) struct MemberPlan<'a> {
    pub(super) work: &'a Work,
    index: usize,
    pub(super) map: &'a SourceMap,
    pub(super) settings: &'a MailchimpSettings,
}

impl MemberPlan<'_> {
    fn gone(&self) -> Decision {
        let Some(link) = &self.work.link else {
            return Decision::Settled(Verdict::Removed);
        };
        if let Some(step) = self.displaced(link) {
            return step;
        }
        if let Some(decision) = self.erase_former(link) {
            return decision;
        }
        if let Some(look) = self.look_before_archiving(link) {
            return look;
        }
        let done = match (self.settings.on_delete, link.member_status) {
            (OnDelete::Ignore, _) | (_, Some(MemberStatus::Forgotten)) => true,
            (OnDelete::Archive, status) => status == Some(MemberStatus::Archived),
            (OnDelete::Permanent, _) => false,
        };
        match &link.remote_key {
            Some(address) if !done && !link.is_nowhere() => {
                let kind = MailchimpCall::Archive {
                    list: self.list(),
                    hash: self
                        .known(link, None)
                        .path_to_archive(self.settings.on_delete),
                };
                let mut item = self.item(address, Some(address), None, MemberBody::new());
                // Mailchimp forgets how they were; that has to be safe here.
                item.intent = self.settings.on_delete == OnDelete::Archive;
                Decision::Send(kind, item)
            }
            _ => Decision::Settled(Verdict::Removed),
        }
    }

    fn present(&self, row: &Row) -> Result<Decision, Verdict> {
        let Some(consent) = self.consent(row) else {
            return Ok(Decision::Settled(Verdict::NoConsent));
        };
        // An opt-out on any row of the address is one on all of them.
        let objected = consent == Consent::OptedIn && self.work.objection.is_some();
        let consent = if objected { Consent::OptedOut } else { consent };
        let link = self.work.link.as_ref();
        let written_under = link.and_then(|link| link.remote_key.as_deref());
        let person = Person {
            link,
            standing: self.work.standing.as_ref(),
            readdressed: written_under.is_some()
                && written_under != self.email(row).ok().as_deref(),
        };
        let unsure = link.filter(|_| consent == Consent::OptedIn);
        let opted_out = unsure.and_then(|link| self.perhaps_opted_out(link));
        let person = Person {
            link: opted_out.as_ref().or(link),
            ..person
        };
        let action = consent::decide(consent, person, self.settings);
        if let Some(step) = link.and_then(|link| self.displaced_unless_leaving(link, action)) {
            return Ok(step);
        }
        if let (Consent::OptedIn, Some(link)) = (consent, link)
            && let Some(step) = self.relocate(row, link, action)?
        {
            return Ok(step);
        }
        let mut decision = match (action, link) {
            (ConsentAction::Subscribe(status), _) => self.subscribe(row, status),
            (ConsentAction::Update, Some(link)) => self.update(row, link),
            (ConsentAction::SetStatus(status), Some(link)) => self.set_status(row, link, status),
            // Somebody who left, under a row that is new.
            (ConsentAction::SetStatus(status), None) => {
                audience_of(self.map, row, self.settings)?;
                self.set_status(row, &Link::default(), status)
            }
            (ConsentAction::Unsubscribe(known), Some(link)) => Ok(self.opt_out(row, link, known)),
            (ConsentAction::UnsubscribeIfThere(known), Some(link)) => {
                Ok(self.opt_out_if_there(row, link, known))
            }
            (ConsentAction::Suppressed(status), _) => self.suppressed(status),
            _ if objected => Err(self.objected()),
            _ => Ok(Decision::Settled(Verdict::NoConsent)),
        }?;
        if let Decision::Send(_, item) = &mut decision
            && (consent == Consent::OptedIn || objected)
        {
            item.leaver = self.leaver(action);
        }
        Ok(decision)
    }

    /// `None`: no column says anything about consent, so nothing is sent or taken back.
    fn consent(&self, row: &Row) -> Option<Consent> {
        let (field, text) = self
            .columns(row)
            .find(|(field, _)| field.remote == STATUS)?;
        Some(field.consent(text))
    }

    fn subscribe(&self, row: &Row, status: MemberStatus) -> Result<Decision, Verdict> {
        let email = self.email(row)?;
        self.refuse_rival(&email)?;
        let link = self.work.link.as_ref();
        let fresh = link.is_none_or(Link::is_nowhere);
        if fresh {
            audience_of(self.map, row, self.settings)?;
        }
        let if_new = (STATUS_IF_NEW, status_text(status));
        let mut body = self.open(row, Some(&email), Some(if_new));
        body.ticks.extend(self.settled_status(link, status));
        self.fields(&mut body, row, Fields::Filled(link), Tags::Along)?;
        let mut item = self.item(&email, Some(&email), Some(status), body.close());
        item.intent = fresh;
        Ok(Decision::Send(self.bulk(), item))
    }

    fn update(&self, row: &Row, link: &Link) -> Result<Decision, Verdict> {
        let email = self.email(row)?;
        let known = self.known(link, Some(&email));
        if known.address != email {
            self.refuse_rival(&email)?;
        }
        let moved = known.address != email;
        // Alone, it is sent to the person wherever they are: a bulk call goes by the address, and
        // met somebody else under it if an earlier change of address went unanswered.
        // Nor is it certain that the member still is under this address if another was on its way.
        // Or if it is looked for under this address because nobody has the former one any more.
        let unsure = self.is_address_doubtful(link) || link.remote_key.as_deref() != Some(&email);
        let by_id = self.is_alone() && known.contact.is_some();
        let singly = moved || unsure || by_id;
        // A bulk call creates whom it does not find: not somebody who gets mail.
        let (status, tags) = match singly {
            true => (None, Tags::Not),
            false => (Some((STATUS_IF_NEW, UNMAILED)), Tags::Along),
        };
        // Whoever is written to by id stays under the address they have.
        let said = moved || unsure || !by_id;
        let mut body = self.open(row, said.then_some(email.as_str()), status);
        if !moved {
            // Under this address already; said again only if nobody remembers.
            body.ticks.retain(|tick| {
                link.clock.get(tick.field).map(|agreed| agreed.hash) != Some(tick.hash)
            });
        }
        self.fields(&mut body, row, Fields::Changed(link), tags)?;
        if body.ticks.is_empty() {
            return match body.more {
                true => self.rest(row, link, known, &email),
                false => Ok(Decision::Settled(Verdict::Unchanged)),
            };
        }
        let status = link.member_status.unwrap_or(MemberStatus::Subscribed);
        body.ticks.extend(self.settled_status(Some(link), status));
        if singly {
            return Ok(self.write_singly(known, &email, body));
        }
        let mut item = self.item(&email, Some(&email), None, body.close());
        item.expected = known.contact.cloned();
        Ok(Decision::Send(self.bulk(), item))
    }

    fn is_address_doubtful(&self, link: &Link) -> bool {
        let field = self.map.field_named(EMAIL_ADDRESS);
        field.is_some_and(|(_, field)| link.clock.is_doubtful(field.id))
    }

    /// Under the contact's id or the old address's hash, so that history, tags and consent stay
    /// with the person. PATCH answers 404 if there is no such member, where PUT might create one.
    fn write_singly(&self, known: MemberRef<'_>, email: &str, body: MemberBody) -> Decision {
        let kind = MailchimpCall::Patch {
            list: self.list(),
            hash: known.path(),
        };
        let item = self.item(known.address, Some(email), None, body.close());
        Decision::Send(kind, item)
    }

    fn set_status(
        &self,
        row: &Row,
        link: &Link,
        status: MemberStatus,
    ) -> Result<Decision, Verdict> {
        let email = self.email(row)?;
        let address = match link.is_nowhere() {
            true => &email,
            false => self.known(link, Some(&email)).address,
        };
        if address != email {
            self.refuse_rival(&email)?;
        }
        let known = self.known(link, Some(&email));
        let by_id = known.contact.filter(|_| !link.is_nowhere());
        // Whoever is written to by id stays under the address they have.
        let said = (by_id.is_none() || address != email).then_some(email.as_str());
        let mut body = self.open(row, said, Some((STATUS, status_text(status))));
        body.ticks.extend(self.status_tick(status));
        if by_id.is_none() {
            // Somebody who was a member and is not found is asked, at most.
            let if_new = match link.remote_id.is_some() {
                true => UNMAILED,
                false => status_text(status),
            };
            push_member(&mut body.json, STATUS_IF_NEW, if_new);
        }
        self.fields(&mut body, row, Fields::Filled(Some(link)), Tags::Not)?;
        let list = self.list();
        let kind = match by_id {
            Some(id) => MailchimpCall::Patch {
                list,
                hash: id.as_str().to_owned(),
            },
            None => MailchimpCall::Put {
                list,
                hash: subscriber_hash(address),
            },
        };
        let name = if by_id.is_some() { address } else { &email };
        let mut item = self.item(name, Some(&email), Some(status), body.close());
        // Until the answer is in, nobody knows whether the person gets mail.
        item.intent = true;
        Ok(Decision::Send(kind, item))
    }

    pub(super) const fn is_alone(&self) -> bool {
        self.work.batch_cap <= 1
    }

    pub(super) fn email(&self, row: &Row) -> Result<String, Verdict> {
        let found = self
            .columns(row)
            .find(|(field, _)| field.remote == EMAIL_ADDRESS);
        let Some((field, text)) = found else {
            return Err(dead(
                Category::Unmappable,
                format!(
                    "no column of {} is mapped to Mailchimp's email_address; map one with \
                 integration.map_field()",
                    self.map.name
                ),
            ));
        };
        match self.value(field, text)? {
            Some(email) => Ok(email.into_owned()),
            None => Err(dead(
                Category::Unmappable,
                format!(
                    "column {} of {} is empty, and Mailchimp knows people by their e-mail address only",
                    field.column, self.map.name
                ),
            )),
        }
    }

    pub(super) fn refuse_rival(&self, email: &str) -> Result<(), Verdict> {
        let Some(rival) = &self.work.rival else {
            return Ok(());
        };
        Err(dead(
            Category::Conflict,
            format!(
                "records {} and {rival} of {} have the same e-mail address {email}, and Mailchimp \
                 has one member for it in an audience, which belongs to {rival}; change one of them, \
                 or merge them",
                self.work.key.as_str(),
                self.map.name
            ),
        ))
    }

    /// The audience its member is in; for one that is in none, the audience its row names.
    pub(super) fn list(&self) -> String {
        let link = self.work.link.as_ref();
        let known = link.and_then(|link| link.membership.list.clone());
        let named = || {
            let row = self.work.row.as_ref()?;
            audience_of(self.map, row, self.settings).ok()
        };
        let fresh = link.is_none_or(Link::is_nowhere);
        known
            .or_else(|| fresh.then(named).flatten())
            .unwrap_or_else(|| self.settings.list.clone())
    }

    pub(super) fn bulk(&self) -> MailchimpCall {
        MailchimpCall::Bulk { list: self.list() }
    }

    pub(super) fn item(
        &self,
        name: &str,
        remote_key: Option<&str>,
        member_status: Option<MemberStatus>,
        body: MemberBody,
    ) -> Item {
        let note = body
            .given
            .as_ref()
            .is_some_and(|given| *given != self.given());
        Item {
            work: self.index,
            name: name.to_owned(),
            ticks: body.ticks,
            remote_key: remote_key.map(str::to_owned),
            member_status,
            expected: None,
            intent: false,
            leaver: Leaver::No,
            batch_cap: self.work.batch_cap,
            fragment: body.json,
            beside: Beside {
                given: body.given,
                note,
                more: body.more,
            },
            own: None,
        }
    }
}
