//! Code that an owner put into a table's triggers, views, indexes and filters gains no rights, in
//! whichever process and transaction it runs.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Service, unlimited},
    sql::{refused, refused_with_hint},
    wait::wait_until,
};

use crate::inbound::webhooks::import;
use crate::jobs::backfill::wait_for;

/// A table of contacts, owned by somebody who means harm, and what they try: `crm.grab()` takes
/// whatever the present user may do, and notes who that was.
struct Mallory {
    crm: Crm,
    role: String,
}

impl Mallory {
    fn new() -> Mallory {
        let mut crm = Crm::untracked(Cluster::shared(), unlimited());
        let role = format!("{}_mallory", crm.database);
        crm.run(&format!(
            "CREATE ROLE {role}; GRANT USAGE, CREATE ON SCHEMA crm TO {role};
             ALTER TABLE crm.contacts OWNER TO {role};
             SET ROLE {role};
             CREATE TABLE crm.loot (who name, how text);
             GRANT ALL ON crm.loot TO PUBLIC;
             CREATE FUNCTION crm.grab(how text) RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO crm.loot VALUES (current_user, how);
                 IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
                     ALTER ROLE {role} SUPERUSER;
                 END IF;
                 RETURN true;
             END $$;
             CREATE TABLE crm.bait (id int);
             CREATE FUNCTION crm.spring() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM crm.grab('deferred'); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON crm.bait DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION crm.spring();
             RESET ROLE"
        ));
        Mallory { crm, role }
    }

    /// Ten contacts on both sides.
    fn in_step(&mut self) {
        self.crm.track();
        self.crm.add_contacts(1, 10);
        self.crm.converges();
    }

    /// Whatever ran did so as the owner.
    #[track_caller]
    fn gained_nothing(&mut self) {
        let role = self.role.clone();
        let superuser = format!("SELECT rolsuper FROM pg_roles WHERE rolname = '{role}'");
        assert!(!self.crm.ask::<bool>(&superuser));
        let others = format!("SELECT who, how FROM crm.loot WHERE who <> '{role}'");
        assert_eq!(self.crm.rows(&others), [""; 0]);
    }

    /// What ran as the owner.
    fn tried(&mut self) -> Vec<String> {
        self.crm
            .rows("SELECT DISTINCT how FROM crm.loot ORDER BY 1")
    }

    /// A person in HubSpot renames contact 4, and the event is applied, or refused.
    fn first_name_comes_in(&mut self) -> String {
        self.crm.remote.clear_webhooks();
        let (id, _) = self.crm.remote.contact("person4@example.org").unwrap();
        self.crm.remote.person_sets(id, "firstname", "Augusta");
        let webhook = self.crm.remote.webhooks_of(Service::HubSpot).remove(0);
        import(&mut self.crm, &webhook);
        wait_until("the event is applied or refused", SOON, || {
            let rows = self
                .crm
                .rows("SELECT state FROM integration.inbox WHERE state <> 'pending'");
            rows.into_iter().next()
        })
    }

    fn as_owner(&mut self, sql: &str) {
        let role = self.role.clone();
        self.crm.run(&format!("SET ROLE {role}; {sql}; RESET ROLE"));
    }
}

impl Drop for Mallory {
    fn drop(&mut self) {
        let role = &self.role;
        let _ = self.crm.client.batch_execute(&format!(
            "RESET ROLE; REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
        ));
    }
}

#[test]
fn deferred_trigger_that_queues_another_runs_nothing_at_commit() {
    let mut mallory = Mallory::new();
    mallory.in_step();
    mallory.as_owner(
        "CREATE FUNCTION crm.chain() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM crm.grab('trigger');
             BEGIN
                 SET CONSTRAINTS ALL DEFERRED;
                 INSERT INTO crm.bait VALUES (1);
             EXCEPTION WHEN OTHERS THEN NULL;
             END;
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER chain AFTER UPDATE ON crm.contacts DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION crm.chain()",
    );
    assert_eq!(mallory.first_name_comes_in(), "applied");
    assert_eq!(mallory.tried(), ["trigger"]);
    mallory.gained_nothing();
}

#[test]
fn trigger_that_waits_for_the_end_of_the_transaction_runs_with_the_write() {
    let mut mallory = Mallory::new();
    mallory.in_step();
    mallory.as_owner(
        "CREATE CONSTRAINT TRIGGER spring AFTER UPDATE ON crm.contacts DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION crm.spring()",
    );
    assert_eq!(mallory.first_name_comes_in(), "applied");
    assert_eq!(mallory.tried(), ["deferred"]);
    mallory.gained_nothing();
}

