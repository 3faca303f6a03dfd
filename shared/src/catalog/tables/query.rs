//! Reads `information_schema`. Every value is cast, because servers disagree on the types of its columns.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::mysql::MySqlRow;
use sqlx::{MySqlPool, Row};

use super::super::model::Catalog;
use super::Error;
use super::snapshot::{ColumnDefault, ColumnSnapshot, IndexPart, IndexSnapshot, TableSnapshot};

const SERVER: &str = "/* catalog_tables_server */
    SELECT CAST(VERSION() AS CHAR), CAST(DATABASE() AS CHAR), CAST(@@lower_case_table_names AS SIGNED)";

const TABLE: &str = "/* catalog_tables_table */
    SELECT CAST(TABLE_NAME AS CHAR), CAST(TABLE_TYPE AS CHAR), CAST(ENGINE AS CHAR)
    FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";

const COLUMNS: &str = "/* catalog_tables_columns */
    SELECT CAST(COLUMN_NAME AS CHAR), CAST(DATA_TYPE AS CHAR), CAST(COLUMN_TYPE AS CHAR),
           CAST(IS_NULLABLE AS CHAR), CAST(COLUMN_DEFAULT AS CHAR), CAST(EXTRA AS CHAR),
           CAST(GENERATION_EXPRESSION AS CHAR), CAST(CHARACTER_MAXIMUM_LENGTH AS SIGNED),
           CAST(CHARACTER_OCTET_LENGTH AS SIGNED), CAST(NUMERIC_PRECISION AS SIGNED), CAST(NUMERIC_SCALE AS SIGNED),
           CAST(DATETIME_PRECISION AS SIGNED), CAST(COLLATION_NAME AS CHAR), CAST(CHARACTER_SET_NAME AS CHAR)
    FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";

const CHARACTER_SETS: &str = "/* catalog_tables_character_sets */
    SELECT CAST(CHARACTER_SET_NAME AS CHAR), CAST(MAXLEN AS SIGNED) FROM information_schema.CHARACTER_SETS";

const INDEXES: &str = "/* catalog_tables_indexes */
    SELECT CAST(INDEX_NAME AS CHAR), CAST(NON_UNIQUE AS SIGNED), CAST(COLUMN_NAME AS CHAR), CAST(SUB_PART AS SIGNED)
    FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?
    ORDER BY INDEX_NAME, SEQ_IN_INDEX";

const TRIGGERS: &str = "/* catalog_tables_triggers */
    SELECT CAST(TRIGGER_NAME AS CHAR) FROM information_schema.TRIGGERS
    WHERE EVENT_OBJECT_SCHEMA = DATABASE() AND EVENT_OBJECT_TABLE = ? ORDER BY TRIGGER_NAME";

/// Reads every table that the catalog names; one that does not exist is left out.
pub(super) async fn read(pool: &MySqlPool, catalog: &Catalog) -> Result<BTreeMap<String, TableSnapshot>, Error> {
    let reader = Reader::new(pool).await?;
    let targets = catalog.data_types.iter().map(|data_type| &data_type.table);
    let names: BTreeSet<&String> = targets
        .chain(catalog.lookups.iter().map(|lookup| &lookup.table))
        .collect();
    let mut tables = BTreeMap::new();
    for name in names {
        if let Some(table) = reader.table(name).await.map_err(|failure| failure.of(name))? {
            tables.insert(name.clone(), table);
        }
    }
    Ok(tables)
}

/// A query that failed.
struct Failure {
    what: &'static str,
    source: sqlx::Error,
}

impl Failure {
    fn of(self, table: &str) -> Error {
        Error::Read {
            what: self.what,
            table: table.to_owned(),
            source: self.source,
        }
    }
}

struct Reader<'a> {
    pool: &'a MySqlPool,
    is_mariadb: bool,
    /// Whether table names differ by case, as on most Linux servers.
    is_case_sensitive: bool,
    /// The most bytes of a character, by character set.
    character_octets: BTreeMap<String, u64>,
}

