//! What the trigger function looks up in the catalogue and in `integration._plan`, once a session
//! and table, without SPI and without the rights of the writing user.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::plan::{Catalog, PlanColumn, StoredPlan};
use super::table::{self, QueueColumn};

unsafe extern "C-unwind" {
    fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
}

/// The columns of `integration._plan`, in this order.
const PLAN: [QueueColumn; 3] = [
    QueueColumn::new(c"source", pg_sys::REGCLASSOID),
    QueueColumn::new(c"relation", pg_sys::OIDOID),
    QueueColumn::new(c"plan", pg_sys::TEXTOID),
];

/// The table on which a trigger fired, and the tables of which it is a partition.
pub struct TriggerTable<'a>(pub &'a pg_sys::RelationData);

impl TriggerTable<'_> {
    fn attributes(&self) -> impl Iterator<Item = (String, PlanColumn)> {
        // SAFETY: the descriptor belongs to the open relation.
        let descriptor = unsafe { pgrx::PgTupleDesc::from_pg_unchecked(self.0.rd_att) };
        let attribute = move |index| {
            let attribute = descriptor.get(index)?;
            (!attribute.attisdropped).then(|| {
                let column = PlanColumn {
                    number: attribute.attnum,
                    noted: attribute.attnum,
                    type_oid: attribute.atttypid,
                    by_value: attribute.attbyval,
                    length: attribute.attlen,
                };
                (attribute.name().to_owned(), column)
            })
        };
        // SAFETY: as above.
        let count = unsafe { (*self.0.rd_att).natts } as usize;
        (0..count).filter_map(attribute)
    }

    fn by_name(&self, name: &str) -> Option<PlanColumn> {
        self.attributes()
            .find(|(known, _)| known == name)
            .map(|(_, column)| column)
    }
}

impl Catalog for TriggerTable<'_> {
    fn stored(&self) -> Option<StoredPlan> {
        stored_for(self.0.rd_id)
    }

    /// A number survives a rename. A partition has its own numbers, and the same names.
    fn column(&self, tracked: pg_sys::Oid, name: &str, number: Option<i16>) -> Option<PlanColumn> {
        let noted = match number {
            Some(number) => number,
            None => number_of(tracked, name)?,
        };
        if tracked == self.0.rd_id {
            return self
                .attributes()
                .map(|(_, column)| column)
                .find(|column| column.number == noted);
        }
        let column = self.by_name(&name_of(tracked, noted)?)?;
        Some(PlanColumn { noted, ..column })
    }

    fn columns(&self, tracked: pg_sys::Oid) -> Vec<PlanColumn> {
        self.attributes()
            .map(|(name, column)| match tracked == self.0.rd_id {
                true => column,
                false => PlanColumn {
                    noted: number_of(tracked, &name).unwrap_or(column.number),
                    ..column
                },
            })
            .collect()
    }

    fn warn(&self, why: &str) {
        pgrx::warning!(
            "integration captures nothing from this table: {why}; call integration.track() again"
        );
    }
}

fn number_of(relation: pg_sys::Oid, name: &str) -> Option<i16> {
    let name = CString::new(name).ok()?;
    // SAFETY: a look-up in the system caches inside a transaction.
    let number = unsafe { pg_sys::get_attnum(relation, name.as_ptr()) };
    (number > 0).then_some(number)
}

fn name_of(relation: pg_sys::Oid, number: i16) -> Option<String> {
    // SAFETY: a look-up in the system caches inside a transaction; the copy it makes is read at once.
    // A dropped column has a name that no other has.
    unsafe {
        let name = pg_sys::get_attname(relation, number, true);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// Returns the plan of a table, or of the nearest one of which it is a partition.
pub fn stored_for(relation: pg_sys::Oid) -> Option<StoredPlan> {
    let mut plans = stored_plans();
    let lineage = lineage(relation);
    let nearest = lineage
        .iter()
        .find_map(|oid| plans.iter().position(|stored| stored.tracked == *oid))?;
    Some(plans.swap_remove(nearest))
}

pub fn is_partition(relation: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches inside a transaction.
    unsafe { pg_sys::get_rel_relispartition(relation) }
}

/// Returns a table and those of which it is a partition, nearest first.
fn lineage(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let mut lineage = vec![relation];
    if is_partition(relation) {
        // SAFETY: inside a transaction; an error of the server is one of ours from here on. The
        // list holds oids.
        unsafe {
            let find = || get_partition_ancestors(relation);
            lineage.extend(table::oids(pg_sys::ffi::pg_guard_ffi_boundary(find)));
        }
    }
    lineage
}

/// Returns the plans of all tracked tables. There are few: reading them all takes no index.
fn stored_plans() -> Vec<StoredPlan> {
    let Some(table) = table::find(c"_plan") else {
        return Vec::new();
    };
    let mut plans = Vec::new();
    // SAFETY: a scan inside a transaction, by what the server itself sees as committed now (and our
    // own changes); each tuple is read before the next one is fetched, and scan and relation are
    // closed. The columns have the types they are read as.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let numbers = table::numbers(relation, &PLAN).unwrap_or_else(|why| table::refuse(&why));
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let [source, numbered_by, plan] = numbers.map(|number| {
                let mut null = false;
                let value =
                    pg_sys::heap_getattr(tuple, i32::from(number), (*relation).rd_att, &mut null);
                (!null).then_some(value)
            });
            if let (Some(source), Some(plan)) = (source, plan) {
                let tracked = oid(source);
                plans.push(StoredPlan {
                    tracked,
                    numbered: numbered_by.map(oid) == Some(tracked),
                    plan: String::from_datum(plan, false).unwrap_or_default(),
                });
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    plans
}

fn oid(value: pg_sys::Datum) -> pg_sys::Oid {
    pg_sys::Oid::from(value.value() as u32)
}