#[test]
fn view_that_writes_queues_nothing_and_changes_no_setting() {
    let mut mallory = Mallory::new();
    // An operator that the worker's own statements would find first.
    mallory.as_owner(
        "CREATE FUNCTION crm.same(int2, int2) RETURNS boolean LANGUAGE sql AS 'SELECT crm.grab(''operator'')';
         CREATE FUNCTION crm.same(int4, int4) RETURNS boolean LANGUAGE sql AS 'SELECT crm.grab(''operator'')';
         CREATE FUNCTION crm.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT crm.grab(''operator'')';
         CREATE OPERATOR crm.= (LEFTARG = int2, RIGHTARG = int2, FUNCTION = crm.same);
         CREATE OPERATOR crm.= (LEFTARG = int4, RIGHTARG = int4, FUNCTION = crm.same);
         CREATE OPERATOR crm.= (LEFTARG = text, RIGHTARG = text, FUNCTION = crm.same);
         CREATE FUNCTION crm.trick(name text) RETURNS text LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM crm.grab('view');
             INSERT INTO crm.bait VALUES (1);
             PERFORM set_config('search_path', 'crm, pg_catalog', false);
             BEGIN
                 CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (crm.grab('domain'));
             EXCEPTION WHEN OTHERS THEN NULL;
             END;
             BEGIN
                 SET CONSTRAINTS ALL DEFERRED;
                 INSERT INTO crm.bait VALUES (2);
             EXCEPTION WHEN OTHERS THEN NULL;
             END;
             BEGIN
                 RESET ROLE;
             EXCEPTION WHEN OTHERS THEN NULL;
             END;
             BEGIN
                 RESET SESSION AUTHORIZATION;
             EXCEPTION WHEN OTHERS THEN NULL;
             END;
             RETURN name;
         END $$;
         CREATE VIEW crm.shown AS SELECT id, email, crm.trick(first_name) AS first_name FROM crm.contacts",
    );
    mallory
        .crm
        .run("SELECT integration.track('crm.contacts', 'contact', payload => 'crm.shown', targets => '{hubspot}'); SELECT integration.provision('hubspot')");
    mallory.crm.add_contacts(1, 10);
    mallory.crm.settle();
    mallory.crm.run(
        "SELECT integration.backfill('crm.contacts'); SELECT integration.reconcile('crm.contacts')",
    );
    mallory.crm.settle();
    assert_eq!(mallory.crm.remote.contacts().len(), 10);
    assert_eq!(mallory.tried(), ["deferred", "view"]);
    mallory.gained_nothing();
    // In a backend, where the caller's own triggers may wait, none can be queued at all.
    let preview =
        "BEGIN; INSERT INTO crm.bait VALUES (3); SELECT integration.preview('crm.contacts', '4')";
    let error = refused(&mut mallory.crm.client, preview);
    assert_eq!(error.code().code(), "42501");
    mallory.crm.run("ROLLBACK");
    mallory.gained_nothing();
}

#[test]
fn estimate_runs_no_index_expression() {
    let mut mallory = Mallory::new();
    mallory.crm.add_contacts(1, 1_000);
    mallory.crm.track();
    mallory.as_owner(
        "CREATE FUNCTION crm.evil(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
         $$ BEGIN PERFORM crm.grab('index'); RETURN $1; END $$;
         CREATE INDEX ON crm.contacts ((crm.evil(1)));
         DELETE FROM crm.loot",
    );
    let role = mallory.role.clone();
    let estimate =
        |crm: &mut Crm| crm.ask::<i64>("SELECT integration._estimated_rows('crm.contacts')");
    let guess = estimate(&mut mallory.crm);
    assert!((200..5_000).contains(&guess), "{guess}");
    assert_eq!(mallory.tried(), [""; 0]);
    mallory
        .crm
        .run("ANALYZE crm.contacts; DELETE FROM crm.loot");
    assert_eq!(estimate(&mut mallory.crm), 1_000);
    mallory
        .crm
        .run("SELECT integration.backfill('crm.contacts', 'hubspot', 'id < 10'); SELECT integration.reconcile('crm.contacts', 'hubspot')");
    mallory.crm.settle();
    mallory.gained_nothing();
    assert_eq!(role, mallory.role);
}

