//! Any sequence of changes, answers and ends of the process leaves HubSpot with the pair that is
//! wanted, and no other.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Point(Option<u64>),
    /// The call is made, and its answer comes, is lost, or the call fails before or after.
    Turn(Answer),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Arrives,
    Lost,
    Fails,
    /// The process ends before the call leaves.
    Killed,
}

fn event() -> impl Strategy<Value = Event> {
    let answer = prop_oneof![
        Just(Answer::Arrives),
        Just(Answer::Lost),
        Just(Answer::Fails),
        Just(Answer::Killed)
    ];
    prop_oneof![
        proptest::option::of(1..5_u64).prop_map(Event::Point),
        answer.prop_map(Event::Turn)
    ]
}

/// What the table and HubSpot hold. Parents from 3 on are linked only in the end.
struct Model {
    wanted: Option<u64>,
    linked: u64,
    standing: AssociationUpdate,
    hubspot: BTreeSet<Pair>,
}

impl Model {
    fn owed(&self) -> Owed {
        Owed {
            from: CONTACT,
            to: COMPANY,
            wanted: match self.wanted {
                None => WantedPair::Nothing,
                Some(parent) if parent > self.linked => WantedPair::Unknown,
                Some(parent) => WantedPair::Pair(pair(1, parent)),
            },
            held: self.standing.held.clone(),
            shared: false,
            attempts: self.standing.attempts,
        }
    }

    fn turn(&mut self, answer: Answer) {
        let owed = self.owed();
        let step = next_step(&owed);
        if let Some(standing) = before(&owed, &step) {
            self.standing = standing;
        }
        let AssociationStep::Send(action, pair) = step else {
            return;
        };
        if matches!(answer, Answer::Killed) {
            return;
        }
        let call = match action {
            Action::Archive => single(action, std::slice::from_ref(&pair), "2026-09"),
            Action::Create => going_on(&pair, Labels::Known(Vec::new())),
        };
        let reply = match answer {
            Answer::Fails => Ok(reply(503, "")),
            _ => {
                match action {
                    Action::Create => self.hubspot.insert(pair.clone()),
                    Action::Archive => self.hubspot.remove(&pair),
                };
                let (from, to) = (pair.from.as_str(), pair.to.as_str());
                let body =
                    format!(r#"{{"results":[{{"fromObjectId":{from},"toObjectId":{to}}}]}}"#);
                match answer {
                    Answer::Lost => Err(TransportError::Lost("gone".to_owned())),
                    _ => Ok(reply(201, &body)),
                }
            }
        };
        let reading = read(&call, reply.as_ref());
        let attempts = owed.attempts;
        self.standing = after(
            action,
            &pair,
            attempts,
            &reading.verdicts[0],
            &policy(),
            0.5,
        );
    }
}

proptest! {
    #[test]
    fn any_sequence_ends_equal(events in proptest::collection::vec(event(), 0..40)) {
        let mut model = Model {
            wanted: None,
            linked: 2,
            standing: AssociationUpdate { held: None, state: AssociationState::Pending, attempts: 0, wait: Duration::ZERO, why: None },
            hubspot: BTreeSet::new(),
        };
        for event in events {
            match event {
                Event::Point(parent) => model.wanted = parent,
                Event::Turn(answer) => model.turn(answer),
            }
            prop_assert!(model.hubspot.len() <= 1, "a pair was left behind: {:?}", model.hubspot);
        }
        model.linked = 9;
        for _ in 0..3 {
            model.turn(Answer::Arrives);
        }
        let wanted: BTreeSet<Pair> = model.wanted.map(|parent| pair(1, parent)).into_iter().collect();
        prop_assert_eq!(&model.hubspot, &wanted);
        let state = if wanted.is_empty() { AssociationState::Gone } else { AssociationState::Agreed };
        prop_assert_eq!(model.standing.state, state);
    }
}