impl<'a> Reader<'a> {
    async fn new(pool: &'a MySqlPool) -> Result<Self, Error> {
        let server = |source| {
            Failure {
                what: "the server's settings",
                source,
            }
            .of("the server")
        };
        let row = sqlx::query(SERVER).fetch_one(pool).await.map_err(server)?;
        let version: String = row.try_get(0).map_err(server)?;
        let database: Option<String> = row.try_get(1).map_err(server)?;
        if database.is_none() {
            return Err(Error::NoDatabase);
        }
        let lower_case: i64 = row.try_get(2).map_err(server)?;
        let sets = sqlx::query(CHARACTER_SETS).fetch_all(pool).await.map_err(server)?;
        let character_octets = sets
            .iter()
            .map(|row| Ok((row.try_get(0)?, count(row, 1)?.unwrap_or(1))))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(server)?;
        Ok(Self {
            pool,
            is_mariadb: version.to_ascii_lowercase().contains("mariadb"),
            is_case_sensitive: lower_case == 0,
            character_octets,
        })
    }

    async fn table(&self, name: &str) -> Result<Option<TableSnapshot>, Failure> {
        let rows = self.rows("the table", TABLE, name).await?;
        let found = read_all("the table", &rows, |row| {
            Ok((row.try_get::<String, _>(0)?, row.try_get(1)?, row.try_get(2)?))
        })?;
        let same = |found: &str| {
            if self.is_case_sensitive {
                found == name
            } else {
                found.eq_ignore_ascii_case(name)
            }
        };
        let Some((_, kind, engine)) = found.into_iter().find(|(found, _, _)| same(found)) else {
            return Ok(None);
        };
        let columns = self.rows("the columns", COLUMNS, name).await?;
        let columns = read_all("the columns", &columns, |row| self.column(row))?;
        let parts = self.rows("the indexes", INDEXES, name).await?;
        let parts = read_all("the indexes", &parts, |row| {
            let part = IndexPart {
                column: row.try_get(2)?,
                prefix: count(row, 3)?,
            };
            Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? == 0, part))
        })?;
        let triggers = self.rows("the triggers", TRIGGERS, name).await?;
        let triggers = read_all("the triggers", &triggers, |row| row.try_get(0))?;
        Ok(Some(TableSnapshot {
            name: name.to_owned(),
            kind,
            engine,
            columns,
            indexes: indexes(parts),
            triggers,
        }))
    }

    async fn rows(&self, what: &'static str, query: &'static str, table: &str) -> Result<Vec<MySqlRow>, Failure> {
        sqlx::query(query)
            .bind(table)
            .fetch_all(self.pool)
            .await
            .map_err(|source| Failure { what, source })
    }

    fn column(&self, row: &MySqlRow) -> sqlx::Result<ColumnSnapshot> {
        let extra: Option<String> = row.try_get(5)?;
        let expression: Option<String> = row.try_get(6)?;
        let character_set: Option<String> = row.try_get(13)?;
        let default: Option<String> = row.try_get(4)?;
        Ok(ColumnSnapshot {
            name: row.try_get(0)?,
            data_type: row.try_get::<String, _>(1)?.to_ascii_lowercase(),
            full_type: row.try_get(2)?,
            nullable: row.try_get::<String, _>(3)? == "YES",
            default: ColumnDefault::from_information_schema(default.as_deref(), self.is_mariadb),
            auto_increment: extra.is_some_and(|extra| extra.to_ascii_lowercase().contains("auto_increment")),
            generated: expression.is_some_and(|expression| !expression.is_empty()),
            length: count(row, 7)?,
            octets: count(row, 8)?,
            character_octets: character_set
                .as_ref()
                .and_then(|set| self.character_octets.get(set).copied()),
            precision: count(row, 9)?,
            scale: count(row, 10)?,
            time_digits: count(row, 11)?,
            character_set,
            collation: row.try_get(12)?,
        })
    }
}

fn read_all<T>(
    what: &'static str,
    rows: &[MySqlRow],
    read: impl Fn(&MySqlRow) -> sqlx::Result<T>,
) -> Result<Vec<T>, Failure> {
    rows.iter()
        .map(read)
        .collect::<sqlx::Result<_>>()
        .map_err(|source| Failure { what, source })
}

fn count(row: &MySqlRow, place: usize) -> sqlx::Result<Option<u64>> {
    Ok(row
        .try_get::<Option<i64>, _>(place)?
        .and_then(|count| u64::try_from(count).ok()))
}

/// Puts the parts of each index together; they come sorted by index and place.
fn indexes(parts: Vec<(String, bool, IndexPart)>) -> Vec<IndexSnapshot> {
    let mut indexes: Vec<IndexSnapshot> = Vec::new();
    for (name, unique, part) in parts {
        match indexes.last_mut() {
            Some(index) if index.name == name => index.parts.push(part),
            _ => indexes.push(IndexSnapshot {
                name,
                unique,
                parts: vec![part],
            }),
        }
    }
    indexes
}
