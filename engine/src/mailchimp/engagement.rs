//! What people did with campaigns: which reports are asked for, what they say, and how events that
//! carry no id are told apart.

use std::{collections::HashMap, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{subscriber_hash, webhook};
use crate::{
    call::{Reply, Request},
    clock::ValueHash,
    record::{Target, Timestamp},
    value::{self, time},
    webhook::{Event, Subject},
};

/// Mailchimp: at most 1,000 rows in a page.
pub const PAGE_MAX: usize = 1_000;

/// Events reach the reports with a delay that is not documented, and whether `since` includes its
/// own second is not either: what is younger than this at the last reading is read once more.
const OVERLAP_MS: i64 = 24 * HOUR_MS;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The last moment that has four digits for its year.
const LAST_MS: i64 = 253_402_300_799_000;

/// Times a report is read from its beginning because its length changed meanwhile.
const MOST_ROUNDS: u8 = 3;

/// A report of a campaign, in the order in which they are read: what is said of opens is noted with
/// the opens that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    Activity,
    Opens,
    Unsubscribes,
    Complaints,
}

impl Report {
    pub const ALL: [Report; 4] = [
        Report::Activity,
        Report::Opens,
        Report::Unsubscribes,
        Report::Complaints,
    ];

    /// As in Mailchimp's paths.
    pub const fn name(self) -> &'static str {
        match self {
            Report::Activity => "email-activity",
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
            Report::Activity => "total_items,emails.email_id,emails.email_address,emails.activity",
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
    let (name, fields) = (report.name(), report.fields());
    let mut path = format!("/reports/{campaign}/{name}?fields={fields}");
    // Mailchimp: complaints come all at once.
    if report != Report::Complaints {
        path.push_str(&format!("&count={count}&offset={offset}"));
    }
    if let (Report::Activity | Report::Opens, Some(since)) = (report, since) {
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
pub struct Walk {
    pub offset: u64,
    /// Rows in all, as the last page said.
    pub items: Option<u64>,
    /// The number changed since the round began: rows may have slipped past.
    pub shifted: bool,
    pub rounds: u8,
}

impl Walk {
    /// Where it goes on after a page of so many rows; `None`: all has been read.
    pub fn after(self, got: usize, total: u64) -> Option<Walk> {
        let offset = self.offset + got as u64;
        let shifted = self.shifted || self.items.is_some_and(|before| before != total);
        if got > 0 && offset < total {
            return Some(Walk {
                offset,
                items: Some(total),
                shifted,
                ..self
            });
        }
        let missed = shifted || offset < total;
        (missed && self.rounds + 1 < MOST_ROUNDS).then(|| Walk {
            rounds: self.rounds + 1,
            ..Walk::default()
        })
    }
}

/// A campaign that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub id: String,
    pub list: String,
    pub sent_at: Timestamp,
}

/// Some rows of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub rows: T,
    /// How many there were, those that cannot be read included.
    pub got: usize,
    pub total: u64,
}

/// What a report says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Did(Vec<Engagement>),
    Opened(Vec<Opened>),
}

/// Something that a recipient did.
#[derive(Clone, Debug, PartialEq)]
pub struct Engagement {
    /// Mailchimp's hash of the address.
    pub member: String,
    /// In lower case; `None`: not a usable one.
    pub email: Option<String>,
    /// Mailchimp's word, but `unsub` and `spam` as for transactional messages.
    pub kind: String,
    pub at: Timestamp,
    pub url: Option<String>,
    pub detail: Value,
    /// The same whenever the event is read, and another one for each of several that look alike.
    pub key: ValueHash,
    /// What it means for the person's consent.
    pub opt_out: Option<OptOut>,
}

/// Why a person is to get no more mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptOut {
    Unsubscribed,
    Complained,
    Bounced,
}

/// How many of the opens of a recipient in one second were made by a proxy, such as Apple's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub member: String,
    pub at: Timestamp,
    pub by_proxy: i64,
}

