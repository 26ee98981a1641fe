//! What the mechanism asks of a service whose records it sends.

use crate::{
    delivery::call::{Call, CallKind, Decision, Item, Link, Reading, Work},
    record::mapping::SourceMap,
    service::Service,
    wire::{Reply, TransportError},
};

/// A service that records are sent to.
pub trait Outbound: Service {
    /// What planning goes by: settings, and what is known of the account.
    type Settings: Clone;

    /// How records travel to it.
    type Kind: CallKind;

    /// Records in a full call.
    const BATCH: usize;

    /// Decides about one record. `index` is the caller's number for `work`.
    fn decide(
        work: &Work,
        index: usize,
        map: &SourceMap,
        settings: &Self::Settings,
    ) -> Decision<Self>;

    /// Puts records together into as few calls as the rules allow.
    fn assemble(sends: Vec<(Self::Kind, Item)>, settings: &Self::Settings) -> Vec<Call<Self>>;

    /// What has to be stored of a record before a call leaves whose answer may get lost, if
    /// anything. `known`: its link.
    fn to_note(known: Option<&Link>, item: &Item, kind: &Self::Kind) -> Option<Link>;

    /// Reads the answer to a call: a verdict for each of its records.
    fn read(
        call: &Call<Self>,
        reply: Result<&Reply, &TransportError>,
        settings: &Self::Settings,
    ) -> Reading;
}

#[cfg(test)]
pub(crate) mod plain {
    use super::*;
    use crate::{
        delivery::{
            batch::{Group, group},
            call::Allowance,
            outcome::{TargetSignal, Verdict},
        },
        service::plain::Plain,
        wire::{Method, Request},
    };

    /// Its calls: up to thirty records of a kind each.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    pub(crate) struct PlainCall {
        pub(crate) list: Option<String>,
        pub(crate) number: u8,
    }

    impl CallKind for PlainCall {
        fn list(&self) -> Option<&str> {
            self.list.as_deref()
        }

        fn allowance(&self) -> Allowance {
            Allowance::General
        }

        fn most(&self) -> usize {
            Plain::BATCH
        }
    }

    impl Outbound for Plain {
        type Settings = ();
        type Kind = PlainCall;

        const BATCH: usize = 30;

        fn decide(_: &Work, _: usize, _: &SourceMap, (): &()) -> Decision<Plain> {
            Decision::Settled(Verdict::Unchanged)
        }

        fn assemble(sends: Vec<(PlainCall, Item)>, (): &()) -> Vec<Call<Plain>> {
            let call = |group: Group<PlainCall>| Call {
                kind: group.kind,
                request: Request {
                    target: Plain::TARGET,
                    method: Method::Post,
                    path: String::new(),
                    body: None,
                },
                items: group.items,
            };
            group(sends).into_iter().map(call).collect()
        }

        fn to_note(known: Option<&Link>, item: &Item, _: &PlainCall) -> Option<Link> {
            let to_be = || Link::to_be(item.remote_key.clone(), None);
            item.intent.then(|| known.cloned().unwrap_or_else(to_be))
        }

        fn read(call: &Call<Plain>, _: Result<&Reply, &TransportError>, (): &()) -> Reading {
            Reading {
                verdicts: vec![Verdict::Unchanged; call.items.len()],
                signal: TargetSignal::Healthy,
                budget: Default::default(),
                correlation_id: None,
                error: None,
            }
        }
    }
}
