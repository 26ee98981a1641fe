//! Conversion of rows to and from the arguments and results of statements.

use integration_engine::record::{RecordKey, RecordRef, SourceId};
use pgrx::datum::{DatumWithOid, IntoDatum};
use pgrx::spi::{SpiHeapTupleData, SpiResult};

/// Returns one value of each row as an array. A statement takes such arrays as arguments, a column
/// each, and `unnest($1, $2, …)` makes rows of them again.
pub fn column<R, T>(
    rows: impl IntoIterator<Item = R>,
    value: impl Fn(R) -> T,
) -> DatumWithOid<'static>
where
    Vec<T>: IntoDatum,
{
    rows.into_iter().map(value).collect::<Vec<T>>().into()
}

/// Returns the record that two columns of a row name: the number of a source, and a key.
pub fn record(row: &SpiHeapTupleData, first: usize) -> SpiResult<RecordRef> {
    Ok(RecordRef {
        source: SourceId(row.get(first)?.unwrap_or(0)),
        key: RecordKey::from(row.get::<String>(first + 1)?.unwrap_or_default()),
    })
}
