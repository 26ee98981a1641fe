//! What may be at the service after each verdict, whatever the link says.

use super::*;
use crate::{
    delivery::call::{Item, Leaver},
    record::Target,
};

fn item(target: Target, sent: &[i16]) -> Item {
    Item {
        work: 0,
        name: String::new(),
        ticks: sent.iter().map(|field| crm(*field)).collect(),
        remote_key: None,
        member_status: None,
        expected: None,
        intent: false,
        leaver: Leaver::No,
        batch_cap: 100,
        fragment: format!("{target}"),
        beside: Beside::default(),
        own: None,
    }
}

fn crm(field: i16) -> Tick {
    tick(field, 10_000, Writer::Crm)
}

/// A record of which fields 1 and 2 are agreed, and 2 is in doubt from an earlier worker.
fn doubted(op: Op) -> InFlight {
    let mut link = linked("r1");
    link.clock.set(crm(1));
    link.clock.set(crm(2));
    InFlight {
        op,
        doubts: vec![crm(2)],
        ..flight(Some(link))
    }
}

fn taken(fields: &[i16]) -> Verdict {
    Verdict::Delivered {
        remote_id: None,
        remote_key: None,
        member_status: None,
        ticks: fields.iter().map(|field| crm(*field)).collect(),
        met: false,
    }
}

fn fields(ticks: &[Tick]) -> Vec<i16> {
    let mut fields: Vec<i16> = ticks.iter().map(|tick| tick.field.0).collect();
    fields.sort_unstable();
    fields
}

fn lost() -> Verdict {
    Verdict::Retry {
        why: "reset".to_owned(),
        status: None,
        wait: None,
        counted: true,
    }
}

fn refused(status: u16) -> Verdict {
    Verdict::Retry {
        why: "busy".to_owned(),
        status: Some(status),
        wait: None,
        counted: true,
    }
}

#[test]
fn what_no_answer_confirms_is_uncertain() {
    use Op::{Delete, Upsert};
    use Target::{HubSpot, Mailchimp};
    // Field 3 was sent. Noted besides the verdict, and uncertain in the link it is settled by.
    let cases = [
        (HubSpot, Upsert, lost(), vec![2, 3], vec![]),
        (HubSpot, Upsert, refused(502), vec![2, 3], vec![]),
        (HubSpot, Upsert, refused(207), vec![2, 3], vec![]),
        // It was refused before anything was done about it.
        (HubSpot, Upsert, refused(429), vec![2], vec![]),
        (Mailchimp, Upsert, lost(), vec![2, 3], vec![]),
        (HubSpot, Delete, lost(), vec![1, 2], vec![]),
        (Mailchimp, Delete, lost(), vec![2, 3], vec![]),
        (HubSpot, Delete, refused(429), vec![2], vec![]),
        (HubSpot, Upsert, taken(&[3]), vec![], vec![2]),
        (HubSpot, Upsert, taken(&[2, 3]), vec![], vec![]),
        (HubSpot, Upsert, again(None), vec![], vec![2]),
        (HubSpot, Upsert, dead(None), vec![2], vec![]),
        (
            Mailchimp,
            Upsert,
            dead(Some(MemberStatus::Cleaned)),
            vec![],
            vec![2],
        ),
        (HubSpot, Upsert, Verdict::Unchanged, vec![2], vec![]),
        (HubSpot, Upsert, Verdict::NoConsent, vec![2], vec![]),
        (HubSpot, Upsert, Verdict::Removed, vec![], vec![]),
        (HubSpot, Upsert, Verdict::Withheld, vec![], vec![]),
    ];
    for (target, op, verdict, noted, stored) in cases {
        let case = format!("{target} {op:?} {verdict:?}");
        let flight = doubted(op);
        let outcome = Outcome::called(target, flight, item(target, &[3]), verdict, false);
        assert_eq!(fields(&outcome.doubtful), noted, "{case}");
        let clock = outcome.flight.link.as_ref().map(|link| &link.clock);
        let uncertain: Vec<i16> = (1..=3)
            .filter(|field| clock.is_some_and(|clock| clock.is_doubtful(FieldId(*field))))
            .collect();
        assert_eq!(uncertain, stored, "{case}");
    }
}

#[test]
fn without_a_call_only_what_was_uncertain_before_is() {
    let cases = [
        (Verdict::Unchanged, vec![2]),
        (lost(), vec![2]),
        (again(None), vec![]),
        (Verdict::Withheld, vec![]),
    ];
    for (verdict, noted) in cases {
        let outcome = Outcome::uncalled(doubted(Op::Upsert), verdict.clone());
        assert_eq!(fields(&outcome.doubtful), noted, "{verdict:?}");
        assert_eq!(outcome.request, None);
    }
}

#[test]
fn what_was_sent_is_shown_where_it_was_not_taken() {
    let cases = [
        (lost(), true),
        (dead(None), true),
        (overruled(), true),
        (taken(&[3]), false),
        (again(None), false),
        (Verdict::Removed, false),
    ];
    for (verdict, shown) in cases {
        let target = Target::HubSpot;
        let item = item(target, &[3]);
        let outcome = Outcome::called(target, flight(None), item, verdict.clone(), false);
        assert_eq!(outcome.request.is_some(), shown, "{verdict:?}");
    }
}
