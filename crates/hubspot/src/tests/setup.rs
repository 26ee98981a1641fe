use super::{property::*, *};

#[test]
fn the_unique_property_is_asked_for_and_created() {
    let settings = settings(&[]);
    let request = property_request(&settings, COMPANY);
    assert_eq!(request.path, "/crm/properties/2026-09/companies/crm_id");
    let request = create_property_request(&settings, DEAL, objects::of(DEAL).group);
    assert_eq!(request.path, "/crm/properties/2026-09/deals");
    let body: serde_json::Value = serde_json::from_slice(&request.body.unwrap()).unwrap();
    assert_eq!(body["hasUniqueValue"], true);
    assert_eq!(
        (body["name"].as_str(), body["groupName"].as_str()),
        (Some("crm_id"), Some("dealinformation"))
    );
    let v3 = HubSpotSettings {
        api_version: "v3".into(),
        ..settings
    };
    assert_eq!(
        property_request(&v3, CONTACT).path,
        "/crm/v3/properties/contacts/crm_id"
    );
    assert_eq!(account_request(&v3).path, "/account-info/v3/details");
}

#[test]
fn answers_about_the_property() {
    let state = |status, body: &str| property_exists(Ok(&reply(status, body)));
    assert_eq!(
        state(200, r#"{"name":"crm_id","hasUniqueValue":true}"#),
        PropertyState::Ready
    );
    assert_eq!(
        state(404, r#"{"message":"x","category":"OBJECT_NOT_FOUND"}"#),
        PropertyState::Missing
    );
    assert_eq!(
        state(200, r#"{"hasUniqueValue":true,"archived":true}"#),
        PropertyState::Missing
    );
    assert!(matches!(
        state(200, r#"{"name":"crm_id"}"#),
        PropertyState::NotUnique { .. }
    ));
    assert!(matches!(
        state(404, "<html>"),
        PropertyState::Unknown { .. }
    ));
    assert!(matches!(state(500, ""), PropertyState::Unknown { .. }));
    assert_eq!(
        property_created(Ok(&reply(201, "{}"))),
        PropertyState::Ready
    );
    assert_eq!(
        property_created(Ok(&reply(409, "{}"))),
        PropertyState::Missing
    );
    let refused = property_created(Ok(&reply(
        400,
        r#"{"message":"too many unique properties"}"#,
    )));
    assert!(matches!(refused, PropertyState::Unknown { why } if why.contains("too many unique")));
}

#[test]
fn who_we_are() {
    let body = r#"{"portalId":247187887,"accountType":"STANDARD","timeZone":"Europe/Berlin"}"#;
    let account = read_account(Ok(&reply(200, body))).unwrap();
    assert_eq!(
        (account.portal_id.as_str(), account.detail.as_str()),
        ("247187887", "STANDARD, Europe/Berlin")
    );
    assert!(
        read_account(Ok(&reply(401, "")))
            .unwrap_err()
            .contains("hubspot_access_token")
    );
    assert!(read_account(Ok(&reply(200, "{}"))).is_err());
}
