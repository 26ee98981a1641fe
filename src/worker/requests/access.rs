//! Requests about ourselves: tokens, the account, connection tests; and remarks in any answer.

use std::time::{Duration, Instant};

use integration_engine::delivery::notice::notices;
use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::limits::BudgetReport;
use integration_engine::now::Now;
use integration_engine::record::Target;
use integration_engine::wire::Request;
use integration_hubspot::oauth::{OnUnauthorized, TokenStep};
use pgrx::spi::SpiResult;

use super::{Heard, Requests, SentRequest, Underway};
use crate::config::{Credential, Settings};
use crate::http::{Answer, Outgoing, SecretBody};
use crate::secret::Secret;
use crate::store::server::accounts::Tested;
use crate::worker::auth::{Granted, Renewal, Session};
use crate::worker::connection::{self, Test, TestQuestion};
use crate::worker::target::TargetWorker;
use crate::worker::target::account::{self, AccountState};
use crate::worker::{Context, answers};

/// Remarks remembered at most; more than a few mean that they are not what they seem.
const MOST_REMARKS: usize = 1_000;

/// Whether anything tracked goes to the target.
fn tracked(worker: &TargetWorker, context: &Context) -> bool {
    context
        .sources
        .values()
        .any(|source| source.maps.contains_key(&worker.target))
}

/// Whether it has to be found out first whose account it is.
pub fn unidentified(worker: &TargetWorker, context: &Context) -> bool {
    !worker.account.known() && tracked(worker, context)
}

impl Requests {
    /// Takes over the settings that tokens depend on. In a transaction.
    pub fn open_session(&mut self, settings: &Settings, now: Now) -> SpiResult<()> {
        self.timeout = settings.request_timeout;
        self.session = Session::renewed(self.session.take(), settings, now)?;
        Ok(())
    }

    /// Whether there is a token to send with; fetches one if there is none.
    pub(super) fn has_token(&mut self, worker: &mut TargetWorker, now: Now) -> bool {
        if worker.target != Target::HubSpot {
            return true;
        }
        let wait = match self.session.as_mut().map(|session| session.step(now)) {
            None | Some(TokenStep::Send(_)) => return true,
            Some(TokenStep::Renew) => {
                self.renew(worker);
                self.timeout
            }
            // Its answer wakes us.
            Some(TokenStep::Underway) => self.timeout,
            Some(TokenStep::Wait(wait)) => wait,
        };
        worker.blocked_until = Some(now.instant + wait.max(Duration::from_millis(1)));
        false
    }

    fn renew(&mut self, worker: &mut TargetWorker) {
        let Some(session) = &self.session else { return };
        let (request, body) = session.request();
        let underway = Underway::Token {
            session: session.opened(),
        };
        self.hand_over(worker, None, request, Some(body), underway);
    }

    /// The credential for a call.
    pub(super) fn credential(&self, credential: &Credential, now: Now) -> Option<Secret> {
        match credential {
            Credential::Fixed(secret) => Some(secret.clone()),
            Credential::OAuth(_) => self.session.as_ref().and_then(|session| session.token(now)),
        }
    }

    /// Every request leaves here.
    pub(super) fn hand_over(
        &mut self,
        worker: &mut TargetWorker,
        credential: Option<Secret>,
        request: Request,
        secret_body: Option<SecretBody>,
        underway: Underway,
    ) {
        let target = worker.target;
        let Some(endpoint) = self.endpoints.get(&target).and_then(Option::as_ref) else {
            return;
        };
        self.next_id += 1;
        let outgoing = Outgoing {
            id: self.next_id,
            base_url: endpoint.base_url.clone(),
            credential: credential.clone(),
            request,
            secret_body,
            timeout: match underway.records() {
                Some(_) => endpoint.timeout,
                None => self.timeout,
            },
        };
        let sent = SentRequest {
            target,
            underway,
            generation: self.generation,
            token: credential,
        };
        self.underway.insert(self.next_id, sent);
        worker.daily.leave();
        // A dead thread is found out by the next wait: its end of the bell is closed.
        let _ = self.engine.send(outgoing);
    }

