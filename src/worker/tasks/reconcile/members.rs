//! What answers of a comparison with Mailchimp come to: consent first of all, then the fields.

use std::collections::{HashSet, VecDeque};

use integration_engine::consent::place::AudiencePlace;
use integration_engine::consent::{Party, ReportedConsent};
use integration_engine::delivery::call::Link;
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::consent::{Consent, MemberStatus};
use integration_engine::record::mapping::{Field, SourceMap};
use integration_engine::record::{RecordKey, RecordRef, RemoteId, Target, Timestamp};
use integration_engine::sync::drift::{ConsentRemedy, Record, consent_remedy, differences};
use integration_engine::webhook;
use integration_mailchimp::{Mailchimp, listing};
use pgrx::spi::SpiResult;

use super::judge::{Judge, judged_rows};
use super::{Ask, Asked};
use crate::inbound::audience::place;
use crate::inbound::consent::{self as inbound, Decided};
use crate::inbound::{Fate, Refused};
use crate::store::inbound::inbox::EventState;
use crate::store::jobs::drift::{self, DriftKind, DriftRow, Repair};
use crate::store::links::{self, LinkCause};
use crate::store::sources::Source;

/// A member and the row it belongs to.
struct MatchedMember<'r> {
    record: &'r Record,
    key: RecordKey,
    link: Link,
    /// The row is not linked to it; its address says so.
    met: bool,
}

