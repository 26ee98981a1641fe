//! `POST /lists/{id}`. Mailchimp: at most 500 members, HTTP 200 even when items fail.

use rustc_hash::FxHashSet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Mailchimp;
use super::body::Body;
use super::errors::Problem;
use super::parse;
use super::status::Way;
use super::store::{hash_of, lower, render};
use super::validate::check_address;
use super::write::{Moment, Target};
use crate::json;
use crate::query::Query;
use crate::reply::Reply;

const MAX_MEMBERS: usize = 500;

#[derive(Deserialize)]
struct Bulk<'a> {
    #[serde(borrow)]
    members: Vec<Body<'a>>,
    #[serde(default)]
    update_existing: bool,
    #[serde(default)]
    sync_tags: bool,
}

/// Why an item was not taken.
struct Refused {
    email: String,
    error: String,
    code: &'static str,
    field: (String, String),
}

impl Mailchimp {
    pub(crate) fn bulk(
        &mut self,
        list: usize,
        query: &Query,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let Bulk {
            members,
            update_existing,
            sync_tags,
        } = parse(body)?;
        if members.len() > MAX_MEMBERS {
            return Err(Problem::field(
                "members",
                format!("This collection should contain {MAX_MEMBERS} elements or less."),
            ));
        }
        if members
            .iter()
            .any(|member| member.status.is_none() && member.status_if_new.is_none())
        {
            return Err(Problem::field(
                "members",
                "status or status_if_new is required",
            ));
        }
        let mut duplicates = Duplicates::of(&members, query.flag("skip_duplicate_check"));
        let (mut new, mut updated, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for mut member in members {
            let address = member
                .email_address
                .as_deref()
                .unwrap_or_default()
                .trim()
                .to_owned();
            // Mailchimp: no field of an item.
            member.marketing_permissions = None;
            match duplicates.judge(&address) {
                Occurrence::Skip => continue,
                Occurrence::Refuse => {
                    refused.push(Refused::generic(
                        address,
                        "Duplicate items found in the request",
                    ));
                    continue;
                }
                Occurrence::Take => {}
            }
            match self.bulk_item(
                list,
                &address,
                &mut member,
                update_existing,
                sync_tags,
                query,
                moment,
            ) {
                Ok((at, true)) => new.push(at),
                Ok((at, false)) => updated.push(at),
                Err(problem) => refused.push(problem),
            }
        }
        Ok(self.bulk_reply(list, &new, &updated, &refused))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the settings of one call, passed through"
    )]
    fn bulk_item(
        &mut self,
        list: usize,
        address: &str,
        member: &mut Body<'_>,
        update_existing: bool,
        sync_tags: bool,
        query: &Query,
        moment: &Moment,
    ) -> Result<(usize, bool), Refused> {
        let refuse = |problem: Problem| Refused::from(address, problem);
        check_address(&self.config, address).map_err(refuse)?;
        let target = self.target(list, address).map_err(refuse)?;
        let is_new = matches!(target, Target::New(_));
        if !is_new && !update_existing {
            return Err(Refused {
                code: "ERROR_CONTACT_EXISTS",
                ..Refused::generic(
                    address.to_owned(),
                    &format!(
                        "{address} is already a list member, do you want to update? please provide update_existing:true in the request body"
                    ),
                )
            });
        }
        let way = Way::Bulk {
            resubscribes: self.config.bulk_resubscribes,
        };
        let checked = self
            .check(
                list,
                target,
                member,
                way,
                query.flag("skip_merge_validation"),
            )
            .map_err(refuse)?;
        Ok((self.apply(list, checked, member, sync_tags, moment), is_new))
    }

    fn bulk_reply(
        &self,
        list: usize,
        new: &[usize],
        updated: &[usize],
        refused: &[Refused],
    ) -> Reply {
        let audience = &self.audiences[list];
        let mut out = Vec::with_capacity(256 + (new.len() + updated.len()) * 640);
        for (name, positions) in [
            ("{\"new_members\":[", new),
            ("],\"updated_members\":[", updated),
        ] {
            out.extend_from_slice(name.as_bytes());
            for at in positions {
                json::comma(&mut out);
                render(&mut out, audience, &audience.members[*at]);
            }
        }
        out.extend_from_slice(b"],\"errors\":");
        json::push(
            &mut out,
            &refused.iter().map(Refused::to_json).collect::<Vec<_>>(),
        );
        for (name, count) in [
            ("total_created", new.len()),
            ("total_updated", updated.len()),
            ("error_count", refused.len()),
        ] {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            json::push_u64(&mut out, count as u64);
        }
        out.extend_from_slice(b",\"_links\":[]}");
        Reply::json(200, out)
    }
}

impl Refused {
    fn generic(email: String, error: &str) -> Self {
        Self {
            email,
            error: error.to_owned(),
            code: "ERROR_GENERIC",
            field: Default::default(),
        }
    }

    fn from(address: &str, problem: Problem) -> Self {
        let field = problem.fields.into_iter().next().unwrap_or_default();
        let error = match problem.title {
            "Member In Compliance State" => format!(
                "{address} is already a list member in compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
            ),
            _ => problem.detail.into_owned(),
        };
        Self {
            email: address.to_owned(),
            error,
            code: "ERROR_GENERIC",
            field,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "email_address": self.email, "error": self.error, "error_code": self.code,
            "field": self.field.0, "field_message": self.field.1,
        })
    }
}

/// Addresses that occur more than once in a request.
struct Duplicates {
    twice: FxHashSet<[u8; 32]>,
    seen: FxHashSet<[u8; 32]>,
    first_wins: bool,
}

enum Occurrence {
    Take,
    Skip,
    Refuse,
}

impl Duplicates {
    fn of(members: &[Body<'_>], first_wins: bool) -> Self {
        let mut twice = FxHashSet::default();
        let mut texts = FxHashSet::default();
        for member in members {
            let address = lower(member.email_address.as_deref().unwrap_or_default().trim());
            if texts.contains(&address) {
                twice.insert(hash_of(&address));
            }
            texts.insert(address);
        }
        Self {
            twice,
            seen: FxHashSet::default(),
            first_wins,
        }
    }

    fn judge(&mut self, address: &str) -> Occurrence {
        if self.twice.is_empty() {
            return Occurrence::Take;
        }
        let hash = hash_of(&lower(address));
        match (self.twice.contains(&hash), self.first_wins) {
            (false, _) => Occurrence::Take,
            (true, false) => Occurrence::Refuse,
            (true, true) if self.seen.insert(hash) => Occurrence::Take,
            (true, true) => Occurrence::Skip,
        }
    }
}
