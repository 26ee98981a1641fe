//! Search. HubSpot: at most 10,000 results, 200 a page, bodies of 3,000 characters, and it lags
//! behind the records.

use serde::Deserialize;

use super::HubSpot;
use super::errors::Problem;
use super::inputs::parse;
use super::render::{self, Shape};
use super::store::{Record, Store};
use super::types::ObjectType;
use super::write::Moment;
use crate::clock;
use crate::json;
use crate::reply::Reply;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    #[serde(default)]
    filter_groups: Vec<Group>,
    #[serde(default)]
    sorts: Vec<Sort>,
    #[serde(default)]
    properties: Vec<String>,
    limit: Option<usize>,
    after: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Group {
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    property_name: String,
    operator: String,
    value: Option<String>,
    high_value: Option<String>,
    #[serde(default)]
    values: Vec<String>,
}

/// One sort at most: `{propertyName, direction}` or, in old code, the property's name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Sort {
    Name(String),
    #[serde(rename_all = "camelCase")]
    Full {
        property_name: String,
        #[serde(default)]
        direction: String,
    },
}

impl HubSpot {
    pub(crate) fn search(
        &self,
        object: ObjectType,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        if body.len() > 3_000 {
            return Err(Problem::validation(
                "Request body is longer than 3000 characters",
            ));
        }
        let search: Search = parse(body)?;
        let store = &self.stores[object.index()];
        check(store, &search)?;
        let limit = search.limit.unwrap_or(10);
        let offset = offset(search.after.as_ref())?;
        if limit > 200 || offset + limit > 10_000 {
            return Err(Problem::validation(
                "limit is at most 200, and results past 10000 can't be paged to",
            ));
        }
        let indexed_until =
            moment.now.wall - i64::try_from(self.config.search_lag_ms).unwrap_or(i64::MAX);
        let mut found: Vec<usize> = (0..store.records.len())
            .filter(|position| {
                let record = &store.records[*position];
                record.is_live() && record.updated <= indexed_until && search.accepts(store, record)
            })
            .collect();
        sort(store, &mut found, search.sorts.first());
        let names: Vec<&str> = search.properties.iter().map(String::as_str).collect();
        let shape = Shape::asked(store, &names, &[]);
        let mut out = b"{\"total\":".to_vec();
        json::push_u64(&mut out, found.len() as u64);
        out.extend_from_slice(b",\"results\":[");
        for position in found.iter().skip(offset).take(limit) {
            json::comma(&mut out);
            render::record(&mut out, store, *position, &shape, self.config.portal_id);
        }
        out.push(b']');
        if offset + limit < found.len() {
            out.extend_from_slice(b",\"paging\":{\"next\":{\"after\":\"");
            json::push_u64(&mut out, (offset + limit) as u64);
            out.extend_from_slice(b"\"}}");
        }
        out.push(b'}');
        Ok(Reply::json(200, out))
    }
}

/// HubSpot: 5 groups of 6 filters, 18 in all, one sort.
fn check(store: &Store, search: &Search) -> Result<(), Problem> {
    let filters: usize = search
        .filter_groups
        .iter()
        .map(|group| group.filters.len())
        .sum();
    if search.filter_groups.len() > 5
        || filters > 18
        || search
            .filter_groups
            .iter()
            .any(|group| group.filters.len() > 6)
    {
        return Err(Problem::validation("Too many filters"));
    }
    if search.sorts.len() > 1 {
        return Err(Problem::validation("Only one sort is allowed"));
    }
    for filter in search.filter_groups.iter().flat_map(|group| &group.filters) {
        if store.definitions.find(&filter.property_name).is_none() {
            return Err(Problem::validation(format!(
                "There was a problem with the request. Property {} does not exist",
                filter.property_name
            )));
        }
        if !OPERATORS.contains(&&*filter.operator) {
            return Err(Problem::validation(format!(
                "Unknown operator {}",
                filter.operator
            )));
        }
    }
    Ok(())
}

