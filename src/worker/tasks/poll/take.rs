//! What answers of a poll come to: campaigns to be read, lines of activity, and news of consent,
//! which takes the way of a webhook.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use integration_engine::record::{RecordRef, Target, Timestamp};
use integration_engine::webhook::{self, Accepted};
use integration_mailchimp::engagement::{
    Engagement, ReportContent, ReportCursor, ReportPage, SentCampaign, as_webhook, is_due,
    judged_from,
};
use pgrx::spi::SpiResult;

use super::Running;
use crate::store::inbound::activity::{self, NewActivity};
use crate::store::inbound::engagement::{self, Campaign};
use crate::store::inbound::inbox::{self, EventState};
use crate::store::links::{self, Holder};
use crate::store::{consent::consent_log, crm::people, queue::withheld};
use crate::worker::Context;

/// A page of the list of campaigns. `lists`: the audiences whose campaigns are read.
pub(super) fn listed(
    running: &mut Running,
    context: &Context,
    lists: &[String],
    page: &ReportPage<Vec<SentCampaign>>,
) -> SpiResult<()> {
    let poll = &mut running.poll;
    let now = context.now.timestamp;
    let interval = context.settings.mailchimp_poll_interval;
    let known = engagement::read_at(&page.rows)?;
    let mut ids = BTreeSet::new();
    let due: Vec<&SentCampaign> = page
        .rows
        .iter()
        .filter(|sent| lists.contains(&sent.list))
        .filter(|sent| {
            let read_at = known.get(&sent.id).copied();
            let interval = interval.unwrap_or(Duration::ZERO);
            !poll.scheduled || is_due(now, sent.sent_at, read_at, interval)
        })
        .filter(|sent| ids.insert(&sent.id))
        .collect();
    engagement::owe(poll.job, &due)?;
    match poll.walk.after(page.got, page.total) {
        Some(walk) => poll.walk = walk,
        None => {
            poll.listed = true;
            poll.total = engagement::owed(poll.job)?;
        }
    }
    Ok(())
}

/// A page of a report. Returns whether the inbox has something new.
pub(super) fn reported(
    running: &mut Running,
    context: &Context,
    since: Option<Timestamp>,
    page: &ReportPage<ReportContent>,
) -> SpiResult<bool> {
    let Some(campaign) = &mut running.campaign else {
        return Ok(false);
    };
    let told = match &page.rows {
        ReportContent::Did(events) => {
            let newest = events.iter().map(|event| event.at).max();
            // What is said to happen later than now says nothing about what has been seen.
            let newest = newest.map(|at| at.min(context.now.timestamp));
            campaign.reached = campaign.reached.max(newest);
            store(context, campaign, events)?
        }
        ReportContent::Humans(humans) => {
            activity::judge(&campaign.id, judged_from(since), humans)?;
            false
        }
        ReportContent::Opened(opened) => {
            activity::flag(&campaign.id, opened)?;
            false
        }
    };
    match campaign.walk.after(page.got, page.total) {
        Some(walk) => {
            campaign.walk = walk;
            engagement::save_campaign(campaign)?;
        }
        None => read_on(running)?,
    }
    Ok(told)
}

/// Goes on with the next report of the campaign.
pub(super) fn read_on(running: &mut Running) -> SpiResult<()> {
    let Some(campaign) = &mut running.campaign else {
        return Ok(());
    };
    match campaign.report.next() {
        Some(report) => {
            (campaign.report, campaign.walk) = (report, ReportCursor::default());
            running.count = super::PAGE_MAX;
            engagement::save_campaign(campaign)
        }
        None => read_to_the_end(running),
    }
}

/// Nothing of the campaign is left to be read.
pub(super) fn read_to_the_end(running: &mut Running) -> SpiResult<()> {
    if let Some(campaign) = running.campaign.take() {
        engagement::finish(&campaign)?;
        running.poll.done += 1;
    }
    Ok(())
}

fn store(context: &Context, campaign: &Campaign, events: &[Engagement]) -> SpiResult<bool> {
    let events = &without_erased(context, events)?;
    let who = rows_of(context, &campaign.list, events)?;
    let members: Vec<(&str, &RecordRef)> = who
        .iter()
        .map(|(member, record)| (*member, record))
        .collect();
    activity::link(&members)?;
    let done: Vec<NewActivity> = events
        .iter()
        .map(|event| NewActivity {
            event,
            record: who.get(event.member.as_str()),
        })
        .collect();
    let new = activity::put_done(&campaign.id, &done)?;
    let mut told = false;
    for NewActivity { event, record } in &done {
        let (Some(_), Some(record)) = (event.opt_out, record) else {
            continue;
        };
        // An old decision does not undo a newer one.
        if !new.contains(&(event.member.clone(), event.key))
            || consent_log::opted_in_since(record, event.at)?
        {
            continue;
        }
        if let Some(webhook) = as_webhook(&campaign.list, &campaign.id, event) {
            let Accepted { event, .. } = webhook::accept(webhook, context.now.timestamp);
            told |= inbox::put("mailchimp", event, EventState::Pending, None)?;
        }
    }
    Ok(told)
}

/// What people did who were erased is not kept, unless somebody else is a member under the same
/// address by now.
fn without_erased(context: &Context, events: &[Engagement]) -> SpiResult<Vec<Engagement>> {
    if !context.withheld {
        return Ok(events.to_vec());
    }
    let members: BTreeSet<&str> = events.iter().map(|event| event.member.as_str()).collect();
    let names: Vec<&str> = members.into_iter().collect();
    let named = withheld::named(Target::Mailchimp, &names)?;
    let erased = |event: &&Engagement| named.iter().any(|named| named.name == event.member);
    let emails = events.iter().filter(erased);
    let emails: Vec<String> = emails.filter_map(|event| event.email.clone()).collect();
    let held = links::holders(Target::Mailchimp, &emails)?;
    let gone = |record: &RecordRef| named.iter().any(|named| named.record == *record);
    let somebody_elses = |email: &String| {
        let holders = held.get(email).map_or(&[][..], Vec::as_slice);
        holders.iter().any(|holder| !gone(&holder.record))
    };
    let kept = events
        .iter()
        .filter(|event| !erased(event) || event.email.as_ref().is_some_and(somebody_elses));
    Ok(kept.cloned().collect())
}

/// The CRM rows of those who did something, as far as they are known, by Mailchimp's hash. Of rows
/// with one address the one in the audience `list` goes first.
fn rows_of<'e>(
    context: &Context,
    list: &str,
    events: &'e [Engagement],
) -> SpiResult<HashMap<&'e str, RecordRef>> {
    let members: HashMap<&str, &str> = events
        .iter()
        .filter_map(|event| Some((event.member.as_str(), event.email.as_deref()?)))
        .collect();
    let emails: Vec<String> = members.values().map(|email| (*email).to_owned()).collect();
    let linked = links::holders(Target::Mailchimp, &emails)?;
    let contact = |holder: &&Holder| {
        let source = context.sources.get(&holder.record.source);
        source.is_some_and(|source| source.entity.is_person())
    };
    let default = &context.settings.mailchimp_api.list;
    let elsewhere = |holder: &&Holder| holder.list.as_ref().unwrap_or(default) != list;
    let mut rows = HashMap::new();
    for (member, email) in members {
        let known = linked
            .get(email)
            .and_then(|holders| holders.iter().filter(contact).min_by_key(elsewhere));
        let record = match known {
            Some(holder) => Some(holder.record.clone()),
            None => people::by_email(context.sources.values(), email)?.map(|(record, _)| record),
        };
        rows.extend(record.map(|record| (member, record)));
    }
    Ok(rows)
}
