//! SQL functions that a backend hands received webhooks to. What is not authentic is refused with
//! an error, and nothing of it is stored.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::Ordering;

use integration_engine::crypto::signature;
use integration_engine::value::form;
use integration_engine::webhook::{self, Accepted, WebhookError};
use integration_hubspot as hubspot;
use integration_mailchimp as mailchimp;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{Inet, JsonB};

use super::erased;
use crate::capture;
use crate::config::{self, WebhookSettings};
use crate::error::Error;
use crate::pg::clock;
use crate::pg::shmem::{self, Wake};
use crate::sealing;
use crate::secret::Secret;
use crate::services::{AnySubject, Entry, Event, entries};
use crate::store::inbound::inbox::{self, EventState};
use crate::store::{inbound::webhooks, server::secrets};

/// What an import did: events received, queued, known already, and of no interest.
#[derive(Default)]
struct Counts {
    received: i32,
    queued: i32,
    duplicate: i32,
    ignored: i32,
}

impl Counts {
    const fn row(&self) -> (i32, i32, i32, i32) {
        (self.received, self.queued, self.duplicate, self.ignored)
    }
}

/// Takes a HubSpot webhook: body and headers as they were received.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn import_hubspot_webhook(
    body: &str,
    headers: JsonB,
    method: default!(&str, "'POST'"),
    uri: default!(Option<&str>, "NULL"),
    remote_addr: default!(Option<Inet>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(received, i32),
            name!(queued, i32),
            name!(duplicate, i32),
            name!(ignored, i32),
        ),
    >,
    ErrorReport,
> {
    let settings = WebhookSettings::read(&secrets::load().map_err(Error::Spi)?)?;
    let checked = check_address(&settings, remote_addr).and_then(|()| {
        let secret = settings.hubspot_secret.as_ref().ok_or_else(|| no_secret("integration.hubspot_webhook_secret"))?;
        let header = |name: &str| header(&headers.0, name);
        match (header("x-hubspot-signature-v3"), header("x-hubspot-request-timestamp")) {
            (Some(given), Some(timestamp)) => {
                let uri = uri.ok_or_else(|| Error::Body("uri is missing: the full public URL that HubSpot called is part of the signature".to_owned()))?;
                signature::hubspot_v3(secret.reveal(), method, uri, body.as_bytes(), &timestamp, &given, clock::now().timestamp)
                    .map_err(|why| Error::Signature(why.to_string()))
            }
            _ => Err(Error::Signature("the headers X-HubSpot-Signature-v3 and X-HubSpot-Request-Timestamp are missing".to_owned())),
        }
    });
    counted(checked)?;
    let events = counted(hubspot::webhook::parse(body.as_bytes()).map_err(unreadable))?;
    let events = entries(events, AnySubject::HubSpot);
    let own_app = config::hubspot_app_id();
    let counts = store("hubspot", events, |event| match &event.subject {
        AnySubject::HubSpot(subject) => own_app
            .as_deref()
            .filter(|app| hubspot::webhook::is_echo(subject, app))
            .map(|_| "our own change"),
        _ => None,
    })?;
    Ok(TableIterator::once(counts.row()))
}

/// Takes a Mailchimp webhook: the form-encoded body as it was received.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn import_mailchimp_webhook(
    body: &str,
    headers: default!(JsonB, "'{}'"),
    secret: default!(Option<&str>, "NULL"),
    remote_addr: default!(Option<Inet>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(received, i32),
            name!(queued, i32),
            name!(duplicate, i32),
            name!(ignored, i32),
        ),
    >,
    ErrorReport,
> {
    let settings = WebhookSettings::read(&secrets::load().map_err(Error::Spi)?)?;
    let checked = check_address(&settings, remote_addr)
        .and_then(|()| check_mailchimp(&settings, body, &headers.0, secret));
    counted(checked)?;
    let event = counted(mailchimp::webhook::parse(body.as_bytes()).map_err(unreadable))?;
    Ok(TableIterator::once(
        store(
            "mailchimp",
            vec![Ok(event.map(AnySubject::Mailchimp))],
            |_| None,
        )?
        .row(),
    ))
}

