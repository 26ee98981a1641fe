//! What the services should hold according to the CRM, and what they do hold.
//!
//! Written from the tables alone, so that it shares no code with what it checks.

use std::collections::{BTreeMap, BTreeSet};

use postgres::Client;
use serde_json::Value;

use crate::remote::{Fields, Remote, Status};

/// At most this many differences are told.
const ENOUGH: usize = 10;

/// What differs; empty when all is well. Records with an open dead letter are left out: they are
/// the ones a person has to look at.
pub fn differences(client: &mut Client, remote: &Remote) -> Vec<String> {
    let mut found = Vec::new();
    Expected::read(client, COMPANIES).compare(
        "HubSpot company",
        &by_crm_key(remote.companies(), &prefix(client, "crm.companies")),
        &mut found,
    );
    Expected::read(client, CONTACTS).compare(
        "HubSpot contact",
        &by_crm_key(remote.contacts(), &prefix(client, "crm.contacts")),
        &mut found,
    );
    Expected::read(client, SUBSCRIBERS).compare(
        "Mailchimp subscriber",
        &subscribers(remote),
        &mut found,
    );
    if found.len() > ENOUGH {
        let more = found.len() - ENOUGH;
        found.truncate(ENOUGH);
        found.push(format!("… and {more} more"));
    }
    found
}

// Key, values, whether a dead letter of it is open.

const COMPANIES: &str = "
    SELECT id::text, jsonb_build_object('name', name, 'domain', domain, 'phone', phone, 'city', city, 'country', country)::text,
           id::text IN (SELECT record_key FROM integration.dlq
                        WHERE resolution IS NULL AND target = 'hubspot' AND source = 'crm.companies'::regclass)
    FROM crm.companies";

const CONTACTS: &str = "
    SELECT id::text, jsonb_build_object('email', lower(email), 'firstname', first_name, 'lastname', last_name,
                                        'phone', phone, 'company', company, 'jobtitle', job_title)::text,
           id::text IN (SELECT record_key FROM integration.dlq
                        WHERE resolution IS NULL AND target = 'hubspot' AND source = 'crm.contacts'::regclass)
    FROM crm.contacts";

const SUBSCRIBERS: &str = "
    SELECT lower(email), jsonb_build_object('FNAME', first_name, 'LNAME', last_name, 'PHONE', phone)::text,
           id::text IN (SELECT record_key FROM integration.dlq
                        WHERE resolution IS NULL AND target = 'mailchimp' AND source = 'crm.contacts'::regclass)
    FROM crm.contacts
    WHERE marketing_opt_in AND email IS NOT NULL";

/// What a service should hold, by key; fields without a value are left out.
struct Expected {
    records: BTreeMap<String, Fields>,
    /// They may be there or not, in whatever state.
    dead: BTreeSet<String>,
}

impl Expected {
    fn read(client: &mut Client, sql: &str) -> Expected {
        let mut expected = Expected {
            records: BTreeMap::new(),
            dead: BTreeSet::new(),
        };
        for row in client.query(sql, &[]).unwrap() {
            let key: String = row.get(0);
            if row.get(2) {
                expected.dead.insert(key);
                continue;
            }
            let values: BTreeMap<String, Option<String>> =
                serde_json::from_str(row.get(1)).unwrap();
            let filled = values
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.filter(|text| !text.is_empty())?)));
            expected.records.insert(key, filled.collect());
        }
        expected
    }

    /// Of what is held, only the fields that the CRM speaks of are looked at.
    fn compare(&self, kind: &str, held: &BTreeMap<String, Fields>, found: &mut Vec<String>) {
        let spoken_of: BTreeSet<&String> = self.records.values().flat_map(Fields::keys).collect();
        for (key, wanted) in &self.records {
            let Some(fields) = held.get(key) else {
                found.push(format!("{kind} {key} is missing: {wanted:?}"));
                continue;
            };
            for name in &spoken_of {
                let (should, is) = (wanted.get(*name), fields.get(*name));
                if should != is {
                    found.push(format!(
                        "{kind} {key}: {name} should be {should:?}, is {is:?}"
                    ));
                }
            }
        }
        for (key, fields) in held {
            if !self.records.contains_key(key) && !self.dead.contains(key) {
                found.push(format!("{kind} {key} should not be there: {fields:?}"));
            }
        }
    }
}

/// What stands before the key of a table's row.
fn prefix(client: &mut Client, table: &str) -> String {
    let sql = "SELECT external_id_prefix FROM integration.tracked_table WHERE source = pg_catalog.to_regclass($1)";
    let row = client.query_opt(sql, &[&table]).unwrap();
    row.map(|row| row.get(0)).unwrap_or_default()
}

/// Every live record, also one we know nothing of: it would be a duplicate.
fn by_crm_key(records: Vec<(u64, Fields)>, prefix: &str) -> BTreeMap<String, Fields> {
    let mut sorted = BTreeMap::new();
    for (id, fields) in records {
        let key = fields
            .get("crm_id")
            .map(|id| id.strip_prefix(prefix).unwrap_or(id).to_owned())
            .unwrap_or_else(|| format!("without crm_id, HubSpot id {id}"));
        if let Some(other) = sorted.insert(key.clone(), fields) {
            sorted.insert(format!("second one of {key}"), other);
        }
    }
    sorted
}

fn subscribers(remote: &Remote) -> BTreeMap<String, Fields> {
    let members = remote
        .members()
        .into_iter()
        .filter(|member| member.status == Status::Subscribed);
    let text = |value: &Value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    members
        .map(|member| {
            let fields = member
                .merge_fields
                .iter()
                .filter_map(|(tag, value)| Some((tag.clone(), text(value)?)));
            (member.email.to_lowercase(), fields.collect())
        })
        .collect()
}
