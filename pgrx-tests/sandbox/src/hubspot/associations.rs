//! Associations between records.

mod calls;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::HubSpot;
use super::errors::Problem;
use super::inputs::parse;
use super::types::{ObjectType, default_type, primary_type, reverse, target_of};
use super::write::Moment;
use crate::reply::Reply;

type End = (ObjectType, u64);

/// One of the types that a pair has: HubSpot's own, or a label that people made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tie {
    Defined(u32),
    Label(u32),
}

impl Tie {
    fn reverse(self) -> Tie {
        match self {
            Tie::Defined(id) => Tie::Defined(reverse(id)),
            label @ Tie::Label(_) => label,
        }
    }

    pub(crate) fn defined(self) -> Option<u32> {
        match self {
            Tie::Defined(id) => Some(id),
            Tie::Label(_) => None,
        }
    }

    pub(crate) fn label(self) -> Option<u32> {
        match self {
            Tie::Defined(_) => None,
            Tie::Label(id) => Some(id),
        }
    }

    fn to_json(self) -> Value {
        let (category, id) = match self {
            Tie::Defined(id) => ("HUBSPOT_DEFINED", id),
            Tie::Label(id) => ("USER_DEFINED", id),
        };
        json!({"category": category, "typeId": id, "label": null})
    }
}

/// Both directions of every pair, each with its types.
#[derive(Debug, Default)]
pub(crate) struct Associations {
    pairs: BTreeMap<(ObjectType, u64, ObjectType, u64), Vec<Tie>>,
    /// Labels that administrators have defined, by the objects they are between.
    labels: BTreeSet<(ObjectType, ObjectType, u32)>,
}

/// HubSpot: 2,000 pairs a batch.
const MAX_PAIRS: usize = 2_000;

#[derive(Deserialize)]
struct Id {
    id: Value,
}