/// Takes a Mandrill webhook: the form-encoded body as it was received, and the URL that Mandrill was
/// told, which is part of the signature.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn import_mandrill_webhook(
    body: &str,
    headers: JsonB,
    url: &str,
    remote_addr: default!(Option<Inet>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(received, i32),
            name!(queued, i32),
            name!(duplicate, i32),
            name!(ignored, i32),
        ),
    >,
    ErrorReport,
> {
    let settings = WebhookSettings::read(&secrets::load().map_err(Error::Spi)?)?;
    let events = check_address(&settings, remote_addr)
        .and_then(|()| mandrill_events(&settings, body, &headers.0, url));
    let counts = store("mandrill", counted(events)?, |_| None)?;
    Ok(TableIterator::once(counts.row()))
}

/// Mandrill: a new address is tried out with an empty list, signed before there is a key.
const MANDRILL_TRIAL_KEY: &str = "test-webhook";

fn mandrill_events(
    settings: &WebhookSettings,
    body: &str,
    headers: &serde_json::Value,
    url: &str,
) -> Result<Vec<Entry>, Error> {
    let given = header(headers, "x-mandrill-signature")
        .ok_or_else(|| Error::Signature("the header X-Mandrill-Signature is missing".to_owned()))?;
    let params = form::pairs(body.as_bytes()).map_err(|why| Error::Body(why.to_string()))?;
    let signed_with = |key: &str| signature::mandrill(key, url, &params, &given);
    let parse = || {
        let events = mailchimp::webhook::parse_mandrill(body.as_bytes()).map_err(unreadable)?;
        Ok(entries(events, AnySubject::Mandrill))
    };
    if signed_with(MANDRILL_TRIAL_KEY).is_ok() && parse().is_ok_and(|events| events.is_empty()) {
        return Ok(Vec::new());
    }
    let key = settings
        .mandrill_key
        .as_ref()
        .ok_or_else(|| no_secret("integration.mandrill_webhook_key"))?;
    signed_with(key.reveal()).map_err(|why| Error::Signature(why.to_string()))?;
    parse()
}

/// By its signature where a signing secret is set, else by the secret in the receiving URL's path.
fn check_mailchimp(
    settings: &WebhookSettings,
    body: &str,
    headers: &serde_json::Value,
    secret: Option<&str>,
) -> Result<(), Error> {
    let kept = kept_secrets()?;
    let set = settings.mailchimp_signing_secret.as_ref();
    if set.is_some() || !kept.is_empty() {
        let given = header(headers, "x-mailchimp-signature").ok_or_else(|| {
            Error::Signature("the header X-Mailchimp-Signature is missing".to_owned())
        })?;
        // Mailchimp: every webhook has a secret of its own, and every audience its own webhooks.
        let set = set.map(Secret::reveal).unwrap_or_default();
        let kept = kept.iter().map(Secret::reveal);
        let secrets = set.split([',', ' ', '\n']).chain(kept);
        let now = clock::now().timestamp;
        let checked = secrets
            .filter(|secret| !secret.is_empty())
            .map(|secret| signature::mailchimp(secret, body.as_bytes(), &given, now))
            .reduce(|before, next| before.or(next));
        return checked
            .ok_or_else(|| no_secret("integration.mailchimp_webhook_signing_secret"))?
            .map_err(|why| Error::Signature(why.to_string()));
    }
    let expected = settings
        .mailchimp_path_secret
        .as_ref()
        .ok_or_else(|| no_secret("integration.mailchimp_webhook_secret"))?;
    match secret {
        Some(given) if signature::same_secret(given, expected.reveal()) => Ok(()),
        _ => Err(Error::Signature(
            "the secret is not the one in integration.mailchimp_webhook_secret".to_owned(),
        )),
    }
}

/// The secrets of webhooks that were made here, as far as they can be read.
fn kept_secrets() -> Result<Vec<Secret>, Error> {
    let kept = webhooks::all().map_err(Error::Spi)?;
    let signing = kept.iter().filter(|kept| kept.sealed.is_some());
    signing
        .map(|kept| {
            kept.secret().map_err(|why| {
                Error::Setting(format!(
                    "the signing secret of the webhook {} cannot be read: {why}",
                    kept.hook
                ))
            })
        })
        .collect()
}

/// Why no webhook can be had under a URL; NULL: it can.
#[pg_extern(immutable)]
fn _unfit_webhook(url: Option<&str>) -> Option<&'static str> {
    mailchimp::hooks::unfit(url.unwrap_or_default())
}

