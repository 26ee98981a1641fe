//! What is to be sent to Mailchimp for one record. Consent decides first, then what changed.

use std::borrow::Cow;

use crate::{
    call::{CallKind, Decision, Item, Link, MailchimpSettings, OnDelete, Work},
    clock::{Tick, ValueHash, Writer},
    consent::{self, Consent, ConsentAction},
    json::{push_member, push_name, push_string},
    mapping::{Direction, Field, SourceMap, ValueKind},
    outcome::{Category, MemberStatus, Relink, Verdict},
    record::RemoteId,
    value::{ValueError, elements, field_to_remote},
    verdicts::{dead, unmappable},
};

use super::{EMAIL_ADDRESS, LANGUAGE, STATUS, TAGS, subscriber_hash};

/// Decides about one record. `index` is the caller's number for `work`.
pub fn decide(
    work: &Work,
    index: usize,
    map: &SourceMap,
    settings: &MailchimpSettings,
) -> Decision {
    let plan = Plan {
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

struct Plan<'a> {
    work: &'a Work,
    index: usize,
    map: &'a SourceMap,
    settings: &'a MailchimpSettings,
}

type Row = [Option<String>];

/// Which fields go into a body.
#[derive(Clone, Copy)]
enum Fields<'a> {
    /// All that hold something.
    Filled,
    /// All that differ from what was last agreed on.
    Changed(&'a Link),
}

/// A body under construction, and what the member holds once it is accepted.
struct Body {
    json: String,
    ticks: Vec<Tick>,
}

impl Plan<'_> {
    fn gone(&self) -> Decision {
        let Some(link) = &self.work.link else {
            return Decision::Settled(Verdict::Removed);
        };
        let done = match (self.settings.on_delete, link.member_status) {
            (OnDelete::Ignore, _) | (_, Some(MemberStatus::Forgotten)) => true,
            (OnDelete::Archive, status) => status == Some(MemberStatus::Archived),
            (OnDelete::Permanent, _) => false,
        };
        match &link.remote_key {
            Some(address) if !done => {
                let kind = CallKind::MailchimpArchive {
                    list: self.list(),
                    hash: subscriber_hash(address),
                };
                Decision::Send(kind, self.item(address, Some(address), None, Body::new()))
            }
            _ => Decision::Settled(Verdict::Removed),
        }
    }

    fn present(&self, row: &Row) -> Result<Decision, Verdict> {
        let Some(consent) = self.consent(row) else {
            return Ok(Decision::Settled(Verdict::NoConsent));
        };
        let link = self.work.link.as_ref();
        match (consent::decide(consent, link, self.settings), link) {
            (ConsentAction::Subscribe(status), _) => self.subscribe(row, status),
            (ConsentAction::Update(if_new), Some(link)) => self.update(row, link, if_new),
            (ConsentAction::SetStatus(status), Some(link)) => self.set_status(row, link, status),
            (ConsentAction::Unsubscribe(known), Some(link)) => Ok(self.opt_out(row, link, known)),
            (ConsentAction::UnsubscribeIfThere(known), Some(link)) => {
                Ok(self.opt_out_if_there(row, link, known))
            }
            (ConsentAction::Suppressed(status), Some(link)) => self.suppressed(row, link, status),
            _ => Ok(Decision::Settled(Verdict::NoConsent)),
        }
    }

    /// `None`: no column says anything about consent, so nothing is sent or taken back.
    fn consent(&self, row: &Row) -> Option<Consent> {
        let (field, text) = self
            .columns(row)
            .find(|(field, _)| field.remote == STATUS)?;
        Some(consent::read(field.kind, text))
    }

    fn subscribe(&self, row: &Row, status: MemberStatus) -> Result<Decision, Verdict> {
        let email = self.email(row)?;
        self.refuse_rival(&email)?;
        if let Some(Link {
            remote_key: Some(old),
            ..
        }) = &self.work.link
            && *old != email
        {
            // A create under the old address may have happened. It must not stay behind, and
            // without its id it could not be followed if an answer were lost again.
            let kind = CallKind::MailchimpArchive {
                list: self.list(),
                hash: subscriber_hash(old),
            };
            let item = self.item(old, Some(old), Some(status), Body::new());
            return Ok(Decision::Send(kind, item));
        }
        let mut body = self.open(row, &email, Some(("status_if_new", status)));
        self.fields(&mut body, row, Fields::Filled, Tags::Along)?;
        let mut item = self.item(&email, Some(&email), Some(status), body.close());
        item.intent = self.work.link.is_none();
        Ok(Decision::Send(self.bulk(), item))
    }

    fn update(&self, row: &Row, link: &Link, if_new: MemberStatus) -> Result<Decision, Verdict> {
        let email = self.email(row)?;
        let known = self.known(link, Some(&email));
        if known.address != email {
            self.refuse_rival(&email)?;
        }
        // Alone, it is sent to the person wherever they are: a bulk call goes by the address, and
        // met somebody else under it if an earlier change of address went unanswered.
        if known.address != email || (self.is_alone() && known.contact.is_some()) {
            return self.change_address(row, known, &email, link);
        }
        let mut body = self.open(row, &email, Some(("status_if_new", if_new)));
        // Under this address already; said again only if nobody remembers.
        body.ticks
            .retain(|tick| link.clock.get(tick.field).map(|agreed| agreed.hash) != Some(tick.hash));
        self.fields(&mut body, row, Fields::Changed(link), Tags::Along)?;
        if body.ticks.is_empty() {
            return Ok(Decision::Settled(Verdict::Unchanged));
        }
        let mut item = self.item(&email, Some(&email), None, body.close());
        item.expected = known.contact.cloned();
        Ok(Decision::Send(self.bulk(), item))
    }

    /// Under the contact's id or the old address's hash, so that history, tags and consent stay
    /// with the person. PATCH answers 404 if there is no such member, where PUT might create one.
    fn change_address(
        &self,
        row: &Row,
        known: Known<'_>,
        email: &str,
        link: &Link,
    ) -> Result<Decision, Verdict> {
        let mut body = self.open(row, email, None);
        self.fields(&mut body, row, Fields::Changed(link), Tags::Not)?;
        let kind = CallKind::MailchimpPatch {
            list: self.list(),
            hash: known.path(),
        };
        Ok(Decision::Send(
            kind,
            self.item(known.address, Some(email), None, body.close()),
        ))
    }

    fn set_status(
        &self,
        row: &Row,
        link: &Link,
        status: MemberStatus,
    ) -> Result<Decision, Verdict> {
        let email = self.email(row)?;
        let address = self.known(link, Some(&email)).address;
        if address != email {
            self.refuse_rival(&email)?;
        }
        let hash = subscriber_hash(address);
        let mut body = self.open(row, &email, Some((STATUS, status)));
        push_member(&mut body.json, "status_if_new", status_text(status));
        self.fields(&mut body, row, Fields::Filled, Tags::Along)?;
        let kind = CallKind::MailchimpPut {
            list: self.list(),
            hash,
        };
        let mut item = self.item(&email, Some(&email), Some(status), body.close());
        // Until the answer is in, nobody knows whether the person gets mail.
        item.intent = true;
        Ok(Decision::Send(kind, item))
    }

    fn opt_out(&self, row: &Row, link: &Link, status: MemberStatus) -> Decision {
        let email = self.email(row).ok();
        let known = self.known(link, email.as_deref());
        let moved = email.as_deref().is_some_and(|email| email != known.address);
        let certain = link.remote_key.as_deref() == Some(known.address) && !moved;
        if !certain || (self.is_alone() && known.contact.is_some()) {
            return self.opt_out_if_there(row, link, status);
        }
        let mut json = String::from("{");
        push_member(&mut json, EMAIL_ADDRESS, known.address);
        push_member(&mut json, STATUS, "unsubscribed");
        let body = Body {
            json,
            ticks: Vec::new(),
        }
        .close();
        let mut item = self.item(known.address, Some(known.address), Some(status), body);
        item.expected = known.contact.cloned();
        Decision::Send(self.bulk(), item)
    }

    /// Never creates a member, and tells whether there is one.
    fn opt_out_if_there(&self, row: &Row, link: &Link, status: MemberStatus) -> Decision {
        let email = self.email(row).ok();
        let known = self.known(link, email.as_deref());
        if known.address.is_empty() {
            // Neither side has an address: nothing was ever sent.
            return Decision::Settled(Verdict::NoConsent);
        }
        let mut json = String::from("{");
        push_member(&mut json, STATUS, "unsubscribed");
        let body = Body {
            json,
            ticks: Vec::new(),
        }
        .close();
        let kind = CallKind::MailchimpPatch {
            list: self.list(),
            hash: known.path(),
        };
        let present = email.as_deref().unwrap_or(known.address);
        Decision::Send(
            kind,
            self.item(known.address, Some(present), Some(status), body),
        )
    }

    fn suppressed(
        &self,
        row: &Row,
        link: &Link,
        status: MemberStatus,
    ) -> Result<Decision, Verdict> {
        // An address that bounced says nothing about the next one.
        if status == MemberStatus::Cleaned {
            let email = self.email(row)?;
            if link.remote_key.as_deref().is_some_and(|old| old != email) {
                return Ok(Decision::Settled(Verdict::Again {
                    relink: Some(Relink::Forget),
                    batch_cap: None,
                    why: "the address that bounced was replaced".to_owned(),
                }));
            }
        }
        Err(Verdict::Dead {
            category: Category::Consent,
            status: None,
            why: suppression(status).to_owned(),
            member_status: Some(status),
        })
    }

    /// What the member is known under: the address of the last write, unless a change of it was
    /// found to have happened (the link then carries the new address's hash), and the contact's id.
    fn known<'t>(&self, link: &'t Link, email: Option<&'t str>) -> Known<'t> {
        let old = link.remote_key.as_deref();
        let is_hash_of = |address: Option<&str>| {
            let hash = address.map(subscriber_hash);
            link.remote_id
                .as_ref()
                .is_some_and(|id| Some(id.as_str()) == hash.as_deref())
        };
        if is_hash_of(email) {
            return Known {
                address: email.unwrap_or(""),
                contact: None,
            };
        }
        let contact = link.remote_id.as_ref().filter(|_| !is_hash_of(old));
        Known {
            address: old.or(email).unwrap_or(""),
            contact,
        }
    }

    const fn is_alone(&self) -> bool {
        self.work.batch_cap <= 1
    }

    fn email(&self, row: &Row) -> Result<String, Verdict> {
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

    fn refuse_rival(&self, email: &str) -> Result<(), Verdict> {
        let Some(rival) = &self.work.rival else {
            return Ok(());
        };
        Err(dead(
            Category::Conflict,
            format!(
                "records {} and {rival} of {} have the same e-mail address {email}, and Mailchimp \
                 has one member for it, which belongs to {rival}; change one of them, or merge them",
                self.work.key.as_str(),
                self.map.name
            ),
        ))
    }

    /// Opens a member with its address and, where one is named, a status.
    fn open(&self, row: &Row, email: &str, status: Option<(&str, MemberStatus)>) -> Body {
        let mut json = String::with_capacity(96 + 32 * self.map.fields.len());
        json.push('{');
        push_member(&mut json, EMAIL_ADDRESS, email);
        if let Some((name, status)) = status {
            push_member(&mut json, name, status_text(status));
        }
        let mut ticks = Vec::with_capacity(self.map.fields.len());
        if let Some((field, _)) = self
            .columns(row)
            .find(|(field, _)| field.remote == EMAIL_ADDRESS)
        {
            ticks.push(self.tick(field, ValueHash::of(Some(email))));
        }
        Body { json, ticks }
    }

    /// Adds merge fields, language and tags.
    fn fields(
        &self,
        body: &mut Body,
        row: &Row,
        which: Fields<'_>,
        tags: Tags,
    ) -> Result<(), Verdict> {
        let start = body.json.len();
        push_name(&mut body.json, "merge_fields");
        body.json.push('{');
        let opened = body.json.len();
        let mut aside = Vec::new();
        for (field, text) in self.columns(row) {
            let pseudo = matches!(field.remote.as_str(), EMAIL_ADDRESS | STATUS);
            if pseudo || field.direction == Direction::Pull {
                continue;
            }
            let value = self.value(field, text)?;
            let hash = ValueHash::of(value.as_deref());
            if !which.includes(field, hash) {
                continue;
            }
            match (field.remote.as_str(), tags) {
                (LANGUAGE, _) | (TAGS, Tags::Along) => aside.push((field, text, value)),
                (TAGS, Tags::Not) => continue,
                _ => {
                    push_name(&mut body.json, &field.remote);
                    self.push_value(&mut body.json, field, value.as_deref())?;
                }
            }
            body.ticks.push(self.tick(field, hash));
        }
        if body.json.len() == opened {
            // An empty object would be refused or worse; it is left out.
            body.json.truncate(start);
        } else {
            body.json.push('}');
        }
        for (field, text, value) in aside {
            self.push_aside(&mut body.json, field, text, value.as_deref())?;
        }
        Ok(())
    }

    /// Language and tags stand beside the merge fields. Neither can be emptied in this way: tags
    /// are only ever added, for others may have set some, too.
    fn push_aside(
        &self,
        json: &mut String,
        field: &Field,
        text: Option<&str>,
        value: Option<&str>,
    ) -> Result<(), Verdict> {
        let Some(value) = value else { return Ok(()) };
        if field.remote == LANGUAGE {
            push_member(json, LANGUAGE, value);
            return Ok(());
        }
        let tags = match field.kind {
            ValueKind::TextArray => elements(text.unwrap_or("{}"))
                .map_err(|error| unmappable(self.map, field, "field", text, &error))?,
            _ => vec![Cow::Borrowed(value)],
        };
        push_name(json, TAGS);
        json.push('[');
        for (position, tag) in tags.iter().enumerate() {
            if position > 0 {
                json.push(',');
            }
            push_string(json, tag.trim());
        }
        json.push(']');
        Ok(())
    }

    /// Mailchimp: number fields take JSON numbers, addresses objects, everything else strings; an
    /// empty string clears any of them, null is refused.
    fn push_value(
        &self,
        json: &mut String,
        field: &Field,
        value: Option<&str>,
    ) -> Result<(), Verdict> {
        let Some(value) = value else {
            json.push_str("\"\"");
            return Ok(());
        };
        match field.kind {
            ValueKind::Integer | ValueKind::Decimal | ValueKind::Float => json.push_str(value),
            ValueKind::Json if value.starts_with('{') => {
                serde_json::from_str::<serde::de::IgnoredAny>(value).map_err(|_| {
                    unmappable(self.map, field, "field", Some(value), &ValueError::NotJson)
                })?;
                json.push_str(value);
            }
            _ => push_string(json, value),
        }
        Ok(())
    }

    fn columns<'r>(&'r self, row: &'r Row) -> impl Iterator<Item = (&'r Field, Option<&'r str>)> {
        self.map
            .fields
            .iter()
            .zip(row)
            .map(|(field, text)| (field, text.as_deref()))
    }

    fn value<'t>(
        &self,
        field: &Field,
        text: Option<&'t str>,
    ) -> Result<Option<Cow<'t, str>>, Verdict> {
        field_to_remote(self.map, field, text)
            .map_err(|error| unmappable(self.map, field, "field", text, &error))
    }

    fn tick(&self, field: &Field, hash: ValueHash) -> Tick {
        Tick {
            field: field.id,
            hash,
            at: self.work.changed_at,
            by: Writer::Crm,
        }
    }

    fn list(&self) -> String {
        self.settings.list.clone()
    }

    fn bulk(&self) -> CallKind {
        CallKind::MailchimpBulk { list: self.list() }
    }

    fn item(
        &self,
        name: &str,
        remote_key: Option<&str>,
        member_status: Option<MemberStatus>,
        body: Body,
    ) -> Item {
        Item {
            work: self.index,
            name: name.to_owned(),
            ticks: body.ticks,
            remote_key: remote_key.map(str::to_owned),
            member_status,
            expected: None,
            intent: false,
            batch_cap: self.work.batch_cap,
            fragment: body.json,
        }
    }
}

