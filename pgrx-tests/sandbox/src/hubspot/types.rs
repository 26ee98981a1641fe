//! Object types, as data: names, numbers, properties, and what else differs between them.

use std::sync::{PoisonError, RwLock};

use super::schemas::NewObject;

/// What differs between types.
#[derive(Debug)]
pub(crate) struct Kind {
    object: ObjectType,
    plural: &'static str,
    singular: &'static str,
    number: &'static str,
    /// What its scopes are named after. HubSpot: what is allowed of contacts is allowed of
    /// engagements.
    pub scopes: &'static str,
    pub group: &'static str,
    /// `name type;` and so on, with `!` after the name of a read-only one, and `a|b` for choices.
    pub properties: &'static str,
    /// Properties of which a new record needs one, and those it needs all of.
    pub any_of: &'static [&'static str],
    pub all_of: &'static [&'static str],
    pub pipeline: Option<Pipelines>,
    /// What it can be associated with, as which type from here, and from there.
    pub ties: &'static [(ObjectType, u32, u32)],
    /// The same for "primary" types, which go with those.
    pub primary: &'static [(ObjectType, u32, u32)],
    /// What a read returns when no property is named.
    defaults: &'static [&'static str],
    /// Whether its properties can have unique values.
    pub takes_unique: bool,
}

/// The pipelines of a type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pipelines {
    pub pipeline: &'static str,
    pub stage: &'static str,
    /// The id of the first one, its label, and the ids of its stages.
    pub first: &'static str,
    pub label: &'static str,
    pub stages: &'static str,
}

