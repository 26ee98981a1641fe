//! A member at Mailchimp, a CRM that knows of them by answers and news, and any history of both.

use proptest::prelude::*;

use super::*;

/// One member at Mailchimp, following its documented table of status changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remote {
    Absent,
    Subscribed,
    Pending,
    UnsubscribedByApi,
    UnsubscribedByMember,
    Cleaned,
    Forgotten,
    Archived,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Crm(Consent),
    /// Sync once; the answer is lost if so chosen.
    Sync {
        request_lost: bool,
        answer_lost: bool,
    },
    MemberUnsubscribes,
    MemberConfirms,
    Bounces,
    IsForgotten,
    IsArchived,
    /// What the member did at Mailchimp becomes known here.
    News,
}

struct Model {
    consent: Consent,
    link: Option<Link>,
    remote: Remote,
    /// The person has left at Mailchimp and not come back by themselves.
    left: bool,
}

impl Model {
    fn new() -> Model {
        Model {
            consent: Consent::Unknown,
            link: None,
            remote: Remote::Absent,
            left: false,
        }
    }

    fn apply(&mut self, step: Step, settings: &MailchimpSettings) {
        match step {
            Step::Crm(consent) => self.consent = consent,
            Step::Sync {
                request_lost,
                answer_lost,
            } => {
                self.sync(settings, request_lost, answer_lost);
            }
            Step::MemberUnsubscribes if self.remote == Remote::Subscribed => {
                (self.remote, self.left) = (Remote::UnsubscribedByMember, true);
            }
            Step::MemberConfirms if self.remote == Remote::Pending => {
                (self.remote, self.left) = (Remote::Subscribed, false);
            }
            Step::Bounces if self.remote == Remote::Subscribed => {
                (self.remote, self.left) = (Remote::Cleaned, true);
            }
            Step::IsForgotten if self.remote != Remote::Absent => {
                (self.remote, self.left) = (Remote::Forgotten, true);
            }
            Step::IsArchived if self.remote == Remote::Subscribed => {
                self.remote = Remote::Archived;
            }
            Step::News => self.news(),
            _ => {}
        }
    }

    /// What webhooks and dead letters tell.
    fn news(&mut self) {
        let status = match self.remote {
            Remote::UnsubscribedByMember => MemberStatus::UnsubscribedByMember,
            Remote::Cleaned => MemberStatus::Cleaned,
            Remote::Forgotten => MemberStatus::Forgotten,
            _ => return,
        };
        if let Some(link) = &mut self.link {
            link.member_status = Some(status);
        }
    }

    fn sync(&mut self, settings: &MailchimpSettings, request_lost: bool, answer_lost: bool) {
        let action = decide(self.consent, self.link.as_ref(), settings);
        self.note_intent(action);
        if request_lost {
            return;
        }
        let before = self.remote;
        let answer = self.send(action);
        let subscribed = before != Remote::Subscribed && self.remote == Remote::Subscribed;
        if subscribed {
            assert_eq!(
                self.consent,
                Consent::OptedIn,
                "subscribed without an opt-in: {action:?}"
            );
            assert!(
                !self.left,
                "subscribed a person who had left: {action:?} from {before:?}"
            );
        }
        if !answer_lost && let Some(status) = answer {
            self.link = link(Some("c"), Some(status));
        }
    }

    /// What the caller stores before a call whose answer may be lost.
    fn note_intent(&mut self, action: ConsentAction) {
        match (action, &mut self.link) {
            (ConsentAction::Subscribe(_), none @ None) => *none = link(None, None),
            (ConsentAction::SetStatus(_), Some(link)) => *link = link.uncertain(None),
            _ => {}
        }
    }

