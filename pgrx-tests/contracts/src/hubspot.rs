//! HubSpot: the calls of its official client, the few it lacks, and the limits of a call.

use serde_json::{Value, json};

use crate::{
    Request, Verdict, at_most,
    operation::{self, Operation},
    parse,
};

#[derive(Debug)]
pub struct HubSpot {
    operations: Vec<Operation>,
    models: Value,
}

/// HubSpot: calls that are documented but not in the client's groups.
fn beside() -> Vec<Operation> {
    let form = |names: &[&str]| json!({ "form": names });
    vec![
        Operation::new(
            "GET",
            ["/account-info/v3/details", "/account-info/2026-09/details"],
            json!({}),
        ),
        Operation::new(
            "GET",
            [
                "/crm-object-schemas/v3/schemas/{objectType}",
                "/crm-object-schemas/2026-09/schemas/{objectType}",
            ],
            json!({}),
        ),
        Operation::new(
            "POST",
            ["/oauth/v2/private-apps/get/access-token-info"],
            json!({ "body": "{ [key: string]: string; }" }),
        ),
        Operation::new(
            "POST",
            [
                "/oauth/v3/token/introspect",
                "/oauth/2026-09/token/introspect",
            ],
            form(&["client_id", "client_secret", "token_type_hint", "token"]),
        ),
        Operation::new(
            "POST",
            [
                "/crm/v3/objects/{objectType}/gdpr-delete",
                "/crm/objects/2026-09/{objectType}/gdpr-delete",
            ],
            json!({ "body": "PublicGdprDeleteInput" }),
        ),
        Operation::new(
            "POST",
            ["/oauth/v3/token"],
            form(&[
                "client_id",
                "client_secret",
                "code",
                "grant_type",
                "redirect_uri",
                "refresh_token",
            ]),
        ),
    ]
}

/// HubSpot: parameters that are documented but that the client does not have.
const PARAMETERS: [(&str, &str); 1] = [("/properties/", "dataSensitivity")];

/// The dated versions have the same calls; the facts name the youngest.
fn youngest(path: &str) -> String {
    ["2025-09", "2026-03"]
        .iter()
        .fold(path.to_owned(), |path, version| {
            path.replace(&format!("/{version}"), "/2026-09")
        })
}

impl HubSpot {
    pub(crate) fn new(endpoints: &Value, models: Value) -> Self {
        let groups = endpoints["groups"].as_object().into_iter().flatten();
        let all = groups.flat_map(|(_, group)| group.as_array().into_iter().flatten());
        let known = all.map(|facts| {
            let paths = ["path", "path_2026_09"].map(|name| facts[name].as_str());
            let method = facts["method"].as_str().unwrap_or_default();
            Operation::new(method, paths.into_iter().flatten(), facts.clone())
        });
        Self {
            operations: known.chain(beside()).collect(),
            models,
        }
    }

    /// Whether the request is one that HubSpot documents.
    pub fn check(&self, request: Request<'_>) -> Verdict {
        self.judge(request)
            .map_err(|why| format!("HubSpot, {} {}: {why}", request.method, request.path))
    }

