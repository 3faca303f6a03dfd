//! Under the lock: settles what others left unfinished, compares MySQL with Redis, and heals Redis.

use jiff::Timestamp;
use reprise_shared::telemetry::chain;
use reprise_shared::whitelist::{ChangeId, Content, Expect, Head, Scope, Version};
use sqlx::mysql::MySqlConnection;
use tokio::time::Instant;

use super::error::Error;
use super::push::{Call, Pushed, push};
use super::record::{Effect, Effects, Group, Kind, Record, State};
use super::request::{Caller, RequestDigest, id_problem};
use super::store::Shared;
use super::{entries, finish, head, history};

/// How things stand, or what was done about it.
pub(super) enum Settlement {
    /// MySQL and Redis hold the same change, and nothing is unfinished.
    Agree { head: Head, now: Timestamp },
    /// Neither ever held a version.
    Empty { head: Head, now: Timestamp },
    /// Something was put right; commit, and look again.
    Repaired(Repair),
    /// It cannot be put right now.
    Unable {
        base: Version,
        now: Timestamp,
        reason: String,
    },
}

/// What was put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// A change that Redis had was finished in MySQL.
    Finished(ChangeId),
    /// A change that Redis did not have was failed.
    Failed(ChangeId),
    /// All lists were put in place in Redis, as this version.
    Healed(Version),
    /// MySQL took over what Redis had, as this version.
    Imported(Version),
}

/// What a look under the lock has found.
struct Found<'a> {
    shared: &'a Shared,
    deadline: Instant,
    head: Head,
    now: Timestamp,
    redis: Option<Head>,
    unfinished: Vec<Record>,
    /// Lists whose copies have as many ids as they should.
    is_whole: bool,
    /// A version that some worker says it holds.
    floor: Version,
}

/// Takes the lock and settles one thing. The caller commits, whatever the answer, and calls again after a repair.
pub(super) async fn settle(
    shared: &Shared,
    connection: &mut MySqlConnection,
    deadline: Instant,
    floor: Version,
) -> Result<Settlement, Error> {
    let (head, now) = head::lock(connection).await?;
    let unfinished = history::unfinished(connection).await?;
    let copy = look(shared, entries::sizes(&mut *connection).await?).await;
    let (redis, is_whole) = match copy {
        Ok(copy) => copy,
        Err(error) => {
            let (base, reason) = (head.version, chain(&error).to_string());
            return Ok(Settlement::Unable { base, now, reason });
        }
    };
    if let Some(held) = &redis {
        for record in &unfinished {
            if record.change_id == held.change_id && record.version == Some(held.version) {
                let effects = history::effects(&mut *connection, &record.change_id).await?;
                finish::complete(connection, record, &effects, now).await?;
                return Ok(Settlement::Repaired(Repair::Finished(record.change_id.clone())));
            }
        }
    }
    let found = Found {
        shared,
        deadline,
        head,
        now,
        redis,
        unfinished,
        is_whole,
        floor,
    };
    found.judge(connection).await
}

/// Reads which change Redis ends with, and whether each list has its size there.
pub(super) async fn look(
    shared: &Shared,
    sizes: Vec<(Scope, u64)>,
) -> Result<(Option<Head>, bool), reprise_shared::redis::Error> {
    let (scopes, sizes): (Vec<Scope>, Vec<u64>) = sizes.into_iter().unzip();
    let head = shared.writer.head().await?;
    let is_whole = shared.writer.sizes(&scopes).await? == sizes;
    Ok((head, is_whole))
}

