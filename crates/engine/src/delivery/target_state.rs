//! The states of a target: what keeps it from sending, if anything.

/// Why a target sends, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// A setting is missing or wrong.
    Unconfigured,
    /// This database is a copy of one that sends.
    Fenced,
    /// Somebody stopped it.
    Paused,
    /// A guard stopped it, or none of its tables can be read.
    Held,
    /// It asked for patience, or the requests of the day are used up.
    Throttled,
    /// It refuses the credential.
    Unauthorized,
    /// It does not answer as it should: it is asked now and then whether it is well again.
    Outage,
    Running,
}

impl TargetState {
    pub const ALL: [TargetState; 8] = [
        TargetState::Unconfigured,
        TargetState::Fenced,
        TargetState::Paused,
        TargetState::Held,
        TargetState::Throttled,
        TargetState::Unauthorized,
        TargetState::Outage,
        TargetState::Running,
    ];

    /// Returns its name in tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            TargetState::Unconfigured => "unconfigured",
            TargetState::Fenced => "fenced",
            TargetState::Paused => "paused",
            TargetState::Held => "held",
            TargetState::Throttled => "throttled",
            TargetState::Unauthorized => "unauthorized",
            TargetState::Outage => "outage",
            TargetState::Running => "running",
        }
    }

    /// Returns whether calls may be planned and sent. In an outage that is what shows its end.
    pub const fn may_send(self) -> bool {
        matches!(self, TargetState::Running | TargetState::Outage)
    }

    /// Returns whether opt-outs may be sent out of turn: not where somebody stopped the target, or
    /// has to put something right.
    pub const fn may_send_opt_outs(self) -> bool {
        matches!(
            self,
            TargetState::Running | TargetState::Outage | TargetState::Throttled
        )
    }

    /// Returns whether people are alerted to it.
    pub const fn is_alarming(self) -> bool {
        match self {
            TargetState::Fenced
            | TargetState::Held
            | TargetState::Throttled
            | TargetState::Unauthorized
            | TargetState::Outage => true,
            TargetState::Unconfigured | TargetState::Paused | TargetState::Running => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_tell_states_apart() {
        let names: BTreeSet<&str> = TargetState::ALL
            .into_iter()
            .map(TargetState::name)
            .collect();
        assert_eq!(names.len(), TargetState::ALL.len());
    }

    #[test]
    fn whoever_may_send_may_send_opt_outs() {
        for state in TargetState::ALL
            .into_iter()
            .filter(|state| state.may_send())
        {
            assert!(state.may_send_opt_outs(), "{}", state.name());
        }
    }

    #[test]
    fn what_somebody_stopped_sends_nothing() {
        for state in [
            TargetState::Unconfigured,
            TargetState::Fenced,
            TargetState::Paused,
            TargetState::Held,
            TargetState::Unauthorized,
        ] {
            assert!(!state.may_send_opt_outs(), "{}", state.name());
        }
    }

    #[test]
    fn a_throttled_target_sends_opt_outs_only() {
        assert!(!TargetState::Throttled.may_send());
        assert!(TargetState::Throttled.may_send_opt_outs());
    }
}
