//! The tables that a catalog writes to and reads from, checked at start: a worker refuses to run on a table that
//! would lose, cut or misplace rows.
//!
//! Reading (`query`) and judging (`rules`) are apart: [`faults`] is a pure function of what `information_schema` says.

mod columns;
mod query;
mod rules;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;

use sqlx::MySqlPool;

use super::model::Catalog;

pub use rules::faults;
pub use snapshot::{ColumnDefault, ColumnSnapshot, IndexPart, IndexSnapshot, TableSnapshot};

/// Something about a table that does not fit the catalog.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableFault {
    /// The table.
    pub table: String,
    /// The column, where the fault is one column's.
    pub column: Option<String>,
    /// What is there.
    pub problem: String,
    /// What would be right, with the statement that makes it so where that is simple.
    pub remedy: String,
}

impl fmt::Display for TableFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.table)?;
        if let Some(column) = &self.column {
            write!(formatter, ".{column}")?;
        }
        write!(formatter, ": {}; {}", self.problem, self.remedy)
    }
}

/// Every fault of the tables, never none. Displayed as one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFaults(pub Vec<TableFault>);

impl fmt::Display for TableFaults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(formatter)?;
            }
            fault.fmt(formatter)?;
        }
        Ok(())
    }
}

/// Why the tables were not found to fit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tables do not fit the catalog; trying again is of no use.
    #[error("{0}")]
    Faults(TableFaults),
    /// The connection names no database; trying again is of no use.
    #[error("the MySQL URL names no database")]
    NoDatabase,
    /// The server could not be asked, which says nothing about the tables.
    #[error("cannot read {what} of {table} from information_schema")]
    Read {
        /// What was being read.
        what: &'static str,
        /// The table.
        table: String,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
}

impl Error {
    /// Tells whether the same check may succeed later, without anybody changing a table.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Read { .. } => true,
            Self::Faults(_) | Self::NoDatabase => false,
        }
    }
}

/// Checks every table of the catalog in the database that the pool connects to, on MySQL and MariaDB.
///
/// Reads `information_schema` only, five small queries a table. The user has to see triggers: a server hides them from
/// users without the TRIGGER privilege on the table. Cancel-safe: nothing is written.
///
/// # Errors
///
/// Every fault of every table at once, or why the server could not be asked.
pub async fn check(pool: &MySqlPool, catalog: &Catalog) -> Result<(), Error> {
    let tables = query::read(pool, catalog).await?;
    let faults = faults(catalog, &tables);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::Faults(TableFaults(faults)))
    }
}
