//! Any sequence of edits, faults and restarts ends with the services equal to the CRM.
//!
//! A history is a list of steps, made up at random and run against a server of its own. Set
//! `INTEGRATION_HISTORIES` to run more of them than a test run has time for; a failure prints the
//! steps, shortened as far as it got.

mod edits;

use std::{cell::RefCell, sync::Arc};

use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, LATER, SOON},
    remote::{Config, Fault, FaultBody, FaultKind, Service, When, unlimited},
    wait::try_until,
};
use proptest::{
    prelude::*,
    test_runner::{Config as Cases, TestCaseError, TestRunner},
};

use crate::hubspot::associations;
use edits::{Edit, Edits, edits};

#[derive(Debug, Clone)]
enum Step {
    Edit(Edit),
    /// Several edits in one transaction, which may not come to pass.
    Together {
        edits: Vec<Edit>,
        commit: bool,
    },
    Trouble(Trouble),
    NoTrouble,
    KillWorker,
    KillServer,
    Restart,
    Pause(Service),
    Resume(Service),
    /// Lets the worker come so far.
    SomeRequests(usize),
    Settle,
}

#[derive(Debug, Clone)]
enum Trouble {
    ServerErrors,
    Locked,
    TooMany,
    Resets,
    LostAnswers,
    HalfAnswers,
    Html,
}

fn steps() -> impl Strategy<Value = Step> {
    let trouble = prop_oneof![
        Just(Trouble::ServerErrors),
        Just(Trouble::Locked),
        Just(Trouble::TooMany),
        Just(Trouble::Resets),
        Just(Trouble::LostAnswers),
        Just(Trouble::HalfAnswers),
        Just(Trouble::Html),
    ];
    let service = || prop_oneof![Just(Service::HubSpot), Just(Service::Mailchimp)];
    prop_oneof![
        20 => edits().prop_map(Step::Edit),
        4 => (prop::collection::vec(edits(), 2..6), prop::bool::weighted(0.7))
            .prop_map(|(edits, commit)| Step::Together { edits, commit }),
        4 => trouble.prop_map(Step::Trouble),
        2 => Just(Step::NoTrouble),
        1 => Just(Step::KillWorker),
        1 => Just(Step::KillServer),
        1 => Just(Step::Restart),
        1 => service().prop_map(Step::Pause),
        2 => service().prop_map(Step::Resume),
        8 => (1..6_usize).prop_map(Step::SomeRequests),
        2 => Just(Step::Settle),
    ]
}

/// A CRM with its sandbox.
struct History {
    crm: Crm,
    edits: Edits,
}

