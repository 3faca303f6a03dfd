//! What can be asked about the whitelist without changing it. MySQL answers, since it holds the truth.

use std::collections::HashMap;

use jiff::Timestamp;
use reprise_shared::telemetry::chain;
use reprise_shared::whitelist::{ChangeId, Head, Scope, Version};
use sqlx::Row;

use super::entries::{self, EntryPage};
use super::error::Error;
use super::head;
use super::history;
use super::record::{Effect, Record, RecordPage};
use super::samples::{self, Sample};
use super::settle::look;
use super::store::Store;
use crate::times::{self, milliseconds};

/// One list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Which one.
    pub scope: Scope,
    /// How many entries it has. None: it restricts nothing (a type's own list then leaves the choice to the global
    /// one).
    pub entries: u64,
    /// The version that last changed it; 0 when nothing ever did.
    pub version: Version,
    /// When that was.
    pub changed_at: Option<Timestamp>,
    /// The whitelist's version, which is the etag of every list.
    pub etag: Version,
}

/// What Redis holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copy {
    /// This version. `is_whole`: each list has as many ids as in MySQL.
    Holds {
        /// The version.
        head: Head,
        /// False while a change is under way, or after a list was lost alone.
        is_whole: bool,
    },
    /// None: it was emptied, or never filled.
    Missing,
    /// It did not answer.
    Unreachable(String),
}

/// How MySQL and Redis stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What MySQL holds; version 0 when there never was a change.
    pub head: Head,
    /// What Redis holds.
    pub copy: Copy,
    /// Changes that nobody knows the outcome of yet.
    pub unfinished: Vec<Record>,
    /// Entries that are due and still there: about to be removed, or the last of their list.
    pub overdue: u64,
    /// How many entries all lists have.
    pub entries: u64,
}

impl Status {
    /// Tells whether Redis holds what MySQL holds, and nothing is open.
    pub fn is_in_sync(&self) -> bool {
        self.unfinished.is_empty() && matches!(&self.copy, Copy::Holds { head, is_whole: true } if *head == self.head)
    }
}

impl Store {
    /// Returns one list, also one that never held anything.
    pub async fn list(&self, scope: &Scope) -> Result<List, Error> {
        let lists = self.lists().await?;
        let etag = lists.first().map_or(Version(0), |list| list.etag);
        Ok(lists.into_iter().find(|list| list.scope == *scope).unwrap_or(List {
            scope: scope.clone(),
            entries: 0,
            version: Version(0),
            changed_at: None,
            etag,
        }))
    }

    /// Returns the global list, and each list of a data type that ever held something, all at one version.
    pub async fn lists(&self) -> Result<Vec<List>, Error> {
        let rows = sqlx::query(concat!(
            "/* whitelist_lists */ SELECT whitelist_head.version AS etag, scope, entries, ",
            "whitelist_lists.version AS list_version, ",
            milliseconds!("whitelist_lists.changed_at"),
            " AS changed_ms FROM whitelist_head LEFT JOIN whitelist_lists ON 1 = 1 WHERE id = 1 ORDER BY scope"
        ))
        .fetch_all(self.shared.database.pool())
        .await?;
        let mut lists = Vec::with_capacity(rows.len() + 1);
        let mut etag = Version(0);
        for row in rows {
            etag = Version(row.try_get("etag")?);
            let Some(scope) = row.try_get::<Option<String>, _>("scope")? else {
                continue;
            };
            lists.push(List {
                scope: history::scope_of(scope),
                entries: row.try_get("entries")?,
                version: Version(row.try_get("list_version")?),
                changed_at: row
                    .try_get::<Option<i64>, _>("changed_ms")?
                    .map(times::from_milliseconds),
                etag,
            });
        }
        if lists.first().is_none_or(|list| list.scope != Scope::Global) {
            let global = List {
                scope: Scope::Global,
                entries: 0,
                version: Version(0),
                changed_at: None,
                etag,
            };
            lists.insert(0, global);
        }
        Ok(lists)
    }

    /// Lists the entries of a list whose ids begin with `prefix`, after an id, in the order of ids, at most `limit`
    /// (and [`super::Config::max_page`]). Changes between two pages show in the later one.
    pub async fn entries(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<EntryPage, Error> {
        let limit = limit.clamp(1, self.shared.config.max_page);
        let pool = self.shared.database.pool();
        // The version first: what the page shows is of that version or a later one.
        let version = head::look(pool).await?.0.version;
        let mut entries = entries::page(pool, scope, prefix, after.unwrap_or_default(), limit + 1).await?;
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().filter(|_| has_more);
        let next_after = last.map(|entry| entry.id.clone());
        Ok(EntryPage {
            entries,
            next_after,
            version,
        })
    }

    /// Lists the changes that made, or were to make, a version, the newest first, at most `limit` (and
    /// [`super::Config::max_page`]).
    pub async fn versions(&self, before: Option<Version>, limit: usize) -> Result<RecordPage, Error> {
        let limit = limit.clamp(1, self.shared.config.max_page);
        let before = before.unwrap_or(Version(u64::MAX));
        let mut records = history::page(self.shared.database.pool(), before, limit + 1).await?;
        let has_more = records.len() > limit;
        records.truncate(limit);
        let next_before = records.last().filter(|_| has_more).and_then(|record| record.version);
        Ok(RecordPage { records, next_before })
    }

    /// Finds a change, also one without a version.
    pub async fn record(&self, change_id: &ChangeId) -> Result<Option<Record>, Error> {
        Ok(history::find(self.shared.database.pool(), change_id).await?)
    }

    /// Returns some of the ids that each of these changes added and removed, at most so many of each.
    pub async fn samples(&self, records: &[Record], most: usize) -> Result<HashMap<ChangeId, Sample>, Error> {
        Ok(samples::read(self.shared.database.pool(), records, most).await?)
    }

    /// Returns the ids of a change with one effect.
    pub async fn ids_of(&self, change_id: &ChangeId, effect: Effect) -> Result<Vec<String>, Error> {
        let effects = history::effects(self.shared.database.pool(), change_id).await?;
        Ok(effects.ids(effect).cloned().collect())
    }

    /// Returns the version that MySQL holds, and the database's time.
    pub async fn head(&self) -> Result<(Head, Timestamp), Error> {
        Ok(head::look(self.shared.database.pool()).await?)
    }

    /// Says how MySQL and Redis stand. Redis being away is an answer, not an error.
    pub async fn status(&self) -> Result<Status, Error> {
        let pool = self.shared.database.pool();
        let copy = match look(&self.shared, entries::sizes(pool).await?).await {
            Ok((Some(head), is_whole)) => Copy::Holds { head, is_whole },
            Ok((None, _)) => Copy::Missing,
            Err(error) => Copy::Unreachable(chain(&error).to_string()),
        };
        let mut connection = pool.acquire().await?;
        Ok(Status {
            head: head::look(&mut *connection).await?.0,
            copy,
            unfinished: history::unfinished(&mut connection).await?,
            overdue: entries::overdue(&mut *connection).await?,
            entries: entries::total(&mut *connection).await?,
        })
    }
}
