//! Verdicts that come up for either service.

use std::time::Duration;

use crate::{
    delivery::outcome::{Category, TargetSignal, Verdict},
    record::mapping::{Field, SourceMap},
    service::failure::Class,
    value::{ValueError, json::shortened},
};

/// What an answer that concerns the whole call means for its `items` records: their verdicts, the
/// signal, and a line for the log. `None`: the answer has to be read record by record.
pub fn for_all(
    class: &Class,
    status: Option<u16>,
    items: usize,
) -> Option<(Vec<Verdict>, TargetSignal, String)> {
    let (why, wait, counted) = match class {
        Class::Answered | Class::Rejected | Class::NotFound => return None,
        Class::Failing { why, wait, counted } => (why, *wait, *counted),
        Class::Throttled { why, wait } | Class::DailyLimit { why, wait, .. } => {
            (why, Some(*wait), false)
        }
        Class::Crowded { why, wait, counted } => (why, Some(*wait), *counted),
        Class::Unauthorized { why } | Class::Forbidden { why } => (why, None, false),
    };
    let verdict = Verdict::Retry {
        why: why.clone(),
        status,
        wait,
        counted,
    };
    Some((vec![verdict; items], class.clone().into(), why.clone()))
}

/// The target failed in a way that no status tells of, such as a body that cannot be read.
pub fn failing(why: String, counted: bool) -> Class {
    Class::Failing {
        why,
        wait: None,
        counted,
    }
}

/// Every record again in calls of half the size, until the culprits are alone.
pub fn bisect(items: usize, why: &str) -> Vec<Verdict> {
    let half = Some(items.div_ceil(2));
    vec![
        Verdict::Again {
            relink: None,
            batch_cap: half,
            why: why.to_owned()
        };
        items
    ]
}

/// A record of which the answer says nothing: its state is unknown. Sent again alone; if it was
/// alone already, later.
pub fn no_verdict(service: &str, items: usize, status: u16) -> Verdict {
    let why = format!("{service} gave no verdict on this record");
    match items {
        1 => Verdict::Retry {
            why,
            status: Some(status),
            wait: None,
            counted: true,
        },
        _ => Verdict::Again {
            relink: None,
            batch_cap: Some(1),
            why,
        },
    }
}

/// A transient refusal that is not the record's fault.
pub fn later(why: String, status: Option<u16>, wait: Duration) -> Verdict {
    Verdict::Retry {
        why,
        status,
        wait: Some(wait),
        counted: false,
    }
}

/// One line for the request log about records that were not taken; `None` if all were.
pub fn summary(verdicts: &[Verdict]) -> Option<String> {
    let mut refused = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Retry { why, .. } | Verdict::Dead { why, .. } | Verdict::Overruled { why, .. } => {
            Some(why)
        }
        Verdict::Again { why, .. } => Some(why),
        Verdict::Delivered { .. }
        | Verdict::Unchanged
        | Verdict::NoConsent
        | Verdict::Withheld
        | Verdict::Removed => None,
    });
    let first = refused.next()?;
    Some(format!(
        "{} of {} records not taken: {first}",
        refused.count() + 1,
        verdicts.len()
    ))
}

/// Given up on before anything was sent.
pub fn dead(category: Category, why: String) -> Verdict {
    Verdict::Dead {
        category,
        status: None,
        why,
        member_status: None,
    }
}

/// A value that has no counterpart at the service. `noun` is what the service calls a field.
pub fn unmappable(
    map: &SourceMap,
    field: &Field,
    noun: &str,
    text: Option<&str>,
    error: &ValueError,
) -> Verdict {
    let category = match error {
        ValueError::TooLong { .. } | ValueError::TooManyBytes { .. } => Category::TooLarge,
        error if error.may_be_outdated() => Category::Definition,
        _ => Category::Unmappable,
    };
    dead(
        category,
        format!(
            "column {} of {} cannot be sent as {} {noun} {}: its value \"{}\" {error}",
            field.column,
            map.name,
            map.target,
            field.remote,
            shortened(text.unwrap_or(""), 60)
        ),
    )
}
