//! The batch calls on objects. HubSpot: at most 100 inputs each.

use std::borrow::Cow;

use serde_json::Value;

use super::HubSpot;
use super::batch_checks::{
    all_traced, check_batch_conflicts, check_duplicates, check_id_property, check_size, fatal,
    unique_key, unknown, unread, untraced,
};
use super::errors::Problem;
use super::inputs::{BatchRead, Input, Inputs, Sent, parse};
use super::render::{self, Shape};
use super::store::{State, Store};
use super::types::ObjectType;
use super::validate::{self, Values};
use super::write::{Moment, Plan};
use crate::json;
use crate::reply::Reply;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Update,
    Upsert,
}

/// What became of one input.
struct Done {
    /// Which of the inputs it was.
    input: usize,
    position: usize,
    created: bool,
    plan: Plan,
}

impl HubSpot {
    pub(crate) fn batch_write(
        &mut self,
        object: ObjectType,
        verb: Verb,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let Inputs { mut inputs } = parse(body)?;
        check_size(inputs.len())?;
        let store = &self.stores[object.index()];
        let key = check_id_property(store, verb, &inputs)?;
        check_duplicates(store, verb, &inputs)?;
        let traced = all_traced(&inputs);
        let warnings: Vec<Vec<Value>> = match moment.since_2026_09 {
            true => inputs
                .iter()
                .map(|input| validate::warnings(&store.definitions, &input.properties))
                .collect(),
            false => Vec::new(),
        };
        let mut values = Values::with_capacity(inputs.len() * 8);
        let mut plans = Vec::with_capacity(inputs.len());
        for input in &mut inputs {
            plans.push(self.plan(store, verb, key, input, &mut values, moment));
        }
        check_batch_conflicts(store, &plans, &values)?;
        if !traced && let Some(problem) = plans.iter().find_map(fatal) {
            return Err(untraced(problem.clone()));
        }
        let (done, errors) = self.carry_out(object, &inputs, plans, &values, moment);
        Ok(self.batch_reply(object, verb, &done, &errors, &values, &warnings, moment))
    }

