//! A table that data types write to.

use std::collections::BTreeMap;

use super::super::super::model::{Catalog, Column, ColumnSource, DataType};
use super::super::columns::{characters, fits, sql_type};
use super::super::snapshot::{ColumnSnapshot, IndexSnapshot, TableSnapshot};
use super::{Collector, add_column, guard, modify_column};

/// Checks a table against all data types that write to it.
pub(super) fn check(
    catalog: &Catalog,
    tables: &BTreeMap<String, TableSnapshot>,
    table: &TableSnapshot,
    data_types: &[&DataType],
    faults: &mut Collector,
) {
    if table.kind != "BASE TABLE" {
        faults.table(
            &table.name,
            format!("is a {}", table.kind.to_lowercase()),
            "name a table of its own",
        );
        return;
    }
    check_table(table, faults);
    check_indexes(table, data_types, faults);
    let is_shared = data_types.len() > 1;
    for data_type in data_types {
        for (place, column) in data_type.columns.iter().enumerate() {
            let is_key = data_type.key.contains(&place);
            let asked = Asked {
                column,
                is_key,
                is_left_out: is_shared && !is_key,
            };
            match table.column(&column.name) {
                Some(found) => {
                    asked.check(table, found, faults);
                    check_lookup_width(catalog, tables, table, column, found, faults);
                }
                None => {
                    let remedy = match asked.definition() {
                        Some(definition) => add_column(&table.name, &column.name, &definition),
                        None => "add it with the type of the lookup's value".to_owned(),
                    };
                    faults.column(&table.name, &column.name, "does not exist", remedy);
                }
            }
        }
        guard::check(data_type, is_shared, table, faults);
    }
    check_unwritten(table, data_types, faults);
}

/// Writes the statement that creates the table of some data types.
pub(super) fn creation(data_types: &[&DataType]) -> String {
    let is_shared = data_types.len() > 1;
    let mut definitions: Vec<String> = Vec::new();
    for data_type in data_types {
        let columns = data_type.columns.iter().enumerate().map(|(place, column)| {
            let is_key = data_type.key.contains(&place);
            let definition = Asked {
                column,
                is_key,
                is_left_out: is_shared && !is_key,
            }
            .definition();
            format!(
                "`{}` {}",
                column.name,
                definition.as_deref().unwrap_or("<type of the lookup's value>")
            )
        });
        for definition in columns.chain(guard::definitions(data_type, is_shared)) {
            if !definitions.contains(&definition) {
                definitions.push(definition);
            }
        }
    }
    let table = data_types.first().map_or("", |data_type| data_type.table.as_str());
    let key = data_types
        .first()
        .map(|data_type| quoted(key_columns(data_type)))
        .unwrap_or_default();
    format!(
        "CREATE TABLE `{table}` ({}, PRIMARY KEY ({key})) ENGINE = InnoDB",
        definitions.join(", ")
    )
}

fn check_table(table: &TableSnapshot, faults: &mut Collector) {
    let engine = table.engine.as_deref().unwrap_or("no engine");
    if !engine.eq_ignore_ascii_case("InnoDB") {
        let remedy = format!("ALTER TABLE `{}` ENGINE = InnoDB", table.name);
        faults.table(
            &table.name,
            format!("is stored by {engine}, which has no transactions"),
            remedy,
        );
    }
    for trigger in &table.triggers {
        let problem = format!("has the trigger {trigger}, which may change rows behind the guard");
        faults.table(&table.name, problem, format!("DROP TRIGGER `{trigger}`"));
    }
}

fn check_indexes(table: &TableSnapshot, data_types: &[&DataType], faults: &mut Collector) {
    for data_type in data_types {
        let key = key_columns(data_type);
        match table.primary_key() {
            Some(primary) if primary.is_over(key.iter().copied()) => {}
            Some(primary) => {
                let problem = format!(
                    "has the primary key ({}), not ({})",
                    primary.parts_as_text(),
                    key.join(", ")
                );
                let remedy = format!(
                    "ALTER TABLE `{}` DROP PRIMARY KEY, ADD PRIMARY KEY ({})",
                    table.name,
                    quoted(key)
                );
                faults.table(&table.name, problem, remedy);
            }
            None => {
                let remedy = format!("ALTER TABLE `{}` ADD PRIMARY KEY ({})", table.name, quoted(key));
                faults.table(&table.name, "has no primary key", remedy);
            }
        }
    }
    for index in table
        .indexes
        .iter()
        .filter(|index| index.unique && index.name != IndexSnapshot::PRIMARY)
    {
        let problem = format!(
            "has a second unique index, {} ({}), by which an upsert would hit another row",
            index.name,
            index.parts_as_text()
        );
        faults.table(
            &table.name,
            problem,
            format!("ALTER TABLE `{}` DROP INDEX `{}`", table.name, index.name),
        );
    }
}

