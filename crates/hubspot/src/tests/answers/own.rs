//! Whose a record is that was found.

use super::*;
use integration_engine::{delivery::own::Own, record::external_id::ExternalIds};

/// Of a row of table `a:`, which is called Acme.
fn own(key: &str, chosen: bool, alone: bool) -> Box<Own> {
    Box::new(Own {
        ids: ExternalIds {
            prefix: "a:".into(),
            chosen,
            alone,
        },
        key: key.into(),
        traits: vec![("name".into(), "Acme".into())],
    })
}

#[test]
fn records_that_others_named_are_not_adopted() {
    let look = HubSpotCall::Match {
        entity: COMPANY,
        property: "domain".into(),
    };
    let body = r#"{"total":4,"results":[
        {"id":"5","properties":{"domain":"acme.com","crm_id":"b:17","name":"Acme"}},
        {"id":"6","properties":{"domain":"acme.com","crm_id":"17","name":"Acme"}},
        {"id":"7","properties":{"domain":"acme.com","name":"Other"}},
        {"id":"8","properties":{"domain":"other.com","crm_id":"a:17","name":"Other"}}]}"#;
    for (key, chosen, alone, expected) in [
        ("18", false, false, "adopt 7"),
        ("17", false, false, "adopt 8"),
        ("17", true, false, "dead conflict"),
        ("18", true, false, "adopt 7"),
        ("18", false, true, "adopt 7"),
    ] {
        let mut call = call(look.clone(), &["acme.com"]);
        call.items[0].own = Some(own(key, chosen, alone));
        let reading = read(&call, Ok(&reply(200, body)), &settings(&[]));
        assert_eq!(shapes(&reading.verdicts), [expected], "{key} {chosen}");
    }
    let former = body.replace(r#","crm_id":"a:17""#, "");
    let mut call = call(look, &["acme.com"]);
    for (alone, expected) in [(true, "adopt 6"), (false, "adopt 7")] {
        call.items[0].own = Some(own("17", false, alone));
        let reading = read(&call, Ok(&reply(200, &former)), &settings(&[]));
        assert_eq!(shapes(&reading.verdicts), [expected]);
    }
}

#[test]
fn records_are_looked_at_before_they_are_created() {
    let find = HubSpotCall::Find {
        entity: DEAL,
        id_property: "crm_id".into(),
    };
    let mut call = call(find, &["a:1", "a:2", "a:3"]);
    for (item, key) in call.items.iter_mut().zip(["1", "2", "3"]) {
        item.own = Some(own(key, true, false));
    }
    let body = r#"{"status":"COMPLETE","results":[
        {"id":"11","properties":{"crm_id":"a:1","name":"ACME"}},
        {"id":"12","properties":{"crm_id":"a:2","name":"Other"}}],
        "numErrors":1,"errors":[{"status":"error","category":"OBJECT_NOT_FOUND","message":"Could not get some DEAL objects","context":{"ids":["a:3"]}}]}"#;
    let reading = read(&call, Ok(&reply(207, body)), &settings(&[]));
    assert_eq!(
        shapes(&reading.verdicts),
        ["adopt 11", "dead conflict", "vacant"]
    );
}

#[test]
fn contact_found_under_a_second_address_is_looked_at_too() {
    let find = HubSpotCall::Find {
        entity: CONTACT,
        id_property: "email".into(),
    };
    let mut call = call(find, &["second@example.com"]);
    call.items[0].own = Some(own("1", false, false));
    for (held, expected) in [
        ("b:1", "dead conflict"),
        ("a:1", "adopt 11"),
        ("", "adopt 11"),
    ] {
        let body = format!(
            r#"{{"status":"COMPLETE","results":[{{"id":"11","properties":{{"email":"first@example.com","crm_id":"{held}"}}}}]}}"#
        );
        let reading = read(&call, Ok(&reply(200, &body)), &settings(&[]));
        assert_eq!(shapes(&reading.verdicts), [expected], "{held}");
    }
}
