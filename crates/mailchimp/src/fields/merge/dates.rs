//! Dates and birthdays.

use jiff::civil;

use integration_engine::{
    record::mapping::ValueKind,
    value::{ValueError, time},
};

/// Points in time are dated by UTC.
pub(super) fn date(kind: ValueKind, text: &str) -> Result<civil::Date, ValueError> {
    let iso = |text: &str| text.parse().map_err(|_| ValueError::NotADate);
    match kind {
        ValueKind::Date => iso(time::column_date(text)?),
        ValueKind::Timestamp | ValueKind::TimestampTz => iso(&time::column_time(text)?[..10]),
        _ => written_date(text),
    }
}

/// As Mailchimp documents it: `YYYY-MM-DD`, `YYYY/MM/DD`, `DD-MM-YYYY` or `MM/DD/YYYY`; or the date
/// of a point in time.
pub(super) fn written_date(text: &str) -> Result<civil::Date, ValueError> {
    let parts: Vec<&str> = text.split(['-', '/']).collect();
    let (year, month, day) = match (parts.as_slice(), text.contains('/')) {
        ([year, month, day], _) if year.len() == 4 => (*year, *month, *day),
        ([month, day, year], true) if year.len() == 4 => (*year, *month, *day),
        ([day, month, year], false) if year.len() == 4 => (*year, *month, *day),
        _ => ("", "", ""),
    };
    let found = numbers([year, month, day])
        .and_then(|[year, month, day]| calendar(year, month, day))
        .or_else(|| {
            let time = time::written_time(text).ok()?;
            time.get(..10)?.parse().ok()
        });
    found.ok_or(ValueError::NotADate)
}

fn numbers<const N: usize>(parts: [&str; N]) -> Option<[i16; N]> {
    let mut out = [0; N];
    for (slot, part) in out.iter_mut().zip(parts) {
        let plain = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        *slot = plain.then(|| part.parse().ok()).flatten()?;
    }
    Some(out)
}

fn calendar(year: i16, month: i16, day: i16) -> Option<civil::Date> {
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    (year > 0)
        .then(|| civil::Date::new(year, month, day).ok())
        .flatten()
}

/// `MM/DD`, of a date or of a text that names just a month and a day.
pub(super) fn birthday(kind: ValueKind, text: &str) -> Result<String, ValueError> {
    let short = text.strip_prefix("--").unwrap_or(text);
    let named = short
        .split_once(['/', '-'])
        .and_then(|(month, day)| numbers([month, day]));
    let date = match named {
        // A leap year: the 29th of February is a birthday.
        Some([month, day]) => calendar(2000, month, day),
        None => date(kind, text).ok(),
    };
    let date = date.ok_or(ValueError::NotABirthday)?;
    Ok(format!("{:02}/{:02}", date.month(), date.day()))
}

/// A birthday for a column: where it holds whole dates, the year stays as it is.
pub(super) fn dated(kind: ValueKind, birthday: &str, present: &str) -> Result<String, ValueError> {
    let whole = present
        .get(..10)
        .and_then(|date| date.parse::<civil::Date>().ok());
    let (month, day) = birthday.split_once('/').unwrap_or_default();
    match (kind, whole) {
        (ValueKind::Date | ValueKind::Timestamp | ValueKind::TimestampTz, None) => {
            Err(ValueError::NoYear)
        }
        (_, None) => Ok(birthday.to_owned()),
        (_, Some(whole)) => {
            let date = format!("{:04}-{month}-{day}", whole.year());
            let _: civil::Date = date.parse().map_err(|_| ValueError::NoYear)?;
            Ok(format!("{date}{}", &present[10..]))
        }
    }
}
