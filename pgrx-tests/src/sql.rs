//! Small helpers around SQL text and errors.

use postgres::{Client, error::DbError, types::FromSql};

pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[track_caller]
pub fn run(client: &mut Client, sql: &str) {
    if let Err(why) = client.batch_execute(sql) {
        panic!("{sql}\n{why:?}");
    }
}

/// A single value. The expression says which type.
#[track_caller]
pub fn ask<T: for<'a> FromSql<'a>>(client: &mut Client, sql: &str) -> T {
    match client.query_one(sql, &[]) {
        Ok(row) => row.get(0),
        Err(why) => panic!("{sql}\n{why:?}"),
    }
}

/// What the server says about a statement that has to fail.
#[track_caller]
pub fn refused(client: &mut Client, sql: &str) -> DbError {
    match client.batch_execute(sql) {
        Ok(()) => panic!("should have been refused: {sql}"),
        Err(why) => why
            .as_db_error()
            .unwrap_or_else(|| panic!("not an error of the server: {why}"))
            .clone(),
    }
}

/// The statement fails with this SQLSTATE, and says what to do about it.
#[track_caller]
pub fn refused_with_hint(client: &mut Client, sql: &str, sqlstate: &str) -> DbError {
    let error = refused(client, sql);
    assert_eq!(error.code().code(), sqlstate, "{sql}: {error:?}");
    assert!(
        error.hint().is_some_and(|hint| !hint.is_empty()),
        "no hint: {sql}: {error:?}"
    );
    error
}