impl Found<'_> {
    async fn judge(&self, connection: &mut MySqlConnection) -> Result<Settlement, Error> {
        let is_fresh = self.head.version == Version(0);
        match &self.redis {
            None if is_fresh => match self.unfinished.first() {
                // No fence: it would be an empty list. If the call is made late after all, it is imported.
                Some(record) => {
                    finish::give_up(connection, record, State::Failed, NEVER_ARRIVED).await?;
                    Ok(Settlement::Repaired(Repair::Failed(record.change_id.clone())))
                }
                None => Ok(Settlement::Empty {
                    head: self.head.clone(),
                    now: self.now,
                }),
            },
            Some(redis) if is_fresh => self.import(connection, redis).await,
            redis => {
                let is_same = self.is_whole && redis.as_ref() == Some(&self.head);
                if is_same && self.unfinished.is_empty() && self.floor <= self.head.version {
                    let (head, now) = (self.head.clone(), self.now);
                    return Ok(Settlement::Agree { head, now });
                }
                self.heal(connection).await
            }
        }
    }

    /// Puts all lists in place. This is the fence, too, behind which unfinished changes are failed: whatever call may
    /// still be on its way expects a version that is then gone.
    async fn heal(&self, connection: &mut MySqlConnection) -> Result<Settlement, Error> {
        let last = history::last(connection).await?;
        let highest = self.highest(last.as_ref());
        // A heal that did not get through is tried again as it was, so that a long outage leaves one row.
        let again = last.filter(|last| {
            last.kind == Kind::Heal
                && last.state != State::Applied
                && last.base_version == self.head.version
                && last.version == Some(highest)
                && self.redis.as_ref().is_none_or(|redis| redis.version < highest)
                && self.floor < highest
        });
        let record = match again {
            Some(record) => {
                reopen(self.shared, &record).await?;
                record
            }
            None => {
                let record = self.record(Kind::Heal, next(highest), self.disagreement());
                intend(self.shared, &record, &Effects::default()).await?;
                record
            }
        };
        let content = entries::content(connection, head_of(&record)).await?;
        match self.fill(content).await {
            Pushed::Applied => {
                for other in self
                    .unfinished
                    .iter()
                    .filter(|other| other.change_id != record.change_id)
                {
                    finish::give_up(connection, other, State::Failed, NEVER_ARRIVED).await?;
                }
                finish::complete(connection, &record, &Effects::default(), self.now).await?;
                Ok(Settlement::Repaired(Repair::Healed(head_of(&record).version)))
            }
            pushed => self.unable(connection, &record, pushed).await,
        }
    }

    /// Takes over what Redis has, since MySQL never had anything.
    async fn import(&self, connection: &mut MySqlConnection, redis: &Head) -> Result<Settlement, Error> {
        let unable = |reason: String| Settlement::Unable {
            base: self.head.version,
            now: self.now,
            reason,
        };
        let mut content = match self.shared.writer.content().await {
            Ok(Some(content)) if content.head == *redis => content,
            Ok(_) => return Ok(unable("Redis changed while it was read".to_owned())),
            Err(error) => return Ok(unable(chain(&error).to_string())),
        };
        let effects = effects_of(&content);
        let max_bytes = self.shared.config.max_id_bytes;
        if let Some(problem) = effects.ids(Effect::Added).find_map(|id| id_problem(id, max_bytes)) {
            return Ok(unable(format!(
                "Redis holds an id that cannot be taken over: it {problem}"
            )));
        }
        let last = history::last(connection).await?;
        let words = format!("version {} of Redis was taken over", redis.version);
        let mut record = self.record(Kind::Import, next(self.highest(last.as_ref())), words);
        record.added = effects.count(Effect::Added);
        intend(self.shared, &record, &effects).await?;
        content.head = head_of(&record);
        match self.fill(content).await {
            Pushed::Applied => {
                finish::complete(connection, &record, &effects, self.now).await?;
                Ok(Settlement::Repaired(Repair::Imported(head_of(&record).version)))
            }
            pushed => self.unable(connection, &record, pushed).await,
        }
    }

    async fn fill(&self, content: Content) -> Pushed {
        let expect = self
            .redis
            .as_ref()
            .map_or(Expect::Missing, |redis| Expect::Version(redis.version));
        push(&self.shared.writer, &Call::Fill { content, expect }, self.deadline).await
    }

    async fn unable(
        &self,
        connection: &mut MySqlConnection,
        record: &Record,
        pushed: Pushed,
    ) -> Result<Settlement, Error> {
        let (state, reason) = match pushed {
            Pushed::Unknown(reason) => (State::Unknown, reason),
            Pushed::Refused(reason) => (State::Failed, reason),
            Pushed::Diverged | Pushed::Applied => (State::Failed, "Redis changed meanwhile".to_owned()),
        };
        finish::give_up(connection, record, state, &reason).await?;
        let (base, now) = (self.head.version, self.now);
        Ok(Settlement::Unable { base, now, reason })
    }

    /// The highest version that anybody knows of.
    fn highest(&self, last: Option<&Record>) -> Version {
        let redis = self.redis.as_ref().map_or(Version(0), |redis| redis.version);
        let given_out = last.and_then(|last| last.version).unwrap_or(Version(0));
        self.head.version.max(redis).max(given_out).max(self.floor)
    }

    fn disagreement(&self) -> String {
        match &self.redis {
            None => "Redis had no whitelist".to_owned(),
            Some(redis) if *redis != self.head => {
                format!("Redis had version {}, MySQL {}", redis.version, self.head.version)
            }
            Some(_) if !self.is_whole => "a list in Redis had lost ids, or had too many".to_owned(),
            Some(_) if self.floor > self.head.version => {
                format!("a worker holds version {}, MySQL {}", self.floor, self.head.version)
            }
            Some(_) => "the call of an unfinished change may still arrive".to_owned(),
        }
    }

    fn record(&self, kind: Kind, version: Version, failure: String) -> Record {
        let caller = Caller::system();
        Record {
            change_id: new_change_id(),
            version: Some(version),
            base_version: self.head.version,
            kind,
            scope: Scope::Global,
            state: State::Intent,
            failure,
            principal: caller.principal,
            request_id: None,
            digest: RequestDigest(String::new()),
            method: caller.method,
            note: String::new(),
            expires_at: None,
            added: 0,
            removed: 0,
            refreshed: 0,
            untouched: 0,
            entries_before: 0,
            created_at: self.now,
            finished_at: None,
        }
    }
}