const OPERATORS: [&str; 13] = [
    "EQ",
    "NEQ",
    "LT",
    "LTE",
    "GT",
    "GTE",
    "BETWEEN",
    "IN",
    "NOT_IN",
    "HAS_PROPERTY",
    "NOT_HAS_PROPERTY",
    "CONTAINS_TOKEN",
    "NOT_CONTAINS_TOKEN",
];

/// `after` of a search is an offset, unlike that of a list.
fn offset(after: Option<&serde_json::Value>) -> Result<usize, Problem> {
    let Some(after) = after else { return Ok(0) };
    let text = after
        .as_str()
        .map_or_else(|| after.to_string(), str::to_owned);
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        Problem::validation(format!(
            "Cannot deserialize value of type `int` from String \"{text}\""
        ))
    })
}

impl Search {
    fn accepts(&self, store: &Store, record: &Record) -> bool {
        self.filter_groups.is_empty()
            || self.filter_groups.iter().any(|group| {
                group
                    .filters
                    .iter()
                    .all(|filter| filter.accepts(store, record))
            })
    }
}

impl Filter {
    fn accepts(&self, store: &Store, record: &Record) -> bool {
        let present = render::text_of(store, record, &self.property_name);
        let Some(present) = present else {
            return matches!(
                &*self.operator,
                "NOT_HAS_PROPERTY" | "NEQ" | "NOT_IN" | "NOT_CONTAINS_TOKEN"
            );
        };
        let wanted = self.value.as_deref().unwrap_or_default();
        let order = || compare(&present, wanted);
        match &*self.operator {
            "EQ" => order().is_eq(),
            "NEQ" => order().is_ne(),
            "LT" => order().is_lt(),
            "LTE" => order().is_le(),
            "GT" => order().is_gt(),
            "GTE" => order().is_ge(),
            "BETWEEN" => {
                order().is_ge()
                    && compare(&present, self.high_value.as_deref().unwrap_or_default()).is_le()
            }
            "IN" => self
                .values
                .iter()
                .any(|value| compare(&present, value).is_eq()),
            "NOT_IN" => !self
                .values
                .iter()
                .any(|value| compare(&present, value).is_eq()),
            "HAS_PROPERTY" => true,
            "CONTAINS_TOKEN" => contains_token(&present, wanted),
            "NOT_CONTAINS_TOKEN" => !contains_token(&present, wanted),
            _ => false,
        }
    }
}

/// Numbers and moments by value, text without regard to case.
fn compare(left: &str, right: &str) -> std::cmp::Ordering {
    if let (Some(left), Some(right)) = (moment_or_number(left), moment_or_number(right)) {
        return left.total_cmp(&right);
    }
    left.to_lowercase().cmp(&right.to_lowercase())
}

fn moment_or_number(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    // Milliseconds are far below 2^53.
    clock::parse_moment(text).map(|ms| ms as f64)
}

fn contains_token(text: &str, wanted: &str) -> bool {
    let (text, wanted) = (text.to_lowercase(), wanted.to_lowercase());
    match wanted.trim_matches('*') {
        bare if bare.len() < wanted.len() => text.contains(bare),
        bare => {
            text == bare
                || text
                    .split(|c: char| !c.is_alphanumeric())
                    .any(|token| token == bare)
        }
    }
}

fn sort(store: &Store, found: &mut [usize], by: Option<&Sort>) {
    let (name, descending) = match by {
        Some(Sort::Name(name)) => (name.trim_start_matches('-'), name.starts_with('-')),
        Some(Sort::Full {
            property_name,
            direction,
        }) => (property_name.as_str(), direction == "DESCENDING"),
        // Positions are in the order of creation, HubSpot's default.
        None => return,
    };
    found.sort_by_cached_key(|position| {
        SortKey(render::text_of(store, &store.records[*position], name).unwrap_or_default())
    });
    if descending {
        found.reverse();
    }
}

#[derive(PartialEq, Eq)]
struct SortKey(String);

impl Ord for SortKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for SortKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
