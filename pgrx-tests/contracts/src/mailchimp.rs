//! Mailchimp: the calls of its Marketing API, the fields that are asked for, and the limits of a call.

use serde_json::{Map, Value};

use crate::{
    Request, Verdict, at_most,
    operation::{self, Operation},
    parse,
};

#[derive(Debug)]
pub struct Mailchimp {
    operations: Vec<Operation>,
    schemas: Value,
}

impl Mailchimp {
    pub(crate) fn new(mut facts: Value) -> Self {
        let schemas = facts["schemas"].take();
        let all = facts["endpoints"].as_array().into_iter().flatten();
        let operations = all.map(|facts| {
            let method = facts["method"].as_str().unwrap_or_default();
            Operation::new(method, facts["path"].as_str(), facts.clone())
        });
        Self {
            operations: operations.collect(),
            schemas,
        }
    }

    /// Whether the request is one that Mailchimp documents; its path is below `/3.0`.
    pub fn check(&self, request: Request<'_>) -> Verdict {
        self.judge(request)
            .map_err(|why| format!("Mailchimp, {} {}: {why}", request.method, request.path))
    }

    fn judge(&self, request: Request<'_>) -> Verdict {
        let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
        let operation = &operation::find(&self.operations, request.method, path)?.facts;
        self.check_query(operation, query)?;
        match (request.body, operation["request"].as_str()) {
            (b"", None) => Ok(()),
            (b"", Some(model)) => Err(format!("there is no body, which should be {model}")),
            (_, None) => Err("there is a body, where none is known".to_owned()),
            (body, Some(model)) => {
                let value = parse(body)?;
                self.check_model("the body", model, &value)?;
                // Mailchimp: up to 500 members a call.
                let members = value["members"].as_array().map_or(0, Vec::len);
                at_most(500, members, "members")
            }
        }
    }

    fn check_query(&self, operation: &Value, query: &str) -> Verdict {
        let known: &[Value] = operation["query"].as_array().map_or(&[], Vec::as_slice);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = format!("parameter {name}");
            let parameter = known.iter().find(|parameter| parameter["name"] == *name);
            let parameter = parameter.ok_or_else(|| format!("{place} is not known"))?;
            if name == "fields" {
                let mut fields = value.split(',');
                let answer = &operation["response"];
                fields.try_for_each(|field| self.check_path(&place, answer, field))?;
                continue;
            }
            if name == "count" {
                // Mailchimp: "Maximum value is 1000".
                at_most(1_000, value.parse().unwrap_or(usize::MAX), "records a page")?;
            }
            let value = match &parameter["type"] {
                Value::String(kind) if ["integer", "number", "boolean"].contains(&&**kind) => {
                    serde_json::from_str(&value)
                        .map_err(|_| format!("{place}: {value} is no {kind}"))?
                }
                // Mailchimp takes lists as one value with commas.
                kind if kind.get("array").is_some() => value.split(',').map(Value::from).collect(),
                _ => Value::from(value.into_owned()),
            };
            self.check_type(&place, &parameter["type"], &value)?;
        }
        Ok(())
    }

    /// `members.id` is something that the answer has.
    fn check_path(&self, place: &str, kind: &Value, path: &str) -> Verdict {
        if let Some(element) = kind.get("array") {
            return self.check_path(place, element, path);
        }
        let schema = kind["ref"].as_str();
        let schema = schema.ok_or_else(|| format!("{place}: {kind} has no {path}"))?;
        let (name, rest) = path.split_once('.').unwrap_or((path, ""));
        let field = self.field(schema, name);
        let field = field.ok_or_else(|| format!("{place}: {schema} has no {name}"))?;
        match rest {
            "" => Ok(()),
            rest => self.check_path(place, &field["type"], rest),
        }
    }

    fn fields<'s>(&'s self, schema: &str) -> impl Iterator<Item = &'s Value> {
        let fields = self.schemas[schema]["fields"].as_array();
        fields.into_iter().flatten()
    }

    fn field<'s>(&'s self, schema: &str, name: &str) -> Option<&'s Value> {
        self.fields(schema).find(|field| field["name"] == name)
    }

    fn check_model(&self, place: &str, model: &str, value: &Value) -> Verdict {
        let given = value
            .as_object()
            .ok_or_else(|| format!("{place} is no object"))?;
        for (name, value) in given {
            let place = format!("{place}.{name}");
            let field = self.field(model, name);
            let field = field.ok_or_else(|| format!("{place}: {model} does not have it"))?;
            self.check_type(&place, &field["type"], value)?;
            // Mailchimp: what is empty is to be left out.
            if value.as_object().is_some_and(Map::is_empty) {
                return Err(format!("{place} is empty"));
            }
        }
        let mut required = self.fields(model).filter(|field| field["required"] == true);
        let missing = required.find(|field| {
            field["name"]
                .as_str()
                .is_none_or(|name| !given.contains_key(name))
        });
        if let Some(field) = missing {
            return Err(format!("{place}: {model} requires {}", field["name"]));
        }
        let states = ["status", "status_if_new"];
        if model.ends_with("MembersItem") && !states.iter().any(|name| given.contains_key(*name)) {
            return Err(format!("{place}: status or status_if_new is required"));
        }
        Ok(())
    }

    fn check_type(&self, place: &str, kind: &Value, value: &Value) -> Verdict {
        if let Some(allowed) = kind["enum"].as_array() {
            let right = allowed.contains(value).then_some(());
            return right.ok_or_else(|| format!("{place}: {value} is none of {}", kind["enum"]));
        }
        if let Some(any) = kind["any_of"].as_array() {
            let fits = any
                .iter()
                .any(|kind| self.check_type(place, kind, value).is_ok());
            return fits
                .then_some(())
                .ok_or_else(|| format!("{place}: {value} is none of {}", kind["any_of"]));
        }
        if let Some(element) = kind.get("array") {
            let list = value
                .as_array()
                .ok_or_else(|| format!("{place} is no list"))?;
            let place = format!("{place}[]");
            return list
                .iter()
                .try_for_each(|value| self.check_type(&place, element, value));
        }
        if let Some(element) = kind.get("map") {
            let map = value
                .as_object()
                .ok_or_else(|| format!("{place} is no object"))?;
            return map.iter().try_for_each(|(name, value)| {
                self.check_type(&format!("{place}.{name}"), element, value)
            });
        }
        if let Some(schema) = kind["ref"].as_str() {
            return match &self.schemas[schema] {
                model if model.get("fields").is_some() => self.check_model(place, schema, value),
                alias => self.check_type(place, alias, value),
            };
        }
        let right = match kind.as_str() {
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_u64() || value.is_i64(),
            Some("number") => value.is_number(),
            Some("datetime") => value
                .as_str()
                .is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok() || text.is_empty()),
            Some("any") => true,
            _ => return Err(format!("{place}: nothing is known of {kind}")),
        };
        right
            .then_some(())
            .ok_or_else(|| format!("{place}: {value} is no {kind}"))
    }
}