/// A webhook's URL as it may be shown: its path is a secret.
#[pg_extern(immutable)]
fn _without_path(url: &str) -> String {
    mailchimp::hooks::without_path(url)
}

/// Why secrets cannot be stored; NULL: they can.
#[pg_extern]
fn _lacks_encryption_key() -> Option<String> {
    sealing::lacks_key()
}

fn no_secret(name: &str) -> Error {
    Error::Setting(format!("{name} is not set, so no webhook can be trusted"))
}

fn unreadable(why: WebhookError) -> Error {
    Error::Body(why.to_string())
}

/// A refusal is counted where a rolled-back transaction leaves it, and logged.
fn counted<T>(result: Result<T, Error>) -> Result<T, Error> {
    if let Err(why) = &result {
        if let Some(slot) = shmem::claim_slot() {
            slot.rejected.fetch_add(1, Ordering::Relaxed);
        }
        log!("integration refused a webhook: {why}");
    }
    result
}

/// A header by name, whatever its case; the first where there are several.
fn header(headers: &serde_json::Value, name: &str) -> Option<String> {
    let value = headers
        .as_object()?
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))?
        .1;
    match value {
        serde_json::Value::Array(values) => values.first()?.as_str().map(str::to_owned),
        serde_json::Value::Number(number) => Some(number.to_string()),
        other => other.as_str().map(str::to_owned),
    }
}

fn check_address(settings: &WebhookSettings, address: Option<Inet>) -> Result<(), Error> {
    if settings.allowed_ips.is_empty() {
        return Ok(());
    }
    let address = address.map(|inet| inet.0).ok_or_else(|| {
        Error::Address(
            "remote_addr was not given, and integration.webhook_allowed_ips is set".to_owned(),
        )
    })?;
    let bare = address.split('/').next().unwrap_or_default();
    let parsed =
        IpAddr::from_str(bare).map_err(|_| Error::Address(format!("{bare} is no address")))?;
    let allowed = settings
        .allowed_ips
        .iter()
        .any(|network| contains(network, parsed));
    allowed
        .then_some(())
        .ok_or_else(|| Error::Address(format!("{bare} is not in integration.webhook_allowed_ips")))
}

/// Whether a network (`192.0.2.0/24`, or one address) contains an address.
fn contains(network: &str, address: IpAddr) -> bool {
    let (base, bits) = network
        .split_once('/')
        .map_or((network, None), |(base, bits)| {
            (base, bits.parse::<u32>().ok())
        });
    match (IpAddr::from_str(base), address) {
        (Ok(IpAddr::V4(base)), IpAddr::V4(address)) => {
            let bits = bits.unwrap_or(32).min(32);
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(base) & mask == u32::from(address) & mask
        }
        (Ok(IpAddr::V6(base)), IpAddr::V6(address)) => {
            let bits = bits.unwrap_or(128).min(128);
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(base) & mask == u128::from(address) & mask
        }
        _ => false,
    }
}

/// Stores events; `of_no_interest` names why one need not be applied. One that cannot be read, or
/// makes no sense, is ignored, and the others of its webhook are not.
fn store(
    origin: &str,
    entries: Vec<Entry>,
    of_no_interest: impl Fn(&Event) -> Option<&'static str>,
) -> Result<Counts, Error> {
    let mut counts = Counts::default();
    let now = clock::now().timestamp;
    for entry in entries {
        counts.received += 1;
        let event = match entry {
            Ok(event) => event,
            Err(why) => {
                log!("integration ignores a part of a webhook from {origin}: {why}");
                counts.ignored += 1;
                continue;
            }
        };
        let Accepted { event, refused } = webhook::accept(event, now);
        let why = refused.or_else(|| of_no_interest(&event));
        // What is not applied is not looked at again.
        if why.is_some() && erased::is_about_erased(&event.subject)? {
            counts.ignored += 1;
            continue;
        }
        let state = if why.is_some() {
            EventState::Ignored
        } else {
            EventState::Pending
        };
        match (inbox::put(origin, event, state, why)?, state) {
            (false, _) => counts.duplicate += 1,
            (true, EventState::Ignored) => counts.ignored += 1,
            (true, _) => counts.queued += 1,
        }
    }
    if counts.queued > 0 {
        capture::tell_at_commit(Wake::INBOX);
    }
    Ok(counts)
}
