//! Who a token belongs to and what it may do.

use serde::Deserialize;

use crate::{HubSpot, objects};
use integration_engine::{
    record::Entity,
    service::failure::{Class, classify},
    wire::{Reply, TransportError},
};

/// What a credential is allowed, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Read(Entity),
    Write(Entity),
    /// To associate records of the first kind with those of the second.
    Associate(Entity, Entity),
}

/// What HubSpot knows about a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TokenInfo {
    /// Static tokens have it in camel case, OAuth in snake case.
    #[serde(alias = "appId")]
    pub app_id: Option<u64>,
    pub scopes: Vec<String>,
    /// Introspection says of a token that is good no longer that it is not active.
    active: Option<bool>,
}

/// Reads the answer about a static token, or to introspection. `None`: not known to HubSpot, as
/// service keys are, which have no such page.
pub fn read_token_info(reply: Result<&Reply, &TransportError>) -> Option<TokenInfo> {
    match (classify::<HubSpot>(reply), reply) {
        (Class::Answered, Ok(reply)) => serde_json::from_slice::<TokenInfo>(&reply.body)
            .ok()
            .filter(|info| info.active != Some(false)),
        _ => None,
    }
}

/// The scopes that sending these entities needs and the token lacks.
pub fn missing_scopes(info: &TokenInfo, entities: &[Entity]) -> Vec<String> {
    let mut missing: Vec<String> = entities
        .iter()
        .flat_map(|entity| objects::of(*entity).scopes())
        .filter(|scope| !info.scopes.contains(scope))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::named::{CONTACT, DEAL, NOTE, TASK};

    fn info(status: u16, body: &str) -> Option<TokenInfo> {
        read_token_info(Ok(&Reply {
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        }))
    }

    #[test]
    fn both_kinds_of_answer_are_read() {
        let cases = [
            (
                200,
                r#"{"hubId":1,"appId":7,"scopes":["oauth"]}"#,
                Some((Some(7), 1)),
            ),
            (
                200,
                r#"{"active":true,"hub_id":1,"app_id":7,"scopes":["a","b"]}"#,
                Some((Some(7), 2)),
            ),
            (200, r#"{"active":false}"#, None),
            (200, "{}", Some((None, 0))),
            (200, "<html>", None),
            (404, "{}", None),
            (401, "{}", None),
        ];
        for (status, body, expected) in cases {
            let read = info(status, body).map(|info| (info.app_id, info.scopes.len()));
            assert_eq!(read, expected, "{status} {body}");
        }
    }

    #[test]
    fn what_is_tracked_decides_which_scopes_are_missing() {
        let has = |scopes: &[&str]| TokenInfo {
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..TokenInfo::default()
        };
        let contacts = ["crm.objects.contacts.read", "crm.objects.contacts.write"];
        let cases: [(&[&str], &[Entity], &[&str]); 5] = [
            (&contacts, &[CONTACT, NOTE], &[]),
            (&[], &[], &[]),
            (&[], &[NOTE, TASK], &contacts),
            (&contacts[..1], &[CONTACT], &["crm.objects.contacts.write"]),
            (
                &contacts,
                &[CONTACT, DEAL],
                &["crm.objects.deals.read", "crm.objects.deals.write"],
            ),
        ];
        for (scopes, entities, expected) in cases {
            assert_eq!(missing_scopes(&has(scopes), entities), expected);
        }
    }
}
