//! Numbers as text, digit by digit: no float in between, so no digit is lost.

use std::borrow::Cow;

use super::ValueError;

/// Floats of PostgreSQL have at most this exponent; more would only make a very long text.
const MAX_EXPONENT: i32 = 400;

/// `1.50` → `1.5`, `-0` → `0`, `1e+20` → `100000000000000000000`.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, ValueError> {
    if is_canonical(text) {
        return Ok(Cow::Borrowed(text));
    }
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            exponent
                .parse::<i32>()
                .map_err(|_| ValueError::NotANumber)?,
        ),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !digits_only(whole)
        || !digits_only(fraction)
        || exponent.abs() > MAX_EXPONENT
    {
        return Err(ValueError::NotANumber);
    }
    Ok(Cow::Owned(written_out(negative, whole, fraction, exponent)))
}

/// The common case, decided in one pass: plain digits, no leading zero, no zero at the end of a
/// fraction.
fn is_canonical(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    plain(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(|fraction| plain(fraction) && !fraction.ends_with('0'))
        && text != "-0"
}

fn written_out(negative: bool, whole: &str, fraction: &str, exponent: i32) -> String {
    let digits = [whole, fraction].concat();
    // Where the point stands within `digits`; may lie outside of them.
    let point = whole.len() as i64 + i64::from(exponent);
    let at = usize::try_from(point).unwrap_or(0).min(digits.len());
    let mut whole = digits[..at].to_owned();
    whole.extend(std::iter::repeat_n(
        '0',
        usize::try_from(point - digits.len() as i64).unwrap_or(0),
    ));
    let mut fraction = "0".repeat(usize::try_from(-point).unwrap_or(0));
    fraction.push_str(&digits[at..]);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    let fraction = fraction.trim_end_matches('0');
    let sign = if negative && (whole != "0" || !fraction.is_empty()) {
        "-"
    } else {
        ""
    };
    let separator = if fraction.is_empty() { "" } else { "." };
    [sign, whole, separator, fraction].concat()
}
