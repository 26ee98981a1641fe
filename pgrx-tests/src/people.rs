//! People who go to Mailchimp only, and the fields of their audience.

use crate::{cluster::Cluster, crm::Crm, remote::Config};
use std::sync::Arc;

pub const LIST: &str = "a6b5da1054";
pub const OTHER: &str = "bbbbbbbbbb";

pub fn mapped(crm: &mut Crm, lines: &[(&str, &str)]) {
    for (column, remote) in lines {
        crm.run(&format!(
            "SELECT integration.map_field('crm.people', '{column}', 'mailchimp', '{remote}')"
        ));
    }
}

/// A table of people who go to Mailchimp only; `columns` beside id, email, consent.
pub fn people_with(config: Config, columns: &str) -> Crm {
    people_on(Cluster::shared(), config, columns)
}

pub fn people_on(cluster: Arc<Cluster>, config: Config, columns: &str) -> Crm {
    let mut crm = Crm::untracked(cluster, config);
    crm.run(&format!(
        "CREATE TABLE crm.people (id int PRIMARY KEY, email text, opt_in boolean{columns});
         SELECT integration.track('crm.people', 'contact', targets => '{{mailchimp}}')"
    ));
    crm
}

pub fn letters(crm: &mut Crm) -> Vec<(String, String, String)> {
    let rows = crm
        .client
        .query("SELECT record_key, category, error FROM integration.dlq WHERE target = 'mailchimp' AND resolution IS NULL ORDER BY record_key::int", &[])
        .unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}
