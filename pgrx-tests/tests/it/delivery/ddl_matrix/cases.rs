//! What is done to a tracked table, and what has to come of it.

/// What the tracked table is made of.
#[derive(Clone, Copy)]
pub enum Shape {
    Table,
    /// Read through a view `crm.shown`.
    View,
    /// In two partitions, `crm.first` and `crm.rest`.
    Partitions,
}

/// What must hold once the definition has changed.
#[derive(Clone, Copy)]
pub enum Then {
    /// Everything of the table arrives.
    Arrives,
    /// Everything arrives but one thing, which the reason of HubSpot's state names.
    LeftOut(&'static str),
    /// The table is held for Mailchimp, for this reason, and everything arrives in HubSpot.
    HeldForMailchimp(&'static str),
    /// The table is held, for this reason, and nothing of it is deleted.
    Held(&'static str),
    /// Nothing waits any more, whatever arrived.
    Forgotten,
}

pub struct Case {
    pub name: &'static str,
    pub shape: Shape,
    /// Each a transaction of its own. `{role}` is a role that has no rights.
    pub change: &'static [&'static str],
    pub then: Then,
    /// Makes the table what it was, after which everything arrives; nothing if that cannot be done.
    pub repair: Option<&'static [&'static str]>,
}

const fn case(
    name: &'static str,
    change: &'static [&'static str],
    then: Then,
    repair: Option<&'static [&'static str]>,
) -> Case {
    let shape = Shape::Table;
    Case {
        name,
        shape,
        change,
        then,
        repair,
    }
}

const fn view(
    name: &'static str,
    change: &'static [&'static str],
    then: Then,
    repair: Option<&'static [&'static str]>,
) -> Case {
    let shape = Shape::View;
    Case {
        shape,
        ..case(name, change, then, repair)
    }
}

const fn partitions(
    name: &'static str,
    change: &'static [&'static str],
    then: Then,
    repair: Option<&'static [&'static str]>,
) -> Case {
    let shape = Shape::Partitions;
    Case {
        shape,
        ..case(name, change, then, repair)
    }
}