/// Names the types, in the order of their stores.
macro_rules! types {
    ($($name:ident),*) => {
        /// Type of a CRM record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ObjectType {
            $($name,)*
            /// One that administrators made.
            Custom(u16),
        }

        impl ObjectType {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

types!(
    Contact, Company, Deal, Ticket, Product, LineItem, Task, Note, Meeting, Call, Email
);

use ObjectType::{
    Call, Company, Contact, Deal, Email, LineItem, Meeting, Note, Product, Task, Ticket,
};

const PLAIN: Kind = Kind {
    object: Contact,
    plural: "",
    singular: "",
    number: "",
    scopes: "",
    group: "",
    properties: "",
    any_of: &[],
    all_of: &[],
    pipeline: None,
    ties: &[],
    primary: &[],
    defaults: &[],
    takes_unique: true,
};

const ENGAGEMENT: Kind = Kind {
    scopes: "contacts",
    all_of: &["hs_timestamp"],
    ..PLAIN
};

/// In the order of [`ObjectType::ALL`].
static KINDS: &[Kind] = &[
    Kind {
        object: Contact,
        plural: "contacts",
        singular: "contact",
        number: "0-1",
        scopes: "contacts",
        group: "contactinformation",
        properties: "email email; firstname string; lastname string; phone phone; mobilephone phone; fax string; \
            company string; jobtitle string; website string; address string; city string; state string; zip string; \
            country string; salutation string; hubspot_owner_id owner; associatedcompanyid! number; \
            hs_email_optout! bool; hs_additional_emails! string; hs_email_domain! string; \
            hs_calculated_merged_vids! string; num_notes! number; notes_last_updated! datetime; date_of_birth string; \
            hs_language lang; industry string; annualrevenue string; numemployees string; message string; \
            twitterhandle string; closedate datetime; \
            lifecyclestage enum subscriber|lead|marketingqualifiedlead|salesqualifiedlead|opportunity|customer|evangelist|other; \
            hs_lead_status enum NEW|OPEN|IN_PROGRESS|OPEN_DEAL|UNQUALIFIED|ATTEMPTED_TO_CONTACT|CONNECTED|BAD_TIMING; ",
        any_of: &["email", "firstname", "lastname"],
        ties: &[(Company, 279, 280), (Contact, 449, 449)],
        primary: &[(Company, 1, 2)],
        defaults: &["email", "firstname", "lastname"],
        ..PLAIN
    },
    Kind {
        object: Company,
        plural: "companies",
        singular: "company",
        number: "0-2",
        scopes: "companies",
        group: "companyinformation",
        properties: "name string; domain string; website string; phone phone; address string; address2 string; \
            city string; state string; zip string; country string; description string; numberofemployees number; \
            annualrevenue number; hubspot_owner_id owner; founded_year string; is_public bool; timezone string; \
            hs_num_open_deals! number; num_associated_contacts! number; num_associated_deals! number; \
            type enum PROSPECT|PARTNER|RESELLER|VENDOR|OTHER; \
            industry enum ACCOUNTING|COMPUTER_SOFTWARE|CONSTRUCTION|EDUCATION_MANAGEMENT|FINANCIAL_SERVICES|INTERNET|RETAIL; \
            lifecyclestage enum subscriber|lead|marketingqualifiedlead|salesqualifiedlead|opportunity|customer|evangelist|other; ",
        any_of: &["name", "domain"],
        ties: &[(Company, 450, 450)],
        defaults: &["name", "domain"],
        ..PLAIN
    },
    Kind {
        object: Deal,
        plural: "deals",
        singular: "deal",
        number: "0-3",
        scopes: "deals",
        group: "dealinformation",
        properties: "dealname string; amount number; dealstage stage; pipeline pipeline; closedate datetime; \
            deal_currency_code string; hubspot_owner_id owner; description string; \
            hs_is_closed! bool; hs_is_closed_won! bool; hs_forecast_amount number; num_associated_contacts! number; \
            hs_priority enum low|medium|high; dealtype enum newbusiness|existingbusiness; ",
        all_of: &["dealname", "dealstage"],
        pipeline: Some(Pipelines {
            pipeline: "pipeline",
            stage: "dealstage",
            first: "default",
            label: "Sales Pipeline",
            stages: "appointmentscheduled|qualifiedtobuy|presentationscheduled|decisionmakerboughtin|contractsent|closedwon|closedlost",
        }),
        ties: &[(Contact, 3, 4), (Company, 341, 342), (Deal, 451, 451)],
        primary: &[(Company, 5, 6)],
        defaults: &["dealname", "amount", "closedate", "pipeline", "dealstage"],
        ..PLAIN
    },
    Kind {
        object: Ticket,
        plural: "tickets",
        singular: "ticket",
        number: "0-5",
        scopes: "tickets",
        group: "ticketinformation",
        properties: "subject string; content string; hs_pipeline pipeline; hs_pipeline_stage stage; \
            hubspot_owner_id owner; hs_ticket_priority enum LOW|MEDIUM|HIGH|URGENT; ",
        all_of: &["subject", "hs_pipeline_stage"],
        pipeline: Some(Pipelines {
            pipeline: "hs_pipeline",
            stage: "hs_pipeline_stage",
            first: "0",
            label: "Support Pipeline",
            stages: "1|2|3|4",
        }),
        ties: &[(Contact, 16, 15), (Company, 339, 340), (Deal, 28, 27)],
        primary: &[(Company, 26, 25)],
        defaults: &["subject", "content", "hs_pipeline", "hs_pipeline_stage"],
        ..PLAIN
    },
    Kind {
        object: Product,
        plural: "products",
        singular: "product",
        number: "0-7",
        scopes: "contacts",
        group: "productinformation",
        properties: "name string; description string; price number; hs_sku string; ",
        takes_unique: false,
        ..PLAIN
    },
    Kind {
        object: LineItem,
        plural: "line_items",
        singular: "line_item",
        number: "0-8",
        scopes: "line_items",
        group: "lineiteminformation",
        properties: "name string; quantity number; price number; hs_product_id string; hs_sku string; amount! number; ",
        any_of: &["name", "hs_product_id"],
        ties: &[(Deal, 20, 19)],
        defaults: &["name", "quantity", "price"],
        ..PLAIN
    },
    Kind {
        object: Task,
        plural: "tasks",
        singular: "task",
        number: "0-27",
        group: "task",
        properties: "hs_task_subject string; hs_task_body string; \
            hs_task_status enum NOT_STARTED|COMPLETED|IN_PROGRESS|WAITING|DEFERRED; \
            hs_task_priority enum NONE|LOW|MEDIUM|HIGH; hs_task_type enum EMAIL|CALL|TODO; hs_task_reminders string; ",
        ties: &[
            (Contact, 204, 203),
            (Company, 192, 191),
            (Deal, 216, 215),
            (Ticket, 230, 229),
        ],
        ..ENGAGEMENT
    },
    Kind {
        object: Note,
        plural: "notes",
        singular: "note",
        number: "0-46",
        group: "note",
        properties: "hs_note_body string; hs_attachment_ids string; ",
        ties: &[
            (Contact, 202, 201),
            (Company, 190, 189),
            (Deal, 214, 213),
            (Ticket, 228, 227),
        ],
        ..ENGAGEMENT
    },
    Kind {
        object: Meeting,
        plural: "meetings",
        singular: "meeting",
        number: "0-47",
        group: "meeting",
        properties: "hs_meeting_title string; hs_meeting_body string; hs_meeting_start_time datetime; \
            hs_meeting_end_time datetime; hs_meeting_location string; hs_internal_meeting_notes string; \
            hs_meeting_outcome enum SCHEDULED|COMPLETED|RESCHEDULED|NO_SHOW|CANCELED; ",
        ties: &[
            (Contact, 200, 199),
            (Company, 188, 187),
            (Deal, 212, 211),
            (Ticket, 226, 225),
        ],
        ..ENGAGEMENT
    },
    Kind {
        object: Call,
        plural: "calls",
        singular: "call",
        number: "0-48",
        group: "call",
        properties: "hs_call_title string; hs_call_body string; hs_call_direction enum INBOUND|OUTBOUND; \
            hs_call_duration number; hs_call_from_number string; hs_call_to_number string; hs_call_recording_url string; \
            hs_call_disposition string; hs_call_status enum \
            BUSY|CALLING_CRM_USER|CANCELED|COMPLETED|CONNECTING|FAILED|IN_PROGRESS|NO_ANSWER|QUEUED|RINGING; ",
        ties: &[
            (Contact, 194, 193),
            (Company, 182, 181),
            (Deal, 206, 205),
            (Ticket, 220, 219),
        ],
        ..ENGAGEMENT
    },
    Kind {
        object: Email,
        plural: "emails",
        singular: "email",
        number: "0-49",
        group: "email",
        properties: "hs_email_direction enum EMAIL|INCOMING_EMAIL|FORWARDED_EMAIL; \
            hs_email_status enum BOUNCED|FAILED|SCHEDULED|SENDING|SENT; hs_email_subject string; hs_email_text string; \
            hs_email_html string; hs_email_headers string; hs_email_from_email! string; hs_email_to_email! string; ",
        all_of: &["hs_timestamp", "hs_email_direction"],
        ties: &[
            (Contact, 198, 197),
            (Company, 186, 185),
            (Deal, 210, 209),
            (Ticket, 224, 223),
        ],
        ..ENGAGEMENT
    },
];

/// Kinds that administrators made, of all sandboxes of the process: types are plain numbers.
static CUSTOM: RwLock<Vec<&'static Kind>> = RwLock::new(Vec::new());

fn custom() -> Vec<&'static Kind> {
    CUSTOM
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

fn every_kind() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().chain(custom())
}

impl ObjectType {
    /// A new custom type.
    pub(crate) fn make(new: &NewObject, fully_qualified: &str) -> Self {
        let mut custom = CUSTOM.write().unwrap_or_else(PoisonError::into_inner);
        let place = custom.len() as u16;
        let object = Self::Custom(place);
        // Each has numbers of its own.
        let first = 5_000 + 100 * u32::from(place);
        let ties = (0..).step_by(2).zip(new.associated);
        let ties: Vec<_> = ties
            .map(|(at, &to)| (to, first + at, first + at + 1))
            .collect();
        custom.push(Box::leak(Box::new(Kind {
            object,
            plural: fully_qualified.to_owned().leak(),
            singular: new.name,
            number: format!("2-{}", 900 + place).leak(),
            scopes: "custom",
            group: format!("{}_information", new.name).leak(),
            properties: format!("{}; hubspot_owner_id owner; ", new.properties).leak(),
            all_of: new.required,
            ties: ties.leak(),
            defaults: new.required,
            ..PLAIN
        })));
        object
    }

    /// The type of a store.
    pub(crate) fn at(index: usize) -> Self {
        match Self::ALL.get(index) {
            Some(standard) => *standard,
            None => Self::Custom((index - Self::ALL.len()) as u16),
        }
    }

    /// Reads a type as paths name it: plural, singular or number.
    pub fn parse(text: &str) -> Option<Self> {
        let named = |kind: &&Kind| {
            text.eq_ignore_ascii_case(kind.plural)
                || text.eq_ignore_ascii_case(kind.singular)
                || text == kind.number
        };
        KINDS.iter().find(named).map(|kind| kind.object)
    }

    pub(crate) fn kind(self) -> &'static Kind {
        match self {
            Self::Custom(place) => custom()[usize::from(place)],
            standard => &KINDS[standard.index()],
        }
    }

    pub fn plural(self) -> &'static str {
        self.kind().plural
    }

    pub fn singular(self) -> &'static str {
        self.kind().singular
    }

    /// `0-1` for contacts.
    pub fn number(self) -> &'static str {
        self.kind().number
    }

    pub(crate) fn is_engagement(self) -> bool {
        self.kind().all_of.contains(&"hs_timestamp")
    }

    /// Name of the "last modified" property: contacts differ from everything else.
    pub(crate) fn modified_property(self) -> &'static str {
        if self == Self::Contact {
            "lastmodifieddate"
        } else {
            "hs_lastmodifieddate"
        }
    }

    /// Name of the "created" property: engagements differ.
    pub(crate) fn created_property(self) -> &'static str {
        if self.is_engagement() {
            "hs_createdate"
        } else {
            "createdate"
        }
    }

    /// What a read returns when no property is named.
    pub(crate) fn default_properties(self) -> &'static [&'static str] {
        self.kind().defaults
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Custom(place) => Self::ALL.len() + usize::from(place),
            standard => Self::ALL
                .iter()
                .take_while(|known| **known != standard)
                .count(),
        }
    }

    /// Webhooks of these types exist in the classic form (`contact.creation`).
    pub(crate) fn has_classic_events(self) -> bool {
        !self.is_engagement() && !matches!(self, Self::Custom(_))
    }
}

