//! Who is who: records that HubSpot has already are adopted, not duplicated, and not taken twice.

use integration_sandbox::ObjectType;
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER},
    remote::{Config, Service, crm_key},
};

fn domains(crm: &Crm) -> Vec<(String, String)> {
    let mut found: Vec<_> = crm
        .remote
        .companies()
        .into_iter()
        .map(|(_, fields)| {
            let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
            (
                text("domain"),
                crm_key(&fields).unwrap_or_default().to_owned(),
            )
        })
        .collect();
    found.sort();
    found
}

fn pair(domain: &str, key: &str) -> (String, String) {
    (domain.to_owned(), key.to_owned())
}

#[test]
fn companies_of_others_are_adopted_by_domain() {
    let mut crm = Crm::start();
    let known = crm
        .remote
        .create_record(ObjectType::Company, &[("domain", "acme.example.org")])
        .unwrap();
    crm.remote
        .create_record(ObjectType::Company, &[("domain", "acme.example.org")])
        .unwrap();
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('Acme', 'ACME.example.org'), ('New', 'new.example.org')");
    crm.settle();
    assert_eq!(
        domains(&crm),
        [
            pair("ACME.example.org", "1"),
            pair("acme.example.org", ""),
            pair("new.example.org", "2")
        ]
    );
    assert_eq!(
        crm.ask::<String>(
            "SELECT remote_id FROM integration.link WHERE record_key = '1' AND target = 'hubspot'"
        ),
        known.to_string()
    );
}

#[test]
fn rows_with_one_domain_are_companies_of_their_own() {
    let mut crm = Crm::start();
    crm.remote
        .create_record(ObjectType::Company, &[("domain", "acme.example.org")])
        .unwrap();
    crm.run("INSERT INTO crm.companies (name, domain) SELECT 'Acme ' || n, 'acme.example.org' FROM generate_series(1, 3) n");
    crm.converges();
    assert_eq!(
        domains(&crm),
        ["1", "2", "3"].map(|key| pair("acme.example.org", key))
    );
}

#[test]
fn one_contact_is_not_two_rows() {
    let mut crm = Crm::start();
    crm.add_contact("ada@example.org", true);
    crm.settle();
    let (id, _) = crm.remote.contact("ada@example.org").unwrap();
    let other = crm
        .remote
        .create_record(ObjectType::Contact, &[("email", "countess@example.org")])
        .unwrap();
    crm.remote
        .merge_records(ObjectType::Contact, id, other)
        .unwrap();
    crm.run("UPDATE crm.contacts SET phone = '1'");
    crm.settle();
    crm.add_contact("countess@example.org", false);
    crm.settle();
    let why = crm.ask::<String>("SELECT error FROM integration.dlq WHERE target = 'hubspot'");
    assert!(why.contains("records 2 and 1"), "{why}");
    // What was written under the second address is made good.
    let contacts = crm.remote.contacts();
    assert_eq!(contacts.len(), 1);
    let text = |name: &str| contacts[0].1.get(name).map(String::as_str);
    assert_eq!(crm_key(&contacts[0].1), Some("1"));
    assert_eq!(text("email"), Some("ada@example.org"));
    assert_eq!(text("phone"), Some("1"));
}

#[test]
fn merged_company_is_followed_without_a_webhook() {
    let mut crm = Crm::start();
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('Acme', 'acme.example.org')");
    crm.settle();
    let (old, _) = crm.remote.companies().remove(0);
    let winner = crm
        .remote
        .create_record(ObjectType::Company, &[("name", "Acme Holding")])
        .unwrap();
    let survivor = crm
        .remote
        .merge_records(ObjectType::Company, winner, old)
        .unwrap();
    crm.run("UPDATE crm.companies SET name = 'Acme Ltd'");
    crm.settle();
    let companies = crm.remote.companies();
    assert_eq!(companies.len(), 1, "{companies:?}");
    assert_eq!(companies[0].1["name"], "Acme Ltd");
    assert_eq!(
        crm.ask::<String>(
            "SELECT remote_id FROM integration.link WHERE record_key = '1' AND target = 'hubspot'"
        ),
        survivor.to_string()
    );
}

#[test]
fn rows_whose_companies_were_merged_are_not_both_written_to_one() {
    let mut crm = Crm::start();
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('Acme', 'acme.example.org'), ('Ajax', 'ajax.example.org')");
    crm.settle();
    let id = |domain: &str| {
        let found = crm.remote.find(ObjectType::Company, "domain", domain);
        found.unwrap().id
    };
    let (acme, ajax) = (id("acme.example.org"), id("ajax.example.org"));
    let merged = crm
        .remote
        .merge_records(ObjectType::Company, acme, ajax)
        .unwrap();
    // Nobody tells; whoever changes first has it.
    for name in ["Acme", "Ajax"] {
        crm.run(&format!(
            "UPDATE crm.companies SET city = 'Ulm' WHERE name = '{name}'"
        ));
        crm.settle();
    }
    crm.converges();
    assert_eq!(
        crm.rows(
            "SELECT record_key, category, error FROM integration.dlq WHERE resolution IS NULL"
        ),
        [format!(
            "2|conflict|records 2 and 1 are one and the same record {merged} of HubSpot; change one of them, or merge them"
        )]
    );
    let companies = crm.remote.companies();
    assert_eq!(companies.len(), 1, "{companies:?}");
    assert_eq!(companies[0].1["name"], "Acme");
    assert_eq!(crm_key(&companies[0].1), Some("1"));
}

#[test]
fn searches_keep_to_their_own_limit_and_hold_up_nobody() {
    let mut config = Config::default();
    config.hubspot.rate = None;
    let mut crm = Crm::untracked(Cluster::shared(), config);
    // Before the first worker starts: none has searched without knowing of the limit.
    crm.set("hubspot_rate_limit", "1000/10s");
    crm.track();
    // Each needs a search of its own: no two rows with one domain in one call.
    crm.run("INSERT INTO crm.companies (name, domain) SELECT 'Acme', 'acme.example.org' FROM generate_series(1, 15) n");
    crm.add_contacts(1, 300);
    crm.converges_within(LATER);
    let requests = crm.remote.requests_to(Service::HubSpot);
    let at = |path: &str, last: bool| {
        let mut all = requests
            .iter()
            .filter(|request| request.path.contains(path))
            .map(|request| request.number);
        match last {
            true => all.next_back(),
            false => all.next(),
        }
        .unwrap()
    };
    assert!(requests.iter().all(|request| request.status != 429));
    assert!(at("/contacts/", true) < at("/companies/search", true));
}
