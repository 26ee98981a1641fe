//! Custom objects: their schemas.

use serde_json::{Value, json};

use super::HubSpot;
use super::definitions::Definition;
use super::errors::Problem;
use super::store::Store;
use super::types::ObjectType;
use crate::reply::Reply;

/// A custom object that an administrator makes.
#[derive(Debug, Clone, Copy)]
pub struct NewObject {
    /// Its name; the fully qualified one is `p12345678_` and this.
    pub name: &'static str,
    /// `name type;` and so on: `serial string; hours number; state enum new|used`.
    pub properties: &'static str,
    pub required: &'static [&'static str],
    /// What its records can be associated with.
    pub associated: &'static [ObjectType],
}

/// A custom object of this account.
#[derive(Debug)]
pub(crate) struct Schema {
    object: ObjectType,
    new: NewObject,
    fully_qualified: String,
}

impl HubSpot {
    pub(crate) fn admin_makes_object(&mut self, new: NewObject) -> ObjectType {
        let fully_qualified = format!("p{}_{}", self.config.portal_id, new.name);
        let object = ObjectType::make(&new, &fully_qualified);
        while self.stores.len() <= object.index() {
            let next = ObjectType::at(self.stores.len());
            self.stores.push(Store::new(next, self.config.first_id));
        }
        self.schemas.push(Schema {
            object,
            new,
            fully_qualified,
        });
        object
    }

    /// Deletes a custom object, with its records.
    pub(crate) fn admin_deletes_object(&mut self, object: ObjectType) {
        self.schemas.retain(|schema| schema.object != object);
    }

    /// A type as paths name it.
    pub(crate) fn object_type(&self, text: &str) -> Result<ObjectType, Problem> {
        let custom = || self.schema(text).map(|schema| schema.object);
        ObjectType::parse(text)
            .or_else(custom)
            .ok_or_else(|| Problem::validation(format!("Unable to infer object type from: {text}")))
    }

    fn schema(&self, text: &str) -> Option<&Schema> {
        let short = |schema: &Schema| format!("p_{}", schema.new.name);
        self.schemas.iter().find(|schema| {
            text == schema.object.number()
                || text.eq_ignore_ascii_case(&schema.fully_qualified)
                || text.eq_ignore_ascii_case(&short(schema))
        })
    }

    /// Everything below `/crm-object-schemas/{V}/schemas`.
    pub(crate) fn schemas(&self, method: &str, rest: &[&str]) -> Result<Reply, Problem> {
        match (method, rest) {
            ("GET", []) => {
                let all: Vec<Value> = self.schemas.iter().map(|one| self.shown(one)).collect();
                Ok(Reply::value(200, &json!({ "results": all })))
            }
            ("GET", [name]) => {
                let schema = self.schema(name).ok_or_else(Problem::not_found)?;
                Ok(Reply::value(200, &self.shown(schema)))
            }
            _ => Err(Problem::not_found()),
        }
    }

    fn shown(&self, schema: &Schema) -> Value {
        let Schema {
            object,
            new,
            fully_qualified,
        } = schema;
        let definitions = self.stores[object.index()].definitions.all();
        let live = definitions.iter().filter(|known| !known.archived);
        let ties = object.kind().ties.iter().map(|(to, id, _)| {
            json!({
                "id": id.to_string(), "fromObjectTypeId": object.number(), "toObjectTypeId": to.number(),
                "name": format!("{}_to_{}", new.name, to.singular()),
            })
        });
        json!({
            "id": object.number().trim_start_matches("2-"), "name": new.name, "objectTypeId": object.number(),
            "fullyQualifiedName": fully_qualified, "labels": {"singular": new.name, "plural": new.name},
            "requiredProperties": new.required, "searchableProperties": new.required,
            "primaryDisplayProperty": new.required.first(), "secondaryDisplayProperties": [],
            "properties": live.map(Definition::to_json).collect::<Vec<_>>(),
            "associations": ties.collect::<Vec<_>>(), "archived": false,
            "createdAt": "2020-01-01T00:00:00.000Z", "updatedAt": "2020-01-01T00:00:00.000Z",
        })
    }
}
