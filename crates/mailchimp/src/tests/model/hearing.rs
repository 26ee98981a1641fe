//! What is done about events: as `inbound` does it.

use std::convert::Infallible;

use super::{super::*, Crm, Event, address};
use integration_engine::consent::{
    Party, ReportedConsent,
    place::{AudienceAddress, AudiencePlace},
    standing::{self, Remembered},
};

impl Crm {
    /// Applies an event that was told.
    pub(super) fn hear(&mut self, event: &Event) {
        if event.reported.by == Party::Mandrill {
            return self.hear_of_mail(event);
        }
        match self.place(event) {
            AudiencePlace::Here(key, link) => {
                let mut told = (event.reported, link);
                if told.1.remote_key.as_ref() != Some(&event.address) {
                    let last = told.1.clock.get(FieldId(2)).copied();
                    let here = (event.list.as_str(), event.address.as_str());
                    let of_row = told.0.of_present_address(told.1, last.as_ref(), here);
                    let Some(of_row) = of_row else {
                        return self.remember_event(event, None);
                    };
                    told = of_row;
                }
                self.record(key, Some(told.1), event, told.0);
            }
            AudiencePlace::Left(key, link) if standing::left(event.reported.status) => {
                let elsewhere = true;
                let reported = ReportedConsent {
                    elsewhere,
                    ..event.reported
                };
                self.record(key, Some(link), event, reported);
            }
            AudiencePlace::Left(..) => {}
            AudiencePlace::Elsewhere | AudiencePlace::Nowhere => self.remember_event(event, None),
        }
    }

    /// `known`: the link of the record it is about.
    fn remember_event(&mut self, event: &Event, known: Option<&Link>) {
        if let Some((list, news)) = event.reported.remembered(&event.list, known) {
            self.remember(&Remembered {
                list: list.to_owned(),
                address: event.address.clone(),
                news,
            });
        }
    }

    /// As `inbound::mailchimp::change_address`. The record whose address it is.
    pub(super) fn hear_of_move(&mut self, list: &str, old: &str, new: &str) -> Option<u8> {
        let mut known = self.links.iter();
        let linked = |link: &Link, address: &str| {
            let here = !link.is_nowhere() && self.list_of(link) == list;
            here && link.remote_key.as_deref() == Some(address)
        };
        let holder = known.clone().any(|(_, link)| linked(link, new));
        let found = known.find(|(_, link)| linked(link, old));
        let (key, link) = found.filter(|_| !holder)?;
        let (key, link) = (*key, link.clone().readdressed(new));
        self.links.insert(key, link);
        let number = (0..4).find(|number| address(*number) == new);
        let now = self.now;
        if let (Some(row), Some(number)) = (self.row_mut(key), number)
            && address(row.address) == old
        {
            (row.address, row.changed_at) = (number, Some(now));
            self.service.entered(new);
        }
        Some(key)
    }

    fn hear_of_mail(&mut self, event: &Event) {
        // From now on it is known.
        self.service
            .gone_everywhere(&event.address, event.reported.at.0);
        let of_link = |link: &Link| link.remote_key.as_ref() == Some(&event.address);
        let mut keys: Vec<u8> = self
            .links
            .iter()
            .filter(|(_, link)| of_link(link))
            .map(|(key, _)| *key)
            .collect();
        let row = self.at(&event.address).map(|row| row.key);
        keys.extend(row.filter(|key| !keys.contains(key)));
        if keys.is_empty() {
            self.remember_event(event, None);
        }
        for key in keys {
            let link = self.links.get(&key).cloned();
            self.record(key, link, event, event.reported);
        }
    }

    /// Whose the event is, as `inbound::audience::place` looks it up.
    fn place(&self, event: &Event) -> AudiencePlace<u8> {
        let here = AudienceAddress {
            list: &event.list,
            email: &event.address,
            default: &self.settings.list,
        };
        let of_address =
            |(_, link): &(&u8, &Link)| link.remote_key.as_ref() == Some(&event.address);
        let members = self.links.iter().filter(of_address);
        let members = members.map(|(key, link)| (*key, link.clone()));
        if let Some(place) = here.among(members) {
            return place;
        }
        let Some(row) = self.at(&event.address) else {
            return AudiencePlace::Nowhere;
        };
        let link = self.links.get(&row.key).cloned();
        let belongs = |_: &u8| Ok::<_, Infallible>(Crm::named(row) == event.list);
        here.of_row(row.key, link, belongs).unwrap()
    }

    /// As `inbound::consent::record`.
    fn record(&mut self, key: u8, known: Option<Link>, event: &Event, reported: ReportedConsent) {
        let mut link = known.clone().unwrap_or_default();
        let field = FieldId(2);
        let standing = self.weigh(&event.address, &event.list, known.as_ref());
        let of_link = link
            .remote_key
            .as_ref()
            .is_none_or(|known| *known == event.address);
        let last = link.clock.get(field).filter(|_| of_link).copied();
        let older = reported.is_older(&link, last.as_ref(), standing.as_ref());
        let undone = reported.undone(&link, last.as_ref(), standing.as_ref());
        if older && !reported.counts_though_older(&link) {
            self.links.extend(undone.map(|link| (key, link)));
            return;
        }
        let event = &Event {
            reported,
            ..event.clone()
        };
        self.remember_event(event, known.as_ref());
        if older {
            return;
        }
        let row = self.row(key);
        let another = row.is_some_and(|row| address(row.address) != event.address);
        if !reported.is_of_member() && reported.status == MemberStatus::Cleaned && another {
            return;
        }
        let wanted = reported.opts_in();
        let number = (0..4).find(|number| address(*number) == event.address);
        if let Some(number) = number.filter(|_| wanted) {
            self.opt_in_all(number);
        }
        let now = self.now;
        if let Some(row) = self.row_mut(key) {
            let since = row
                .changed_at
                .is_some_and(|changed| changed >= reported.at.0);
            if wanted && since && !row.opted_in {
                self.links.extend(undone.map(|link| (key, link)));
                return;
            }
            if row.opted_in != wanted {
                (row.opted_in, row.changed_at) = (wanted, Some(now));
            }
        }
        link = reported.note(link, last.as_ref());
        let newer = |last: &Tick| last.by == Writer::Remote && last.at > reported.at;
        if !link.clock.get(field).is_some_and(newer) {
            link.clock.set(Tick {
                field,
                hash: ValueHash(1),
                at: reported.at,
                by: Writer::Remote,
            });
        }
        if known.is_some() || reported.is_of_member() {
            self.links.insert(key, link);
        }
    }
}