const NEVER_ARRIVED: &str = "Redis never had it";

/// Commits an intent on a connection of its own, while the caller's transaction holds the lock.
pub(super) async fn intend(shared: &Shared, record: &Record, effects: &Effects) -> Result<(), Error> {
    let intent = std::sync::Arc::new((record.clone(), effects.clone()));
    let write = shared.database.tx("whitelist_intent", move |connection| {
        let intent = std::sync::Arc::clone(&intent);
        Box::pin(async move {
            history::insert(connection, &intent.0, &intent.1)
                .await
                .map_err(Error::from)
        })
    });
    write.await
}

async fn reopen(shared: &Shared, record: &Record) -> Result<(), Error> {
    let change_id = record.change_id.clone();
    let write = shared.database.tx("whitelist_reopen", move |connection| {
        let change_id = change_id.clone();
        Box::pin(async move { history::reopen(connection, &change_id).await.map_err(Error::from) })
    });
    write.await
}

pub(super) fn new_change_id() -> ChangeId {
    ChangeId::new(uuid::Uuid::now_v7().to_string())
}

/// The version after `version`; the last one stays, rather than to begin anew.
pub(super) fn next(version: Version) -> Version {
    Version(version.0.saturating_add(1))
}

/// The head that a change makes.
pub(super) fn head_of(record: &Record) -> Head {
    Head {
        version: record.version.unwrap_or(record.base_version),
        change_id: record.change_id.clone(),
    }
}

fn effects_of(content: &Content) -> Effects {
    let global = (Scope::Global, &content.global);
    let types = content.types.iter().map(|(name, ids)| (Scope::Type(name.clone()), ids));
    let lists = std::iter::once(global).chain(types).filter(|(_, ids)| !ids.is_empty());
    Effects(
        lists
            .map(|(scope, ids)| Group {
                scope,
                effect: Effect::Added,
                ids: ids.iter().cloned().collect(),
            })
            .collect(),
    )
}
