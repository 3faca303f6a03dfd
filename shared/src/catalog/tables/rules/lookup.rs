//! A table that a lookup reads.

use super::super::super::model::{ColumnType, Lookup};
use super::super::columns::fits;
use super::super::snapshot::TableSnapshot;
use super::{Collector, target};

/// Checks a table against one lookup.
pub(super) fn check(lookup: &Lookup, table: &TableSnapshot, faults: &mut Collector) {
    for (place, column) in [("key", &lookup.key), ("value", &lookup.value)] {
        check_column(lookup, place, column, table, faults);
    }
    for column in &lookup.search {
        if table.column(column).is_none() {
            let remedy = format!("add it, or correct lookups.{}.search", lookup.name);
            faults.column(&table.name, column, "does not exist", remedy);
        }
    }
    let Some(key) = table.column(&lookup.key) else { return };
    let key_alone = [lookup.key.as_str()];
    if !table
        .indexes
        .iter()
        .any(|index| index.unique && index.is_over(key_alone))
    {
        let problem = format!(
            "is not unique by itself, so the lookup {} may find two values",
            lookup.name
        );
        let remedy = format!(
            "give it a unique index of its own, or correct lookups.{}.key",
            lookup.name
        );
        faults.column(&table.name, &lookup.key, problem, remedy);
    }
    if !key.is_compared_by_bytes() {
        let collation = key.collation.as_deref().unwrap_or_default();
        let problem = format!("has the collation {collation}, in which different keys are equal");
        let remedy = super::modify_column(&table.name, &lookup.key, &target::with_binary_collation(key));
        faults.column(&table.name, &lookup.key, problem, remedy);
    }
}

fn check_column(lookup: &Lookup, place: &str, column: &str, table: &TableSnapshot, faults: &mut Collector) {
    match table.column(column) {
        None => {
            let remedy = format!("add it, or correct lookups.{}.{place}", lookup.name);
            faults.column(&table.name, column, "does not exist", remedy);
        }
        Some(found) if !fits(ColumnType::LOOKUP, found) => {
            let problem = format!("is {}, and the lookup {} reads strings", found.full_type, lookup.name);
            faults.column(
                &table.name,
                column,
                problem,
                "make it a VARCHAR, or name another column",
            );
        }
        Some(_) => {}
    }
}