impl Judge<'_> {
    /// Members that Mailchimp has. With `todo`, those that belong to no row are looked at once more
    /// before they count; `only` those then.
    pub(super) fn members(
        &mut self,
        list: &str,
        records: &[Record],
        since: Timestamp,
        only: Option<&HashSet<String>>,
        todo: Option<&mut VecDeque<Ask>>,
    ) -> SpiResult<()> {
        let Some((source, map)) = self.mapped() else {
            return Ok(());
        };
        // All is read before anything is written: what is written changes what is seen.
        let (pairs, strangers) = self.pair(source, list, records)?;
        let keys: Vec<&RecordKey> = pairs.iter().map(|pair| &pair.key).collect();
        let rows = judged_rows(source, map, &keys);
        let still = self.at_rest(&keys, since)?;
        let texts: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
        drift::see(self.course.job, &texts)?;
        for pair in &pairs {
            if let Some(row) = rows.get(&pair.key).filter(|_| still.contains(&pair.key)) {
                self.member(source, map, row, list, pair)?;
            }
        }
        // What people removed by archiving it is not missing here.
        let strangers = strangers
            .into_iter()
            .filter(|record| status_of(record) != Some(MemberStatus::Archived));
        match todo {
            Some(todo) => {
                let ids: HashSet<String> = strangers.map(|record| record.id.clone()).collect();
                if !ids.is_empty() {
                    todo.push_back(Ask::PageAgain(ids));
                }
            }
            None => {
                for record in
                    strangers.filter(|record| only.is_none_or(|ids| ids.contains(&record.id)))
                {
                    let status = record.properties.get("status").cloned();
                    let id = Some(record.id.clone());
                    self.put(None, id, DriftKind::MissingLocal, status, Repair::Nothing)?;
                }
            }
        }
        Ok(())
    }

    fn pair<'r>(
        &self,
        source: &Source,
        list: &str,
        records: &'r [Record],
    ) -> SpiResult<(Vec<MatchedMember<'r>>, Vec<&'r Record>)> {
        let (mut pairs, mut strangers) = (Vec::new(), Vec::new());
        let sources = &self.apply_context.context.sources;
        let tracked = |found: &(RecordRef, Link)| {
            sources.contains_key(&found.0.source) && self.apply_context.is_in(&found.1, list)
        };
        for record in records {
            let email = address(record);
            let by_id = links::by_remote_id(Target::Mailchimp, &record.id)?;
            let mut known = by_id.into_iter().find(tracked);
            if known.is_none() {
                let by_address = links::by_remote_key(Target::Mailchimp, &email)?;
                known = by_address.into_iter().find(tracked);
            }
            let met = known.is_none();
            if met {
                known = match place(&self.apply_context, list, &email)? {
                    AudiencePlace::Here(record, link) => Some((record, link)),
                    AudiencePlace::Left(..) | AudiencePlace::Elsewhere | AudiencePlace::Nowhere => {
                        None
                    }
                };
            }
            match known {
                Some((row, link)) if row.source == source.id => pairs.push(MatchedMember {
                    record,
                    key: row.key,
                    link,
                    met,
                }),
                Some(_) => {}
                None => strangers.push(record),
            }
        }
        Ok((pairs, strangers))
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one table of how row and member differ, arm by arm"
    )]
    fn member(
        &mut self,
        source: &Source,
        map: &SourceMap,
        row: &[Option<String>],
        list: &str,
        pair: &MatchedMember,
    ) -> SpiResult<()> {
        let column = map.field_named("status");
        let Some((held, (index, field))) = status_of(pair.record).zip(column) else {
            return Ok(());
        };
        let text = row.get(index).and_then(Option::as_deref);
        let says = field.consent(text);
        if pair.met && says == Consent::Unknown {
            // Nobody here ever decided anything about this person.
            return Ok(());
        }
        let again = || {
            let id = RemoteId::from(pair.record.id.as_str());
            Ask::LostMember(pair.key.clone(), id, list.to_owned())
        };
        if let Some(remedy) = consent_remedy(says, held, pair.link.member_status) {
            if remedy == ConsentRemedy::TellCrm
                && self.set_apart(&pair.key, DriftKind::Status, again(), pair.record)
            {
                return Ok(());
            }
            let repair = match self.course.repair {
                true => self.repair_consent(source, pair, held, remedy)?,
                false => Repair::Nothing,
            };
            let found = DriftRow {
                key: Some(pair.key.clone()),
                remote_id: Some(pair.record.id.clone()),
                kind: DriftKind::Status,
                field: Some("status".to_owned()),
                crm: text.map(str::to_owned),
                remote: pair.record.properties.get("status").cloned(),
                agreed: None,
                repair,
            };
            return drift::put(&self.course, &found);
        }
        if says != Consent::OptedIn {
            return Ok(());
        }
        if pair.met {
            return self.unlinked_member(pair, held);
        }
        let map = source
            .map_in(Target::Mailchimp, self.apply_context.list_of(&pair.link))
            .unwrap_or(map);
        // Of lists, what others gave the member is not compared.
        let held: Vec<Option<String>> = map
            .fields
            .iter()
            .zip(row)
            .map(|(field, text)| {
                let held = held_in(pair.record, &field.remote)??;
                let ours = listing::ours(field, held, text.as_deref(), &pair.link);
                Some(ours.unwrap_or_else(|| held.to_owned()))
            })
            .collect();
        let place = |field: &Field| map.fields.iter().position(|known| known.id == field.id);
        let found = differences::<Mailchimp>(
            map,
            row,
            |field| Some(Some(held[place(field)?].as_deref()?)),
            |field| pair.link.clock.agreed(field.id),
        );
        if found.is_empty() || self.set_apart(&pair.key, DriftKind::Field, again(), pair.record) {
            return Ok(());
        }
        let link = Link {
            // Whoever wins, this is where the member is now.
            remote_key: Some(address(pair.record)),
            ..pair.link.clone()
        };
        self.differing(source, map, &pair.key, link, pair.record, found)
    }

    fn unlinked_member(&self, pair: &MatchedMember, held: MemberStatus) -> SpiResult<()> {
        let repair = match self.course.repair {
            true => {
                self.link(pair, held)?;
                self.queue(&pair.key);
                Repair::Done("linked to the member with its address".to_owned())
            }
            false => Repair::Nothing,
        };
        let id = Some(pair.record.id.clone());
        self.put(Some(&pair.key), id, DriftKind::WrongLink, None, repair)
    }

    fn list_of(&self, link: &Link) -> String {
        let default = &self.apply_context.context.settings.mailchimp_api.list;
        link.membership.list.as_ref().unwrap_or(default).clone()
    }

    fn link(&self, pair: &MatchedMember, held: MemberStatus) -> SpiResult<()> {
        let link = Link {
            remote_id: Some(RemoteId::from(pair.record.id.as_str())),
            remote_key: Some(address(pair.record)),
            member_status: Some(held),
            ..pair.link.clone().settled(held == MemberStatus::Subscribed)
        };
        let record = self.record(&pair.key);
        links::write(
            Target::Mailchimp,
            LinkCause::Noted,
            &[LinkEntry { record, link }].into(),
        )
    }

    fn repair_consent(
        &self,
        source: &Source,
        pair: &MatchedMember,
        held: MemberStatus,
        remedy: ConsentRemedy,
    ) -> SpiResult<Repair> {
        match remedy {
            ConsentRemedy::Leave => Ok(Repair::Refused(
                "the person left at Mailchimp, and can only come back by themselves".to_owned(),
            )),
            ConsentRemedy::TellService => {
                self.link(pair, held)?;
                self.queue(&pair.key);
                Ok(Repair::Done("the opt-out is sent to mailchimp".to_owned()))
            }
            ConsentRemedy::TellCrm => {
                let at = pair.record.written.get("status").copied();
                let now = self.apply_context.now.timestamp;
                let decided = Decided {
                    reported: ReportedConsent {
                        status: held,
                        by: Party::Mailchimp,
                        at: at.map_or(now, |at| webhook::not_in_future(at, now)),
                        elsewhere: false,
                    },
                    list: self.list_of(&pair.link),
                    email: address(pair.record),
                    event: None,
                    reason: Some("found by reconcile()".to_owned()),
                };
                let link = Link {
                    remote_id: Some(RemoteId::from(pair.record.id.as_str())),
                    remote_key: Some(address(pair.record)),
                    ..pair.link.clone()
                };
                let record = self.record(&pair.key);
                let fate =
                    inbound::record(&self.apply_context, source, record, Some(link), decided)?;
                match &fate {
                    Fate::Refused(why) => self.unless_in_vain(why),
                    Fate::Later => self.unless_in_vain(&Refused::changing()),
                    Fate::Settled(..) => {}
                }
                Ok(match fate {
                    Fate::Settled(EventState::Applied, _) => {
                        Repair::Done("written to the CRM".to_owned())
                    }
                    Fate::Settled(_, why) => Repair::Refused(why),
                    Fate::Later => Repair::Refused("the row was being changed".to_owned()),
                    Fate::Refused(why) => Repair::Refused(why.text),
                })
            }
        }
    }

    /// Rows whose members were not met: linked ones are asked for singly, for a list that changes
    /// while it is read may leave some out; the others should be there if they opted in.
    pub(super) fn unmet(&mut self, keys: &[RecordKey], todo: &mut VecDeque<Ask>) -> SpiResult<()> {
        let Some((source, map)) = self.mapped() else {
            return Ok(());
        };
        let texts: Vec<&str> = keys.iter().map(RecordKey::as_str).collect();
        let met = drift::seen(self.course.job, &texts)?;
        let left: Vec<&RecordKey> = keys.iter().filter(|key| !met.contains(*key)).collect();
        let texts: Vec<&str> = left.iter().map(|key| key.as_str()).collect();
        let mut known = links::read(source.id, Target::Mailchimp, &texts)?;
        let rows = judged_rows(source, map, &left);
        let still = self.at_rest(&left, self.apply_context.now.timestamp)?;
        for key in left.into_iter().filter(|key| still.contains(*key)) {
            let Some(row) = rows.get(key) else { continue };
            let link = known.remove(key);
            match link
                .as_ref()
                .and_then(|link| Some((link, link.remote_id.as_ref()?)))
            {
                Some((link, id)) if expected(link) => {
                    let list = link.membership.list.clone();
                    let list = list.unwrap_or_else(|| {
                        self.apply_context
                            .context
                            .settings
                            .mailchimp_api
                            .list
                            .clone()
                    });
                    todo.push_back(Ask::LostMember(key.clone(), id.clone(), list));
                }
                Some(_) => {}
                None if wanted(map, row) => self.send_again(key, link, None)?,
                None => {}
            }
        }
        Ok(())
    }

    /// A member that was not met in the list.
    pub(super) fn lost_member(
        &mut self,
        key: &RecordKey,
        id: &RemoteId,
        list: &str,
        asked: &Asked,
        record: Option<&Record>,
    ) -> SpiResult<()> {
        let Some((source, map)) = self.mapped() else {
            return Ok(());
        };
        if let Some(record) = record {
            // Who is nobody's by now was somebody's when that was asked.
            let nobody = HashSet::new();
            let records = std::slice::from_ref(record);
            return self.members(list, records, asked.at, Some(&nobody), None);
        }
        let link = links::read(source.id, Target::Mailchimp, &[key.as_str()])?.remove(key);
        let link = link.filter(|link| link.remote_id.as_ref() == Some(id));
        let rows = judged_rows(source, map, &[key]);
        let still = !self.at_rest(&[key], asked.at)?.is_empty();
        match (link, rows.get(key)) {
            (Some(link), Some(row)) if still && wanted(map, row) => {
                self.send_again(key, Some(link), Some(id))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the link says that there is a member.
fn expected(link: &Link) -> bool {
    !matches!(
        link.member_status,
        Some(MemberStatus::Forgotten | MemberStatus::Archived)
    )
}

/// Whether the person opted in and has an address.
fn wanted(map: &SourceMap, row: &[Option<String>]) -> bool {
    let text = |name: &str| {
        let (index, field) = map.field_named(name)?;
        Some((field, row.get(index).and_then(Option::as_deref)))
    };
    let opted_in =
        text("status").is_some_and(|(field, text)| field.consent(text) == Consent::OptedIn);
    let addressed = text("email_address")
        .and_then(|(_, text)| text)
        .is_some_and(|text| !text.trim().is_empty());
    opted_in && addressed
}

fn address(record: &Record) -> String {
    let email = record.properties.get("email_address");
    email.map_or_else(String::new, |email| email.trim().to_lowercase())
}

fn status_of(record: &Record) -> Option<MemberStatus> {
    listing::status(record.properties.get("status")?)
}

/// What the member holds in a field; `None` for one that is not compared: consent has rules of its
/// own, and a tag that the audience lacks cannot be filled.
fn held_in<'r>(record: &'r Record, name: &str) -> Option<Option<&'r str>> {
    let (_, value) = record
        .properties
        .iter()
        .find(|(known, _)| known.as_str() == name && *known != "status")?;
    Some(Some(value.as_str()))
}
