//! `/_sandbox/…`: everything the library offers, over HTTP and in JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::config::{Config, Service};
use crate::faults::Fault;
use crate::hubspot::{HubSpot, ObjectType};
use crate::mailchimp::MemberAction;
use crate::query::Query;
use crate::reply::Reply;
use crate::server::{Command, Shared};

/// What goes wrong with a control request: said in plain words with a 400.
type Answer = Result<Reply, String>;

#[derive(Deserialize)]
struct Merge {
    primary: u64,
    other: u64,
}

#[derive(Deserialize)]
struct Ends {
    from: String,
    from_id: u64,
    to: String,
    to_id: u64,
}

#[derive(Deserialize)]
struct NewOwner {
    email: String,
}

#[derive(Deserialize)]
struct NewPipeline {
    object: Option<String>,
    label: String,
    stages: Vec<String>,
}

#[derive(Deserialize)]
struct Acting {
    email: String,
    list_id: Option<String>,
    #[serde(flatten)]
    action: MemberAction,
}

#[derive(Deserialize)]
struct NewCampaign {
    id: String,
    /// Milliseconds since 1970; now if it is not there.
    sent_at: Option<i64>,
}

pub(crate) async fn answer(
    shared: &Shared,
    method: &str,
    path: &str,
    query: Option<&str>,
    body: &[u8],
) -> Reply {
    let segments: Vec<&str> = path
        .split('/')
        .skip(2)
        .filter(|segment| !segment.is_empty())
        .collect();
    let query = Query::parse(query);
    let answer = match (method, &segments[..]) {
        ("POST", ["down", service]) => down(shared, service).await,
        ("POST", ["up", service]) => up(shared, service).await,
        ("POST", ["stop"]) => {
            // An error means that it has stopped already.
            let _ = shared.commands.send(Command::Stop);
            done()
        }
        (_, ["hubspot", rest @ ..]) => hubspot(shared, method, rest, &query, body),
        (_, ["mailchimp", rest @ ..]) => mailchimp(shared, method, rest, &query, body),
        _ => common(shared, method, &segments, &query, body),
    };
    answer.unwrap_or_else(|message| Reply::value(400, &json!({"error": message})))
}

fn common(shared: &Shared, method: &str, segments: &[&str], query: &Query, body: &[u8]) -> Answer {
    let mut world = shared.world();
    match (method, segments) {
        ("GET", ["stats"]) => shown(&world.stats()),
        ("POST", ["stats", "reset"]) => {
            world.reset_log();
            done()
        }
        ("GET", ["requests"]) => {
            let last = query.number("last").unwrap_or(1_000);
            let skip = world.log.len().saturating_sub(last);
            shown(&world.log.iter().skip(skip).collect::<Vec<_>>())
        }
        ("POST", ["keep-bodies", on]) => {
            world.keep_bodies = *on == "on";
            done()
        }
        ("POST", ["reset"]) => {
            world.reset();
            done()
        }
        ("GET", ["config"]) => shown(&world.config),
        ("POST", ["config"]) => {
            let mut config =
                serde_json::to_value(&world.config).map_err(|error| error.to_string())?;
            merge(&mut config, read(body)?);
            let config: Config =
                serde_json::from_value(config).map_err(|error| error.to_string())?;
            world.configure(config);
            shown(&world.config)
        }
        ("GET", ["faults"]) => shown(world.faults.list()),
        ("POST", ["faults"]) => {
            let fault: Fault = read(body)?;
            shown(&json!({"id": world.faults.add(fault)}))
        }
        ("DELETE", ["faults"]) => {
            world.faults.clear();
            done()
        }
        ("DELETE", ["faults", id]) => {
            world
                .faults
                .remove(id.parse().map_err(|_| "faults have numbers")?);
            done()
        }
        ("POST", ["webhooks", "take"]) => shown(&world.take_webhooks()),
        ("DELETE", ["webhooks"]) => {
            world.clear_webhooks();
            done()
        }
        _ => Err(format!(
            "{method} /_sandbox/{} is not known",
            segments.join("/")
        )),
    }
}

fn hubspot(shared: &Shared, method: &str, rest: &[&str], query: &Query, body: &[u8]) -> Answer {
    let mut world = shared.world();
    let hubspot = &mut world.hubspot;
    match (method, rest) {
        ("GET", ["associations"]) => return shown(&hubspot.look_at_associations()),
        ("POST", ["associate"]) => {
            let ends: Ends = read(body)?;
            hubspot.person_associates(
                (object(&ends.from)?, ends.from_id),
                (object(&ends.to)?, ends.to_id),
            )?;
            return done();
        }
        ("POST", ["owners"]) => {
            let owner: NewOwner = read(body)?;
            return shown(&json!({"id": hubspot.admin_adds_owner(&owner.email)}));
        }
        ("POST", ["pipelines"]) => {
            let new: NewPipeline = read(body)?;
            let object = object(new.object.as_deref().unwrap_or("deals"))?;
            let (id, stages) = hubspot.admin_adds_pipeline(object, &new.label, &new.stages);
            return shown(&json!({"id": id, "stages": stages}));
        }
        ("POST", ["expire-tokens"]) => {
            hubspot.expire_tokens();
            return done();
        }
        _ => {}
    }
    let [kind, rest @ ..] = rest else {
        return Err("name a type, such as contacts".to_owned());
    };
    records(hubspot, object(kind)?, (method, rest), query, body)
}