    /// Mailchimp carries it out; the status it answers.
    fn send(&mut self, action: ConsentAction) -> Option<MemberStatus> {
        let as_remote = |status| match status {
            MemberStatus::Pending => Remote::Pending,
            _ => Remote::Subscribed,
        };
        match action {
            ConsentAction::Subscribe(status) | ConsentAction::Update(status) => {
                if self.remote == Remote::Absent {
                    self.remote = as_remote(status);
                }
            }
            ConsentAction::SetStatus(status) => match self.remote {
                Remote::Forgotten | Remote::Cleaned => {}
                Remote::UnsubscribedByMember if status == MemberStatus::Subscribed => {}
                _ => self.remote = as_remote(status),
            },
            ConsentAction::Unsubscribe(known) | ConsentAction::UnsubscribeIfThere(known) => {
                if matches!(
                    self.remote,
                    Remote::Subscribed | Remote::Pending | Remote::Archived
                ) {
                    self.remote = Remote::UnsubscribedByApi;
                }
                return Some(known);
            }
            ConsentAction::NoConsent | ConsentAction::Suppressed(_) => return None,
        }
        Some(match self.remote {
            Remote::Absent => MemberStatus::UnsubscribedByCrm,
            Remote::Subscribed => MemberStatus::Subscribed,
            Remote::Pending => MemberStatus::Pending,
            // An answer does not say who unsubscribed the member.
            Remote::UnsubscribedByApi | Remote::UnsubscribedByMember => {
                MemberStatus::UnsubscribedByMember
            }
            Remote::Cleaned => MemberStatus::Cleaned,
            Remote::Forgotten => MemberStatus::Forgotten,
            Remote::Archived => MemberStatus::Archived,
        })
    }
}

fn step() -> impl Strategy<Value = Step> {
    let consent = prop::sample::select(vec![Consent::OptedIn, Consent::OptedOut, Consent::Unknown]);
    prop_oneof![
        3 => consent.prop_map(Step::Crm),
        6 => any::<(bool, bool)>()
            .prop_map(|(request_lost, answer_lost)| Step::Sync { request_lost, answer_lost }),
        1 => Just(Step::MemberUnsubscribes),
        1 => Just(Step::MemberConfirms),
        1 => Just(Step::Bounces),
        1 => Just(Step::IsForgotten),
        1 => Just(Step::IsArchived),
        1 => Just(Step::News),
    ]
}

#[test]
fn who_left_is_known_though_no_answer_ever_came() {
    let settings = settings(Resubscribe::Pending, false);
    let sync = |answer_lost| Step::Sync {
        request_lost: false,
        answer_lost,
    };
    let mut model = Model::new();
    for step in [
        Step::Crm(Consent::OptedIn),
        sync(true),
        Step::MemberUnsubscribes,
        Step::News,
        sync(true),
        Step::Crm(Consent::OptedOut),
        sync(false),
        Step::Crm(Consent::OptedIn),
        sync(false),
    ] {
        model.apply(step, &settings);
    }
    assert_eq!(model.remote, Remote::Pending);
}

/// Histories told in one run of the tests; a second or two of work.
const CASES: u32 = 100_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]
    #[test]
    fn nobody_is_subscribed_without_consent(
        steps in prop::collection::vec(step(), 1..40),
        ask in any::<bool>(),
        double_opt_in in any::<bool>(),
    ) {
        let resubscribe = if ask { Resubscribe::Pending } else { Resubscribe::Never };
        let settings = settings(resubscribe, double_opt_in);
        let mut model = Model::new();
        for step in steps {
            model.apply(step, &settings);
        }
        // An opt-out gets through however the past went, once an answer arrives.
        model.apply(Step::Crm(Consent::OptedOut), &settings);
        for _ in 0..3 {
            model.apply(Step::Sync { request_lost: false, answer_lost: false }, &settings);
        }
        prop_assert_ne!(model.remote, Remote::Subscribed, "{:?}", model.link);
    }
}

#[test]
fn who_decided() {
    use MemberStatus::*;
    let cases = [
        (None, Subscribed, Party::Crm),
        (None, Pending, Party::Crm),
        (Some(UnsubscribedByCrm), Subscribed, Party::Crm),
        (Some(Subscribed), UnsubscribedByCrm, Party::Crm),
        // Who was asked and then opted out by the CRM.
        (Some(Pending), UnsubscribedByMember, Party::Crm),
        (Some(Pending), Subscribed, Party::Mailchimp),
        (Some(Subscribed), Cleaned, Party::Mailchimp),
        (Some(Subscribed), Archived, Party::Mailchimp),
        (Some(Subscribed), Forgotten, Party::Mailchimp),
    ];
    for (before, after, party) in cases {
        assert_eq!(decided_by(before, after), party, "{before:?} {after:?}");
    }
}
