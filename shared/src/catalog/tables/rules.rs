//! The rules, from what `information_schema` says to faults. Pure.

mod guard;
mod lookup;
mod target;

use std::collections::BTreeMap;

use super::super::model::{Catalog, DataType};
use super::TableFault;
use super::snapshot::TableSnapshot;

/// Returns every fault of the tables that a catalog names, sorted by table and column. `tables` are by their names in
/// the catalog; one that is not there does not exist.
pub fn faults(catalog: &Catalog, tables: &BTreeMap<String, TableSnapshot>) -> Vec<TableFault> {
    let mut targets: BTreeMap<&str, Vec<&DataType>> = BTreeMap::new();
    for data_type in &catalog.data_types {
        targets.entry(&data_type.table).or_default().push(data_type);
    }
    let mut faults = Collector::default();
    for (name, data_types) in &targets {
        match tables.get(*name) {
            Some(table) => target::check(catalog, tables, table, data_types, &mut faults),
            None => faults.table(name, "does not exist", target::creation(data_types)),
        }
    }
    for lookup in &catalog.lookups {
        match tables.get(&lookup.table) {
            Some(table) => lookup::check(lookup, table, &mut faults),
            None if targets.contains_key(lookup.table.as_str()) => {}
            None => {
                let remedy = format!("create it, or correct lookups.{}.table", lookup.name);
                faults.table(&lookup.table, "does not exist", remedy);
            }
        }
    }
    faults.into_faults()
}

/// Gathers faults; one that a data type and a lookup both find keeps the first remedy.
#[derive(Default)]
struct Collector(BTreeMap<(String, Option<String>, String), String>);

impl Collector {
    fn table(&mut self, table: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.add(table, None, problem.into(), remedy.into());
    }

    fn column(&mut self, table: &str, column: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.add(table, Some(column.to_owned()), problem.into(), remedy.into());
    }

    fn add(&mut self, table: &str, column: Option<String>, problem: String, remedy: String) {
        self.0.entry((table.to_owned(), column, problem)).or_insert(remedy);
    }

    fn into_faults(self) -> Vec<TableFault> {
        let fault = |((table, column, problem), remedy)| TableFault {
            table,
            column,
            problem,
            remedy,
        };
        self.0.into_iter().map(fault).collect()
    }
}

/// Writes the statement that adds a column.
fn add_column(table: &str, column: &str, definition: &str) -> String {
    format!("ALTER TABLE `{table}` ADD COLUMN `{column}` {definition}")
}

/// Writes the statement that changes a column.
fn modify_column(table: &str, column: &str, definition: &str) -> String {
    format!("ALTER TABLE `{table}` MODIFY COLUMN `{column}` {definition}")
}