impl Id {
    /// Ids come as text or as number.
    fn text(&self) -> String {
        self.id
            .as_str()
            .map_or_else(|| self.id.to_string(), str::to_owned)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Label {
    #[serde(default)]
    association_category: String,
    association_type_id: u32,
}

impl Label {
    fn tie(&self) -> Tie {
        match self.association_category.as_str() {
            "USER_DEFINED" => Tie::Label(self.association_type_id),
            _ => Tie::Defined(self.association_type_id),
        }
    }
}

#[derive(Deserialize)]
struct Pair {
    from: Id,
    to: Id,
    #[serde(default)]
    types: Vec<Label>,
}

#[derive(Deserialize)]
struct ArchivePair {
    from: Id,
    to: Vec<Id>,
}

#[derive(Deserialize)]
struct Batch<T> {
    inputs: Vec<T>,
}

#[derive(Deserialize)]
struct WithCreate {
    to: Id,
    types: Vec<Label>,
}

impl Associations {
    pub(crate) fn targets(&self, from: End, to: ObjectType) -> impl Iterator<Item = (u64, &[Tie])> {
        self.pairs
            .range((from.0, from.1, to, 0)..=(from.0, from.1, to, u64::MAX))
            .map(|((_, _, _, id), types)| (*id, types.as_slice()))
    }

    /// Drops all pairs of a record.
    pub(crate) fn forget(&mut self, object: ObjectType, id: u64) {
        if self.pairs.is_empty() {
            return;
        }
        let own: Vec<_> = self
            .pairs
            .range((object, id, ObjectType::Contact, 0)..=(object, id, ObjectType::Email, u64::MAX))
            .map(|(key, _)| *key)
            .collect();
        for (from, from_id, to, to_id) in own {
            self.pairs.remove(&(from, from_id, to, to_id));
            self.pairs.remove(&(to, to_id, from, from_id));
        }
    }

    /// Gives the pair these types instead of any that it has. Without any: associates the two, and
    /// takes nothing away.
    pub(crate) fn connect(&mut self, from: End, to: End, types: &[Tie]) {
        let mut all = types.to_vec();
        if types.is_empty() {
            let known = self.pairs.get(&(from.0, from.1, to.0, to.1));
            all.extend(known.into_iter().flatten());
        }
        self.one_way(from, to, &all);
        let back: Vec<Tie> = all.iter().map(|tie| tie.reverse()).collect();
        self.one_way(to, from, &back);
    }

    /// A label that a person gives a pair, in either direction; defines it if need be.
    pub(crate) fn label(&mut self, from: End, to: End, id: u32) {
        self.labels.insert((from.0, to.0, id));
        self.labels.insert((to.0, from.0, id));
        for key in [(from.0, from.1, to.0, to.1), (to.0, to.1, from.0, from.1)] {
            let ties = self.pairs.entry(key).or_default();
            ties.push(Tie::Label(id));
            ties.sort_unstable();
            ties.dedup();
        }
    }

    fn knows(&self, from: ObjectType, to: ObjectType, tie: Tie) -> bool {
        match tie {
            Tie::Defined(id) => target_of(from, id) == Some(to),
            Tie::Label(id) => self.labels.contains(&(from, to, id)),
        }
    }

    /// Replaces the types of the pair. A first company becomes the primary one by itself.
    fn one_way(&mut self, from: End, to: End, types: &[Tie]) {
        let mut all = types.to_vec();
        all.extend(default_type(from.0, to.0).map(Tie::Defined));
        let primary = primary_type(from.0, to.0).filter(|_| to.0 == ObjectType::Company);
        if let Some(primary) = primary.map(Tie::Defined) {
            if all.contains(&primary) {
                for (_, labels) in self
                    .pairs
                    .range_mut((from.0, from.1, to.0, 0)..=(from.0, from.1, to.0, u64::MAX))
                {
                    labels.retain(|label| *label != primary);
                }
            } else if self.targets(from, to.0).all(|(id, _)| id == to.1) {
                all.push(primary);
            }
        }
        all.sort_unstable();
        all.dedup();
        self.pairs.insert((from.0, from.1, to.0, to.1), all);
    }

    fn disconnect(&mut self, from: End, to: End) -> bool {
        self.pairs.remove(&(to.0, to.1, from.0, from.1));
        self.pairs.remove(&(from.0, from.1, to.0, to.1)).is_some()
    }

    /// Everything, for inspection.
    pub(crate) fn all(&self) -> impl Iterator<Item = (End, End, &[Tie])> {
        self.pairs
            .iter()
            .map(|((from, from_id, to, to_id), types)| {
                ((*from, *from_id), (*to, *to_id), types.as_slice())
            })
    }
}

impl HubSpot {
    /// Checks the associations that a create brings along.
    pub(crate) fn check_associations(
        &self,
        from: ObjectType,
        associations: &[Value],
    ) -> Result<(), Problem> {
        for association in associations {
            let wanted = WithCreate::deserialize(association)
                .map_err(|error| Problem::validation(format!("Invalid input JSON: {error}")))?;
            let to = wanted
                .types
                .first()
                .and_then(|label| target_of(from, label.association_type_id));
            let Some(to) = to else {
                return Err(Problem::validation("Unknown association type"));
            };
            if self.stores[to.index()].live(&wanted.to.text()).is_none() {
                return Err(invalid_identifier(&wanted.to.text()));
            }
        }
        Ok(())
    }

    /// Makes the associations that [`HubSpot::check_associations`] let through.
    pub(crate) fn associate_new(
        &mut self,
        from: ObjectType,
        position: usize,
        associations: &[Value],
        moment: &Moment,
    ) {
        let id = self.stores[from.index()].records[position].id;
        for association in associations {
            let Ok(wanted) = WithCreate::deserialize(association) else {
                continue;
            };
            let types: Vec<Tie> = wanted.types.iter().map(Label::tie).collect();
            let first = wanted.types.first();
            let to = first.and_then(|first| target_of(from, first.association_type_id));
            if let (Some(to), Ok(to_id)) = (to, wanted.to.text().parse()) {
                self.connect((from, id), (to, to_id), &types, moment);
            }
        }
    }

    pub(crate) fn connect(&mut self, from: End, to: End, types: &[Tie], moment: &Moment) {
        self.associations.connect(from, to, types);
        self.tell(from, to, types, false, moment);
    }

    fn tell(&mut self, from: End, to: End, types: &[Tie], removed: bool, moment: &Moment) {
        let defined = types.iter().find_map(|tie| tie.defined());
        let first = defined.or_else(|| default_type(from.0, to.0)).unwrap_or(0);
        let wanted = &self.config.subscriptions;
        self.events
            .association(from, to, first, removed, moment, wanted);
        self.events
            .association(to, from, reverse(first), removed, moment, wanted);
    }

    fn check_types(&self, from: ObjectType, to: ObjectType, types: &[Tie]) -> Result<(), Problem> {
        match types
            .iter()
            .find(|tie| !self.associations.knows(from, to, **tie))
        {
            None => Ok(()),
            Some(tie) => Err(Problem::validation(format!(
                "Invalid association type {tie:?} between {} and {}",
                from.plural(),
                to.plural()
            ))),
        }
    }

    fn ends(
        &self,
        from: ObjectType,
        from_id: &str,
        to: ObjectType,
        to_id: &str,
    ) -> Result<(End, End), Problem> {
        let find = |object: ObjectType, id: &str| {
            let store = &self.stores[object.index()];
            store
                .live(id)
                .map(|position| (object, store.records[position].id))
                .ok_or_else(|| invalid_identifier(id))
        };
        let (from, to) = (find(from, from_id)?, find(to, to_id)?);
        if from == to {
            return Err(Problem::validation(format!(
                "Object {from_id} cannot be associated to itself"
            )));
        }
        Ok((from, to))
    }
}

fn invalid_identifier(id: &str) -> Problem {
    Problem::validation(format!("{id} is not a valid identifier"))
        .sub("crm.associations.INVALID_IDENTIFIER")
        .context("id", vec![id.to_owned()])
}