const AS_BEFORE: Option<&[&str]> = Some(&[]);

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("rename a mapped column",
        &["ALTER TABLE crm.contacts RENAME first_name TO given_name", "UPDATE crm.contacts SET given_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.contacts RENAME given_name TO first_name"])),
    case("rename the key column",
        &["ALTER TABLE crm.contacts RENAME id TO no", "UPDATE crm.contacts SET last_name = 'Then' WHERE no % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.contacts RENAME no TO id"])),
    case("rename the consent column",
        &["ALTER TABLE crm.contacts RENAME marketing_opt_in TO may_write", "UPDATE crm.contacts SET may_write = false WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.contacts RENAME may_write TO marketing_opt_in"])),
    case("rename the table",
        &["ALTER TABLE crm.contacts RENAME TO people", "UPDATE crm.people SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.people RENAME TO contacts"])),
    case("another table takes its name",
        &["ALTER TABLE crm.contacts RENAME TO people; CREATE TABLE crm.contacts (LIKE crm.people INCLUDING ALL)", "UPDATE crm.people SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["DROP TABLE crm.contacts; ALTER TABLE crm.people RENAME TO contacts"])),
    case("set schema",
        &["CREATE SCHEMA sales; ALTER TABLE crm.contacts SET SCHEMA sales", "UPDATE sales.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE sales.contacts SET SCHEMA crm"])),
    case("rename the schema",
        &["ALTER SCHEMA crm RENAME TO sales; CREATE SCHEMA crm; ALTER TABLE sales.companies SET SCHEMA crm", "UPDATE sales.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE sales.contacts SET SCHEMA crm"])),
    case("add columns",
        &["ALTER TABLE crm.contacts ADD score int DEFAULT 1, ADD seen timestamptz DEFAULT clock_timestamp()", "UPDATE crm.contacts SET score = 2, last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("drop a column that is not mapped",
        &["ALTER TABLE crm.contacts DROP notes", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("drop a mapped column",
        &["ALTER TABLE crm.contacts DROP job_title", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::LeftOut("column job_title was dropped"),
        Some(&["ALTER TABLE crm.contacts ADD job_title text; UPDATE crm.contacts SET job_title = 'Clerk'; SELECT integration.map_field('crm.contacts', 'job_title', 'hubspot', 'jobtitle'); SELECT integration.backfill('crm.contacts'); SELECT integration.wait_idle()"])),
    case("drop the consent column",
        &["ALTER TABLE crm.contacts DROP marketing_opt_in", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::HeldForMailchimp("column marketing_opt_in was dropped"),
        Some(&["ALTER TABLE crm.contacts ADD marketing_opt_in boolean; UPDATE crm.contacts SET marketing_opt_in = id % 2 = 0; SELECT integration.map_field('crm.contacts', 'marketing_opt_in', 'mailchimp', 'status')"])),
    case("drop the key column",
        &["ALTER TABLE crm.contacts DROP id"],
        Then::Held("column id was dropped"), None),
    case("retype a mapped column",
        &["ALTER TABLE crm.contacts ALTER first_name TYPE char(40), ALTER phone TYPE varchar(99)", "UPDATE crm.contacts SET phone = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.contacts ALTER first_name TYPE text"])),
    case("retype the key column",
        &["ALTER TABLE crm.contacts ALTER id TYPE integer", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("retype the key column so that keys are written otherwise",
        &["ALTER TABLE crm.contacts ALTER id DROP IDENTITY; ALTER TABLE crm.contacts ALTER id TYPE numeric(12, 2)"],
        Then::Held("type of key column id was changed"), Some(&["ALTER TABLE crm.contacts ALTER id TYPE bigint"])),
    case("retype the consent column",
        &["ALTER TABLE crm.contacts ALTER marketing_opt_in TYPE integer USING marketing_opt_in::integer"],
        Then::HeldForMailchimp("marketing_opt_in"), Some(&["ALTER TABLE crm.contacts ALTER marketing_opt_in TYPE boolean USING marketing_opt_in::boolean"])),
    case("owner",
        &["CREATE ROLE {role}; GRANT USAGE ON SCHEMA crm TO {role}; ALTER TABLE crm.contacts OWNER TO {role}", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("an owner who may not use the schema",
        &["CREATE ROLE {role}; ALTER TABLE crm.contacts OWNER TO {role}"],
        Then::Held("permission denied for schema crm"), Some(&["GRANT USAGE ON SCHEMA crm TO {role}"])),
    case("force row security",
        &["CREATE ROLE {role}; GRANT USAGE ON SCHEMA crm TO {role}; ALTER TABLE crm.contacts OWNER TO {role}; ALTER TABLE crm.contacts ENABLE ROW LEVEL SECURITY; ALTER TABLE crm.contacts FORCE ROW LEVEL SECURITY"],
        Then::Held("row security hides rows"), Some(&["ALTER TABLE crm.contacts NO FORCE ROW LEVEL SECURITY"])),
    case("drop the primary key",
        &["ALTER TABLE crm.contacts DROP CONSTRAINT contacts_pkey", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("disable triggers",
        &["ALTER TABLE crm.contacts DISABLE TRIGGER USER"],
        Then::LeftOut("is disabled"), Some(&["ALTER TABLE crm.contacts ENABLE TRIGGER USER"])),
    case("truncate",
        &["TRUNCATE crm.contacts", "INSERT INTO crm.contacts (email, first_name, marketing_opt_in) VALUES ('then@example.org', 'Then', true)"],
        Then::Arrives, AS_BEFORE),
    case("drop the table", &["DROP TABLE crm.contacts"], Then::Held("the table was dropped"), None),
    case("drop the table and make it again",
        &["CREATE TABLE crm.next (LIKE crm.contacts INCLUDING ALL); INSERT INTO crm.next OVERRIDING SYSTEM VALUE SELECT * FROM crm.contacts; DROP TABLE crm.contacts; ALTER TABLE crm.next RENAME TO contacts"],
        Then::Held("the table was dropped"), None),
    case("drop the table and come to one's senses", &["BEGIN; DROP TABLE crm.contacts; ROLLBACK"], Then::Arrives, AS_BEFORE),
    case("untrack", &["SELECT integration.untrack('crm.contacts')"], Then::Forgotten, None),
    case("rewrite", &["VACUUM FULL crm.contacts", "CLUSTER crm.contacts USING contacts_pkey", "ALTER TABLE crm.contacts SET UNLOGGED", "REINDEX TABLE crm.contacts"], Then::Arrives, AS_BEFORE),
    case("inherit", &["CREATE TABLE crm.special () INHERITS (crm.contacts)"], Then::Arrives, AS_BEFORE),
    view("replace the payload view",
        &["CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, first_name || '' AS first_name, last_name, phone, company, job_title, marketing_opt_in, 1 AS more FROM crm.contacts", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    view("replace the payload view by one that fails",
        &["CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, first_name || 1 / (id - id) AS first_name, last_name, phone, company, job_title, marketing_opt_in FROM crm.contacts"],
        Then::Held("division by zero"), Some(&["CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, first_name, last_name, phone, company, job_title, marketing_opt_in FROM crm.contacts"])),
    view("rename the payload view and a column of it",
        &["ALTER VIEW crm.shown RENAME TO displayed; ALTER VIEW crm.displayed RENAME first_name TO given_name", "UPDATE crm.contacts SET first_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    view("drop the payload view",
        &["DROP VIEW crm.shown"],
        Then::Held("its payload view was dropped"),
        Some(&["CREATE VIEW crm.shown AS SELECT * FROM crm.contacts; SELECT integration.track('crm.contacts', 'contact', payload => 'crm.shown')"])),
    view("drop the payload view and make it again without a column",
        &["DROP VIEW crm.shown; CREATE VIEW crm.shown AS SELECT id, email, first_name, phone, company, job_title, marketing_opt_in FROM crm.contacts"],
        Then::Held("its payload view was dropped"), None),
    view("drop the table and its payload view", &["DROP TABLE crm.contacts CASCADE"], Then::Held("the table was dropped"), None),
    partitions("attach a partition",
        &["CREATE TABLE crm.more (gone int, LIKE crm.contacts INCLUDING ALL); ALTER TABLE crm.more DROP gone; ALTER TABLE crm.contacts ATTACH PARTITION crm.more FOR VALUES FROM (9000) TO (9999)",
          "INSERT INTO crm.contacts (id, email, first_name, marketing_opt_in) VALUES (9001, 'then@example.org', 'Then', true)"],
        Then::Arrives, AS_BEFORE),
    partitions("detach a partition",
        &["ALTER TABLE crm.contacts DETACH PARTITION crm.rest"],
        Then::Forgotten, Some(&["ALTER TABLE crm.contacts ATTACH PARTITION crm.rest FOR VALUES FROM (700) TO (9000); UPDATE crm.contacts SET last_name = 'Back'"])),
    partitions("detach a partition concurrently", &["ALTER TABLE crm.contacts DETACH PARTITION crm.rest CONCURRENTLY"], Then::Forgotten, None),
    partitions("drop a partition", &["DROP TABLE crm.rest"], Then::Forgotten, None),
    partitions("truncate a partition", &["TRUNCATE crm.rest"], Then::Forgotten, None),
];
