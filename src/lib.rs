//! `integration` keeps a CRM in PostgreSQL in step with HubSpot and Mailchimp, from inside the
//! database. See ARCHITECTURE.md for the way a change takes.

// From the bottom to the top: ARCHITECTURE.md says who may know whom.
mod error;
mod secret;
mod services;

mod pg;

mod config;

mod incarnation;
mod sealing;

mod store;

mod capture;
mod http;

mod inbound;
mod worker;

mod api;

use pgrx::prelude::*;

pgrx::pg_module_magic!(name = c"integration", version = c"0.1.0");

extension_sql_file!("../sql/bootstrap.sql", name = "bootstrap", bootstrap);
extension_sql_file!("../sql/config.sql", name = "config");
extension_sql_file!(
    "../sql/account.sql",
    name = "account",
    requires = ["config"]
);
extension_sql_file!("../sql/queue.sql", name = "queue", requires = ["config"]);
extension_sql_file!("../sql/holds.sql", name = "holds", requires = ["config"]);
extension_sql_file!(
    "../sql/audience.sql",
    name = "audience",
    requires = ["config"]
);
extension_sql_file!(
    "../sql/activity.sql",
    name = "activity",
    requires = ["config"]
);
extension_sql_file!(
    "../sql/views.sql",
    name = "views",
    requires = [
        "queue",
        api::internal::_unpack_keys,
        api::internal::_unpack_clock,
        api::inspect::_gauges
    ]
);
extension_sql_file!(
    "../sql/associations.sql",
    name = "associations",
    requires = ["views", api::internal::_associable]
);
extension_sql_file!(
    "../sql/withheld.sql",
    name = "withheld",
    requires = ["views"]
);
extension_sql_file!(
    "../sql/external_id.sql",
    name = "external_id",
    requires = ["config"]
);
extension_sql_file!(
    "../sql/identity.sql",
    name = "identity",
    requires = [
        "associations",
        "external_id",
        api::internal::_environment,
        incarnation::_incarnation,
        api::internal::_wake,
        api::internal::_forget_plan,
        api::internal::_stored_key,
        api::internal::_lacks,
        api::internal::_preloaded,
        pg::gate::_asker
    ]
);
extension_sql_file!(
    "../sql/conventions.sql",
    name = "conventions",
    requires = [
        "identity",
        api::kinds::_kinds,
        api::kinds::_kind,
        api::kinds::_conventions
    ]
);
extension_sql_file!(
    "../sql/triggers.sql",
    name = "triggers",
    requires = ["conventions"]
);
extension_sql_file!(
    "../sql/ownership.sql",
    name = "ownership",
    requires = ["triggers"]
);
extension_sql_file!("../sql/track.sql", name = "track", requires = ["ownership"]);
extension_sql_file!(
    "../sql/field_map.sql",
    name = "field_map",
    requires = ["track"]
);
extension_sql_file!(
    "../sql/columns.sql",
    name = "columns",
    requires = ["field_map"]
);
extension_sql_file!(
    "../sql/required.sql",
    name = "required",
    requires = ["field_map"]
);
extension_sql_file!(
    "../sql/operate.sql",
    name = "operate",
    requires = [
        "field_map",
        "associations",
        "account",
        "withheld",
        api::internal::_enqueue,
        api::inspect::_in_flight,
        api::preview::_preview,
        api::wait::_wait_settled
    ]
);
extension_sql_file!(
    "../sql/backfill.sql",
    name = "backfill",
    requires = ["operate", api::backfill::_check_filter]
);
extension_sql_file!(
    "../sql/reconcile.sql",
    name = "reconcile",
    requires = ["backfill"]
);
extension_sql_file!(
    "../sql/erasure.sql",
    name = "erasure",
    requires = [
        "reconcile",
        "withheld",
        "activity",
        api::erasure::_addresses
    ]
);
extension_sql_file!(
    "../sql/engagement.sql",
    name = "engagement",
    requires = ["backfill", "activity"]
);
extension_sql_file!(
    "../sql/webhook.sql",
    name = "webhook",
    requires = ["backfill", "account"]
);
extension_sql_file!(
    "../sql/roles.sql",
    name = "roles",
    requires = ["webhook", "engagement", "erasure", "required"]
);
extension_sql_file!("../sql/finalize.sql", name = "finalize", finalize);

#[pg_guard]
#[doc(hidden)]
pub extern "C-unwind" fn _PG_init() {
    config::init();
    if pg::shmem::preloading() {
        pg::shmem::init();
        capture::watch_ddl();
        incarnation::begin();
        worker::launcher::register();
    }
}
