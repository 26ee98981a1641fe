//! What we wrote, as the services' own clients read it.

use integration_sandbox::official;
use integration_tests::crm::{Crm, LATER};

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
    let text = |pointer: &str| read.pointer(pointer).and_then(|value| value.as_str());
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