#[derive(Deserialize)]
struct CampaignsBody {
    campaigns: Vec<Value>,
    #[serde(default)]
    total_items: u64,
}

#[derive(Deserialize)]
struct ReportBody {
    #[serde(
        alias = "emails",
        alias = "members",
        alias = "unsubscribes",
        alias = "abuse_reports"
    )]
    rows: Vec<Value>,
    #[serde(default)]
    total_items: u64,
}

/// Reads the answer to [`campaigns_request`].
pub fn read_campaigns(reply: &Reply) -> Result<Page<Vec<Sent>>, String> {
    let body: CampaignsBody = body(reply)?;
    let sent = body.campaigns.iter().filter_map(|row| {
        let id = text(row, "id").filter(|id| {
            // It becomes part of a path.
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            !id.is_empty() && id.bytes().all(plain)
        })?;
        Some(Sent {
            id,
            list: text(row.get("recipients")?, "list_id")?,
            sent_at: moment(row, "send_time")?,
        })
    });
    Ok(Page {
        rows: sent.collect(),
        got: body.campaigns.len(),
        total: body.total_items,
    })
}

/// Reads the answer to [`report_request`]. What happened before `since` is left out, also where
/// Mailchimp does not do so by itself.
pub fn read_report(
    campaign: &str,
    report: Report,
    since: Option<Timestamp>,
    reply: &Reply,
) -> Result<Page<Said>, String> {
    let body: ReportBody = body(reply)?;
    let members = body
        .rows
        .iter()
        .filter_map(|row| Some((row, Member::of(row)?)));
    let said = match report {
        Report::Opens => Said::Opened(members.flat_map(|(row, who)| opens(row, &who)).collect()),
        Report::Activity => Said::Did(
            members
                .flat_map(|(row, who)| activity(campaign, row, &who))
                .collect(),
        ),
        Report::Unsubscribes => Said::Did(
            members
                .filter_map(|(row, who)| unsubscribe(campaign, row, &who))
                .collect(),
        ),
        Report::Complaints => Said::Did(
            members
                .filter_map(|(row, who)| complaint(campaign, row, &who))
                .collect(),
        ),
    };
    let from = since.map_or(i64::MIN, |since| since.0.div_euclid(1_000) * 1_000);
    let rows = match said {
        Said::Did(mut did) => {
            did.retain(|event| event.at.0 >= from);
            Said::Did(did)
        }
        Said::Opened(opened) => Said::Opened(opened),
    };
    Ok(Page {
        rows,
        got: body.rows.len(),
        // Those that are not paged are all there.
        total: match report {
            Report::Complaints => body.rows.len() as u64,
            Report::Activity | Report::Opens | Report::Unsubscribes => body.total_items,
        },
    })
}

struct Member {
    hash: String,
    email: Option<String>,
}

impl Member {
    fn of(row: &Value) -> Option<Member> {
        let email = text(row, "email_address").and_then(|email| value::email_key(&email).ok());
        let told = text(row, "email_id")
            .filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let hash = match told {
            Some(hash) => hash.to_ascii_lowercase(),
            None => subscriber_hash(email.as_deref()?),
        };
        Some(Member { hash, email })
    }

    fn did(&self, kind: &str, at: Timestamp, detail: Value, key: ValueHash) -> Engagement {
        Engagement {
            member: self.hash.clone(),
            email: self.email.clone(),
            kind: kind.to_owned(),
            at,
            url: None,
            detail,
            key,
            opt_out: None,
        }
    }
}

