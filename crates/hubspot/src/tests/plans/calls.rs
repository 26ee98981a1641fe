//! How records are put into calls.

use super::*;

#[test]
fn calls_carry_traces_and_stay_within_their_size() {
    let names: Vec<String> = (0..250).map(|at| format!("p{at}@example.com")).collect();
    let sends: Vec<_> = names.iter().map(|name| (upsert(), item(name))).collect();
    let calls = assemble(sends, &settings(&[]));
    assert_eq!(
        calls
            .iter()
            .map(|call| call.items.len())
            .collect::<Vec<_>>(),
        [100, 100, 50]
    );
    assert_eq!(
        calls[0].request.path,
        "/crm/objects/2026-09/contacts/batch/upsert"
    );
    let body: serde_json::Value =
        serde_json::from_slice(calls[2].request.body.as_deref().unwrap()).unwrap();
    let traces: Vec<_> = body["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| input["objectWriteTraceId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(traces, (0..50).map(|at| at.to_string()).collect::<Vec<_>>());

    let find = HubSpotCall::Find {
        entity: COMPANY,
        id_property: "crm_id".into(),
    };
    let mut fragment = String::from("{\"id\":");
    push_string(&mut fragment, "17");
    fragment.push('}');
    let calls = assemble(
        vec![(
            find,
            Item {
                fragment,
                ..item("17")
            },
        )],
        &HubSpotSettings {
            api_version: "v3".into(),
            ..settings(&[])
        },
    );
    assert_eq!(
        calls[0].request.path,
        "/crm/v3/objects/companies/batch/read"
    );
    assert_eq!(
        calls[0].request.body.as_deref(),
        Some(&br#"{"properties":["crm_id"],"propertiesWithHistory":[],"idProperty":"crm_id","inputs":[{"id":"17"}]}"#[..])
    );
}
