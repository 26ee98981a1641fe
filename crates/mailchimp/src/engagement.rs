//! What people did with campaigns: which reports are asked for, what they say, and how events that
//! carry no id are told apart.

mod read;

use std::time::Duration;

use serde_json::json;

use super::webhook;
use crate::webhook::MailchimpSubject;
use integration_engine::{
    record::{Target, Timestamp},
    value::time,
    webhook::Event,
    wire::Request,
};
pub use read::{
    Engagement, Human, OptOut, RecipientOpens, ReportContent, ReportPage, SentCampaign,
    read_campaigns, read_report,
};

/// Mailchimp: at most 1,000 rows in a page.
pub const PAGE_MAX: usize = 1_000;

/// Events reach the reports with a delay that is not documented, and whether `since` includes its
/// own second is not either: what is younger than this at the last reading is read once more.
const OVERLAP_MS: i64 = 24 * HOUR_MS;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Times a report is read from its beginning because its length changed meanwhile.
const MOST_ROUNDS: u8 = 3;

/// A report of a campaign, in the order in which they are read: consent first, and what is said of
/// opens and clicks when they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    Unsubscribes,
    Complaints,
    Activity,
    /// The same once more, without what machines did.
    Human,
    Opens,
}

impl Report {
    pub const ALL: [Report; 5] = [
        Report::Unsubscribes,
        Report::Complaints,
        Report::Activity,
        Report::Human,
        Report::Opens,
    ];

    /// Whether it only says more about events that another one tells of.
    pub const fn is_extra(self) -> bool {
        match self {
            Report::Human | Report::Opens => true,
            Report::Unsubscribes | Report::Complaints | Report::Activity => false,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Report::Human => "human-activity",
            Report::Activity | Report::Opens | Report::Unsubscribes | Report::Complaints => {
                self.path()
            }
        }
    }

    /// As in Mailchimp's paths.
    const fn path(self) -> &'static str {
        match self {
            Report::Activity | Report::Human => "email-activity",
            Report::Opens => "open-details",
            Report::Unsubscribes => "unsubscribed",
            Report::Complaints => "abuse-reports",
        }
    }

    pub fn from_name(name: &str) -> Option<Report> {
        Report::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The one read after it.
    pub fn next(self) -> Option<Report> {
        let at = Report::ALL.iter().position(|known| *known == self)?;
        Report::ALL.get(at + 1).copied()
    }

    /// What of an answer is wanted: merge fields and links are most of it.
    const fn fields(self) -> &'static str {
        match self {
            Report::Activity | Report::Human => {
                "total_items,emails.email_id,emails.email_address,emails.activity"
            }
            Report::Opens => "total_items,members.email_id,members.email_address,members.opens",
            Report::Unsubscribes => {
                "total_items,unsubscribes.email_id,unsubscribes.email_address,unsubscribes.timestamp,unsubscribes.reason"
            }
            Report::Complaints => {
                "total_items,abuse_reports.id,abuse_reports.email_id,abuse_reports.email_address,abuse_reports.date"
            }
        }
    }
}

/// Campaigns sent since then, oldest first.
pub fn campaigns_request(since: Timestamp, offset: u64) -> Request {
    let since = written(since);
    Request::get(
        Target::Mailchimp,
        format!(
            "/campaigns?status=sent&since_send_time={since}&sort_field=send_time&sort_dir=ASC&count={PAGE_MAX}&offset={offset}\
             &fields=total_items,campaigns.id,campaigns.send_time,campaigns.recipients.list_id"
        ),
    )
}

/// A page of a report.
pub fn report_request(
    campaign: &str,
    report: Report,
    since: Option<Timestamp>,
    offset: u64,
    count: usize,
) -> Request {
    let (name, fields) = (report.path(), report.fields());
    let mut path = format!("/reports/{campaign}/{name}?fields={fields}");
    // Mailchimp: complaints come all at once.
    if report != Report::Complaints {
        path.push_str(&format!("&count={count}&offset={offset}"));
    }
    if report == Report::Human {
        path.push_str("&filter_bots=true");
    }
    if let (Report::Activity | Report::Human | Report::Opens, Some(since)) = (report, since) {
        path.push_str(&format!("&since={}", written(since)));
    }
    Request::get(Target::Mailchimp, path)
}

