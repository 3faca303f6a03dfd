//! How many rows found a newer one stored, counted in a sample of batches.
//!
//! The upsert does not tell: its affected rows are the same for a row that was inserted and one that lost. Exact counts
//! would cost every batch another query, so one in many is looked at again after its commit.

use reprise_shared::catalog::DataType;
use reprise_shared::mysql::quote;
use reprise_shared::row::{Cell, Row};
use sqlx::mysql::{MySqlArguments, MySqlConnection};
use sqlx::{Arguments, AssertSqlSafe};

/// At most this many rows of a batch are looked at.
pub(super) const SAMPLE: usize = 100;

/// The query of one data type.
pub(super) struct StaleSample {
    head: String,
    /// One row's condition: its key, and another position than its own.
    row: String,
    key: Vec<usize>,
}

impl StaleSample {
    pub(super) fn new(data_type: &DataType) -> Self {
        let mut conditions: Vec<String> = data_type
            .key
            .iter()
            .map(|place| format!("{}=?", quote(&data_type.columns[*place].name)))
            .collect();
        conditions.push(format!("{}<>?", quote(&data_type.version.position_column)));
        Self {
            head: format!(
                "/* sample_stale_{} */ SELECT COUNT(*) FROM {} WHERE ",
                data_type.name,
                quote(&data_type.table)
            ),
            row: format!("({})", conditions.join(" AND ")),
            key: data_type.key.clone(),
        }
    }

    /// Counts the rows whose key is stored with another position, shortly after they were committed. A row that
    /// another worker wrote in between is counted too. Dropping the future leaves an answer on the connection's way:
    /// drop the connection.
    pub(super) async fn count(&self, connection: &mut MySqlConnection, rows: &[&Row]) -> Result<u64, sqlx::Error> {
        if rows.is_empty() {
            return Ok(0);
        }
        let mut arguments = MySqlArguments::default();
        for row in rows {
            self.bind(row, &mut arguments).map_err(sqlx::Error::Encode)?;
        }
        let sql = format!("{}{}", self.head, vec![self.row.as_str(); rows.len()].join(" OR "));
        let counted: i64 = sqlx::query_scalar_with(AssertSqlSafe(sql), arguments)
            .persistent(false)
            .fetch_one(connection)
            .await?;
        Ok(counted.unsigned_abs())
    }

    fn bind(&self, row: &Row, arguments: &mut MySqlArguments) -> Result<(), sqlx::error::BoxDynError> {
        for place in &self.key {
            match row.cells.iter().nth(*place) {
                Some(Cell::Int(value)) => arguments.add(value)?,
                Some(Cell::Text(text)) => arguments.add(text)?,
                // A key has no NULL; nothing equals one.
                Some(Cell::Null) | None => arguments.add(None::<&str>)?,
            }
        }
        arguments.add(row.position.as_bytes().as_slice())
    }
}
