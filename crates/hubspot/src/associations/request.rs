//! The calls themselves.

use super::{AssociationCall, Label, Labels, Sending, Verb};
use crate::HubSpotSettings;
use crate::{object_type, objects, versioned};
use integration_engine::{
    record::{RemoteId, Target},
    value::json::{push_member, push_name, push_string},
    wire::{Method, Request},
};

/// A call for pairs that go the same way; `None`: there are none.
pub(super) fn call(pairs: Vec<Sending>, settings: &HubSpotSettings) -> Option<AssociationCall> {
    let first = pairs.first()?;
    let verb = first.verb();
    // HubSpot: batches of associations came with v4; v3 knows other ones.
    let version = match settings.api_version.as_str() {
        "v3" => "v4",
        version => version,
    };
    let name = match verb {
        Verb::Archive => "archive",
        Verb::Look => "read",
        Verb::Create => "create",
        Verb::CreateDefault => "associate/default",
    };
    let path = format!(
        "{}/{}/{}/batch/{name}",
        versioned("crm/", "associations", version),
        object_type(first.from),
        object_type(first.to)
    );
    let request = Request {
        target: Target::HubSpot,
        method: Method::Post,
        path,
        body: Some(body(verb, &pairs).into_bytes()),
    };
    Some(AssociationCall {
        verb,
        request,
        pairs,
    })
}

fn body(verb: Verb, pairs: &[Sending]) -> String {
    let inputs: Vec<String> = match verb {
        Verb::Create => pairs.iter().map(with_labels).collect(),
        Verb::CreateDefault => pairs
            .iter()
            .map(|sending| format!("{{{}}}", ends(sending)))
            .collect(),
        Verb::Look => pairs
            .chunk_by(|a, b| (&a.pair.from, &a.labels) == (&b.pair.from, &b.labels))
            .map(|of_one| look(&of_one[0]))
            .collect(),
        Verb::Archive => pairs
            .chunk_by(|a, b| a.pair.from == b.pair.from)
            .map(|of_one| {
                let ends: Vec<String> = of_one
                    .iter()
                    .map(|sending| reference(&sending.pair.to))
                    .collect();
                let from = reference(&of_one[0].pair.from);
                format!("{{\"from\":{from},\"to\":[{}]}}", ends.join(","))
            })
            .collect(),
    };
    let mut body = String::from("{");
    push_name(&mut body, "inputs");
    body.push('[');
    body.push_str(&inputs.join(","));
    body.push_str("]}");
    body
}

fn look(sending: &Sending) -> String {
    let mut out = String::from("{");
    push_member(&mut out, "id", sending.pair.from.as_str());
    if let Labels::After(after) = &sending.labels {
        push_member(&mut out, "after", after);
    }
    out.push('}');
    out
}

/// Ours, and those the pair has besides: what is not named is taken away.
fn with_labels(sending: &Sending) -> String {
    let mut labels: Vec<Label> = objects::associations(sending.from, sending.to)
        .into_iter()
        .flatten()
        .map(|id| Label::defined(*id))
        .collect();
    if let Labels::Known(known) = &sending.labels {
        labels.extend(known.iter().cloned());
    }
    labels.sort_unstable();
    labels.dedup();
    let labels: Vec<String> = labels.iter().map(label).collect();
    format!("{{{},\"types\":[{}]}}", ends(sending), labels.join(","))
}

fn label(label: &Label) -> String {
    let mut out = String::from("{");
    push_member(&mut out, "associationCategory", &label.category);
    push_name(&mut out, "associationTypeId");
    out.push_str(&label.id.to_string());
    out.push('}');
    out
}

fn ends(sending: &Sending) -> String {
    let (from, to) = (reference(&sending.pair.from), reference(&sending.pair.to));
    format!("\"from\":{from},\"to\":{to}")
}

fn reference(id: &RemoteId) -> String {
    let mut out = String::from("{");
    push_name(&mut out, "id");
    push_string(&mut out, id.as_str());
    out.push('}');
    out
}
