//! Time: one reading per request, and the services' text forms of it.

use std::time::Instant;

use jiff::Timestamp;

/// Milliseconds since 1970, as HubSpot counts.
pub(crate) type Millis = i64;

/// When something happens: for stamping data, and for measuring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub wall: Millis,
    pub mono: Instant,
}

impl Now {
    pub(crate) fn read() -> Self {
        Self {
            wall: Timestamp::now().as_millisecond(),
            mono: Instant::now(),
        }
    }
}

/// `2026-01-02T03:04:05.006Z`, always with three decimals. Written by hand because every
/// record of every answer carries two of them.
pub(crate) fn push_iso(out: &mut Vec<u8>, ms: Millis) {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    push_digits(out, year, 4);
    out.push(b'-');
    push_digits(out, month, 2);
    out.push(b'-');
    push_digits(out, day, 2);
    out.push(b'T');
    push_digits(out, rest / 3_600_000, 2);
    out.push(b':');
    push_digits(out, rest / 60_000 % 60, 2);
    out.push(b':');
    push_digits(out, rest / 1_000 % 60, 2);
    out.push(b'.');
    push_digits(out, rest % 1_000, 3);
    out.push(b'Z');
}

pub(crate) fn iso(ms: Millis) -> String {
    let mut out = Vec::with_capacity(24);
    push_iso(&mut out, ms);
    String::from_utf8_lossy(&out).into_owned()
}

/// Year, month and day of a day number since 1970 (the proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn push_digits(out: &mut Vec<u8>, value: i64, width: u32) {
    for place in (0..width).rev() {
        // A remainder of ten always fits a byte.
        out.push(b'0' + (value / 10_i64.pow(place)).rem_euclid(10) as u8);
    }
}

/// Mailchimp's form of a moment: ISO 8601 with offset and no fraction.
pub(crate) fn mailchimp_iso(ms: Millis) -> String {
    format!("{}+00:00", &iso(ms)[..19])
}

/// `YYYY-MM-DD HH:MM:SS`, the form of Mailchimp's `fired_at`.
pub(crate) fn mailchimp_fired_at(ms: Millis) -> String {
    iso(ms)[..19].replace('T', " ")
}

/// Reads a moment: ISO 8601 with a zone, or milliseconds.
pub(crate) fn parse_moment(text: &str) -> Option<Millis> {
    if let Ok(ms) = text.parse::<i64>() {
        return Timestamp::from_millisecond(ms).ok().map(|_| ms);
    }
    text.parse::<Timestamp>()
        .ok()
        .map(Timestamp::as_millisecond)
}

/// Reads what Mailchimp takes: ISO 8601 with offset, or `YYYY-MM-DD HH:MM:SS` in UTC.
pub(crate) fn parse_mailchimp(text: &str) -> Option<Millis> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    // Times without an offset are taken as UTC.
    format!("{text}Z")
        .parse::<Timestamp>()
        .ok()
        .map(Timestamp::as_millisecond)
}

/// Reads a date: `YYYY-MM-DD`, or milliseconds at exactly midnight UTC.
pub(crate) fn parse_date(text: &str) -> Option<String> {
    if let Ok(ms) = text.parse::<i64>() {
        return (ms % 86_400_000 == 0).then(|| iso(ms)[..10].to_owned());
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    (text.len() == 10).then(|| date.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn iso_agrees_with_jiff() {
        for ms in [
            0,
            951_782_400_006,
            1_790_000_000_000,
            4_102_444_799_999,
            -86_400_001,
        ] {
            let at = Timestamp::from_millisecond(ms).unwrap();
            assert_eq!(iso(ms).parse::<Timestamp>().unwrap(), at);
            assert_eq!(iso(ms).len(), 24);
        }
    }

    #[test]
    fn dates_are_days() {
        assert_eq!(parse_date("2026-02-28").as_deref(), Some("2026-02-28"));
        assert_eq!(parse_date("1790035200000").as_deref(), Some("2026-09-22"));
        assert_eq!(parse_date("1790000000001"), None);
        assert_eq!(parse_date("2026-02-30"), None);
        assert_eq!(parse_date("28.02.2026"), None);
    }
}
