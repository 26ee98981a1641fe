//! SQL in a transaction that is rolled back: what the worker never gets to see.

use std::sync::{Arc, OnceLock};

use postgres::{Client, types::FromSql};

use crate::{cluster::Cluster, sql};

/// Contacts with a key that is given, tracked.
pub const CONTACTS: &str = "
    CREATE SCHEMA crm;
    CREATE TABLE crm.contacts (id bigint PRIMARY KEY, email text, first_name text, marketing_opt_in boolean, notes text);
    SELECT integration.track('crm.contacts', 'contact');";

/// A transaction that ends with the value, and leaves nothing.
pub struct Uncommitted {
    pub client: Client,
}

impl Uncommitted {
    /// In a database with the extension and nothing else, which tests share.
    pub fn begin() -> Uncommitted {
        static SHARED: OnceLock<(Arc<Cluster>, String)> = OnceLock::new();
        let (cluster, database) = SHARED.get_or_init(|| {
            let cluster = Cluster::shared();
            let database = cluster.create_database();
            let mut client = cluster.connect(&database);
            client
                .batch_execute("CREATE EXTENSION integration")
                .unwrap();
            (cluster, database)
        });
        let mut client = cluster.connect(database);
        client.batch_execute("BEGIN").unwrap();
        Uncommitted { client }
    }

    /// Begun, with [`CONTACTS`].
    pub fn with_contacts() -> Uncommitted {
        let mut session = Uncommitted::begin();
        session.run(CONTACTS);
        session
    }

    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        sql::run(&mut self.client, sql);
    }

    #[track_caller]
    pub fn ask<T: for<'a> FromSql<'a>>(&mut self, sql: &str) -> T {
        sql::ask(&mut self.client, sql)
    }
}
