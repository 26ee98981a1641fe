//! PostgreSQL's array literals, and the services' lists separated by semicolons.

use std::borrow::Cow;

use super::ValueError;

/// The elements of a one-dimensional array literal such as `{a,"b c",NULL}`; NULLs are left out.
pub fn elements(text: &str) -> Result<Vec<Cow<'_, str>>, ValueError> {
    // Arrays that do not start at 1 are written `[0:1]={a,b}`.
    let braced = match text.split_once('=') {
        Some((bounds, braced)) if bounds.starts_with('[') => braced,
        _ => text,
    };
    let mut rest = braced
        .strip_prefix('{')
        .and_then(|inner| inner.strip_suffix('}'))
        .ok_or(ValueError::NotAnArray)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (element, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_element(quoted)?,
            None => plain_element(rest)?,
        };
        found.extend(element);
        rest = match after.strip_prefix(',') {
            Some("") => return Err(ValueError::NotAnArray),
            Some(next) => next,
            None if after.is_empty() => after,
            None => return Err(ValueError::NotAnArray),
        };
    }
    Ok(found)
}

/// An element and what follows it.
type Step<'a> = (Option<Cow<'a, str>>, &'a str);

fn plain_element(text: &str) -> Result<Step<'_>, ValueError> {
    let (element, after) = text.split_at(text.find(',').unwrap_or(text.len()));
    if element.is_empty() || element.contains(['{', '}', '"']) {
        return Err(ValueError::NotAnArray);
    }
    let null = element.eq_ignore_ascii_case("null");
    Ok(((!null).then_some(Cow::Borrowed(element)), after))
}

fn quoted_element(text: &str) -> Result<Step<'_>, ValueError> {
    let end = text.find(['"', '\\']).ok_or(ValueError::NotAnArray)?;
    if text[end..].starts_with('"') {
        return Ok((Some(Cow::Borrowed(&text[..end])), &text[end + 1..]));
    }
    let mut element = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((Some(Cow::Owned(element)), &text[at + 1..])),
            '\\' => element.extend(characters.next().map(|(_, escaped)| escaped)),
            other => element.push(other),
        }
    }
    Err(ValueError::NotAnArray)
}

/// The elements of a service's list. HubSpot writes an appended list as `;a;b`.
pub fn split(text: &str) -> Vec<Cow<'_, str>> {
    text.split(';').map(Cow::Borrowed).collect()
}

/// Elements joined by `;`, sorted and without repetitions: HubSpot does not keep their order
/// (documented), so it must not count. `None`: no element.
pub fn joined(mut elements: Vec<Cow<'_, str>>) -> Result<Option<String>, ValueError> {
    for element in &mut elements {
        if element.trim().len() != element.len() {
            *element = Cow::Owned(element.trim().to_owned());
        }
        if element.contains(';') {
            return Err(ValueError::Semicolon);
        }
    }
    elements.retain(|element| !element.is_empty());
    elements.sort_unstable();
    elements.dedup();
    Ok((!elements.is_empty()).then(|| elements.join(";")))
}

/// An array literal, every element quoted.
pub fn literal(elements: &[Cow<'_, str>]) -> String {
    let mut out = String::from("{");
    for element in elements
        .iter()
        .map(|element| element.trim())
        .filter(|element| !element.is_empty())
    {
        if out.len() > 1 {
            out.push(',');
        }
        out.push('"');
        for character in element.chars() {
            if matches!(character, '"' | '\\') {
                out.push('\\');
            }
            out.push(character);
        }
        out.push('"');
    }
    out.push('}');
    out
}