/// Whether tags are sent along; PATCH does not take them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tags {
    Along,
    Not,
}

/// How Mailchimp knows the member.
#[derive(Clone, Copy)]
struct Known<'a> {
    address: &'a str,
    contact: Option<&'a RemoteId>,
}

impl Known<'_> {
    /// The member's name in a path. The contact's id stays the same whatever becomes of the
    /// address.
    fn path(&self) -> String {
        match self.contact {
            Some(id) => id.as_str().to_owned(),
            None => subscriber_hash(self.address),
        }
    }
}

impl Fields<'_> {
    fn includes(self, field: &Field, hash: ValueHash) -> bool {
        let empty = ValueHash::of(None);
        match self {
            Fields::Filled => hash != empty,
            Fields::Changed(link) => {
                hash != link.clock.get(field.id).map_or(empty, |tick| tick.hash)
            }
        }
    }
}

impl Body {
    const fn new() -> Body {
        Body {
            json: String::new(),
            ticks: Vec::new(),
        }
    }

    fn close(mut self) -> Body {
        self.json.push('}');
        self
    }
}

const fn status_text(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Subscribed => "subscribed",
        MemberStatus::Pending => "pending",
        // Nothing else is ever asked for; an opt-out is the safe reading of it.
        MemberStatus::UnsubscribedByCrm
        | MemberStatus::UnsubscribedByMember
        | MemberStatus::Cleaned
        | MemberStatus::Forgotten
        | MemberStatus::Archived => "unsubscribed",
    }
}

/// Why nobody but the person can change it.
pub(super) const fn suppression(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Cleaned => {
            "Mailchimp no longer mails this address because mail to it bounced; enter another one"
        }
        MemberStatus::Forgotten => {
            "this person was permanently deleted at Mailchimp; only a sign-up form of Mailchimp's \
             own brings them back"
        }
        _ => {
            "this person unsubscribed at Mailchimp, so the opt-in in the CRM has no effect; they \
             can sign up again by themselves, or be asked if integration.mailchimp_resubscribe is \
             'pending'"
        }
    }
}
