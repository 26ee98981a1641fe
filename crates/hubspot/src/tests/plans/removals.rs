//! What is to be sent for rows that are gone.

use super::*;

#[test]
fn a_gone_row_is_archived_if_it_was_there() {
    let (kind, item) = sent(plan(
        &work(None, link(Some("512"), None, &[])),
        CONTACT,
        &[],
    ));
    assert_eq!(kind, HubSpotCall::Archive { entity: CONTACT });
    assert_eq!(
        (item.fragment.as_str(), item.name.as_str()),
        (r#"{"id":"512"}"#, "512")
    );
    assert_eq!(
        settled(plan(&work(None, None), CONTACT, &[])),
        Verdict::Removed
    );
}

fn deleted(entity: Entity, on_delete: HubSpotOnDelete, link: Option<Link>) -> Decision {
    let settings = HubSpotSettings {
        on_delete,
        ..settings(&every_kind())
    };
    decide(&work(None, link), 0, &map(entity), &settings)
}

#[test]
fn a_deleted_row_is_archived_erased_or_left_alone_as_the_setting_says() {
    use HubSpotOnDelete::{Archive, Gdpr, Ignore};
    let known = || link(Some("512"), Some("ada@example.com"), &[]);
    let archive = |entity| HubSpotCall::Archive { entity };
    let cases = [
        (CONTACT, Archive, archive(CONTACT), r#"{"id":"512"}"#),
        (
            CONTACT,
            Gdpr,
            HubSpotCall::Erase { entity: CONTACT },
            r#"{"objectId":"512"}"#,
        ),
        // Nothing but contacts can be erased.
        (COMPANY, Gdpr, archive(COMPANY), r#"{"id":"512"}"#),
        (NOTE, Gdpr, archive(NOTE), r#"{"id":"512"}"#),
    ];
    for (entity, on_delete, expected, fragment) in cases {
        let (kind, item) = sent(deleted(entity, on_delete, known()));
        assert_eq!((&kind, item.fragment.as_str()), (&expected, fragment));
    }
    for on_delete in [Archive, Gdpr] {
        // It may have been created: that is found out first.
        let (kind, _) = sent(deleted(
            CONTACT,
            on_delete,
            link(None, Some("a@x.org"), &[]),
        ));
        assert!(matches!(kind, HubSpotCall::Find { .. }));
    }
    for link in [known(), link(None, Some("a@x.org"), &[]), None] {
        assert_eq!(settled(deleted(CONTACT, Ignore, link)), Verdict::Removed);
    }
}

#[test]
fn contacts_are_erased_one_at_a_time() {
    let settings = settings(&[]);
    let sends = ["512", "513"].map(|id| {
        let item = Item {
            fragment: format!(r#"{{"objectId":"{id}"}}"#),
            ..item(id)
        };
        (HubSpotCall::Erase { entity: CONTACT }, item)
    });
    let calls = assemble(sends.into(), &settings);
    let made: Vec<_> = calls
        .iter()
        .map(|call| {
            let body = String::from_utf8(call.request.body.clone().unwrap()).unwrap();
            (call.request.method, call.request.path.clone(), body)
        })
        .collect();
    let path = "/crm/objects/2026-09/contacts/gdpr-delete";
    assert_eq!(
        made,
        ["512", "513"].map(|id| (
            Method::Post,
            path.to_owned(),
            format!(r#"{{"objectId":"{id}"}}"#)
        ))
    );
}
