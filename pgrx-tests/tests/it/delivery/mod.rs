//! A committed change reaches every service, whatever the table, the row and the service are like.

mod bad_batches;
mod bulk;
mod capture;
mod capture_histories;
mod changes;
mod columns;
mod ddl_matrix;
mod deletions;
mod failures;
mod holds;
mod many_tables;
mod partitions;
mod poison;
mod prepared;
mod queue;
mod renamed_columns;
mod shapes;
mod unreadable;
