//! What is known of the definitions of what is mapped, and what has been told of them.

use integration_engine::wire::Request;
use integration_hubspot::preflight as hubspot;
use integration_mailchimp::preflight as mailchimp;

use crate::worker::Context;

/// What is told in alerts at present.
#[derive(Default)]
pub struct DefinitionAlerts {
    pub dropped: Said,
    pub unread: Said,
}

/// What this worker has said in an alert; `None`: not a word so far, and the alert is as an earlier
/// worker left it.
pub type Said = Option<Option<String>>;

/// Something that is read of a service.
#[derive(Clone, Debug)]
pub enum Subject {
    HubSpot(hubspot::Subject),
    Mailchimp(mailchimp::Subject),
}

/// What is known of a target's definitions: the one of the two that is its own.
#[derive(Default)]
pub struct Preflight {
    pub hubspot: hubspot::Preflight,
    pub mailchimp: mailchimp::Preflight,
}

impl Preflight {
    /// Another account, perhaps: nothing is known.
    pub fn forget(&mut self) {
        self.hubspot.forget();
        self.mailchimp.forget();
    }

    /// Somebody may have put right what was refused or lacking: it is asked for again.
    pub fn recheck(&mut self) {
        self.hubspot.recheck();
        self.mailchimp.recheck();
    }

    /// Whether all that is needed has been read, or cannot be.
    pub fn is_known(&self) -> bool {
        self.hubspot.is_known() && self.mailchimp.is_known()
    }

    /// What is to be asked for now.
    pub fn due(&self, now: u64) -> Option<Subject> {
        let hubspot = self.hubspot.due(now).map(Subject::HubSpot);
        hubspot.or_else(|| self.mailchimp.due(now).map(Subject::Mailchimp))
    }

    /// The request for it, which counts as made.
    pub fn ask(&mut self, subject: &Subject, context: &Context) -> Request {
        match subject {
            Subject::HubSpot(subject) => self.hubspot.ask(*subject, &context.settings.hubspot_api),
            Subject::Mailchimp(subject) => self.mailchimp.ask(subject),
        }
    }

    /// What cannot be read, and why.
    pub fn refusals(&self) -> Vec<String> {
        let mut refusals = self.hubspot.refusals();
        refusals.extend(self.mailchimp.refusals());
        refusals
    }
}