    /// Whether a call is to be made again, for its token had run out.
    pub(super) fn outdated(&mut self, sent: &SentRequest, answer: &Answer) -> bool {
        let by_token = !matches!(
            sent.underway,
            Underway::Token { .. } | Underway::Test(TestQuestion::What)
        );
        let Some(session) = self
            .session
            .as_mut()
            .filter(|_| by_token && sent.target == Target::HubSpot)
        else {
            return false;
        };
        match &sent.token {
            Some(token) => session.heard(token, &answer.result) == Some(OnUnauthorized::Resend),
            None => matches!(&answer.result, Ok(reply) if reply.status == 401),
        }
    }

    /// The answer of the token endpoint.
    pub(super) fn hear_token(
        &mut self,
        worker: &mut TargetWorker,
        opened: Instant,
        answer: &Answer,
        now: Now,
        heard: &mut Heard,
    ) {
        let Some(session) = self
            .session
            .as_mut()
            .filter(|session| session.opened() == opened)
        else {
            return;
        };
        let (request, _) = session.request();
        heard
            .log
            .push(answers::plain_entry(worker.target, &request, answer));
        worker.blocked_until = None;
        match session.answered(&answer.result, now) {
            Renewal::Granted(granted) => heard.granted = Some(granted),
            Renewal::Failed(signal) => {
                worker.hear(&signal, &BudgetReport::default(), now);
                let waiting = self
                    .tests
                    .get(&worker.target)
                    .is_some_and(|test| test.waiting);
                if let Some(test) = self.tests.remove(&worker.target).filter(|_| waiting) {
                    let why = why(&signal);
                    self.tested.push(test.end(worker.target, false, why));
                }
            }
        }
    }

    /// Stores what has to be kept of a new token. In a transaction.
    pub fn keep(&mut self, granted: &Granted) -> SpiResult<()> {
        match &mut self.session {
            Some(session) => session.store(granted),
            None => Ok(()),
        }
    }

    /// Uses a new token.
    pub fn install(&mut self, granted: Granted, targets: &mut [TargetWorker], context: &Context) {
        if let Some(session) = &mut self.session {
            session.install(granted, context.now);
        }
        for worker in targets {
            if self
                .tests
                .get(&worker.target)
                .is_some_and(|test| test.waiting)
            {
                self.ask_who(worker, context);
            }
        }
    }

    /// Asks whose account it is, if that is not known.
    pub fn identify(&mut self, worker: &mut TargetWorker, context: &Context) {
        if worker.account.state != AccountState::Unknown
            || !tracked(worker, context)
            || !self.permitted(worker, context.now)
        {
            return;
        }
        worker.account.state = AccountState::Asked;
        let request = answers::probe(worker.target, context);
        self.send(worker, context, request, Underway::Account);
    }

    /// `again`: the answer is about a credential that is not the present one.
    pub(super) fn hear_account(
        &mut self,
        worker: &mut TargetWorker,
        context: &Context,
        answer: &Answer,
        again: bool,
        heard: &mut Heard,
    ) {
        let request = answers::probe(worker.target, context);
        heard
            .log
            .push(answers::plain_entry(worker.target, &request, answer));
        worker.blocked_until = None;
        if again {
            worker.breaker.success();
            worker.account.state = AccountState::Unknown;
        } else if let Some(seen) = account::hear(worker, context, &answer.result) {
            heard.accounts.push((worker.target, seen));
        }
    }