/// All the scopes there are.
pub(crate) fn every_scope() -> Vec<String> {
    let mut objects: Vec<&str> = KINDS.iter().map(|kind| kind.scopes).collect();
    objects.push("custom");
    objects.sort_unstable();
    objects.dedup();
    let of_objects = objects.into_iter().flat_map(|object| {
        [
            format!("crm.objects.{object}.read"),
            format!("crm.objects.{object}.write"),
            format!("crm.schemas.{object}.write"),
        ]
    });
    let beside = [
        "oauth",
        "crm.objects.owners.read",
        "crm.schemas.custom.read",
    ]
    .map(str::to_owned);
    beside.into_iter().chain(of_objects).collect()
}

/// The types HubSpot sets when none is named.
pub(crate) fn default_type(from: ObjectType, to: ObjectType) -> Option<u32> {
    tie(from, to, |kind| kind.ties)
}

/// "Primary" types, which go with the default one.
pub(crate) fn primary_type(from: ObjectType, to: ObjectType) -> Option<u32> {
    tie(from, to, |kind| kind.primary)
}

fn tie(
    from: ObjectType,
    to: ObjectType,
    of: fn(&'static Kind) -> &'static [(ObjectType, u32, u32)],
) -> Option<u32> {
    let there = of(from.kind()).iter().find(|tie| tie.0 == to);
    let back = || of(to.kind()).iter().find(|tie| tie.0 == from);
    there.map(|tie| tie.1).or_else(|| back().map(|tie| tie.2))
}

/// The type id of the other direction.
pub(crate) fn reverse(id: u32) -> u32 {
    let all = every_kind().flat_map(|kind| kind.ties.iter().chain(kind.primary));
    let mut pairs = all.map(|tie| (tie.1, tie.2));
    let pair = pairs.find(|(there, back)| [*there, *back].contains(&id));
    match pair {
        Some((there, back)) if there == id => back,
        Some((there, _)) => there,
        None => id,
    }
}

/// Which object types a type id leads to, for associations that go along with a create.
pub(crate) fn target_of(from: ObjectType, id: u32) -> Option<ObjectType> {
    let mut all = ObjectType::ALL.iter().copied();
    all.find(|to| default_type(from, *to) == Some(id) || primary_type(from, *to) == Some(id))
}