/// Opens, clicks and bounces of a member. Of several that look alike in a second each has a number:
/// a second is within what was asked for as a whole, or not at all, so the numbers stay the same.
fn activity(campaign: &str, row: &Value, who: &Member) -> Vec<Engagement> {
    let mut alike: HashMap<String, u32> = HashMap::new();
    let list = row.get("activity").and_then(Value::as_array);
    let read = |item: &Value| {
        let kind = text(item, "action").filter(|kind| !kind.is_empty())?;
        let at = moment(item, "timestamp")?;
        let (bounce, url, ip) = (text(item, "type"), text(item, "url"), text(item, "ip"));
        let looks = json!([campaign, kind, bounce, at.0, url, ip]).to_string();
        let number = alike.entry(looks.clone()).or_default();
        *number += 1;
        let key = ValueHash::of(Some(&format!("mailchimp {looks} {number}")));
        let detail = detail([("bounce", bounce.clone()), ("ip", ip)]);
        let hard = kind == "bounce" && bounce.as_deref() == Some("hard");
        Some(Engagement {
            url: url.filter(|url| !url.is_empty()),
            opt_out: hard.then_some(OptOut::Bounced),
            ..who.did(&kind, at, detail, key)
        })
    };
    list.into_iter().flatten().filter_map(read).collect()
}

fn unsubscribe(campaign: &str, row: &Value, who: &Member) -> Option<Engagement> {
    let at = moment(row, "timestamp")?;
    let looks = json!([campaign, "unsub", at.0]).to_string();
    let key = ValueHash::of(Some(&format!("mailchimp {looks}")));
    let detail = detail([("reason", text(row, "reason"))]);
    Some(Engagement {
        opt_out: Some(OptOut::Unsubscribed),
        ..who.did("unsub", at, detail, key)
    })
}

fn complaint(campaign: &str, row: &Value, who: &Member) -> Option<Engagement> {
    let at = moment(row, "date")?;
    let looks = json!([campaign, "spam", at.0, row.get("id")]).to_string();
    let key = ValueHash::of(Some(&format!("mailchimp {looks}")));
    Some(Engagement {
        opt_out: Some(OptOut::Complained),
        ..who.did("spam", at, json!({}), key)
    })
}

fn opens(row: &Value, who: &Member) -> Vec<Opened> {
    let mut seconds: Vec<Opened> = Vec::new();
    let list = row.get("opens").and_then(Value::as_array);
    for item in list.into_iter().flatten() {
        let Some(at) = moment(item, "timestamp") else {
            continue;
        };
        let proxy = item.get("is_proxy_open").and_then(Value::as_bool) == Some(true);
        match seconds.iter_mut().find(|known| known.at == at) {
            Some(known) => known.by_proxy += i64::from(proxy),
            None => seconds.push(Opened {
                member: who.hash.clone(),
                at,
                by_proxy: i64::from(proxy),
            }),
        }
    }
    seconds
}

/// The event as a webhook would have told it, for whoever deals with consent.
pub fn as_webhook(list: &str, campaign: &str, event: &Engagement) -> Option<Event> {
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
        subject: Subject::Mailchimp(webhook::replay(&payload)),
        payload,
    })
}

fn detail<const N: usize>(all: [(&str, Option<String>); N]) -> Value {
    let said = all.into_iter().filter_map(|(name, value)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some((name.to_owned(), Value::from(value)))
    });
    Value::Object(said.collect::<Map<_, _>>())
}

/// A text of a row, without what PostgreSQL's texts cannot hold.
fn text(row: &Value, name: &str) -> Option<String> {
    crate::webhook::text(row.get(name)).map(|text| text.replace('\0', ""))
}

fn moment(row: &Value, name: &str) -> Option<Timestamp> {
    let at = time::moment(&text(row, name)?).ok()?;
    (0..=LAST_MS).contains(&at.0).then_some(at)
}

fn body<'r, T: Deserialize<'r>>(reply: &'r Reply) -> Result<T, String> {
    serde_json::from_slice(&reply.body).map_err(|error| {
        format!(
            "Mailchimp answered HTTP {} with a body that cannot be read: {error}",
            reply.status
        )
    })
}

#[cfg(test)]
mod tests;