#[test]
fn filter_changes_no_setting_of_the_caller() {
    let mut mallory = Mallory::new();
    mallory.crm.add_contacts(1, 10);
    mallory.crm.track();
    mallory.as_owner(
        "DELETE FROM crm.loot;
         CREATE FUNCTION crm.hijack() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
         BEGIN
             PERFORM crm.grab('filter');
             PERFORM set_config('search_path', 'crm, pg_catalog', false);
             RETURN true;
         END $$;
         CREATE FUNCTION crm.evil(int8, int4) RETURNS int8 LANGUAGE sql AS 'SELECT crm.grab(''operator'')::int::int8';
         CREATE OPERATOR crm.* (LEFTARG = int8, RIGHTARG = int4, FUNCTION = crm.evil);
         CREATE FUNCTION crm.format(text, bigint) RETURNS text LANGUAGE sql AS 'SELECT crm.grab(''function'')::text'",
    );
    let job = mallory
        .crm
        .ask::<i64>("SELECT integration.backfill('crm.contacts', 'hubspot', 'crm.hijack()')");
    assert_eq!(mallory.tried(), ["filter"]);
    wait_for(&mut mallory.crm, job, "state = 'done'");
    assert_eq!(mallory.crm.remote.contacts().len(), 10);
    mallory.gained_nothing();
}

#[test]
fn filter_is_checked_for_the_tables_owner_alone() {
    let mut mallory = Mallory::new();
    mallory.crm.track();
    let stranger = format!("{}_stranger", mallory.crm.database);
    mallory.crm.run(&format!(
        "CREATE ROLE {stranger} LOGIN; GRANT USAGE ON SCHEMA integration TO {stranger};
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA integration TO {stranger};
         GRANT SELECT ON ALL TABLES IN SCHEMA integration TO {stranger}"
    ));
    let mut config = mallory.crm.cluster.config(&mallory.crm.database);
    let mut client = config.user(&stranger).connect(postgres::NoTls).unwrap();
    let check = "SELECT integration._check_filter('crm.contacts'::regclass::oid, 'true')";
    assert_eq!(refused(&mut client, check).code().code(), "42501");
    drop(client);
    mallory
        .crm
        .run(&format!("DROP OWNED BY {stranger}; DROP ROLE {stranger}"));
    refused_with_hint(
        &mut mallory.crm.client,
        "SELECT integration.backfill('crm.contacts', filter => 'nonsense')",
        "42703",
    );
}

#[test]
fn table_that_changes_hands_is_written_with_the_new_owners_rights() {
    let mut mallory = Mallory::new();
    mallory
        .crm
        .run("ALTER TABLE crm.contacts OWNER TO CURRENT_USER");
    mallory.in_step();
    let role = mallory.role.clone();
    mallory
        .crm
        .run(&format!("ALTER TABLE crm.contacts OWNER TO {role}"));
    mallory.as_owner(
        "CREATE FUNCTION crm.note() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM crm.grab('trigger'); RETURN NEW; END $$;
         CREATE TRIGGER note BEFORE UPDATE ON crm.contacts FOR EACH ROW EXECUTE FUNCTION crm.note()",
    );
    assert_eq!(mallory.first_name_comes_in(), "applied");
    assert_eq!(mallory.tried(), ["trigger"]);
    mallory.gained_nothing();
}

#[test]
fn table_that_takes_a_renamed_ones_name_is_not_read() {
    let mut mallory = Mallory::new();
    mallory.in_step();
    mallory.as_owner(
        "ALTER TABLE crm.contacts RENAME TO people;
         CREATE VIEW crm.contacts AS SELECT id, email, 'Mallory'::text AS first_name, last_name, phone, company, job_title, marketing_opt_in
             FROM crm.people WHERE crm.grab('view')",
    );
    mallory
        .crm
        .run("UPDATE crm.people SET first_name = 'Ada' WHERE id = 4");
    mallory.crm.settle();
    let (_, properties) = mallory.crm.remote.contact("person4@example.org").unwrap();
    assert_eq!(properties["firstname"], "Ada");
    // Nor by those who ask from elsewhere.
    mallory.crm.run(
        "SELECT integration.backfill('crm.people', 'hubspot', 'true'); SELECT integration.preview('crm.people', '4')",
    );
    mallory.crm.settle();
    assert_eq!(mallory.first_name_comes_in(), "applied");
    assert_eq!(
        mallory
            .crm
            .ask::<String>("SELECT first_name FROM crm.people WHERE id = 4"),
        "Augusta"
    );
    assert_eq!(mallory.tried(), [""; 0]);
}
