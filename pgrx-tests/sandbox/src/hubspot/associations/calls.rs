//! The association calls: single ones, lists and batches.

use serde_json::{Value, json};

use super::*;

impl HubSpot {
    /// `PUT O/{id}/associations/[default/]{to}/{toId}`
    pub(crate) fn associate_one(
        &mut self,
        from: (ObjectType, &str),
        to: (ObjectType, &str),
        body: Option<&[u8]>,
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let labels: Vec<Label> = body.map_or(Ok(Vec::new()), parse)?;
        let types: Vec<Tie> = labels.iter().map(Label::tie).collect();
        let (from, to) = self.ends(from.0, from.1, to.0, to.1)?;
        self.check_types(from.0, to.0, &types)?;
        self.connect(from, to, &types, moment);
        Ok(match body {
            Some(_) => Reply::value(201, &described(from, to)),
            None => Reply::value(
                200,
                &json!({"status": "COMPLETE", "results": [default_result(from, to)]}),
            ),
        })
    }

    /// `DELETE O/{id}/associations/{to}/{toId}`
    pub(crate) fn dissociate_one(
        &mut self,
        from: (ObjectType, &str),
        to: (ObjectType, &str),
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        if let Ok((from, to)) = self.ends(from.0, from.1, to.0, to.1)
            && self.associations.disconnect(from, to)
        {
            self.tell(from, to, &[], true, moment);
        }
        Ok(Reply::empty(204))
    }

    /// `GET O/{id}/associations/{to}`
    pub(crate) fn list_associations(
        &self,
        from: (ObjectType, &str),
        to: ObjectType,
    ) -> Result<Reply, Problem> {
        let store = &self.stores[from.0.index()];
        let position = store.resolve(from.1).ok_or_else(Problem::not_found)?;
        let results = self.targets_json((from.0, store.records[position].id), to);
        Ok(Reply::value(200, &json!({"results": results})))
    }

    fn targets_json(&self, from: End, to: ObjectType) -> Vec<Value> {
        self.associations
            .targets(from, to)
            .map(|(id, types)| {
                let types: Vec<Value> = types.iter().map(|tie| tie.to_json()).collect();
                json!({"toObjectId": id, "associationTypes": types})
            })
            .collect()
    }

    /// `POST A/batch/{verb}`
    pub(crate) fn batch_associate(
        &mut self,
        from: ObjectType,
        to: ObjectType,
        verb: &str,
        dated: bool,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        match verb {
            "create" | "associate/default" => {
                self.batch_connect(from, to, verb == "create", body, moment)
            }
            "read" => self.batch_targets(from, to, body, moment),
            "archive" => {
                let batch: Batch<ArchivePair> = parse(body)?;
                for pair in &batch.inputs {
                    for end in &pair.to {
                        self.dissociate_one((from, &pair.from.text()), (to, &end.text()), moment)?;
                    }
                }
                // The dated versions answer with a body.
                let body = json!({"status": "COMPLETE", "results": []});
                Ok(if dated {
                    Reply::value(200, &body)
                } else {
                    Reply::empty(204)
                })
            }
            _ => Err(Problem::not_found()),
        }
    }

    fn batch_connect(
        &mut self,
        from: ObjectType,
        to: ObjectType,
        labelled: bool,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let batch: Batch<Pair> = parse(body)?;
        if batch.inputs.len() > MAX_PAIRS {
            return Err(Problem::validation(format!(
                "Batch size is greater than the maximum of {MAX_PAIRS}"
            )));
        }
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for pair in &batch.inputs {
            let types: Vec<Tie> = pair.types.iter().map(Label::tie).collect();
            let ends = self.ends(from, &pair.from.text(), to, &pair.to.text());
            let checked = ends.and_then(|ends| {
                let refused = labelled && types.is_empty();
                let named = if refused {
                    Err(Problem::validation(
                        "At least one association type is required",
                    ))
                } else {
                    self.check_types(from, to, &types)
                };
                named.map(|()| ends)
            });
            match checked {
                Ok((from, to)) => {
                    self.connect(from, to, &types, moment);
                    results.push(if labelled {
                        described(from, to)
                    } else {
                        default_result(from, to)
                    });
                }
                Err(problem) => errors.push(problem.as_batch_error()),
            }
        }
        Ok(batch_answer(
            &results,
            &errors,
            if labelled { 201 } else { 200 },
            moment,
        ))
    }

    fn batch_targets(
        &self,
        from: ObjectType,
        to: ObjectType,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let batch: Batch<Id> = parse(body)?;
        if batch.inputs.len() > 1_000 {
            return Err(Problem::validation(
                "Batch size is greater than the maximum of 1000",
            ));
        }
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for input in &batch.inputs {
            let targets = self.targets_json((from, input.text().parse().unwrap_or(0)), to);
            if targets.is_empty() {
                let message = format!(
                    "No {} is associated with {} {}.",
                    to.singular(),
                    from.singular(),
                    input.text()
                );
                errors.push(
                    Problem::new(404, "OBJECT_NOT_FOUND", message)
                        .sub("crm.associations.NO_ASSOCIATIONS_FOUND")
                        .context("fromObjectId", vec![input.text()])
                        .as_batch_error(),
                );
            } else {
                results.push(json!({"from": {"id": input.text()}, "to": targets}));
            }
        }
        Ok(batch_answer(&results, &errors, 200, moment))
    }
}

fn batch_answer(results: &[Value], errors: &[Value], complete: u16, moment: &Moment) -> Reply {
    let mut out = b"{\"status\":\"COMPLETE\",\"results\":".to_vec();
    crate::json::push(&mut out, results);
    crate::hubspot::batch::finish(out, complete, errors, moment)
}

fn described(from: End, to: End) -> Value {
    json!({
        "fromObjectTypeId": from.0.number(), "fromObjectId": from.1,
        "toObjectTypeId": to.0.number(), "toObjectId": to.1, "labels": [],
    })
}

fn default_result(from: End, to: End) -> Value {
    json!({
        "from": {"id": from.1.to_string()}, "to": {"id": to.1.to_string()},
        "associationSpec": {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": default_type(from.0, to.0)},
    })
}
