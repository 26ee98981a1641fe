//! Any sequence of consent edits, of what people do at Mailchimp and with Mandrill's messages, of
//! webhooks that come late, twice or not at all, of faults and of killed workers: nobody is ever
//! subscribed by us whom the CRM has not opted in, or who has left and not come back by themselves.
//!
//! The sandbox keeps every time that somebody became subscribed, so each of them is checked, and not
//! only how it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{
        Actor, Delivery, Fault, FaultBody, FaultKind, MemberAction, Service, Status, When,
        mandrill_webhook, path_secret,
    },
    sql::quote_literal,
    wait::{try_until, wait_until},
};
use proptest::{
    prelude::*,
    test_runner::{Config as Cases, TestCaseError, TestRunner},
};
use serde_json::json;

/// Few people, so that much happens to each.
const PEOPLE: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// The row is there, under a new key if it was not, and says so.
    Says(u8, Option<bool>),
    Delete(u8),
    Readdress(u8, u8),
    Leaves(u8),
    Complains(u8),
    /// A transactional message bounces, or the person complains of it or unsubscribes from such.
    Mandrill(u8, u8),
    SignsUp(u8),
    Confirms(u8),
    /// Webhooks that wait are delivered, in an order of their own, some of them twice.
    Webhooks(u64),
    LoseWebhooks,
    Trouble(u8),
    NoTrouble,
    Kill,
    Backfill,
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0..PEOPLE;
    let step = prop_oneof![
        8 => (who(), prop_oneof![3 => Just(Some(true)), 2 => Just(Some(false)), 1 => Just(None)])
            .prop_map(|(who, says)| Step::Says(who, says)),
        3 => who().prop_map(Step::Delete),
        2 => (who(), who()).prop_map(|(who, as_whom)| Step::Readdress(who, as_whom)),
        4 => who().prop_map(Step::Leaves),
        1 => who().prop_map(Step::Complains),
        2 => (who(), 0u8..3).prop_map(|(who, kind)| Step::Mandrill(who, kind)),
        1 => who().prop_map(Step::SignsUp),
        2 => who().prop_map(Step::Confirms),
        3 => any::<u64>().prop_map(Step::Webhooks),
        1 => Just(Step::LoseWebhooks),
        2 => (0u8..4).prop_map(Step::Trouble),
        2 => Just(Step::NoTrouble),
        1 => Just(Step::Kill),
        1 => Just(Step::Backfill),
        5 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 25..45)
}

