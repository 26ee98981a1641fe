//! What a history does to the CRM's rows.

use proptest::prelude::*;

/// How many rows of a kind a history plays with; few, so that its steps meet again and again.
const ROWS: u32 = 12;

#[derive(Debug, Clone)]
pub enum Edit {
    Contact {
        id: u32,
        opted_in: Option<bool>,
    },
    Rename {
        id: u32,
        name: u32,
    },
    Address {
        id: u32,
    },
    OptIn {
        id: u32,
        opted_in: bool,
    },
    Employer {
        id: u32,
        company: Option<u32>,
    },
    DropContact {
        id: u32,
    },
    Company {
        id: u32,
    },
    Domain {
        id: u32,
        domain: Option<u32>,
    },
    DropCompany {
        id: u32,
    },
    Deal {
        id: u32,
        contact: Option<u32>,
        company: Option<u32>,
    },
    Stage {
        id: u32,
        won: bool,
    },
    Repoint {
        id: u32,
        contact: Option<u32>,
    },
    DropDeal {
        id: u32,
    },
    Everybody {
        phone: u32,
    },
}

pub fn edits() -> impl Strategy<Value = Edit> {
    let row = || 1..=ROWS;
    let maybe = || prop::option::weighted(0.7, 1..=ROWS);
    prop_oneof![
        6 => (row(), prop::option::weighted(0.9, any::<bool>())).prop_map(|(id, opted_in)| Edit::Contact { id, opted_in }),
        4 => (row(), 0..5_u32).prop_map(|(id, name)| Edit::Rename { id, name }),
        2 => row().prop_map(|id| Edit::Address { id }),
        4 => (row(), any::<bool>()).prop_map(|(id, opted_in)| Edit::OptIn { id, opted_in }),
        4 => (row(), maybe()).prop_map(|(id, company)| Edit::Employer { id, company }),
        3 => row().prop_map(|id| Edit::DropContact { id }),
        4 => row().prop_map(|id| Edit::Company { id }),
        2 => (row(), maybe()).prop_map(|(id, domain)| Edit::Domain { id, domain }),
        2 => row().prop_map(|id| Edit::DropCompany { id }),
        4 => (row(), maybe(), maybe()).prop_map(|(id, contact, company)| Edit::Deal { id, contact, company }),
        2 => (row(), any::<bool>()).prop_map(|(id, won)| Edit::Stage { id, won }),
        2 => (row(), maybe()).prop_map(|(id, contact)| Edit::Repoint { id, contact }),
        2 => row().prop_map(|id| Edit::DropDeal { id }),
        1 => (0..5_u32).prop_map(|phone| Edit::Everybody { phone }),
    ]
}

/// Makes statements of edits. No address is given to two rows, at whatever time: that would end as a
/// dead letter, which is the matter of other tests.
#[derive(Default)]
pub struct Edits {
    addresses: u32,
}

impl Edits {
    pub fn sql(&mut self, edit: &Edit) -> String {
        fn or_null(table: &str, id: &Option<u32>) -> String {
            id.map_or("NULL".to_owned(), |id| {
                format!("(SELECT id FROM crm.{table} WHERE id = {id})")
            })
        }
        match edit {
            Edit::Contact { id, opted_in } => {
                self.addresses += 1;
                format!(
                    "INSERT INTO crm.contacts (id, email, first_name, last_name, marketing_opt_in) OVERRIDING SYSTEM VALUE
                     VALUES ({id}, 'person{}@example.org', 'First {id}', 'Last', {}) ON CONFLICT DO NOTHING",
                    self.addresses,
                    opted_in.map_or("NULL".to_owned(), |opted_in| opted_in.to_string())
                )
            }
            Edit::Rename { id, name } => {
                format!("UPDATE crm.contacts SET first_name = 'Name {name}' WHERE id = {id}")
            }
            Edit::Address { id } => {
                self.addresses += 1;
                format!(
                    "UPDATE crm.contacts SET email = 'person{}@example.org' WHERE id = {id}",
                    self.addresses
                )
            }
            Edit::OptIn { id, opted_in } => {
                format!("UPDATE crm.contacts SET marketing_opt_in = {opted_in} WHERE id = {id}")
            }
            Edit::Employer { id, company } => format!(
                "UPDATE crm.contacts SET company_id = {} WHERE id = {id}",
                or_null("companies", company)
            ),
            Edit::DropContact { id } => format!("DELETE FROM crm.contacts WHERE id = {id}"),
            Edit::Company { id } => format!(
                "INSERT INTO crm.companies (id, name, domain) OVERRIDING SYSTEM VALUE
                 VALUES ({id}, 'Company {id}', 'company{id}.example.org') ON CONFLICT DO NOTHING"
            ),
            Edit::Domain { id, domain } => format!(
                "UPDATE crm.companies SET domain = {} WHERE id = {id}",
                domain.map_or("NULL".to_owned(), |number| format!(
                    "'domain{number}.example.org'"
                ))
            ),
            Edit::DropCompany { id } => format!("DELETE FROM crm.companies WHERE id = {id}"),
            Edit::Deal {
                id,
                contact,
                company,
            } => format!(
                "INSERT INTO crm.deals (id, name, contact_id, company_id) VALUES ({id}, 'Deal {id}', {}, {}) ON CONFLICT DO NOTHING",
                or_null("contacts", contact),
                or_null("companies", company)
            ),
            Edit::Stage { id, won } => format!(
                "UPDATE crm.deals SET dealstage = '{}' WHERE id = {id}",
                if *won { "closedwon" } else { "closedlost" }
            ),
            Edit::Repoint { id, contact } => format!(
                "UPDATE crm.deals SET contact_id = {} WHERE id = {id}",
                or_null("contacts", contact)
            ),
            Edit::DropDeal { id } => format!("DELETE FROM crm.deals WHERE id = {id}"),
            Edit::Everybody { phone } => {
                format!("UPDATE crm.contacts SET phone = '+49 30 {phone}'")
            }
        }
    }
}