    fn judge(&self, request: Request<'_>) -> Verdict {
        let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
        let path = youngest(path);
        let operation = &operation::find(&self.operations, request.method, &path)?.facts;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let beside = |(part, known): &(&str, &str)| path.contains(part) && name == *known;
            if PARAMETERS.iter().any(beside) {
                continue;
            }
            let kind = operation["query"].get(&*name).map(|facts| &facts["type"]);
            let kind = kind.ok_or_else(|| format!("parameter {name} is not known"))?;
            self.check_parameter(kind.as_str().unwrap_or_default(), &value)
                .map_err(|why| format!("parameter {name}: {why}"))?;
            if name == "limit" && !path.contains("/associations/") {
                at_most(100, value.parse().unwrap_or(usize::MAX), "records a page")?;
            }
        }
        if let Some(known) = operation["form"].as_array() {
            return check_form(known, request.body);
        }
        match (request.body, operation["body"].as_str()) {
            (b"", None) => Ok(()),
            (b"", Some(model)) => Err(format!("there is no body, which should be {model}")),
            (_, None) => Err("there is a body, where none is known".to_owned()),
            (body, Some(model)) => {
                let value = parse(body)?;
                self.check_type("the body", model, &value)?;
                check_limits(&path, body, &value)
            }
        }
    }

    fn check_parameter(&self, kind: &str, value: &str) -> Verdict {
        let right = match kind.split(':').next().unwrap_or(kind) {
            "boolean" => matches!(value, "true" | "false"),
            "number" => value.parse::<f64>().is_ok(),
            _ => true,
        };
        right
            .then_some(())
            .ok_or_else(|| format!("{value} is no {kind}"))
    }

    fn check_type(&self, place: &str, name: &str, value: &Value) -> Verdict {
        let element = name
            .strip_prefix("Array<")
            .and_then(|rest| rest.strip_suffix('>'));
        if let Some(element) = element {
            let list = value
                .as_array()
                .ok_or_else(|| format!("{place} is no list"))?;
            let place = format!("{place}[]");
            return list
                .iter()
                .try_for_each(|value| self.check_type(&place, element, value));
        }
        let right = match name {
            // HubSpot's documents sort by objects; its client's types have strings there.
            "string" if place.ends_with(".sorts[]") => value["propertyName"].is_string(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "{ [key: string]: string; }" => value
                .as_object()
                .is_some_and(|map| map.values().all(Value::is_string)),
            model => return self.check_model(place, model, value),
        };
        right
            .then_some(())
            .ok_or_else(|| format!("{place}: {value} is no {name}"))
    }

    fn check_model(&self, place: &str, model: &str, value: &Value) -> Verdict {
        let fields = self.models["models"][model].as_object();
        let fields = fields.ok_or_else(|| format!("{place}: nothing is known of {model}"))?;
        let given = value
            .as_object()
            .ok_or_else(|| format!("{place} is no object"))?;
        for (name, value) in given {
            let field = fields
                .get(name)
                .ok_or_else(|| format!("{place}: {model} has no {name}"))?;
            let kind = field["type"].as_str().unwrap_or_default();
            self.check_type(&format!("{place}.{name}"), kind, value)?;
            if field["enum"]
                .as_array()
                .is_some_and(|allowed| !allowed.contains(value))
            {
                return Err(format!(
                    "{place}.{name}: {value} is none of {}",
                    field["enum"]
                ));
            }
        }
        let missing = fields
            .iter()
            .find(|(name, field)| field["required"] == true && !given.contains_key(*name));
        match missing {
            Some((name, _)) => Err(format!("{place}: {model} requires {name}")),
            None => Ok(()),
        }
    }
}

fn check_form(known: &[Value], body: &[u8]) -> Verdict {
    let mut names = form_urlencoded::parse(body).map(|(name, _)| name);
    match names.find(|name| !known.iter().any(|known| *known == **name)) {
        Some(name) => Err(format!("the form has no field {name}")),
        None if body.is_empty() => Err("the form is empty".to_owned()),
        None => Ok(()),
    }
}

/// HubSpot: at most 100 inputs a batch call; of associations 2,000 are made and 1,000 read in one.
/// A search has at most 3,000 characters, 5 groups of 6 filters, and 200 records a page.
fn check_limits(path: &str, body: &[u8], value: &Value) -> Verdict {
    let count = |value: &Value| value.as_array().map_or(0, Vec::len);
    if path.ends_with("/search") {
        at_most(
            3_000,
            String::from_utf8_lossy(body).chars().count(),
            "characters",
        )?;
        at_most(5, count(&value["filterGroups"]), "groups of filters")?;
        let groups = value["filterGroups"].as_array().into_iter().flatten();
        for group in groups {
            at_most(6, count(&group["filters"]), "filters in a group")?;
        }
        let page = value["limit"].as_u64().unwrap_or(10);
        return at_most(200, page.try_into().unwrap_or(usize::MAX), "records a page");
    }
    let most = match path {
        path if !path.contains("/associations/") => 100,
        path if path.ends_with("/batch/create") || path.ends_with("/associate/default") => 2_000,
        path if path.ends_with("/batch/read") => 1_000,
        _ => 100,
    };
    at_most(most, count(&value["inputs"]), "inputs")
}