fn email(who: u8) -> String {
    format!("p{who}@example.org")
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A call that had left when an opt-out was committed may still arrive: it takes no longer than
/// this, even on a busy machine.
const ON_THE_WIRE_MS: i64 = 250;

const MANDRILL_URL: &str = "https://crm.example.com/webhooks/mandrill";
const MANDRILL_KEY: &str = "mandrill-key-example";

/// What the CRM said of an address. It began to at some time between these two.
#[derive(Debug)]
struct Said {
    not_before: i64,
    not_after: i64,
    opted_in: bool,
}

#[derive(Clone, Copy, Debug)]
struct Deed {
    at: i64,
    came: bool,
    /// Whether Mailchimp knows: what Mandrill reports of somebody of whom nobody here knows that
    /// they are a member, Mailchimp is not told of.
    heard: bool,
}

struct History {
    crm: Crm,
    /// When people left at Mailchimp or with Mandrill, and came back, in order.
    deeds: BTreeMap<String, Vec<Deed>>,
    /// What the CRM said of each address, in order.
    said: BTreeMap<String, Vec<Said>>,
    /// When the CRM was last looked at.
    looked_at: i64,
    waiting: Vec<Delivery>,
}

impl History {
    fn start(cluster: Arc<Cluster>, resubscribe: &str) -> History {
        let mut crm = Crm::start_on(cluster, integration_tests::remote::unlimited());
        crm.run("ALTER TABLE crm.contacts ADD UNIQUE (email); CREATE INDEX ON crm.contacts (lower(email))");
        crm.set("max_attempts", "1000");
        crm.set("mailchimp_resubscribe", resubscribe);
        crm.set("mandrill_webhook_key", MANDRILL_KEY);
        History {
            crm,
            deeds: BTreeMap::new(),
            said: BTreeMap::new(),
            looked_at: now_ms(),
            waiting: Vec::new(),
        }
    }

    fn note_what_the_crm_says(&mut self) {
        let rows = self
            .crm
            .rows("SELECT email FROM crm.contacts WHERE marketing_opt_in");
        let opted_in: BTreeSet<String> = rows.into_iter().collect();
        let now = now_ms();
        for who in 0..PEOPLE {
            let email = email(who);
            let says = opted_in.contains(&email);
            let said = self.said.entry(email).or_default();
            if said.last().is_none_or(|last| last.opted_in != says) {
                said.push(Said {
                    not_before: self.looked_at,
                    not_after: now,
                    opted_in: says,
                });
            }
        }
        self.looked_at = now;
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Says(who, says) => {
                let says = says.map_or("NULL".to_owned(), |says| says.to_string());
                self.crm.run(&format!(
                    "INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('{}', {says})
                     ON CONFLICT (email) DO UPDATE SET marketing_opt_in = excluded.marketing_opt_in",
                    email(*who)
                ));
            }
            Step::Delete(who) => self.crm.run(&format!(
                "DELETE FROM crm.contacts WHERE email = '{}'",
                email(*who)
            )),
            Step::Readdress(who, as_whom) => self.crm.run(&format!(
                "UPDATE crm.contacts SET email = '{1}' WHERE email = '{0}' AND NOT EXISTS (SELECT FROM crm.contacts WHERE email = '{1}')",
                email(*who),
                email(*as_whom)
            )),
            Step::Leaves(who) => self.does(*who, MemberAction::Unsubscribe { abuse: false }),
            Step::Complains(who) => self.does(*who, MemberAction::Unsubscribe { abuse: true }),
            Step::Mandrill(who, kind) => self.mandrill(*who, *kind),
            Step::SignsUp(who) => self.does(*who, sign_up()),
            Step::Confirms(who) => {
                if self.crm.remote.status_of(&email(*who)) == Some(Status::Pending) {
                    self.does(*who, sign_up());
                }
            }
            Step::Webhooks(seed) => self.deliver(*seed),
            Step::LoseWebhooks => {
                self.crm.remote.clear_webhooks();
                self.waiting.clear();
            }
            Step::Trouble(kind) => {
                let status = |code| FaultKind::Status {
                    code,
                    body: FaultBody::Json,
                    retry_after: None,
                };
                let kind = match kind {
                    0 => FaultKind::AnswerLost,
                    1 => FaultKind::Reset,
                    2 => status(500),
                    _ => status(429),
                };
                let when = When::Probability { p: 0.3, seed: 5 };
                let fault = Fault::new(kind, when).service(Service::Mailchimp);
                self.crm.remote.add_fault(fault);
            }
            Step::NoTrouble => self.crm.remote.clear_faults(),
            Step::Kill => self.crm.kill_worker(),
            Step::Backfill => self
                .crm
                .run("SELECT integration.backfill('crm.contacts', 'mailchimp')"),
            Step::Settle => {
                self.crm.remote.clear_faults();
                self.crm.settle_within(LATER);
            }
        }
        self.note_what_the_crm_says();
    }

    /// Who is just being archived is left in peace: between our look at them and that, only the
    /// webhook tells of what they do.
    fn does(&mut self, who: u8, action: MemberAction) {
        let email = email(who);
        let deleting = "SELECT NOT EXISTS (SELECT FROM integration.outbox WHERE target = 'mailchimp' AND op = 'delete')
                        AND NOT EXISTS (SELECT FROM integration._link l WHERE l.target = 2 AND NOT EXISTS
                                        (SELECT FROM crm.contacts c WHERE c.id::text = l.record_key))";
        let quiet = try_until(Duration::from_secs(2), || {
            self.crm.ask::<bool>(deleting).then_some(())
        });
        let comes = matches!(action, MemberAction::Subscribe { .. });
        let mailed = self.crm.remote.status_of(&email) == Some(Status::Subscribed);
        if quiet.is_none() || !(comes || mailed) {
            return;
        }
        self.crm.remote.member_does(&email, action).unwrap();
        self.did(email, comes, true);
    }

    fn did(&mut self, email: String, came: bool, heard: bool) {
        let at = now_ms();
        let deeds = self.deeds.entry(email).or_default();
        deeds.push(Deed { at, came, heard });
    }

    /// The person is out from when that has been applied, whether a row has the address or not.
    fn mandrill(&mut self, who: u8, kind: u8) {
        let (email, now) = (email(who), now_ms());
        let heard = self.crm.ask(&format!(
            "SELECT EXISTS (SELECT FROM integration._link WHERE target = 2 AND remote_key = '{email}')"
        ));
        let what = ["hard_bounce", "spam", "unsub"][usize::from(kind)];
        let events = json!([{
            "event": what, "_id": format!("message-{now}"),
            "ts": now / 1_000, "msg": {"_id": format!("message-{now}"), "email": email},
        }]);
        let (body, signature) = mandrill_webhook(MANDRILL_KEY, MANDRILL_URL, &events);
        self.crm.run(&format!(
            "SELECT integration.import_mandrill_webhook({}, jsonb_build_object('X-Mandrill-Signature', {}), {})",
            quote_literal(&body),
            quote_literal(&signature),
            quote_literal(MANDRILL_URL)
        ));
        let applied = "SELECT NOT EXISTS (SELECT FROM integration.inbox WHERE origin = 'mandrill' AND state = 'pending')";
        wait_until("what Mandrill told is applied", SOON, || {
            self.crm.ask::<bool>(applied).then_some(())
        });
        self.did(email, false, heard);
    }

    fn deliver(&mut self, seed: u64) {
        self.waiting
            .extend(self.crm.remote.webhooks_of(Service::Mailchimp));
        let mut seed = seed | 1;
        let mut random = move || {
            // Xorshift: any order will do, as long as it is the same for the same history.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        self.waiting.sort_by_cached_key(|_| random());
        for delivery in std::mem::take(&mut self.waiting) {
            let sql = format!(
                "SELECT integration.import_mailchimp_webhook({}, '{{}}', {})",
                quote_literal(&delivery.body),
                quote_literal(path_secret(&delivery))
            );
            match random() % 5 {
                // It will come later, or again.
                0 => self.waiting.push(delivery),
                1 => {
                    self.crm.run(&sql);
                    self.waiting.push(delivery);
                }
                _ => self.crm.run(&sql),
            }
        }
    }

    /// Each time that we had somebody subscribed.
    fn was_right(&self) -> Result<(), TestCaseError> {
        for subscribed in self.crm.remote.subscribed() {
            if subscribed.by != Actor::Api {
                continue;
            }
            let (email, arrived) = (&subscribed.email, subscribed.arrived);
            let mut deeds = self.deeds.get(email).into_iter().flatten();
            let last = deeds.rfind(|deed| deed.at < arrived);
            prop_assert!(
                last.is_none_or(|deed| deed.came),
                "{subscribed:?} after they left: {:?}",
                self.deeds
            );
            let said: Vec<&Said> = self.said.get(email).into_iter().flatten().collect();
            let meant = |(number, says): (usize, &&Said)| {
                let until = said
                    .get(number + 1)
                    .map_or(i64::MAX, |next| next.not_after + ON_THE_WIRE_MS);
                says.opted_in && (says.not_before..=until).contains(&arrived)
            };
            prop_assert!(
                said.iter().enumerate().any(meant),
                "{subscribed:?} without an opt-in: {said:?}"
            );
        }
        Ok(())
    }

    fn ends_well(&mut self) -> Result<(), TestCaseError> {
        self.crm.remote.clear_faults();
        self.deliver(1);
        self.crm.settle_within(SOON);
        self.note_what_the_crm_says();
        self.was_right()?;
        // And who is opted out gets no mail.
        let out = self
            .crm
            .rows("SELECT email FROM crm.contacts WHERE marketing_opt_in IS NOT true");
        for email in out {
            let status = self.crm.remote.status_of(&email);
            let mut deeds = self.deeds.get(&email).into_iter().flatten();
            let own = deeds.rfind(|deed| deed.heard);
            let came_alone = own.is_some_and(|deed| deed.came);
            prop_assert!(
                status != Some(Status::Subscribed) || came_alone,
                "{email} is opted out and subscribed"
            );
        }
        Ok(())
    }
}

fn sign_up() -> MemberAction {
    MemberAction::Subscribe {
        merge_fields: BTreeMap::new(),
    }
}

/// Histories in an ordinary run of the tests; `INTEGRATION_HISTORIES` asks for more.
const HISTORIES: u32 = 4;

#[test]
fn nobody_is_subscribed_against_their_will_in_any_history() {
    let asked = std::env::var("INTEGRATION_HISTORIES").ok();
    let cases = asked
        .and_then(|number| number.parse().ok())
        .unwrap_or(HISTORIES);
    // A server of its own, for killing a worker ends all sessions.
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut runner = TestRunner::new(Cases {
        cases,
        max_shrink_iters: 30,
        failure_persistence: None,
        ..Cases::default()
    });
    let strategy = (steps(), prop::sample::select(vec!["never", "pending"]));
    let result = runner.run(&strategy, |(steps, resubscribe)| {
        let mut history = History::start(cluster.clone(), resubscribe);
        for step in &steps {
            history.take(step);
        }
        history.ends_well()
    });
    if let Err(why) = result {
        panic!("{why}");
    }
}
