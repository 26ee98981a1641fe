//! Which side wins a field when the service reports a value that differs from the CRM's.

use crate::{
    record::{
        Timestamp,
        mapping::{ConflictRule, Direction},
    },
    sync::clock::{Agreed, Tick, ValueHash, Writer},
};

/// What becomes of a value reported by the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictDecision {
    /// Write it into the CRM.
    Apply,
    /// Leave the CRM as it is; its value goes to the service if the field is pushed.
    KeepCrm,
    /// Both sides hold the same.
    AlreadyEqual,
    /// The report is older than what both sides agreed on since.
    Older,
}

/// Decides for one field. Hashes are of canonical values; `agreed` is the field's entry in the
/// record's clock, `crm_changed_at` when the CRM last changed the record, where known.
///
/// A rule is asked only if both sides changed the field since they last agreed. Ties go to the CRM.
pub fn decide(
    rule: ConflictRule,
    direction: Direction,
    remote_at: Timestamp,
    remote_hash: ValueHash,
    crm_hash: ValueHash,
    agreed: Option<&Agreed>,
    crm_changed_at: Option<Timestamp>,
) -> ConflictDecision {
    let stands = agreed.is_some_and(|agreed| agreed.is_between(crm_hash, remote_hash));
    if remote_hash == crm_hash || stands {
        return ConflictDecision::AlreadyEqual;
    }
    if direction == Direction::Push {
        return ConflictDecision::KeepCrm;
    }
    if let Some(agreed) = agreed {
        if is_older(remote_at, &agreed.tick) {
            return ConflictDecision::Older;
        }
        // The service still holds what was agreed on: news of our own write, or none at all.
        if remote_hash == agreed.held {
            return ConflictDecision::KeepCrm;
        }
        if crm_hash == agreed.tick.hash {
            return ConflictDecision::Apply;
        }
    }
    match rule {
        ConflictRule::CrmWins => ConflictDecision::KeepCrm,
        ConflictRule::RemoteWins => ConflictDecision::Apply,
        ConflictRule::LastWriteWins => match crm_changed_at {
            Some(changed) if changed >= remote_at => ConflictDecision::KeepCrm,
            Some(_) | None => ConflictDecision::Apply,
        },
    }
}

