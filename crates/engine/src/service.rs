//! What the mechanism asks of a service.

pub mod failure;

use std::fmt;

use crate::{
    queue::traces::Watched,
    record::{
        Target,
        mapping::{Field, SourceMap},
    },
    service::failure::{Class, FailedReply},
    value::{Value, ValueError},
};

/// A service that records are kept in step with.
pub trait Service: Copy + fmt::Debug + PartialEq + 'static {
    const TARGET: Target;

    /// The settings that its credential comes from, for people.
    const CREDENTIAL: &'static str;

    /// Whether it is slow where too much is asked for at once: it limits connections, not requests
    /// a second.
    const SLOWS_DOWN: bool;

    /// What a refusal means where the service has a way of its own; `None`: what HTTP says.
    fn judge(refusal: &FailedReply<'_>) -> Option<Class>;

    /// A field that may be in doubt after a crash. `None`: it does not travel to the service, or not
    /// as a field.
    fn watched(field: &Field, number: Option<i16>) -> Option<Watched>;

    /// What a field of a row is sent as, in the form in which it is compared. `None`: there is no
    /// value, which clears the field.
    fn to_remote<'r>(map: &SourceMap, row: &'r [Option<String>], index: usize) -> Value<'r>;

    /// A value as the service returns it, in the form that [`Service::to_remote`] produces.
    fn canonical<'t>(map: &SourceMap, field: &Field, remote: Option<&'t str>) -> Value<'t>;

    /// The service's value as text for the column, in the manner of what stands there at present.
    fn to_column(
        field: &Field,
        remote: Option<&str>,
        present: Option<&str>,
    ) -> Result<Option<String>, ValueError>;

    /// Whether what the service holds means what would be sent. What cannot be read is equal only
    /// to itself.
    fn same(field: &Field, crm: Option<&str>, remote: Option<&str>) -> bool;
}

#[cfg(test)]
pub(crate) mod plain {
    use super::*;
    use crate::{record::mapping::Direction, value};

    /// A service without ways of its own.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(crate) struct Plain;

    impl Service for Plain {
        const TARGET: Target = Target::HubSpot;
        const CREDENTIAL: &'static str = "its credential";
        const SLOWS_DOWN: bool = true;

        fn judge(_: &FailedReply<'_>) -> Option<Class> {
            None
        }

        fn watched(field: &Field, number: Option<i16>) -> Option<Watched> {
            (field.direction != Direction::Pull).then_some(Watched {
                field: field.id,
                number,
                returns: true,
            })
        }

        fn to_remote<'r>(map: &SourceMap, row: &'r [Option<String>], index: usize) -> Value<'r> {
            value::to_remote(map.fields[index].kind, row[index].as_deref())
        }

        fn canonical<'t>(_: &SourceMap, field: &Field, remote: Option<&'t str>) -> Value<'t> {
            value::canonical(field.kind, remote)
        }

        fn to_column(
            field: &Field,
            remote: Option<&str>,
            _: Option<&str>,
        ) -> Result<Option<String>, ValueError> {
            value::to_column(field.kind, remote)
        }

        fn same(field: &Field, crm: Option<&str>, remote: Option<&str>) -> bool {
            value::same(field.kind, crm, remote)
        }
    }
}
