//! Finds the ids that values of a lookup belong to.

use std::collections::{BTreeMap, BTreeSet};

use reprise_shared::catalog::Lookup;
use reprise_shared::mysql::quote;
use serde::{Deserialize, Serialize};
use sqlx::{MySql, QueryBuilder, Row};

use super::ask::Replay;
use super::{Error, Planner, Violation};

/// So many values stand in one query.
const PER_QUERY: usize = 500;

/// The ids of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The lookup.
    pub lookup: String,
    /// The value.
    pub value: String,
    /// The ids that have it.
    pub ids: Vec<String>,
}

impl Planner {
    /// Finds the ids of a replay's lookup values, in the order of the values.
    pub(super) async fn resolve(&self, replay: &Replay) -> Result<Vec<Resolved>, Error> {
        let mut resolved = Vec::new();
        let mut left = self.config().max_ids;
        for asked in &replay.lookup_values {
            let lookups = &self.catalog().lookups;
            let Some(lookup) = lookups.iter().find(|lookup| lookup.name == asked.lookup) else {
                continue;
            };
            let mut found: BTreeMap<&str, BTreeSet<String>> = asked
                .values
                .iter()
                .map(|value| (value.as_str(), BTreeSet::new()))
                .collect();
            for column in &lookup.search {
                for values in asked.values.chunks(PER_QUERY) {
                    for (id, value) in self.rows_with(lookup, column, values, left).await? {
                        // Collations take other texts for equal, too.
                        if let Some(ids) = found.get_mut(value.as_str())
                            && ids.insert(id)
                        {
                            left = left.checked_sub(1).ok_or_else(|| self.too_many())?;
                        }
                    }
                }
            }
            resolved.extend(found.into_iter().map(|(value, ids)| Resolved {
                lookup: lookup.name.clone(),
                value: value.to_owned(),
                ids: ids.into_iter().collect(),
            }));
        }
        Ok(resolved)
    }

    async fn rows_with(
        &self,
        lookup: &Lookup,
        column: &str,
        values: &[String],
        left: usize,
    ) -> Result<Vec<(String, String)>, Error> {
        let (key, column, table) = (quote(&lookup.key), quote(column), quote(&lookup.table));
        let mut query = QueryBuilder::<MySql>::new(format!(
            "/* plan_lookup */ SELECT CAST({key} AS CHAR), CAST({column} AS CHAR) FROM {table} WHERE {column} IN ("
        ));
        let mut list = query.separated(", ");
        for value in values {
            list.push_bind(value);
        }
        // More rows than that are too many ids, or texts that only the collation takes for equal.
        let most = left.saturating_add(1).saturating_mul(4);
        query.push(format!(") LIMIT {most}"));
        let rows = query.build().fetch_all(self.0.parts.database.pool()).await?;
        if rows.len() == most {
            return Err(self.too_many());
        }
        let read = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        Ok(read.collect::<sqlx::Result<_>>()?)
    }

    fn too_many(&self) -> Error {
        let most = self.config().max_ids;
        let problem = format!("come to more than {most} ids (jobs.max_ids); name fewer");
        Error::Fields(vec![Violation::new("spec.replay.lookup_values", problem)])
    }
}
