//! What we wrote, as the services' own clients read it.

use integration_sandbox::official;
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Engagement, MemberAction, unlimited},
    wait::wait_until,
};

#[test]
fn official_clients_read_back_what_we_wrote() {
    let mut crm = Crm::start();
    crm.run(
        "ALTER TABLE crm.contacts ADD company_id bigint;
         SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies');
         INSERT INTO crm.companies (name, domain) VALUES ('Analytical Engines', 'engines.example.org');
         INSERT INTO crm.contacts (email, first_name, phone, marketing_opt_in, company_id)
             VALUES ('Ada@Example.org', 'Ada «Łódź»', '+49 30 1', true, 1)",
    );
    crm.converges_within(LATER);
    let list: String = crm.ask("SELECT current_setting('integration.mailchimp_list_id')");
    let printed = official::run(
        "read_back.mjs",
        &[
            &crm.remote.hubspot_url(),
            &crm.secrets.hubspot,
            &crm.remote.mailchimp_url(),
            &crm.secrets.mailchimp,
            &list,
            "ada@example.org",
        ],
    );
    let read: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let text = |pointer: &str| {
        let text = read.pointer(pointer)?.as_str()?;
        let key = pointer
            .ends_with("/crm_id")
            .then(|| text.rsplit(':').next());
        key.flatten().or(Some(text))
    };
    let expected = [
        ("/contact/email", "ada@example.org"),
        ("/contact/firstname", "Ada «Łódź»"),
        ("/contact/phone", "+49 30 1"),
        ("/contact/crm_id", "1"),
        ("/company/name", "Analytical Engines"),
        ("/company/domain", "engines.example.org"),
        ("/company/crm_id", "1"),
        ("/member/status", "subscribed"),
        ("/member/name", "Ada «Łódź»"),
    ];
    for (pointer, value) in expected {
        assert_eq!(text(pointer), Some(value), "{pointer} of {read}");
    }
}

#[test]
fn official_mailchimp_client_reads_back_members_and_what_they_did() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(
        "ALTER TABLE crm.contacts ADD labels text[], ADD lang text;
         SELECT integration.track('crm.contacts', 'contact', targets => '{mailchimp}');
         SELECT integration.map_field('crm.contacts', 'labels', 'mailchimp', 'tags', 'push');
         SELECT integration.map_field('crm.contacts', 'lang', 'mailchimp', 'language', 'push');
         INSERT INTO crm.contacts (email, first_name, last_name, phone, labels, lang, marketing_opt_in) VALUES
             ('Ada@Example.org', 'Ada «Łódź»', 'Lovelace', '+49 30 1', '{crm,VIP}', 'de', true),
             ('bob@example.org', 'Bob', NULL, NULL, NULL, NULL, true),
             ('cy@example.org', 'Cy', NULL, NULL, '{crm}', NULL, true),
             ('dan@example.org', 'Dan', NULL, NULL, NULL, NULL, false)",
    );
    crm.settle();
    let does = MemberAction::Engage {
        campaign: "cb398d21d2".to_owned(),
        engagement: Engagement {
            kind: "click".to_owned(),
            url: Some("https://example.org/".to_owned()),
            ..Engagement::default()
        },
    };
    crm.remote.member_does("ada@example.org", does).unwrap();
    crm.run(
        "UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 2;
         DELETE FROM crm.contacts WHERE id = 3",
    );
    crm.settle();
    let list: String = crm.ask("SELECT current_setting('integration.mailchimp_list_id')");
    let printed = official::run(
        "audience.mjs",
        &[&crm.remote.mailchimp_url(), &crm.secrets.mailchimp, &list],
    );
    let read: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(read["list"]["id"], *list);
    let members = read["members"].as_object().unwrap();
    let statuses: Vec<(&str, &str)> = members
        .iter()
        .map(|(email, member)| (email.as_str(), member["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        statuses,
        [
            ("ada@example.org", "subscribed"),
            ("bob@example.org", "unsubscribed"),
            ("cy@example.org", "archived"),
        ]
    );
    assert!(members.values().all(|member| member["same"] == true));
    let ada = &members["ada@example.org"];
    let fields = &ada["merge_fields"];
    assert_eq!(
        [
            &fields["FNAME"],
            &fields["LNAME"],
            &fields["PHONE"],
            &ada["language"]
        ],
        ["Ada «Łódź»", "Lovelace", "+49 30 1", "de"]
    );
    assert_eq!(ada["tags"], serde_json::json!(["crm", "VIP"]));
    assert_eq!(ada["all_tags"], ada["tags"]);
    // What the client reads of what people did is what is fetched.
    let job: i64 = crm.ask("SELECT integration.poll('mailchimp')");
    let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
    wait_until("the poll", SOON, || crm.ask::<bool>(&done).then_some(()));
    let fetched = crm.rows("SELECT concat_ws(' ', campaign_id, 'ada@example.org', kind, url) FROM integration.activity WHERE record_key = '1'");
    assert_eq!(read["activity"], serde_json::json!(fetched));
}
