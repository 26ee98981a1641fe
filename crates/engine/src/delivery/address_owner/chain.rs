//! Records that each want what the next one has, such as rows that swapped their e-mail addresses.
//! None of them can go first unless one gives up what it has.

/// How far to follow where one of a circle gives way, and every step costs a look at the tables.
pub const FAR: usize = 16;

/// Attempts after which every member of a circle gives way, not only the one whose turn it is.
const PATIENCE: u32 = 3;

/// Where it leads to when one follows who wants whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain<T> {
    /// Back to the start. All members, the start first.
    Circle(Vec<T>),
    /// To somebody who waits for none of them: it resolves itself.
    Open,
    /// Too far to tell.
    Endless,
}

/// Follows the chain from `start`, over at most `far` records: whoever wants more is told that
/// there is no end in sight. `next` gives whose thing a record wants.
pub fn follow<T: PartialEq + Clone, E>(
    start: T,
    far: usize,
    mut next: impl FnMut(&T) -> Result<Option<T>, E>,
) -> Result<Chain<T>, E> {
    let mut members = vec![start];
    while let Some(last) = members.last() {
        match next(last)? {
            None => return Ok(Chain::Open),
            Some(record) if members.first() == Some(&record) => return Ok(Chain::Circle(members)),
            // It leads into a circle of others, who will see to it.
            Some(record) if members.contains(&record) => return Ok(Chain::Open),
            Some(_) if members.len() >= far => return Ok(Chain::Endless),
            Some(record) => members.push(record),
        }
    }
    Ok(Chain::Open)
}

impl<T: Ord> Chain<T> {
    /// Whether the start is to give up what it has. One of a circle is enough; if that one does not
    /// get to it, the others don't wait for ever.
    pub fn gives_way(&self, attempts: u32) -> bool {
        match self {
            Chain::Circle(members) => {
                members.iter().min() == members.first() || attempts >= PATIENCE
            }
            Chain::Open => false,
            Chain::Endless => attempts >= PATIENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, convert::Infallible};

    use proptest::prelude::*;

    use super::*;

    fn chain(start: u32, wants: &[(u32, u32)]) -> Chain<u32> {
        let wants: HashMap<u32, u32> = wants.iter().copied().collect();
        let Ok(chain) =
            follow::<_, Infallible>(start, FAR, |record| Ok(wants.get(record).copied()));
        chain
    }

    #[test]
    fn circles_are_told_from_chains() {
        let swap = [(1, 2), (2, 1)];
        assert_eq!(chain(1, &swap), Chain::Circle(vec![1, 2]));
        assert_eq!(chain(2, &swap), Chain::Circle(vec![2, 1]));
        let three = [(1, 3), (3, 2), (2, 1)];
        assert_eq!(chain(3, &three), Chain::Circle(vec![3, 2, 1]));
        assert_eq!(chain(1, &[(1, 2), (2, 3)]), Chain::Open);
        // On the way into others' circle.
        assert_eq!(chain(9, &[(9, 1), (1, 2), (2, 1)]), Chain::Open);
        let long: Vec<(u32, u32)> = (0..100).map(|n| (n, (n + 1) % 100)).collect();
        assert_eq!(chain(5, &long), Chain::Endless);
        let Ok(whole) = follow::<_, Infallible>(5, 100, |n| Ok(Some((n + 1) % 100)));
        assert!(matches!(whole, Chain::Circle(members) if members.len() == 100));
    }

    #[test]
    fn one_gives_way_and_the_others_only_if_it_does_not() {
        let swap = [(1, 2), (2, 1)];
        assert!(chain(1, &swap).gives_way(0));
        assert!(!chain(2, &swap).gives_way(0));
        assert!(chain(2, &swap).gives_way(PATIENCE));
        assert!(!chain(1, &[(1, 2)]).gives_way(100));
        let endless = Chain::<u32>::Endless;
        assert!(!endless.gives_way(0) && endless.gives_way(PATIENCE));
    }

    proptest! {
        /// Whoever wants whose, in the end everybody has what they want.
        #[test]
        fn every_permutation_is_resolved(order in Just((0..12_u32).collect::<Vec<_>>()).prop_shuffle()) {
            // Holder by thing; record n wants thing order[n] and has thing n.
            let mut has: HashMap<u32, u32> = (0..12).map(|n| (n, n)).collect();
            for round in 0..40_u32 {
                for record in 0..12_u32 {
                    let wanted = order[record as usize];
                    let holder = has.get(&wanted).copied();
                    match holder {
                        Some(holder) if holder == record => {}
                        None => {
                            has.retain(|_, holder| *holder != record);
                            has.insert(wanted, record);
                        }
                        Some(_) => {
                            let Ok(chain) = follow::<_, Infallible>(record, FAR, |other| {
                                let wanted = order[*other as usize];
                                Ok(has.get(&wanted).copied().filter(|holder| holder != other))
                            });
                            if chain.gives_way(round / 12) {
                                has.retain(|_, holder| *holder != record);
                            }
                        }
                    }
                }
            }
            for record in 0..12_u32 {
                prop_assert_eq!(has.get(&order[record as usize]), Some(&record));
            }
        }
    }
}
