//! Kinds of objects that differ in nothing but what the table of kinds says: each is a line here, and
//! goes all the ways that a record can go.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    portal::{fields, one_is_dead, provision},
    remote::{ObjectType, Service, unlimited},
    wait::wait_until,
};

use crate::inbound::webhooks::import;

/// A kind, and a table of it.
pub struct Kind {
    pub entity: &'static str,
    pub object: ObjectType,
    pub columns: &'static str,
    pub values: &'static str,
    /// The first column's property.
    pub property: &'static str,
    /// What maps the columns, where `track()` does not.
    pub map: &'static str,
}

const TICKET: Kind = Kind {
    entity: "ticket",
    object: ObjectType::Ticket,
    columns: "title text, status text",
    values: "'Broken', '1'",
    property: "subject",
    map: "",
};

const LINE_ITEM: Kind = Kind {
    entity: "line_item",
    object: ObjectType::LineItem,
    columns: "name text, quantity int, unit_price numeric",
    values: "'Bolt', 12, 0.25",
    property: "name",
    map: "",
};

/// What they are children of.
const DEALS: &str = "
    CREATE TABLE crm.deals (id int PRIMARY KEY, name text, stage text);
    SELECT integration.track('crm.deals', 'deal');
    INSERT INTO crm.deals VALUES (7, 'Big', 'closedwon'), (8, 'Small', 'closedwon')";

impl Kind {
    fn column(&self) -> &'static str {
        self.columns.split(' ').next().unwrap()
    }

    /// A CRM with a tracked table of this kind, and a row that belongs to a deal.
    fn start(&self) -> Crm {
        self.start_in(untracked())
    }

    fn start_in(&self, mut crm: Crm) -> Crm {
        let Kind {
            entity,
            columns,
            values,
            map,
            ..
        } = self;
        crm.run(&format!(
            "{DEALS};
             CREATE TABLE crm.t (id int PRIMARY KEY, {columns}, deal_id int);
             SELECT integration.track('crm.t', '{entity}');
             {map}
             SELECT integration.map_association('crm.t', 'deal_id', 'crm.deals');
             INSERT INTO crm.t VALUES (1, {values}, 7)"
        ));
        provision(&mut crm);
        crm.settle();
        crm
    }

    fn value(&self, crm: &Crm) -> String {
        fields(crm, self.object, "1")[self.property].clone()
    }

    fn id(&self, crm: &Crm) -> u64 {
        crm.remote.by_key(self.object, "1").unwrap().id
    }

    /// Waits until HubSpot has it with this deal alone.
    #[track_caller]
    fn belongs_to(&self, crm: &Crm, deal: &str) {
        let what = format!("{} belongs to {deal} alone", self.entity);
        wait_until(&what, SOON, || (self.deals(crm) == [deal]).then_some(()));
    }

    /// The names of the deals that HubSpot has it with.
    fn deals(&self, crm: &Crm) -> Vec<String> {
        let name = self.object.plural();
        let all = crm.remote.associations().into_iter();
        let of_deals = all.filter(|one| (one.from_type, one.to_type) == (name, "deals"));
        let key = |id| {
            let deal = crm.remote.record(ObjectType::Deal, id).unwrap();
            deal.properties["dealname"].clone()
        };
        of_deals.map(|one| key(one.to)).collect()
    }

    pub fn goes_all_the_ways(&self, crm: Crm) {
        let mut crm = self.start_in(crm);
        let (entity, column) = (self.entity, self.column());
        let sent = crm.ask::<String>(&format!("SELECT {column} FROM crm.t"));
        assert_eq!(self.value(&crm), sent, "{entity} is created");
        self.belongs_to(&crm, "Big");

        crm.run(&format!(
            "UPDATE crm.t SET {column} = 'Changed', deal_id = 8"
        ));
        crm.settle();
        assert_eq!(self.value(&crm), "Changed", "{entity} is changed");
        self.belongs_to(&crm, "Small");

        self.comes_back(&mut crm);
        self.is_compared(&mut crm);

        let writes = crm.remote.writes();
        crm.run("DELETE FROM crm.t");
        crm.settle();
        assert!(
            crm.remote.by_key(self.object, "1").is_none(),
            "{entity} is archived"
        );
        assert_eq!(
            crm.remote.writes(),
            writes + 1,
            "{entity}: nothing else was written"
        );
    }

    /// By webhooks in either form.
    fn comes_back(&self, crm: &mut Crm) {
        let id = self.id(crm);
        for generic in [false, true] {
            crm.remote
                .configure(|config| config.hubspot.generic_events = generic);
            crm.remote.clear_webhooks();
            let said = format!("Said there ({generic})");
            crm.remote
                .set_property(self.object, id, self.property, &said)
                .unwrap();
            let writes = crm.remote.writes();
            for webhook in crm.remote.webhooks_of(Service::HubSpot) {
                import(crm, &webhook);
            }
            crm.settle();
            let held = crm.ask::<String>(&format!("SELECT {} FROM crm.t", self.column()));
            assert_eq!(held, said, "{} comes back", self.entity);
            assert_eq!(crm.remote.writes(), writes, "{} does not echo", self.entity);
        }
    }

    /// What no webhook told of.
    fn is_compared(&self, crm: &mut Crm) {
        let id = self.id(crm);
        crm.remote
            .set_property(self.object, id, self.property, "Untold")
            .unwrap();
        crm.remote.clear_webhooks();
        let job: i64 = crm.ask("SELECT integration.reconcile('crm.t', 'hubspot', true)");
        wait_until("both sides are compared", SOON, || {
            let state: String = crm.ask(&format!(
                "SELECT state FROM integration.job WHERE id = {job}"
            ));
            (state == "done").then_some(())
        });
        crm.settle();
        assert_eq!(
            crm.rows("SELECT kind, record_key, remote_field, remote_value FROM integration.drift"),
            [format!("field|1|{}|Untold", self.property)],
        );
        let held = crm.ask::<String>(&format!("SELECT {} FROM crm.t", self.column()));
        assert_eq!(
            held,
            self.value(crm),
            "{} is equal on both sides",
            self.entity
        );
    }
}

fn untracked() -> Crm {
    Crm::untracked(Cluster::shared(), unlimited())
}

#[test]
fn tickets() {
    TICKET.goes_all_the_ways(untracked());
}

#[test]
fn line_items() {
    LINE_ITEM.goes_all_the_ways(untracked());
}

#[test]
fn tickets_have_pipelines_of_their_own() {
    let mut crm = TICKET.start();
    let (pipeline, stages) =
        crm.remote
            .add_pipeline(ObjectType::Ticket, "Returns", &["Open", "Sent back"]);
    crm.run(
        "ALTER TABLE crm.t ADD pipeline text;
         SELECT integration.map_field('crm.t', 'pipeline', 'hubspot', 'hs_pipeline');
         INSERT INTO crm.t (id, title, status, pipeline) VALUES (2, 'Back', 'Sent back', 'Returns')",
    );
    crm.settle();
    let sent = fields(&crm, ObjectType::Ticket, "2");
    assert_eq!(
        (&sent["hs_pipeline"], &sent["hs_pipeline_stage"]),
        (&pipeline, &stages[1])
    );
    crm.run("UPDATE crm.t SET status = '4' WHERE id = 2");
    crm.settle();
    one_is_dead(&mut crm, "2", "validation", &["status", "Returns"]);
}