impl History {
    fn start(cluster: Arc<Cluster>) -> History {
        let mut crm = associations::start_on(
            cluster,
            Config {
                delay_ms: 5,
                ..unlimited()
            },
        );
        // Keys that vanish take their references along, as in a CRM with foreign keys.
        crm.run(
            "ALTER TABLE crm.contacts ADD FOREIGN KEY (company_id) REFERENCES crm.companies ON DELETE SET NULL;
             ALTER TABLE crm.deals ADD FOREIGN KEY (contact_id) REFERENCES crm.contacts ON DELETE SET NULL,
                                   ADD FOREIGN KEY (company_id) REFERENCES crm.companies ON DELETE SET NULL;
             ALTER TABLE crm.contacts ADD UNIQUE (email)",
        );
        // Trouble may hit one record many times in a row; that is not what this is about.
        crm.set("max_attempts", "1000");
        History {
            crm,
            edits: Edits::default(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Edit(edit) => {
                let sql = self.edits.sql(edit);
                self.crm.run(&sql);
            }
            Step::Together { edits, commit } => {
                let all: Vec<String> = edits.iter().map(|edit| self.edits.sql(edit)).collect();
                let end = if *commit { "COMMIT" } else { "ROLLBACK" };
                self.crm.run(&format!("BEGIN; {}; {end}", all.join("; ")));
            }
            Step::Trouble(trouble) => {
                let when = When::Probability { p: 0.3, seed: 7 };
                self.crm.remote.add_fault(Fault::new(trouble.kind(), when));
            }
            Step::NoTrouble => self.crm.remote.clear_faults(),
            Step::KillWorker => self.crm.kill_worker(),
            Step::KillServer => {
                self.crm.cluster.kill9();
                self.come_back();
            }
            Step::Restart => {
                self.crm.cluster.stop(Stop::Fast);
                self.come_back();
            }
            Step::Pause(service) => self.switch("pause", *service, ", 'a history'"),
            Step::Resume(service) => self.switch("resume", *service, ""),
            Step::SomeRequests(number) => self.some_requests(*number),
            Step::Settle => {
                self.calm();
                self.crm.converges_within(LATER);
            }
        }
    }

    fn come_back(&mut self) {
        self.crm.cluster.launch();
        let client = try_until(SOON, || {
            self.crm.cluster.try_connect(&self.crm.database).ok()
        });
        self.crm.client = client.expect("the server comes back");
    }

    fn switch(&mut self, function: &str, service: Service, more: &str) {
        let target = match service {
            Service::HubSpot => "hubspot",
            Service::Mailchimp => "mailchimp",
        };
        self.crm
            .run(&format!("SELECT integration.{function}('{target}'{more})"));
    }

    /// Until so many requests were made, or there is nothing to ask for.
    fn some_requests(&mut self, number: usize) {
        let before = self.crm.remote.requests().len();
        try_until(SOON, || {
            let enough = self.crm.remote.requests().len() >= before + number;
            let paused = "SELECT EXISTS (SELECT FROM integration.status WHERE state <> 'running')";
            (enough || self.crm.queue_is_empty() || self.crm.ask(paused)).then_some(())
        });
    }

    fn calm(&mut self) {
        self.crm.remote.clear_faults();
        self.switch("resume", Service::HubSpot, "");
        self.switch("resume", Service::Mailchimp, "");
    }

    /// What the promise says.
    fn ends_well(&mut self) {
        self.calm();
        associations::agree(&mut self.crm);
        assert_eq!(
            self.crm.rows("SELECT record_key, target, category, error FROM integration.dlq WHERE resolution IS NULL"),
            Vec::<String>::new()
        );
        let mut deals = self.crm.rows("SELECT id, name, dealstage FROM crm.deals");
        deals.sort();
        assert_eq!(self.deals_held(), deals);
    }

    fn deals_held(&self) -> Vec<String> {
        let deals = self
            .crm
            .remote
            .records(integration_tests::remote::ObjectType::Deal);
        let text = |fields: &integration_tests::remote::Fields, name: &str| {
            fields.get(name).cloned().unwrap_or_default()
        };
        let mut held: Vec<String> = deals
            .iter()
            .map(|deal| {
                let fields = &deal.properties;
                format!(
                    "{}|{}|{}",
                    integration_tests::remote::crm_key(fields).unwrap_or_default(),
                    text(fields, "dealname"),
                    text(fields, "dealstage")
                )
            })
            .collect();
        held.sort();
        held
    }
}

impl Trouble {
    fn kind(&self) -> FaultKind {
        let status = |code, body, retry_after| FaultKind::Status {
            code,
            body,
            retry_after,
        };
        match self {
            Trouble::ServerErrors => status(500, FaultBody::Json, None),
            Trouble::Locked => status(423, FaultBody::Json, None),
            Trouble::TooMany => status(429, FaultBody::Json, Some(1)),
            Trouble::Resets => FaultKind::Reset,
            Trouble::LostAnswers => FaultKind::AnswerLost,
            Trouble::HalfAnswers => FaultKind::Truncate,
            Trouble::Html => FaultKind::Html,
        }
    }
}

/// Histories in an ordinary run of the tests.
const HISTORIES: u32 = 4;

#[test]
fn every_history_ends_with_the_services_equal_to_the_crm() {
    let asked = std::env::var("INTEGRATION_HISTORIES").ok();
    let cases = asked
        .and_then(|number| number.parse().ok())
        .unwrap_or(HISTORIES);
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let told = RefCell::new(0);
    let mut runner = TestRunner::new(Cases {
        cases,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Cases::default()
    });
    let result = runner.run(&prop::collection::vec(steps(), 20..60), |history| {
        *told.borrow_mut() += 1;
        let cluster = cluster.clone();
        let steps = history.clone();
        let mut history = History::start(cluster.clone());
        let database = history.crm.database.clone();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            steps.iter().for_each(|step| history.take(step));
            history.ends_well();
        }))
        .map_err(|why| {
            // A failed one keeps its database; the shorter ones to come need its place.
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            cluster.connect("postgres").batch_execute(&drop).unwrap();
            let text = why.downcast_ref::<String>().cloned();
            TestCaseError::fail(text.unwrap_or_else(|| "a step failed".to_owned()))
        })
    });
    if let Err(why) = result {
        panic!("{why}\nafter {} histories", told.borrow());
    }
}
