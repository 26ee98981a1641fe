//! Every request made of Mailchimp is one that its contract knows: paths, parameters, the fields
//! that are asked for, and bodies are compared with the facts about it, where those are at hand.

use std::collections::BTreeSet;

use super::*;
use crate::{
    engagement::{Report, campaigns_request, report_request},
    erasure::erase_request,
    listing::{member_request, page_request},
};
use integration_engine::wire::{Method, Request};

fn in_audience(link: Option<Link>, list: &str, leaving: bool, former: &[&str]) -> Option<Link> {
    link.map(|link| {
        let mut link = link;
        link.membership.list = Some(list.to_owned());
        link.membership.leaving = leaving;
        link.membership.former = former.iter().map(|list| (*list).to_owned()).collect();
        link
    })
}

/// What is sent for records in every state.
fn works() -> Vec<Work> {
    use MemberStatus::{Archived, Pending, Subscribed, UnsubscribedByCrm};
    let texts = |opt_in| {
        row([
            Some("a@example.com"),
            Some(opt_in),
            Some("Ada"),
            Some("1.5"),
            Some("{crm,vip}"),
        ])
    };
    let bare = row([Some("a@example.com"), Some("true"), None, None, None]);
    let known = |status| link(Some("c1"), "a@example.com", Some(status), &[(3, "Eda")]);
    let elsewhere = |status| link(Some("c1"), "old@example.com", Some(status), &[]);
    let alone = |work| Work {
        batch_cap: 1,
        ..work
    };
    vec![
        work(texts("true"), None),
        work(bare.clone(), None),
        work(texts("true"), known(Subscribed)),
        work(texts("true"), elsewhere(Subscribed)),
        work(texts("true"), known(Pending)),
        work(texts("true"), known(Archived)),
        work(texts("true"), known(UnsubscribedByCrm)),
        work(texts("false"), known(Subscribed)),
        work(texts("false"), elsewhere(Subscribed)),
        work(texts("true"), link(None, "old@example.com", None, &[])),
        alone(work(texts("true"), known(Subscribed))),
        alone(work(texts("false"), known(Subscribed))),
        work(bare, known(Subscribed)),
        work(None, known(Subscribed)),
        // Known by the hash of the address only.
        work(
            texts("true"),
            known(UnsubscribedByCrm).map(|link| Link {
                remote_id: Some(subscriber_hash("ada@example.com").as_str().into()),
                remote_key: Some("ada@example.com".into()),
                ..link
            }),
        ),
        // Under its address is another one that a call of ours created, and then it has followed.
        work(
            texts("true"),
            known(Subscribed).map(|link| link.displaced()),
        ),
        work(
            texts("true"),
            known(Subscribed).map(|link| link.displaced().readdressed("new@example.com")),
        ),
        // Moves to another audience.
        work(
            texts("true"),
            in_audience(known(Subscribed), "b2", false, &[]),
        ),
        work(
            texts("true"),
            in_audience(known(Subscribed), "b2", true, &[]),
        ),
        Work {
            audience_met: false,
            ..work(
                texts("true"),
                in_audience(known(Subscribed), "b2", false, &[]),
            )
        },
        work(None, in_audience(known(Subscribed), "a1", false, &["b2"])),
    ]
}

fn records(settings: &MailchimpSettings) -> Vec<Request> {
    let (map, works) = (map(), works());
    let sends = works.iter().enumerate().filter_map(|(index, work)| {
        match decide(work, index, &map, settings) {
            Decision::Send(kind, item) => Some((kind, item)),
            Decision::Settled(_) => None,
        }
    });
    let calls = assemble(sends.collect(), settings);
    calls.into_iter().map(|call| call.request).collect()
}

fn questions() -> Vec<Request> {
    let mut all = vec![
        account_request(),
        audience_request("a1"),
        audiences_request(),
        page_request("a1", 1_000, false),
        page_request("a1", 0, true),
        member_request("a1", &RemoteId::from("c1")),
        campaigns_request(Timestamp(1_790_000_000_000), 1_000),
    ];
    let since = [None, Some(Timestamp(1_790_000_000_000))];
    for (report, since) in Report::ALL
        .into_iter()
        .flat_map(|report| since.map(|at| (report, at)))
    {
        all.push(report_request("cb398d21d2", report, since, 1_000, 1_000));
    }
    all
}

#[test]
fn requests_are_those_of_the_contract() {
    let mut shapes = BTreeSet::new();
    let asking = MailchimpSettings {
        double_opt_in: true,
        resubscribe: Resubscribe::Pending,
        several: true,
        ..settings()
    };
    let erasing = MailchimpSettings {
        on_delete: OnDelete::Permanent,
        ..settings()
    };
    for settings in [settings(), asking, erasing] {
        for request in records(&settings) {
            specs::check(&request);
            let path = request.path.split('?').next().unwrap();
            let shape: Vec<&str> = path.split('/').skip(3).collect();
            let last = shape.get(2..).unwrap_or_default().join("/");
            let what = shape.first().unwrap_or(&"list");
            shapes.insert(format!("{} {what} {last}", request.method.name()));
        }
    }
    questions().iter().for_each(specs::check);
    specs::check(&erase_request("a1", "h"));
    // The list is what it claims to be: every kind of call that carries records.
    let shapes: Vec<&str> = shapes.iter().map(|shape| shape.trim_end()).collect();
    assert_eq!(
        shapes,
        [
            "DELETE members",
            "GET list",
            "GET members",
            "PATCH members",
            "POST list",
            "POST members actions/delete-permanent",
            "PUT members",
        ]
    );
    assert!(
        questions()
            .iter()
            .all(|request| request.method == Method::Get)
    );
}