/// To the second, as Mailchimp counts.
fn written(at: Timestamp) -> String {
    time::iso(at.0.div_euclid(1_000) * 1_000).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

/// Where reading begins: everything is new to who never read it. What is not kept is not read.
pub fn since(seen: Option<Timestamp>, kept_from: Option<Timestamp>) -> Option<Timestamp> {
    let overlap = seen.map(|seen| Timestamp(seen.0 - OVERLAP_MS));
    overlap.max(kept_from)
}

/// From when on what is missing in [`Report::Human`] was done by a machine. Of the second of
/// `since` itself, it may be missing because Mailchimp leaves that second out.
pub fn judged_from(since: Option<Timestamp>) -> Timestamp {
    since.map_or(Timestamp(0), |since| {
        Timestamp((since.0.div_euclid(1_000) + 1) * 1_000)
    })
}

/// Mailchimp's reports are read this far back.
pub fn oldest(now: Timestamp) -> Timestamp {
    Timestamp(now.0 - 180 * DAY_MS)
}

/// Whether it is time to read a campaign's reports again. A report has a row for every recipient,
/// whatever they did: old campaigns, in which little happens, are read less often.
pub fn is_due(
    now: Timestamp,
    sent_at: Timestamp,
    read_at: Option<Timestamp>,
    interval: Duration,
) -> bool {
    let Some(read_at) = read_at else { return true };
    let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
    let rest = match now.0 - sent_at.0 {
        age if age <= 3 * DAY_MS => interval,
        age if age <= 30 * DAY_MS => interval.max(DAY_MS),
        _ => interval.max(7 * DAY_MS),
    };
    now.0 - read_at.0 >= rest
}

/// How far the reading of a list has come. Mailchimp pages by position, and rows may come and go
/// meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportCursor {
    pub offset: u64,
    /// Rows in all, as the last page said.
    pub items: Option<u64>,
    /// The number changed since the round began: rows may have slipped past.
    pub shifted: bool,
    pub rounds: u8,
}

impl ReportCursor {
    /// Where it goes on after a page of so many rows; `None`: all has been read.
    pub fn after(self, got: usize, total: u64) -> Option<ReportCursor> {
        let offset = self.offset + got as u64;
        let shifted = self.shifted || self.items.is_some_and(|before| before != total);
        if got > 0 && offset < total {
            return Some(ReportCursor {
                offset,
                items: Some(total),
                shifted,
                ..self
            });
        }
        let missed = shifted || offset < total;
        (missed && self.rounds + 1 < MOST_ROUNDS).then(|| ReportCursor {
            rounds: self.rounds + 1,
            ..ReportCursor::default()
        })
    }
}

/// The event as a webhook would have told it, for whoever deals with consent.
pub fn as_webhook(
    list: &str,
    campaign: &str,
    event: &Engagement,
) -> Option<Event<MailchimpSubject>> {
    let email = event.email.as_deref()?;
    let (kind, reason) = match event.opt_out? {
        OptOut::Unsubscribed => ("unsubscribe", event.detail.get("reason").cloned()),
        OptOut::Complained => ("unsubscribe", Some(json!("abuse"))),
        OptOut::Bounced => ("cleaned", Some(json!("hard"))),
    };
    let fired_at = written(event.at).replace('T', " ").replace('Z', "");
    let mut data = json!({"list_id": list, "campaign_id": campaign, "email": email});
    if let (Some(reason), Some(data)) = (reason, data.as_object_mut()) {
        data.insert("reason".to_owned(), reason);
    }
    let payload = json!({"type": kind, "fired_at": fired_at, "seen_in": "report", "data": data});
    Some(Event {
        event_key: format!(
            "report:{kind}:{list}:{campaign}:{}:{}",
            event.member, event.at.0
        ),
        kind: kind.to_owned(),
        occurred_at: event.at,
        subject: webhook::replay(&payload),
        payload,
        flaw: None,
    })
}

#[cfg(test)]
mod tests;
