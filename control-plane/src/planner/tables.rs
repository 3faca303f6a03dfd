//! Checks that the tables allow what a replay is to do with them.

use reprise_shared::catalog::DataType;
use reprise_shared::jobs::model::Mode;

use super::ask::Replay;
use super::{Error, Planner};

impl Planner {
    /// Refuses a replay that a table is not made for.
    pub(super) async fn check_tables(&self, replay: &Replay) -> Result<(), Error> {
        for name in &replay.data_types {
            let catalog = self.catalog();
            let Some(data_type) = catalog.find_data_type(name).map(|index| catalog.data_type(index)) else {
                continue;
            };
            if replay.clean_first {
                self.check_cleaning(data_type).await?;
            }
            if replay.mode == Mode::Isolated && !self.has_table(&format!("{}_replay", data_type.table)).await? {
                return Err(Error::Table(format!(
                    "there is no table {}_replay for isolated rows of {name}; run the migration command",
                    data_type.table
                )));
            }
        }
        Ok(())
    }

    async fn check_cleaning(&self, data_type: &DataType) -> Result<(), Error> {
        let (name, table, column) = (&data_type.name, &data_type.table, &data_type.version.position_column);
        let mut sharing = self.catalog().data_types.iter().filter(|other| other.table == *table);
        if let Some(other) = sharing.find(|other| other.name != *name) {
            return Err(Error::Table(format!(
                "clean_first cannot delete rows of {name}: {} writes to the same table {table}",
                other.name
            )));
        }
        let indexed: Option<i64> = sqlx::query_scalar(
            "/* plan_position_index */ SELECT 1 FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() \
             AND TABLE_NAME = ? AND COLUMN_NAME = ? AND SEQ_IN_INDEX = 1 LIMIT 1",
        )
        .bind(table)
        .bind(column)
        .fetch_optional(self.0.parts.database.pool())
        .await?;
        if indexed.is_none() {
            return Err(Error::Table(format!(
                "clean_first finds rows by {table}.{column}, which has no index; create one on that column first"
            )));
        }
        Ok(())
    }

    async fn has_table(&self, table: &str) -> Result<bool, Error> {
        let found: Option<i64> = sqlx::query_scalar(
            "/* plan_table */ SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?",
        )
        .bind(table)
        .fetch_optional(self.0.parts.database.pool())
        .await?;
        Ok(found.is_some())
    }
}