/// What people and administrators do with records of one type.
fn records(
    hubspot: &mut HubSpot,
    kind: ObjectType,
    (method, rest): (&str, &[&str]),
    query: &Query,
    body: &[u8],
) -> Answer {
    match (method, rest) {
        ("GET", []) => match query.get("property").zip(query.get("value")) {
            Some((property, value)) => shown(&hubspot.look_up(kind, property, value)),
            None => shown(&hubspot.look(kind, query.flag("archived"))),
        },
        ("POST", []) => {
            let id = hubspot.person_creates(kind, &properties(body)?)?;
            shown(&json!({"id": id}))
        }
        ("POST", ["properties"]) => {
            hubspot.admin_defines(kind, read(body)?)?;
            done()
        }
        ("PATCH", ["properties", name]) => {
            hubspot.admin_changes(kind, name, read(body)?)?;
            done()
        }
        ("DELETE", ["properties", name]) => {
            hubspot.admin_deletes(kind, name)?;
            done()
        }
        ("POST", ["merge"]) => {
            let merge: Merge = read(body)?;
            let id = hubspot.person_merges(kind, merge.primary, merge.other)?;
            shown(&json!({"id": id}))
        }
        ("GET", [id]) => shown(&hubspot.look_at(kind, number(id)?)),
        ("PATCH", [id]) => {
            hubspot.person_sets(kind, number(id)?, &properties(body)?)?;
            done()
        }
        ("DELETE", [id]) => {
            hubspot.person_deletes(kind, number(id)?, query.flag("erase"))?;
            done()
        }
        ("POST", [id, "restore"]) => {
            hubspot.person_restores(kind, number(id)?)?;
            done()
        }
        _ => Err("not known".to_owned()),
    }
}

fn mailchimp(shared: &Shared, method: &str, rest: &[&str], query: &Query, body: &[u8]) -> Answer {
    let mut world = shared.world();
    let list = world.config.mailchimp.list_id.clone();
    match (method, rest) {
        ("GET", ["members"]) => match query.get("email") {
            Some(email) => {
                let member = world.mailchimp.look_at(&list, email);
                shown(
                    &json!({"member": member, "forgotten": world.mailchimp.is_forgotten(&list, email)}),
                )
            }
            None => shown(&world.mailchimp.look(query.get("list_id").unwrap_or(&list))),
        },
        ("POST", ["members"]) => {
            let acting: Acting = read(body)?;
            world.mailchimp.act(
                acting.list_id.as_deref().unwrap_or(&list),
                &acting.email,
                acting.action,
            )?;
            done()
        }
        ("POST", ["merge-fields"]) => {
            let list = query.get("list_id").unwrap_or(&list);
            world.mailchimp.admin_defines(list, &read(body)?)?;
            done()
        }
        ("POST", ["campaigns"]) => {
            let new: NewCampaign = read(body)?;
            world.mailchimp.send_campaign(&list, &new.id, new.sent_at)?;
            done()
        }
        _ => Err("not known".to_owned()),
    }
}

async fn down(shared: &Shared, service: &str) -> Answer {
    let (sender, receiver) = oneshot::channel();
    shared
        .commands
        .send(Command::Down(named(service)?, sender))
        .map_err(|_| "stopped")?;
    // When the port that this request came by closes, nobody reads the answer.
    let _ = receiver.await;
    done()
}

async fn up(shared: &Shared, service: &str) -> Answer {
    let (sender, receiver) = oneshot::channel();
    shared
        .commands
        .send(Command::Up(named(service)?, sender))
        .map_err(|_| "stopped")?;
    receiver
        .await
        .map_err(|_| "stopped")?
        .map_err(|error| error.to_string())?;
    done()
}

fn named(service: &str) -> Result<Service, String> {
    match service {
        "hubspot" => Ok(Service::HubSpot),
        "mailchimp" => Ok(Service::Mailchimp),
        _ => Err("the services are hubspot and mailchimp".to_owned()),
    }
}

fn object(text: &str) -> Result<ObjectType, String> {
    ObjectType::parse(text).ok_or_else(|| format!("no type {text}"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no id"))
}

/// `{"name": "value", …}`; numbers and booleans are taken as text.
fn properties(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    let map: Map<String, Value> = read(body)?;
    Ok(map
        .into_iter()
        .map(|(name, value)| {
            (
                name,
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned),
            )
        })
        .collect())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn shown<T: Serialize + ?Sized>(value: &T) -> Answer {
    Ok(Reply::value(200, value))
}

fn done() -> Answer {
    shown(&json!({"done": true}))
}

/// Lays the members of `change` over `base`, object by object.
fn merge(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (name, value) in change {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, change) => *base = change,
    }
}
