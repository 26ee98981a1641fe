//! The kinds of HubSpot objects that are kept in step: one table, from which all follows that
//! differs between them.

mod custom;
mod lookup;

pub(crate) use custom::learn;
#[cfg(test)]
pub(crate) use lookup::named;
pub use {
    custom::is_custom,
    lookup::{all, associations, from_event, from_name, of, parents, person, type_id},
};

use integration_engine::record::kind::{Convention, Kind, Takes};

use crate::definitions::OWNER;

/// An object type of HubSpot's.
#[derive(Debug)]
pub struct Object {
    kind: Kind,
    /// HubSpot's number of the type, as in its events.
    pub type_id: &'static str,
    /// Its name in paths.
    pub path: &'static str,
    /// What its scopes are named after: HubSpot lets engagements be written with those of contacts.
    scopes: &'static str,
    /// The group of properties that ours is put in.
    pub group: &'static str,
    /// Properties without which HubSpot creates no record; a bar: one of them is enough.
    pub required: &'static [&'static str],
    /// Properties by which people recognise a record.
    pub telling: &'static [&'static str],
    /// A property by which records that others made are recognised; several may share a value.
    pub shared: Option<&'static str>,
    /// The properties that hold a pipeline and its stage.
    pub pipeline: Option<PipelineProperties>,
    /// Whose records its own can be associated with by a column, and HubSpot's numbers for the kinds
    /// of association it has with them, the primary one first.
    pub parents: &'static [(&'static str, &'static [u16])],
    /// The properties that `track()` maps by itself.
    pub conventions: &'static [Convention],
}

/// The properties that hold a pipeline and its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipelineProperties {
    pub pipeline: &'static str,
    pub stage: &'static str,
}

impl PipelineProperties {
    /// Whether a property is one of them.
    pub fn has(&self, property: &str) -> bool {
        [self.pipeline, self.stage].contains(&property)
    }
}

/// What an object is like that has nothing of its own.
const PLAIN: Object = Object {
    kind: Kind {
        name: "",
        place: 0,
        is_person: false,
        is_shared: false,
    },
    type_id: "",
    path: "",
    scopes: "",
    group: "",
    required: &[],
    telling: &[],
    shared: None,
    pipeline: None,
    parents: &[],
    conventions: &[],
};

/// A note, a call and the like.
const ENGAGEMENT: Object = Object {
    scopes: "contacts",
    required: &["hs_timestamp"],
    ..PLAIN
};

