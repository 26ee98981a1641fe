//! What the answers say.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Report;

use integration_engine::{
    crypto::subscriber_hash,
    record::Timestamp,
    sync::clock::ValueHash,
    value::{self, time},
    wire::Reply,
};

/// The last moment that has four digits for its year.
const LAST_MS: i64 = 253_402_300_799_000;

/// A campaign that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentCampaign {
    pub id: String,
    pub list: String,
    pub sent_at: Timestamp,
}

/// Some rows of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportPage<T> {
    pub rows: T,
    /// How many there were, those that cannot be read included.
    pub got: usize,
    pub total: u64,
}

/// What a report says.
#[derive(Clone, Debug, PartialEq)]
pub enum ReportContent {
    Did(Vec<Engagement>),
    Humans(Vec<Human>),
    Opened(Vec<RecipientOpens>),
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

/// What of all that a recipient did the person did, by [`Engagement::key`]. The rest was done by
/// machines: proxies, and scanners that follow links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Human {
    pub member: String,
    pub keys: Vec<ValueHash>,
}

/// How many of the opens of a recipient in one second were made by a proxy, such as Apple's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientOpens {
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

/// Reads the answer to [`super::campaigns_request`].
pub fn read_campaigns(reply: &Reply) -> Result<ReportPage<Vec<SentCampaign>>, String> {
    let body: CampaignsBody = body(reply)?;
    let sent = body.campaigns.iter().filter_map(|row| {
        let id = text(row, "id").filter(|id| {
            // It becomes part of a path.
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            !id.is_empty() && id.bytes().all(plain)
        })?;
        Some(SentCampaign {
            id,
            list: text(row.get("recipients")?, "list_id")?,
            sent_at: moment(row, "send_time")?,
        })
    });
    Ok(ReportPage {
        rows: sent.collect(),
        got: body.campaigns.len(),
        total: body.total_items,
    })
}

/// Reads the answer to [`super::report_request`]. What happened before `since` is left out, also where
/// Mailchimp does not do so by itself.
pub fn read_report(
    campaign: &str,
    report: Report,
    since: Option<Timestamp>,
    reply: &Reply,
) -> Result<ReportPage<ReportContent>, String> {
    let body: ReportBody = body(reply)?;
    let members = body
        .rows
        .iter()
        .filter_map(|row| Some((row, Recipient::of(row)?)));
    let said = match report {
        Report::Opens => {
            ReportContent::Opened(members.flat_map(|(row, who)| opens(row, &who)).collect())
        }
        Report::Activity => ReportContent::Did(
            members
                .flat_map(|(row, who)| activity(campaign, row, &who))
                .collect(),
        ),
        Report::Human => ReportContent::Humans(
            members
                .map(|(row, who)| human(campaign, row, who))
                .collect(),
        ),
        Report::Unsubscribes => ReportContent::Did(
            members
                .filter_map(|(row, who)| unsubscribe(campaign, row, &who))
                .collect(),
        ),
        Report::Complaints => ReportContent::Did(
            members
                .filter_map(|(row, who)| complaint(campaign, row, &who))
                .collect(),
        ),
    };
    let from = since.map_or(i64::MIN, |since| since.0.div_euclid(1_000) * 1_000);
    let rows = match said {
        ReportContent::Did(mut did) => {
            did.retain(|event| event.at.0 >= from);
            ReportContent::Did(did)
        }
        said @ (ReportContent::Humans(_) | ReportContent::Opened(_)) => said,
    };
    Ok(ReportPage {
        rows,
        got: body.rows.len(),
        // Those that are not paged are all there.
        total: match report {
            Report::Complaints => body.rows.len() as u64,
            Report::Activity | Report::Human | Report::Opens | Report::Unsubscribes => {
                body.total_items
            }
        },
    })
}

/// What of a recipient's activity a human did.
fn human(campaign: &str, row: &Value, who: Recipient) -> Human {
    let did = activity(campaign, row, &who);
    Human {
        keys: did.into_iter().map(|event| event.key).collect(),
        member: who.hash,
    }
}

struct Recipient {
    hash: String,
    email: Option<String>,
}

impl Recipient {
    fn of(row: &Value) -> Option<Recipient> {
        let email = text(row, "email_address").and_then(|email| value::email_key(&email).ok());
        let told = text(row, "email_id")
            .filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let hash = match told {
            Some(hash) => hash.to_ascii_lowercase(),
            None => subscriber_hash(email.as_deref()?),
        };
        Some(Recipient { hash, email })
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
fn activity(campaign: &str, row: &Value, who: &Recipient) -> Vec<Engagement> {
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

fn unsubscribe(campaign: &str, row: &Value, who: &Recipient) -> Option<Engagement> {
    let at = moment(row, "timestamp")?;
    let looks = json!([campaign, "unsub", at.0]).to_string();
    let key = ValueHash::of(Some(&format!("mailchimp {looks}")));
    let detail = detail([("reason", text(row, "reason"))]);
    Some(Engagement {
        opt_out: Some(OptOut::Unsubscribed),
        ..who.did("unsub", at, detail, key)
    })
}

fn complaint(campaign: &str, row: &Value, who: &Recipient) -> Option<Engagement> {
    let at = moment(row, "date")?;
    let looks = json!([campaign, "spam", at.0, row.get("id")]).to_string();
    let key = ValueHash::of(Some(&format!("mailchimp {looks}")));
    Some(Engagement {
        opt_out: Some(OptOut::Complained),
        ..who.did("spam", at, json!({}), key)
    })
}

fn opens(row: &Value, who: &Recipient) -> Vec<RecipientOpens> {
    let mut seconds: Vec<RecipientOpens> = Vec::new();
    let list = row.get("opens").and_then(Value::as_array);
    for item in list.into_iter().flatten() {
        let Some(at) = moment(item, "timestamp") else {
            continue;
        };
        let proxy = item.get("is_proxy_open").and_then(Value::as_bool) == Some(true);
        match seconds.iter_mut().find(|known| known.at == at) {
            Some(known) => known.by_proxy += i64::from(proxy),
            None => seconds.push(RecipientOpens {
                member: who.hash.clone(),
                at,
                by_proxy: i64::from(proxy),
            }),
        }
    }
    seconds
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
    integration_engine::webhook::text(row.get(name)).map(|text| text.replace('\0', ""))
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
