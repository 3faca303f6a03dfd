//! The SQL of a lookup. Identifiers come from the validated catalog and are quoted, values are bound.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use sqlx::{AssertSqlSafe, MySqlPool, Row};

use super::Value;
use crate::catalog::Lookup;

/// At most this many keys in one query.
pub(super) const MOST_KEYS: usize = 1_000;
/// The numbers of keys that statements exist for: a query takes the next larger one and repeats its last key, so that
/// a connection prepares five statements and not a thousand.
const SIZES: [usize; 5] = [1, 8, 64, 256, MOST_KEYS];

/// One lookup's statements.
pub(super) struct Statements {
    by_size: [Arc<str>; SIZES.len()],
    first_page: Arc<str>,
    next_page: Arc<str>,
}

/// A key and its value as the table holds them.
pub(super) type TableRow = (String, Option<String>);

impl Statements {
    pub(super) fn new(lookup: &Lookup) -> Self {
        let key = quote(&lookup.key);
        let value = quote(&lookup.value);
        let table = quote(&lookup.table);
        // CAST, so that a value of any type arrives as text, also from columns whose collation is binary.
        let select = format!("CAST({key} AS CHAR), CAST({value} AS CHAR) FROM {table}");
        Self {
            by_size: SIZES.map(|size| {
                let places = vec!["?"; size].join(", ");
                format!("/* lookup_load */ SELECT {select} WHERE {key} IN ({places})").into()
            }),
            first_page: format!("/* lookup_preload */ SELECT {select} ORDER BY {key} LIMIT ?").into(),
            next_page: format!("/* lookup_preload */ SELECT {select} WHERE {key} > ? ORDER BY {key} LIMIT ?").into(),
        }
    }

    /// Asks for at most [`MOST_KEYS`] keys, not none. Returns a value for each of them; the rows that the table's
    /// collation takes for equal and that are not are left out.
    pub(super) async fn load(
        &self,
        pool: &MySqlPool,
        keys: &[Arc<str>],
    ) -> Result<(HashMap<Arc<str>, Value, RandomState>, u64), sqlx::Error> {
        let mut values: HashMap<Arc<str>, Value, RandomState> = keys.iter().map(|key| (key.clone(), None)).collect();
        let Some(last) = keys.last() else {
            return Ok((values, 0));
        };
        let place = SIZES
            .iter()
            .position(|size| *size >= keys.len())
            .unwrap_or(SIZES.len() - 1);
        let mut query = sqlx::query(AssertSqlSafe(self.by_size[place].clone()));
        for key in keys
            .iter()
            .chain(std::iter::repeat_n(last, SIZES[place].saturating_sub(keys.len())))
        {
            query = query.bind(&**key);
        }
        let rows = query.fetch_all(pool).await?;
        for row in &rows {
            let key: String = row.try_get(0)?;
            if let Some(value) = values.get_mut(key.as_str()) {
                *value = row.try_get::<Option<String>, _>(1)?.map(Arc::from);
            }
        }
        Ok((values, rows.len() as u64))
    }

    /// Reads the page of rows after a key, or the first one, in the table's order.
    pub(super) async fn page(
        &self,
        pool: &MySqlPool,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<TableRow>, sqlx::Error> {
        let query = match after {
            None => sqlx::query(AssertSqlSafe(self.first_page.clone())),
            Some(after) => sqlx::query(AssertSqlSafe(self.next_page.clone())).bind(after),
        };
        let rows = query.bind(limit).fetch_all(pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

fn quote(identifier: &str) -> String {
    format!("`{}`", identifier.replace('`', "``"))
}