/// In the order in which records depend on each other: parents first.
static OBJECTS: &[Object] = &in_order([
    Object {
        type_id: "0-2",
        path: "companies",
        scopes: "companies",
        group: "companyinformation",
        required: &["name|domain"],
        telling: &["name", "domain"],
        // HubSpot makes companies of its own from the domains of contacts' addresses.
        shared: Some("domain"),
        conventions: &[
            text("name", "name company_name"),
            text("domain", "domain website_domain"),
            text("website", "website url homepage"),
            text("phone", "phone phone_number telephone tel"),
            text("address", "street address address_line_1"),
            text("city", "city town"),
            text("state", "state region province"),
            text("zip", "zip postal_code postcode zip_code"),
            text("country", "country country_name"),
            text("industry", "industry"),
            number(
                "numberofemployees",
                "employees employee_count number_of_employees",
            ),
        ],
        ..named("company")
    },
    Object {
        kind: Kind {
            name: "contact",
            is_person: true,
            ..PLAIN.kind
        },
        type_id: "0-1",
        path: "contacts",
        scopes: "contacts",
        group: "contactinformation",
        required: &["email|firstname|lastname"],
        telling: &["email"],
        parents: &[("company", &[1, 279])],
        conventions: &[
            text("email", "email email_address e_mail mail"),
            text("firstname", "first_name firstname given_name forename"),
            text("lastname", "last_name lastname family_name surname"),
            text("phone", "phone phone_number telephone tel"),
            text("mobilephone", "mobile mobile_phone cell_phone"),
            text("company", "company company_name organisation organization"),
            text("jobtitle", "job_title jobtitle position"),
            text("website", "website url homepage"),
            text("address", "street address address_line_1"),
            text("city", "city town"),
            text("state", "state region province"),
            text("zip", "zip postal_code postcode zip_code"),
            text("country", "country country_name"),
            text("lifecyclestage", "lifecycle_stage lifecyclestage"),
        ],
        ..PLAIN
    },
    Object {
        type_id: "0-3",
        path: "deals",
        scopes: "deals",
        group: "dealinformation",
        required: &["dealname", "dealstage"],
        telling: &["dealname"],
        pipeline: Some(PipelineProperties {
            pipeline: "pipeline",
            stage: "dealstage",
        }),
        parents: &[("contact", &[3]), ("company", &[5, 341])],
        conventions: &[
            text("dealname", "dealname deal_name name title"),
            number("amount", "amount value"),
            number("dealstage", "stage deal_stage dealstage"),
            number("pipeline", "pipeline"),
            time("closedate", "close_date closedate closed_at"),
            text("description", "description"),
            OWNED_BY,
        ],
        ..named("deal")
    },
    Object {
        type_id: "0-5",
        path: "tickets",
        scopes: "tickets",
        group: "ticketinformation",
        required: &["subject", "hs_pipeline_stage"],
        telling: &["subject"],
        pipeline: Some(PipelineProperties {
            pipeline: "hs_pipeline",
            stage: "hs_pipeline_stage",
        }),
        parents: &[("contact", &[16]), ("company", &[26, 339]), ("deal", &[28])],
        conventions: &[
            text("subject", "subject title name"),
            text("content", "content body description"),
            number("hs_pipeline", "pipeline hs_pipeline"),
            number("hs_pipeline_stage", "stage status hs_pipeline_stage"),
            text("hs_ticket_priority", "priority"),
            OWNED_BY,
        ],
        ..named("ticket")
    },
    Object {
        type_id: "0-8",
        path: "line_items",
        scopes: "line_items",
        group: "lineiteminformation",
        required: &["name|hs_product_id"],
        telling: &["name"],
        parents: &[("deal", &[20])],
        conventions: &[
            text("name", "name title description"),
            number("quantity", "quantity qty"),
            number("price", "price unit_price"),
            number("hs_product_id", "hs_product_id hubspot_product_id"),
            text("hs_sku", "sku hs_sku"),
        ],
        ..named("line_item")
    },
    Object {
        type_id: "0-46",
        path: "notes",
        group: "note",
        parents: &[
            ("contact", &[202]),
            ("company", &[190]),
            ("deal", &[214]),
            ("ticket", &[228]),
        ],
        conventions: &[
            text("hs_note_body", "body note text content"),
            time("hs_timestamp", "occurred_at noted_at timestamp created_at"),
            OWNED_BY,
        ],
        ..engagement("note")
    },
    Object {
        type_id: "0-48",
        path: "calls",
        group: "call",
        parents: &[
            ("contact", &[194]),
            ("company", &[182]),
            ("deal", &[206]),
            ("ticket", &[220]),
        ],
        conventions: &[
            text("hs_call_title", "title subject"),
            text("hs_call_body", "body notes description"),
            text("hs_call_direction", "direction"),
            text("hs_call_status", "status"),
            number("hs_call_duration", "duration_ms"),
            text("hs_call_from_number", "from_number"),
            text("hs_call_to_number", "to_number"),
            time(
                "hs_timestamp",
                "occurred_at called_at started_at timestamp created_at",
            ),
            OWNED_BY,
        ],
        ..engagement("call")
    },
    Object {
        type_id: "0-49",
        path: "emails",
        group: "email",
        required: &["hs_timestamp", "hs_email_direction"],
        parents: &[
            ("contact", &[198]),
            ("company", &[186]),
            ("deal", &[210]),
            ("ticket", &[224]),
        ],
        conventions: &[
            text("hs_email_subject", "subject title"),
            text("hs_email_text", "body text body_text"),
            text("hs_email_html", "html body_html"),
            text("hs_email_direction", "direction"),
            text("hs_email_status", "status"),
            time(
                "hs_timestamp",
                "occurred_at sent_at received_at timestamp created_at",
            ),
            OWNED_BY,
        ],
        ..engagement("email")
    },
    Object {
        type_id: "0-47",
        path: "meetings",
        group: "meeting",
        parents: &[
            ("contact", &[200]),
            ("company", &[188]),
            ("deal", &[212]),
            ("ticket", &[226]),
        ],
        conventions: &[
            text("hs_meeting_title", "title subject name"),
            text("hs_meeting_body", "body description agenda"),
            text("hs_meeting_location", "location place"),
            text("hs_meeting_outcome", "outcome"),
            time("hs_meeting_start_time", "start_time starts_at started_at"),
            time("hs_meeting_end_time", "end_time ends_at ended_at"),
            time(
                "hs_timestamp",
                "occurred_at start_time starts_at started_at timestamp created_at",
            ),
            OWNED_BY,
        ],
        ..engagement("meeting")
    },
    Object {
        type_id: "0-27",
        path: "tasks",
        group: "task",
        parents: &[
            ("contact", &[204]),
            ("company", &[192]),
            ("deal", &[216]),
            ("ticket", &[230]),
        ],
        conventions: &[
            text("hs_task_subject", "subject title name"),
            text("hs_task_body", "body description notes"),
            text("hs_task_status", "status"),
            text("hs_task_priority", "priority"),
            text("hs_task_type", "type kind"),
            time(
                "hs_timestamp",
                "due_at due_date due_on occurred_at timestamp created_at",
            ),
            OWNED_BY,
        ],
        ..engagement("task")
    },
]);

/// Ids of owners are numbers, and so are those of pipelines and stages that people made.
const OWNED_BY: Convention = number(OWNER, "owner_email hubspot_owner_id");

const fn text(remote_field: &'static str, columns: &'static str) -> Convention {
    convention(remote_field, Takes::Text, columns)
}

const fn number(remote_field: &'static str, columns: &'static str) -> Convention {
    convention(remote_field, Takes::Number, columns)
}

const fn time(remote_field: &'static str, columns: &'static str) -> Convention {
    convention(remote_field, Takes::Time, columns)
}

const fn convention(remote_field: &'static str, takes: Takes, columns: &'static str) -> Convention {
    Convention {
        remote_field,
        takes,
        columns,
    }
}

const fn named(name: &'static str) -> Object {
    Object {
        kind: Kind { name, ..PLAIN.kind },
        ..PLAIN
    }
}

const fn engagement(name: &'static str) -> Object {
    Object {
        kind: Kind { name, ..PLAIN.kind },
        ..ENGAGEMENT
    }
}

/// Assigns each object its place.
const fn in_order<const N: usize>(mut objects: [Object; N]) -> [Object; N] {
    let mut place = 0;
    while place < N {
        objects[place].kind.place = place as u16;
        objects[place].kind.is_shared = objects[place].shared.is_some();
        place += 1;
    }
    objects
}
