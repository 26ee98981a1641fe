//! One error type for SQL users, one map to SQLSTATE.

use std::borrow::Cow;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// What a SQL function refuses, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Setting(String),
    #[error("the webhook is not authentic")]
    Signature(String),
    #[error("webhooks are not accepted from this address")]
    Address(String),
    #[error("the webhook's body cannot be read")]
    Body(String),
    #[error("\"{0}\" is not tracked")]
    NotTracked(String),
    // The name may be the secret, so it is not repeated; the known names are listed instead.
    #[error("there is no secret of this name")]
    UnknownSecret(Vec<&'static str>),
    #[error("an empty text is no secret")]
    EmptySecret,
    #[error("the value is a reference, not a secret")]
    ReferenceAsSecret,
    #[error("the library is not preloaded, so nothing is sent")]
    NotPreloaded,
    #[error("the worker's answer cannot be seen in a repeatable read or serializable transaction")]
    Isolated,
    #[error("unknown target \"{0}\"")]
    UnknownTarget(String),
    #[error("{0}")]
    Spi(#[from] pgrx::spi::Error),
    #[error("{0}")]
    Internal(String),
}

impl Error {
    fn code(&self) -> PgSqlErrorCode {
        match self {
            Error::Setting(_) => PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
            Error::Signature(_) => PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
            Error::Address(_) => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Error::Body(_) => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Error::NotTracked(_) | Error::UnknownTarget(_) | Error::UnknownSecret(_) => {
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT
            }
            Error::EmptySecret | Error::ReferenceAsSecret => {
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE
            }
            Error::Isolated => PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            Error::NotPreloaded => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Error::Spi(_) | Error::Internal(_) => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        }
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Error::Signature(detail) | Error::Address(detail) | Error::Body(detail) => Some(detail),
            _ => None,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Error::Setting(_) => Some(
                "set it with ALTER SYSTEM SET … and SELECT pg_reload_conf(), or per database with ALTER DATABASE … SET …",
            ),
            Error::Signature(_) => Some(
                "pass body, headers, method and URL exactly as they were received, and check the configured secret",
            ),
            Error::Address(_) => Some("see the setting integration.webhook_allowed_ips"),
            Error::NotTracked(_) => Some(
                "SELECT source FROM integration.tracked_table; or start with SELECT integration.track('schema.table', 'contact');",
            ),
            Error::NotPreloaded => Some(
                "ALTER SYSTEM SET shared_preload_libraries = 'integration'; then restart the server",
            ),
            Error::UnknownSecret(names) => {
                return Some(Cow::Owned(format!(
                    "first the name, then the value; names are {}",
                    names.join(", ")
                )));
            }
            Error::EmptySecret => Some("to take a secret back, set it to NULL"),
            Error::ReferenceAsSecret => Some(
                "env: and file: are for settings: ALTER SYSTEM SET integration.… = 'file:/…'; SELECT pg_reload_conf();",
            ),
            Error::Isolated => Some("call it in a read committed transaction"),
            Error::UnknownTarget(_) => Some("the targets are hubspot and mailchimp"),
            Error::Body(_) | Error::Spi(_) | Error::Internal(_) => None,
        };
        hint.map(Cow::Borrowed)
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        let mut report = ErrorReport::new(error.code(), error.to_string(), "integration");
        if let Some(detail) = error.detail() {
            report = report.set_detail(detail.to_owned());
        }
        if let Some(hint) = error.hint() {
            report = report.set_hint(hint);
        }
        report
    }
}
