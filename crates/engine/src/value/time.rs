//! Dates and times: PostgreSQL's ISO output, ISO 8601 and epoch milliseconds.

use std::borrow::Cow;

use jiff::{Timestamp, civil, tz::TimeZone};

use super::ValueError;

/// `YYYY-MM-DD` as PostgreSQL writes it; infinity, BC and years past 9999 are refused.
pub fn column_date(text: &str) -> Result<&str, ValueError> {
    if is_date(text.as_bytes()) {
        Ok(text)
    } else {
        Err(ValueError::NotADate)
    }
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff][+00]` as ISO 8601 in UTC. HubSpot keeps milliseconds: finer
/// digits are dropped here, or a re-read would never compare equal.
pub fn column_time(text: &str) -> Result<String, ValueError> {
    let bytes = text.as_bytes();
    if !(bytes.len() >= 19
        && is_date(&bytes[..10])
        && bytes[10] == b' '
        && is_clock(&bytes[11..19]))
    {
        return Err(ValueError::NotATime);
    }
    let digits = match text[19..].strip_prefix('.') {
        Some(rest) => rest.bytes().take_while(u8::is_ascii_digit).count(),
        None => 0,
    };
    let zone = &text[if digits == 0 { 19 } else { 20 + digits }..];
    if !matches!(zone, "" | "+00" | "-00" | "Z") {
        return milliseconds(&text.replacen(' ', "T", 1)).and_then(iso);
    }
    let mut out = String::with_capacity(24);
    out.push_str(&text[..10]);
    out.push('T');
    out.push_str(&text[11..19]);
    let fraction = if digits == 0 {
        ""
    } else {
        &text[20..20 + digits]
    };
    let mut three = [b'0'; 3];
    for (slot, digit) in three.iter_mut().zip(fraction.bytes()) {
        *slot = digit;
    }
    if three != *b"000" {
        out.push('.');
        out.extend(three.map(char::from));
    }
    out.push('Z');
    Ok(out)
}

/// A date of the service: `YYYY-MM-DD`, epoch milliseconds at midnight UTC, or a time of which
/// the date is taken.
pub fn remote_date(text: &str) -> Result<Cow<'_, str>, ValueError> {
    if is_date(text.as_bytes()) {
        return Ok(Cow::Borrowed(text));
    }
    let mut time = milliseconds(text)
        .and_then(iso)
        .map_err(|_| ValueError::NotADate)?;
    time.truncate(10);
    Ok(Cow::Owned(time))
}

/// A time of the service: ISO 8601, epoch milliseconds, or a date (midnight UTC).
pub fn remote_time(text: &str) -> Result<Cow<'_, str>, ValueError> {
    let bytes = text.as_bytes();
    let canonical = bytes.len() == 20
        && is_date(&bytes[..10])
        && bytes[10] == b'T'
        && is_clock(&bytes[11..19])
        && bytes[19] == b'Z';
    if canonical {
        return Ok(Cow::Borrowed(text));
    }
    milliseconds(text).and_then(iso).map(Cow::Owned)
}

/// A date or time written by a person, in any form [`remote_time`] takes; it has to exist.
pub fn written_time(text: &str) -> Result<String, ValueError> {
    milliseconds(text).and_then(iso)
}

/// A moment the service names.
pub fn moment(text: &str) -> Result<crate::record::Timestamp, ValueError> {
    milliseconds(text).map(crate::record::Timestamp)
}

fn milliseconds(text: &str) -> Result<i64, ValueError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| ValueError::NotATime);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.as_millisecond());
    }
    // Without a zone it is UTC, as everywhere here.
    text.parse::<civil::DateTime>()
        .ok()
        .and_then(|time| TimeZone::UTC.to_timestamp(time).ok())
        .map(|instant| instant.as_millisecond())
        .ok_or(ValueError::NotATime)
}

pub fn iso(milliseconds: i64) -> Result<String, ValueError> {
    let instant = Timestamp::from_millisecond(milliseconds).map_err(|_| ValueError::NotATime)?;
    let time = TimeZone::UTC.to_datetime(instant);
    if time.year() < 1 {
        return Err(ValueError::NotATime);
    }
    let mut out = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    if time.millisecond() != 0 {
        out.push_str(&format!(".{:03}", time.millisecond()));
    }
    out.push('Z');
    Ok(out)
}

fn is_date(bytes: &[u8]) -> bool {
    bytes.len() == 10
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && [0, 1, 2, 3, 5, 6, 8, 9]
            .iter()
            .all(|&at| bytes[at].is_ascii_digit())
}

fn is_clock(bytes: &[u8]) -> bool {
    bytes.len() == 8
        && bytes[2] == b':'
        && bytes[5] == b':'
        && [0, 1, 3, 4, 6, 7]
            .iter()
            .all(|&at| bytes[at].is_ascii_digit())
}
