//! Reads what is stored under the keys of a batch.
//!
//! One condition a key, joined by OR: both servers find the rows by their primary keys that way, which MariaDB does not
//! for lists of tuples.

use std::collections::HashMap;

use reprise_shared::catalog::{ColumnType, DataType};
use reprise_shared::isolated;
use reprise_shared::mysql::quote;
use reprise_shared::row::{Cell, Row};
use sqlx::mysql::{MySqlArguments, MySqlConnection, MySqlRow};
use sqlx::{Arguments, AssertSqlSafe, Row as _};

use super::compare::{Columns, Stored};

/// Keys of one query at most: a power of two, since every power below it is a statement of its own.
const MOST_KEYS: usize = 256;

/// The query of one data type in one table.
#[derive(Debug)]
pub(super) struct StoredRows {
    columns: Columns,
    job: Option<Box<str>>,
    head: String,
    /// One key's condition.
    condition: String,
}

impl StoredRows {
    pub(super) fn new(data_type: &DataType, table: &str, job: Option<&str>) -> Self {
        let columns = Columns::new(data_type);
        let mut selected: Vec<String> = data_type
            .insert_columns()
            .zip(columns.types())
            .map(|(name, column_type)| match column_type {
                ColumnType::Int | ColumnType::BigInt | ColumnType::Bool => {
                    format!("CAST(CAST({} AS SIGNED) AS CHAR)", quote(name))
                }
                _ => format!("CAST({} AS CHAR)", quote(name)),
            })
            .collect();
        selected.push(quote(&data_type.version.position_column));
        let key = columns.key().iter();
        let mut conditions: Vec<String> = key
            .map(|place| format!("{}=?", quote(&data_type.columns[*place].name)))
            .collect();
        if job.is_some() {
            conditions.insert(0, format!("{}=?", quote(isolated::JOB_COLUMN)));
        }
        Self {
            head: format!(
                "/* stored_{} */ SELECT {} FROM {} WHERE ",
                data_type.name,
                selected.join(","),
                quote(table)
            ),
            condition: format!("({})", conditions.join(" AND ")),
            job: job.map(Into::into),
            columns,
        }
    }

    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Reads the stored rows of some keys, by key as [`Columns::key_of`] writes it. Dropping the future leaves an answer
    /// on the connection's way: drop the connection.
    pub(super) async fn read(
        &self,
        connection: &mut MySqlConnection,
        rows: &[&Row],
    ) -> Result<HashMap<Vec<String>, Stored>, sqlx::Error> {
        let mut found = HashMap::with_capacity(rows.len());
        let mut rest = rows;
        while !rest.is_empty() {
            let size = 1 << rest.len().min(MOST_KEYS).ilog2();
            let (part, after) = rest.split_at(size);
            let sql = format!("{}{}", self.head, vec![self.condition.as_str(); size].join(" OR "));
            let mut arguments = MySqlArguments::default();
            for row in part {
                self.bind(row, &mut arguments).map_err(sqlx::Error::Encode)?;
            }
            let answer = sqlx::query_with(AssertSqlSafe(sql), arguments)
                .fetch_all(&mut *connection)
                .await?;
            for row in &answer {
                let stored = self.stored(row)?;
                found.insert(self.columns.key_of_stored(&stored), stored);
            }
            rest = after;
        }
        Ok(found)
    }

    fn bind(&self, row: &Row, arguments: &mut MySqlArguments) -> Result<(), sqlx::error::BoxDynError> {
        if let Some(job) = &self.job {
            arguments.add(&**job)?;
        }
        for place in self.columns.key() {
            match row.cells.iter().nth(*place) {
                Some(Cell::Int(value)) => arguments.add(value)?,
                Some(Cell::Text(text)) => arguments.add(text)?,
                // A key has no NULL; nothing equals one.
                Some(Cell::Null) | None => arguments.add(None::<&str>)?,
            }
        }
        Ok(())
    }

    fn stored(&self, row: &MySqlRow) -> Result<Stored, sqlx::Error> {
        let count = self.columns.types().len();
        let cells = (0..count).map(|place| row.try_get(place)).collect::<Result<_, _>>()?;
        Ok(Stored {
            cells,
            position: row.try_get(count)?,
        })
    }
}