/// Two changes of the service's within one tick of its clock are taken in the order they arrive;
/// one that is as old as the CRM's write lost against it.
fn is_older(remote_at: Timestamp, agreed: &Tick) -> bool {
    match agreed.by {
        Writer::Remote => remote_at < agreed.at,
        Writer::Crm => remote_at <= agreed.at && agreed.at > Timestamp(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::mapping::FieldId;

    fn tick(hash: u64, at: i64, by: Writer) -> Tick {
        Tick {
            field: FieldId(1),
            hash: ValueHash(hash),
            at: Timestamp(at),
            by,
        }
    }

    #[test]
    fn who_wins() {
        use {ConflictDecision::*, ConflictRule::*, Direction::*, Writer::*};
        // rule, direction, remote (at, hash), crm hash, agreed, crm changed at, decision
        let cases = [
            // Equal values need nothing, whatever else holds.
            (LastWriteWins, Both, (5, 7), 7, None, Some(9), AlreadyEqual),
            (
                CrmWins,
                Push,
                (5, 7),
                7,
                Some(tick(1, 9, Crm)),
                None,
                AlreadyEqual,
            ),
            // A pushed field takes nothing from the service.
            (RemoteWins, Push, (5, 7), 8, None, None, KeepCrm),
            // Older than the agreement.
            (
                RemoteWins,
                Both,
                (5, 7),
                8,
                Some(tick(8, 6, Remote)),
                None,
                Older,
            ),
            (
                LastWriteWins,
                Both,
                (5, 7),
                8,
                Some(tick(8, 5, Crm)),
                Some(5),
                Older,
            ),
            (
                LastWriteWins,
                Pull,
                (5, 7),
                8,
                Some(tick(8, 6, Remote)),
                None,
                Older,
            ),
            // Only the service changed.
            (
                LastWriteWins,
                Both,
                (5, 7),
                8,
                Some(tick(8, 4, Crm)),
                Some(4),
                Apply,
            ),
            (
                CrmWins,
                Both,
                (5, 7),
                8,
                Some(tick(8, 4, Remote)),
                Some(9),
                Apply,
            ),
            (
                LastWriteWins,
                Both,
                (5, 7),
                8,
                Some(tick(8, 5, Remote)),
                None,
                Apply,
            ),
            // Only the CRM changed.
            (
                RemoteWins,
                Both,
                (5, 7),
                8,
                Some(tick(7, 4, Crm)),
                Some(4),
                KeepCrm,
            ),
            // Both changed since.
            (
                CrmWins,
                Both,
                (5, 7),
                8,
                Some(tick(6, 4, Crm)),
                Some(4),
                KeepCrm,
            ),
            (
                RemoteWins,
                Both,
                (5, 7),
                8,
                Some(tick(6, 4, Crm)),
                Some(9),
                Apply,
            ),
            (
                LastWriteWins,
                Both,
                (5, 7),
                8,
                Some(tick(6, 3, Crm)),
                Some(4),
                Apply,
            ),
            (
                LastWriteWins,
                Both,
                (5, 7),
                8,
                Some(tick(6, 3, Crm)),
                Some(5),
                KeepCrm,
            ),
            (
                LastWriteWins,
                Both,
                (5, 7),
                8,
                Some(tick(6, 3, Crm)),
                Some(6),
                KeepCrm,
            ),
            (
                LastWriteWins,
                Pull,
                (5, 7),
                8,
                Some(tick(6, 3, Crm)),
                None,
                Apply,
            ),
            // Never agreed on.
            (CrmWins, Both, (5, 7), 8, None, Some(1), KeepCrm),
            (RemoteWins, Both, (5, 7), 8, None, Some(9), Apply),
            (LastWriteWins, Both, (5, 7), 8, None, Some(4), Apply),
            (LastWriteWins, Both, (5, 7), 8, None, Some(5), KeepCrm),
            (LastWriteWins, Both, (5, 7), 0, None, None, Apply),
        ];
        for (rule, direction, (at, remote), crm, agreed, changed, expected) in cases {
            let decision = decide(
                rule,
                direction,
                Timestamp(at),
                ValueHash(remote),
                ValueHash(crm),
                agreed.map(Agreed::from).as_ref(),
                changed.map(Timestamp),
            );
            let case = (rule, direction, at, remote, crm, agreed, changed);
            assert_eq!(decision, expected, "{case:?}");
        }
    }

    /// A column that holds less: 8 in the CRM stands for 7 at the service.
    #[test]
    fn value_that_stands_for_another_is_compared_with_what_it_stands_for() {
        use {ConflictDecision::*, ConflictRule::LastWriteWins, Direction::Both};
        let agreed = Agreed {
            tick: tick(8, 4, Writer::Remote),
            held: ValueHash(7),
        };
        // remote (at, hash), crm hash, crm changed at, decision
        let cases = [
            ((5, 7), 8, None, AlreadyEqual),
            ((5, 7), 8, Some(9), AlreadyEqual),
            // Told again, after the CRM has changed.
            ((5, 7), 9, Some(9), KeepCrm),
            // Another value there, and none here.
            ((5, 6), 8, None, Apply),
            // The service took over what the CRM holds.
            ((5, 8), 8, None, AlreadyEqual),
            ((3, 6), 8, None, Older),
        ];
        for ((at, remote), crm, changed, expected) in cases {
            let decision = decide(
                LastWriteWins,
                Both,
                Timestamp(at),
                ValueHash(remote),
                ValueHash(crm),
                Some(&agreed),
                changed.map(Timestamp),
            );
            assert_eq!(decision, expected, "{at} {remote} {crm} {changed:?}");
        }
    }

    proptest! {
        // Applying what was decided and hearing the same report again changes nothing more.
        #[test]
        fn a_repeated_report_changes_nothing(
            rule in prop::sample::select(vec![
                ConflictRule::CrmWins, ConflictRule::RemoteWins, ConflictRule::LastWriteWins,
            ]),
            at in 1i64..20, remote in 1u64..4, crm in 1u64..4, agreed_hash in 1u64..4,
            agreed_at in 1i64..20, changed in 1i64..20,
        ) {
            let agreed = Agreed::from(tick(agreed_hash, agreed_at, Writer::Remote));
            let first = decide(
                rule, Direction::Both, Timestamp(at), ValueHash(remote), ValueHash(crm),
                Some(&agreed), Some(Timestamp(changed)),
            );
            if first == ConflictDecision::Apply {
                let applied = Agreed::from(tick(remote, at, Writer::Remote));
                let second = decide(
                    rule, Direction::Both, Timestamp(at), ValueHash(remote), ValueHash(remote),
                    Some(&applied), Some(Timestamp(changed)),
                );
                prop_assert_eq!(second, ConflictDecision::AlreadyEqual);
            }
        }
    }
}