/// What the catalog asks of a column.
struct Asked<'a> {
    column: &'a Column,
    is_key: bool,
    /// Other data types insert rows without it.
    is_left_out: bool,
}

impl Asked<'_> {
    fn check(&self, table: &TableSnapshot, found: &ColumnSnapshot, faults: &mut Collector) {
        let name = &self.column.name;
        let remedy = |definition: Option<String>| match definition {
            Some(definition) => modify_column(&table.name, name, &definition),
            None => "give it the type of the lookup's value".to_owned(),
        };
        if found.generated {
            let remedy = "take it out of the catalog, or make it an ordinary column";
            faults.column(&table.name, name, "is computed by the server", remedy);
        }
        if !fits(self.column.column_type, found) {
            let problem = format!(
                "is {}, which does not hold {}",
                found.full_type, self.column.column_type
            );
            faults.column(&table.name, name, problem, remedy(self.definition()));
        }
        if self.is_key && !found.is_compared_by_bytes() {
            let collation = found.collation.as_deref().unwrap_or_default();
            let problem = format!("has the collation {collation}, in which different keys are equal");
            faults.column(
                &table.name,
                name,
                problem,
                modify_column(&table.name, name, &with_binary_collation(found)),
            );
        }
        if self.column.optional && !found.nullable {
            let problem = "is NOT NULL, and optional in the catalog";
            let definition = self.definition().or_else(|| Some(format!("{} NULL", found.full_type)));
            faults.column(&table.name, name, problem, remedy(definition));
        } else if self.is_left_out && !found.may_be_left_out() {
            let problem = "is NOT NULL without a default, and other data types insert rows without it";
            faults.column(
                &table.name,
                name,
                problem,
                modify_column(&table.name, name, &format!("{} NULL", found.full_type)),
            );
        }
    }

    /// Returns the definition in SQL; `None` for lookups, whose length the catalog does not say.
    fn definition(&self) -> Option<String> {
        let sql_type = sql_type(self.column.column_type)?;
        let is_text = self.column.column_type.is_string();
        let collation = if self.is_key && is_text {
            " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        } else {
            ""
        };
        let null = if self.column.optional || self.is_left_out {
            "NULL"
        } else {
            "NOT NULL"
        };
        Some(format!("{sql_type}{collation} {null}"))
    }
}

/// Returns the definition of a column as it is, but compared by bytes.
pub(super) fn with_binary_collation(found: &ColumnSnapshot) -> String {
    let set = found.character_set.as_deref().unwrap_or("utf8mb4");
    let null = if found.nullable { "NULL" } else { "NOT NULL" };
    format!("{} CHARACTER SET {set} COLLATE {set}_bin {null}", found.full_type)
}

/// A looked-up value has to fit where it is written.
fn check_lookup_width(
    catalog: &Catalog,
    tables: &BTreeMap<String, TableSnapshot>,
    table: &TableSnapshot,
    column: &Column,
    found: &ColumnSnapshot,
    faults: &mut Collector,
) {
    let ColumnSource::Lookup(index) = column.source else {
        return;
    };
    let lookup = catalog.lookup(index);
    let source = tables
        .get(&lookup.table)
        .and_then(|source| source.column(&lookup.value));
    let Some((room, (source, need))) = characters(found).zip(source.and_then(|one| Some((one, characters(one)?))))
    else {
        return;
    };
    if room < need {
        let problem = format!(
            "is {}, shorter than {}.{} that the lookup {} reads, which is {}",
            found.full_type, lookup.table, lookup.value, lookup.name, source.full_type
        );
        let definition = format!(
            "{} {}",
            source.full_type,
            if found.nullable { "NULL" } else { "NOT NULL" }
        );
        faults.column(
            &table.name,
            &column.name,
            problem,
            modify_column(&table.name, &column.name, &definition),
        );
    }
}

/// Columns that no data type writes have to fill themselves.
fn check_unwritten(table: &TableSnapshot, data_types: &[&DataType], faults: &mut Collector) {
    let is_written = |name: &str| {
        data_types.iter().any(|data_type| {
            let mut written = data_type
                .insert_columns()
                .chain([data_type.version.position_column.as_str()]);
            written.any(|column| column.eq_ignore_ascii_case(name))
        })
    };
    for column in &table.columns {
        if !is_written(&column.name) && !column.may_be_left_out() {
            let definition = format!("{} NULL", column.full_type);
            let remedy = format!(
                "name it in the catalog, or {}",
                modify_column(&table.name, &column.name, &definition)
            );
            faults.column(
                &table.name,
                &column.name,
                "is NOT NULL without a default, and nothing writes it",
                remedy,
            );
        }
    }
}

fn key_columns(data_type: &DataType) -> Vec<&str> {
    data_type
        .key
        .iter()
        .map(|place| data_type.columns[*place].name.as_str())
        .collect()
}

fn quoted(columns: Vec<&str>) -> String {
    columns
        .iter()
        .map(|column| format!("`{column}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
