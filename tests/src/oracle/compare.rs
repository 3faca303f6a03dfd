//! Holds folded tables against MySQL, row for row.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, MySqlPool, Row as _};

use super::fold::{Folded, Row, Table, dump};
use super::shape::{POSITION_COLUMN, SHAPES, Shape, VERSION_COLUMN};

/// At most this many differences are printed in full.
const SHOWN: usize = 10;

/// Why a comparison did not end well.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A table could not be read.
    #[error("the table {table} cannot be read")]
    Read {
        /// The table.
        table: &'static str,
        /// The reason.
        #[source]
        source: sqlx::Error,
    },
    /// The tables do not hold what they must.
    #[error("{0}")]
    Different(Differences),
}

/// What is different, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The counts of each table that differs.
    pub tables: BTreeMap<&'static str, TableDifferences>,
    /// The first few, for a person.
    pub shown: Vec<String>,
}

/// The counts of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableDifferences {
    /// Rows that the table must hold.
    pub expected: usize,
    /// Rows that it holds.
    pub found: usize,
    /// Rows that it lacks.
    pub missing: usize,
    /// Rows that it should not hold.
    pub unexpected: usize,
    /// Rows with another value, version or position.
    pub different: usize,
}

impl fmt::Display for Differences {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, counts) in &self.tables {
            writeln!(
                formatter,
                "{table}: {} rows expected, {} found: {} missing, {} unexpected, {} different",
                counts.expected, counts.found, counts.missing, counts.unexpected, counts.different
            )?;
        }
        self.shown.iter().try_for_each(|line| writeln!(formatter, "  {line}"))
    }
}

impl Folded {
    /// Compares all tables with those of the pool's database.
    pub async fn compare(&self, pool: &MySqlPool) -> Result<(), CompareError> {
        let mut differences = Differences::default();
        for shape in &SHAPES {
            let table = shape.table;
            let found = read_table(pool, shape)
                .await
                .map_err(|source| CompareError::Read { table, source })?;
            let empty = Table::new();
            let expected = self.tables.get(table).unwrap_or(&empty);
            if *expected != found {
                differences.add(table, expected, &found);
            }
        }
        if differences.tables.is_empty() {
            Ok(())
        } else {
            Err(CompareError::Different(differences))
        }
    }

    /// Checks that the pool's database has every row of the fold, or a newer one of its key: what must hold for the
    /// records below some position while later ones may have been written too.
    pub async fn compare_at_least(&self, pool: &MySqlPool) -> Result<(), CompareError> {
        let mut differences = Differences::default();
        for shape in &SHAPES {
            let table = shape.table;
            let found = read_table(pool, shape)
                .await
                .map_err(|source| CompareError::Read { table, source })?;
            let is_newer = |key: &Vec<String>, wanted: &Row| {
                let guard = (&wanted.version, &wanted.position);
                found
                    .get(key)
                    .is_some_and(|stored| (&stored.version, &stored.position) > guard)
            };
            let mut due = self.tables.get(table).cloned().unwrap_or_default();
            due.retain(|key, wanted| !is_newer(key, wanted));
            let mut found = found.clone();
            found.retain(|key, _| due.contains_key(key));
            if due != found {
                differences.add(table, &due, &found);
            }
        }
        if differences.tables.is_empty() {
            Ok(())
        } else {
            Err(CompareError::Different(differences))
        }
    }
}

impl Differences {
    fn add(&mut self, table: &'static str, expected: &Table, found: &Table) {
        let mut counts = TableDifferences {
            expected: expected.len(),
            found: found.len(),
            ..Default::default()
        };
        for (key, row) in expected {
            match found.get(key) {
                None => {
                    counts.missing += 1;
                    self.show(|| format!("{table} {key:?} is missing: {}", print(row)));
                }
                Some(stored) if stored != row => {
                    counts.different += 1;
                    self.show(|| format!("{table} {key:?} is {}\n    and must be {}", print(stored), print(row)));
                }
                Some(_) => {}
            }
        }
        for (key, row) in found.iter().filter(|(key, _)| !expected.contains_key(*key)) {
            counts.unexpected += 1;
            self.show(|| format!("{table} {key:?} should not be there: {}", print(row)));
        }
        self.tables.insert(table, counts);
    }

    fn show(&mut self, line: impl FnOnce() -> String) {
        if self.shown.len() < SHOWN {
            self.shown.push(line());
        }
    }
}

/// Prints a table of the pool's database, one line a row in the order of keys, guard columns included: two runs over
/// one topic must give equal texts.
pub async fn dump_table(pool: &MySqlPool, table: &str) -> anyhow::Result<String> {
    let shape = SHAPES
        .iter()
        .find(|shape| shape.table == table)
        .context("the oracle does not know the table")?;
    Ok(dump(&read_table(pool, shape).await.context("read the table")?))
}

/// Returns the SHA-256 of a dump, in hex.
pub fn checksum(dump: &str) -> String {
    Sha256::digest(dump.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn read_table(pool: &MySqlPool, shape: &Shape) -> Result<Table, sqlx::Error> {
    let columns: String = shape
        .columns
        .iter()
        .map(|column| format!("CAST(`{}` AS CHAR), ", column.name))
        .collect();
    let order = shape.key.join("`, `");
    let query = format!(
        "SELECT {columns}CAST(`{VERSION_COLUMN}` AS CHAR), HEX(`{POSITION_COLUMN}`) FROM `{}` ORDER BY `{order}`",
        shape.table
    );
    let mut table = Table::new();
    for found in sqlx::query(AssertSqlSafe(query)).fetch_all(pool).await? {
        let count = shape.columns.len();
        let cells = (0..count)
            .map(|place| found.try_get(place))
            .collect::<Result<Vec<Option<String>>, _>>()?;
        let key = shape
            .key_places()
            .map(|place| cells[place].clone().unwrap_or_default())
            .collect();
        table.insert(
            key,
            Row {
                cells,
                version: found.try_get(count)?,
                position: found.try_get(count + 1)?,
            },
        );
    }
    Ok(table)
}

fn print(row: &Row) -> String {
    let cells: Vec<_> = row.cells.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect();
    format!("({}) at {} from {}", cells.join(", "), row.version, row.position)
}