    fn plan<'a>(
        &self,
        store: &Store,
        verb: Verb,
        key: Option<u16>,
        input: &mut Input<'a>,
        values: &mut Values<'a>,
        moment: &Moment,
    ) -> Result<Plan, Problem> {
        let id = input.id.as_ref().map_or("", |id| &*id.0);
        let target = match (verb, key) {
            (Verb::Create, _) => None,
            (_, None) => Some(store.live(id).ok_or_else(|| unknown(store.object, id))?),
            (Verb::Update, Some(key)) => Some(
                store
                    .holder(key, id)
                    .ok_or_else(|| unknown(store.object, id))?,
            ),
            (Verb::Upsert, Some(key)) => store.holder(key, &validate::lower_if(store, key, id)),
        };
        let start = values.len();
        if let (Verb::Upsert, Some(key), None) = (verb, key, target) {
            // A new record gets the key even if it is not among the properties.
            let name = &store.definitions.get(key).name;
            if !input.properties.0.iter().any(|(known, _)| known == name) {
                input.properties.0.push((
                    Cow::Owned(name.clone()),
                    Sent::Text(Cow::Owned(id.to_owned())),
                ));
            }
        }
        validate::check(&store.definitions, &mut input.properties, values)?;
        let plan = Plan {
            target,
            values: start..values.len(),
        };
        let problem = self
            .check_record(store, target, &values[start..], moment)
            .and_then(|()| self.check_associations(store.object, &input.associations));
        problem
            .map(|()| plan)
            .inspect_err(|_| values.truncate(start))
    }

    fn carry_out(
        &mut self,
        object: ObjectType,
        inputs: &[Input<'_>],
        plans: Vec<Result<Plan, Problem>>,
        values: &Values<'_>,
        moment: &Moment,
    ) -> (Vec<Done>, Vec<Value>) {
        let mut done = Vec::with_capacity(plans.len());
        let mut errors = Vec::new();
        for (place, (input, plan)) in inputs.iter().zip(plans).enumerate() {
            match plan {
                Ok(plan) => {
                    let position = self.apply(object, &plan, values, moment);
                    self.associate_new(object, position, &input.associations, moment);
                    done.push(Done {
                        input: place,
                        position,
                        created: plan.target.is_none(),
                        plan,
                    });
                }
                Err(problem) => {
                    let problem = match &input.object_write_trace_id {
                        Some(trace) => problem
                            .context("objectWriteTraceId", vec![trace.0.clone().into_owned()]),
                        None => problem,
                    };
                    errors.push(problem.as_batch_error());
                }
            }
        }
        (done, errors)
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one answer")]
    fn batch_reply(
        &mut self,
        object: ObjectType,
        verb: Verb,
        done: &[Done],
        errors: &[Value],
        values: &Values<'_>,
        warnings: &[Vec<Value>],
        moment: &Moment,
    ) -> Reply {
        let store = &self.stores[object.index()];
        // Results come in any order.
        let mut order: Vec<usize> = (0..done.len()).collect();
        self.rng.shuffle(&mut order);
        let mut out = Vec::with_capacity(256 + done.len() * 448);
        out.extend_from_slice(b"{\"status\":\"COMPLETE\",\"results\":[");
        for one in order.into_iter().map(|at| &done[at]) {
            json::comma(&mut out);
            let shape = Shape::written(
                &values[one.plan.values.clone()],
                (verb == Verb::Upsert).then_some(one.created),
            );
            render::record(&mut out, store, one.position, &shape, self.config.portal_id);
            if let Some(warnings) = warnings.get(one.input).filter(|list| !list.is_empty()) {
                out.pop();
                out.extend_from_slice(b",\"warnings\":");
                json::push(&mut out, warnings);
                out.push(b'}');
            }
        }
        out.push(b']');
        let complete = if verb == Verb::Create { 201 } else { 200 };
        finish(out, complete, errors, moment)
    }

    /// HubSpot: batch archive answers 204 and treats unknown ids as done.
    pub(crate) fn batch_archive(
        &mut self,
        object: ObjectType,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let Inputs { inputs } = parse(body)?;
        check_size(inputs.len())?;
        for input in &inputs {
            let id = input.id.as_ref().map_or("", |id| &*id.0);
            if let Some(position) = self.stores[object.index()].live(id) {
                self.delete(object, position, false, moment);
            }
        }
        Ok(Reply::empty(204))
    }

    pub(crate) fn batch_read(
        &mut self,
        object: ObjectType,
        archived: bool,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let request: BatchRead<'_> = parse(body)?;
        check_size(request.inputs.len())?;
        let store = &self.stores[object.index()];
        let key = match request.id_property.as_ref().map(|name| &*name.0) {
            None | Some("hs_object_id") => None,
            Some(name) => Some(unique_key(store, name)?),
        };
        let properties: Vec<&str> = request.properties.iter().map(|name| &*name.0).collect();
        let history: Vec<&str> = request
            .properties_with_history
            .iter()
            .map(|name| &*name.0)
            .collect();
        let shape = Shape::asked(store, &properties, &history);
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for input in &request.inputs {
            let id = input.id.as_ref().map_or("", |id| &*id.0);
            let position = match key {
                Some(key) => store.holder(key, &validate::lower_if(store, key, id)),
                None if archived => archived_position(store, id),
                None => store.live(id),
            };
            match position {
                Some(position) if found.contains(&position) => {}
                Some(position) => found.push(position),
                None => missing.push(id.to_owned()),
            }
        }
        self.rng.shuffle(&mut found);
        let mut out = b"{\"status\":\"COMPLETE\",\"results\":[".to_vec();
        for position in found {
            json::comma(&mut out);
            render::record(&mut out, store, position, &shape, self.config.portal_id);
        }
        out.push(b']');
        let errors = if missing.is_empty() {
            Vec::new()
        } else {
            vec![unread(object, missing).as_batch_error()]
        };
        Ok(finish(out, 200, &errors, moment))
    }
}

pub(crate) fn archived_position(store: &Store, id: &str) -> Option<usize> {
    let position = store.position(id.parse().ok()?)?;
    matches!(store.records[position].state, State::Archived(_)).then_some(position)
}

/// Times, and errors if there are any, after the results.
pub(crate) fn finish(mut out: Vec<u8>, complete: u16, errors: &[Value], moment: &Moment) -> Reply {
    out.extend_from_slice(b",\"startedAt\":\"");
    crate::clock::push_iso(&mut out, moment.now.wall);
    out.extend_from_slice(b"\",\"completedAt\":\"");
    crate::clock::push_iso(&mut out, moment.now.wall);
    out.push(b'"');
    if !errors.is_empty() {
        out.extend_from_slice(b",\"numErrors\":");
        json::push_u64(&mut out, errors.len() as u64);
        out.extend_from_slice(b",\"errors\":");
        json::push(&mut out, errors);
    }
    out.push(b'}');
    Reply::json(if errors.is_empty() { complete } else { 207 }, out)
}
