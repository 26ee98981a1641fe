//! Putting records together into calls.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    delivery::call::{CallKind, Item},
    record::RecordHasher,
};

/// The items of one call to be.
pub struct Group<K> {
    pub kind: K,
    pub items: Vec<Item>,
    /// Hashes of the items' names. Two names with one hash merely travel separately.
    names: HashSet<u64, RecordHasher>,
}

/// Groups records by kind of call, in the order they come: at most as many a call
/// as the kind takes, never more
/// than the least `batch_cap` among its items, never the same name twice.
pub fn group<K: CallKind>(sends: Vec<(K, Item)>) -> Vec<Group<K>> {
    let mut groups: Vec<Group<K>> = Vec::new();
    // By kind and cap, the groups that have room: one tight cap must not empty everybody's call.
    let mut open: HashMap<(K, usize), Vec<usize>, RecordHasher> = HashMap::default();
    for (kind, item) in sends {
        let full_at = item.batch_cap.clamp(1, kind.most().max(1));
        let name = xxh3_64(item.name.as_bytes());
        let mut open = match open.entry((kind, full_at)) {
            Entry::Occupied(open) => open,
            Entry::Vacant(open) => open.insert_entry(Vec::new()),
        };
        let lacks = |index: &usize| !groups[*index].names.contains(&name);
        let at = open.get().iter().position(lacks).unwrap_or_else(|| {
            groups.push(Group {
                kind: open.key().0.clone(),
                items: Vec::with_capacity(full_at),
                names: HashSet::with_capacity_and_hasher(full_at, RecordHasher::default()),
            });
            open.get_mut().push(groups.len() - 1);
            open.get().len() - 1
        });
        let candidates = open.get_mut();
        let group = &mut groups[candidates[at]];
        group.names.insert(name);
        group.items.push(item);
        if group.items.len() >= full_at {
            candidates.remove(at);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::outbound::plain::PlainCall;

    fn item(work: usize, name: &str, batch_cap: usize) -> Item {
        Item {
            work,
            name: name.to_owned(),
            ticks: Vec::new(),
            remote_key: None,
            member_status: None,
            expected: None,
            intent: false,
            leaver: Default::default(),
            batch_cap,
            fragment: "{}".to_owned(),
            beside: Default::default(),
            own: None,
        }
    }

    proptest! {
        #[test]
        fn calls_keep_all_their_rules(
            records in prop::collection::vec((0usize..2, 0u8..40, prop_oneof![
                4 => Just(100usize), 1 => 0usize..5
            ]), 0..400),
        ) {
            let kinds = [0, 1].map(|number| PlainCall { list: None, number });
            let sends: Vec<_> = records.iter().enumerate()
                .map(|(work, (kind, name, cap))| {
                    (kinds[*kind].clone(), item(work, &name.to_string(), *cap))
                })
                .collect();
            let groups = group(sends);
            let mut seen: Vec<usize> = Vec::new();
            for group in &groups {
                let names: HashSet<&str> = group.items.iter().map(|item| item.name.as_str()).collect();
                prop_assert_eq!(names.len(), group.items.len());
                prop_assert!(group.items.len() <= 30);
                for item in &group.items {
                    prop_assert!(group.items.len() <= item.batch_cap.max(1));
                    prop_assert_eq!(&kinds[records[item.work].0], &group.kind);
                    seen.push(item.work);
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..records.len()).collect::<Vec<_>>());
            // Of two records with one name, the first one travels first.
            for name in 0..40u8 {
                for kind in &kinds {
                    let order: Vec<usize> = groups.iter().filter(|group| group.kind == *kind)
                        .flat_map(|group| &group.items)
                        .filter(|item| item.batch_cap == 100 && item.name == name.to_string())
                        .map(|item| item.work).collect();
                    prop_assert!(order.is_sorted());
                }
            }
        }
    }

    #[test]
    fn batches_are_filled() {
        let kind = PlainCall {
            list: None,
            number: 0,
        };
        let sends = (0..310)
            .map(|at| (kind.clone(), item(at, &at.to_string(), 100)))
            .collect();
        assert_eq!(group(sends).len(), 11);
    }
}