    /// Somebody wants to know whether a target can be reached. One who asks while a test is under
    /// way gets a test of their own: what they changed may have come too late for that one.
    pub fn test(&mut self, worker: &mut TargetWorker, context: &Context) {
        let target = worker.target;
        if self.tests.contains_key(&target) {
            self.test_again.insert(target);
            return;
        }
        let test = Test::begin(context.now.timestamp);
        if let Some(why) = connection::hindrance(worker, context) {
            self.tested.push(test.end(target, false, why));
            return;
        }
        if let Some(session) = self.session.as_mut().filter(|_| target == Target::HubSpot) {
            session.hurry();
        }
        self.tests.insert(target, test);
        self.ask_who(worker, context);
    }

    /// Asks who we are, as soon as there is a token.
    fn ask_who(&mut self, worker: &mut TargetWorker, context: &Context) {
        let target = worker.target;
        let ready = self.has_token(worker, context.now);
        if let Some(test) = self.tests.get_mut(&target) {
            test.waiting = !ready;
        }
        if ready {
            self.ask(worker, context, TestQuestion::Who);
        }
    }

    fn ask(&mut self, worker: &mut TargetWorker, context: &Context, question: TestQuestion) {
        let Ok(endpoint) = context.settings.endpoint(worker.target) else {
            return;
        };
        let token = self.credential(&endpoint.credential, context.now);
        let session = self.session.as_ref();
        let (request, body) =
            connection::request(worker, question, context, session, token.as_ref());
        self.hand_over(worker, token, request, body, Underway::Test(question));
    }

    pub(super) fn hear_test(
        &mut self,
        worker: &mut TargetWorker,
        context: &Context,
        question: TestQuestion,
        answer: &Answer,
        again: bool,
        heard: &mut Heard,
    ) {
        let target = worker.target;
        let session = self.session.as_ref();
        let (request, _) = connection::request(worker, question, context, session, None);
        heard
            .log
            .push(answers::plain_entry(target, &request, answer));
        let Some(mut test) = self.tests.remove(&target) else {
            return;
        };
        if again && !std::mem::replace(&mut test.resent, true) {
            self.tests.insert(target, test);
            self.ask_who(worker, context);
            return;
        }
        match question {
            TestQuestion::Who => {
                match connection::hear_who(&mut test, target, context, &answer.result) {
                    Ok(()) => {
                        if worker.account.refused.is_some() {
                            // It works again: no need to wait for our own next look.
                            worker.not_before = None;
                        }
                        self.tests.insert(target, test);
                        self.ask(worker, context, TestQuestion::What);
                    }
                    Err(why) => self.tested.push(test.end(target, false, why)),
                }
            }
            TestQuestion::What => {
                let tested = connection::hear_what(test, worker, context, &answer.result);
                self.tested.push(tested);
            }
        }
    }

    /// Results of tests, to be stored; begins those that were asked for meanwhile.
    pub fn tested(&mut self, targets: &mut [TargetWorker], context: &Context) -> Vec<Tested> {
        let tested = std::mem::take(&mut self.tested);
        for worker in targets {
            let over = !self.tests.contains_key(&worker.target);
            if over && self.test_again.remove(&worker.target) {
                self.test(worker, context);
            }
        }
        tested
    }

    /// Notes remarks in an answer that have not been heard before.
    pub(super) fn note_remarks(&mut self, request: &Request, answer: &Answer, heard: &mut Heard) {
        let Ok(reply) = &answer.result else { return };
        for notice in notices(request, reply) {
            let news = self.remarks.len() < MOST_REMARKS
                && self.remarks.insert((request.target, notice.about.clone()));
            if news {
                heard.notices.push((request.target, notice));
            }
        }
    }
}

fn why(signal: &TargetSignal) -> String {
    match signal {
        TargetSignal::Healthy => String::new(),
        TargetSignal::Failing { why }
        | TargetSignal::Throttled { why, .. }
        | TargetSignal::DailyLimit { why, .. }
        | TargetSignal::Crowded { why, .. }
        | TargetSignal::Unauthorized { why }
        | TargetSignal::Forbidden { why } => why.clone(),
    }
}
