//! The whitelist's store on real servers, and what MySQL, Redis and a worker's watcher hold, side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_control_plane::whitelist::{Caller, Config, Parts, Request, Scope, Store, Version};
use reprise_shared::catalog::TypeIndex;
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat;
use reprise_shared::mysql::{self, Database};
use reprise_shared::redis::{KeyPrefix, Redis, Settings};
use reprise_shared::whitelist::{self, Content, Handle, Head, Keys, Watcher, Writer};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, Row as _};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::env::{Isolation, Private, Servers};
use crate::servers::{self, Endpoints, Server as _};
use crate::wait::wait_for;

/// The data types of these tests.
pub const TYPES: [&str; 2] = ["fund_basic", "fund_risk"];
/// Within this time every worker holds a change of which it was told nothing: one poll, and what reading and a heartbeat
/// take.
pub const ONE_POLL: Duration = Duration::from_millis(5_500);

/// A database of one's own, a Redis server of one's own, and as many replicas of the store as one likes.
#[derive(Debug)]
pub struct World {
    /// The names.
    pub isolation: Isolation,
    /// The Redis server, to be broken.
    pub server: Private<servers::Redis>,
    /// A pool past the store.
    pub database: Database,
    /// A handle past the store, which waits longer.
    pub redis: Redis,
}

/// All lists, by name; the global one is the empty name. Empty lists are left out.
pub type Lists = BTreeMap<String, BTreeSet<String>>;

impl World {
    /// Starts one, with the schema in place and nothing in the whitelist.
    ///
    /// # Errors
    /// A server could not be started or used.
    pub async fn start(name: &str) -> Result<Self> {
        let server = Servers::own().redis().await?;
        let endpoints = Endpoints {
            redis: server.endpoint().to_owned(),
            ..Servers::shared().await?.endpoints().clone()
        };
        let isolation = Isolation::on(name, endpoints).await?;
        let database = open_database(&isolation)?;
        mysql::migrate(database.pool()).await?;
        let redis = open_redis(&isolation, Duration::from_secs(5))?;
        Ok(Self {
            isolation,
            server,
            database,
            redis,
        })
    }

    /// Makes a replica, with pools of its own, as another process would have.
    ///
    /// # Errors
    /// The URLs cannot be used.
    pub fn replica(&self) -> Result<Store> {
        self.replica_with(Config {
            change_deadline: Duration::from_secs(5),
            ..Config::default()
        })
    }

    /// Makes a replica with limits of its own.
    ///
    /// # Errors
    /// The URLs cannot be used.
    pub fn replica_with(&self, config: Config) -> Result<Store> {
        Ok(Store::new(Parts {
            database: open_database(&self.isolation)?,
            redis: open_redis(&self.isolation, Duration::from_secs(2))?,
            type_names: TYPES.map(str::to_owned).to_vec(),
            config,
            heartbeat_interval: heartbeat::Store::DEFAULT_INTERVAL,
            clock: Clock::system(),
        }))
    }

    /// Returns a writer to Redis past the store.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(self.redis.clone(), Writer::DEFAULT_MAX_NOTICE_IDS)
    }

    /// Returns the key of the head in Redis.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys::new(self.redis.prefix())
    }

    /// Runs one command on Redis, past the store.
    ///
    /// # Errors
    /// Redis refused it.
    pub async fn command(&self, parts: &[&str]) -> Result<redis::Value> {
        let client = redis::Client::open(self.server.endpoint())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(parts[0]);
        command.arg(&parts[1..]);
        command
            .query_async(&mut connection)
            .await
            .with_context(|| parts.join(" "))
    }

    /// Holds back every call that may write to Redis; reading goes on.
    ///
    /// # Errors
    /// Redis refused it.
    pub async fn hold_writes(&self) -> Result<()> {
        self.command(&["CLIENT", "PAUSE", "600000", "WRITE"]).await.map(drop)
    }

    /// Waits until a call is held back: it was sent, and has no answer.
    ///
    /// # Errors
    /// None was, in time.
    pub async fn holds_one(&self) -> Result<()> {
        wait_for("a call to be held back", ONE_POLL, async || {
            let list = self
                .command(&["CLIENT", "LIST"])
                .await
                .map_err(|error| format!("{error:#}"))?;
            let text: String = redis::from_redis_value(list).map_err(|error| error.to_string())?;
            let is_held = |line: &str| line.contains(" flags=b ") && line.contains(" cmd=evalsha ");
            if text.lines().any(is_held) { Ok(()) } else { Err(text) }
        })
        .await
    }

    /// Lets calls through again.
    ///
    /// # Errors
    /// Redis refused it.
    pub async fn let_writes(&self) -> Result<()> {
        self.command(&["CLIENT", "UNPAUSE"]).await.map(drop)
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// MySQL refused it.
    pub async fn sql(&self, statement: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(self.database.pool())
            .await
            .context(statement.to_owned())?;
        Ok(())
    }

    /// Asks for one number.
    ///
    /// # Errors
    /// MySQL refused it, or there is none.
    pub async fn number(&self, statement: &str) -> Result<i64> {
        sqlx::query_scalar(AssertSqlSafe(statement.to_owned()))
            .fetch_one(self.database.pool())
            .await
            .context(statement.to_owned())
    }

    /// Reads head and lists of MySQL, past the store.
    ///
    /// # Errors
    /// MySQL refused it.
    pub async fn truth(&self) -> Result<(Version, String, Lists)> {
        // One moment: a connection of its own reads REPEATABLE READ, the servers' default.
        let mut connection = MySqlConnection::connect(&self.isolation.mysql_url()).await?;
        sqlx::raw_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            .execute(&mut connection)
            .await?;
        let head = sqlx::query("SELECT version, change_id FROM whitelist_head WHERE id = 1")
            .fetch_one(&mut connection)
            .await?;
        let mut lists = Lists::new();
        for row in sqlx::query("SELECT scope, entry_id FROM whitelist_entries")
            .fetch_all(&mut connection)
            .await?
        {
            lists
                .entry(row.try_get("scope")?)
                .or_default()
                .insert(row.try_get("entry_id")?);
        }
        for row in sqlx::query("SELECT scope, entries FROM whitelist_lists")
            .fetch_all(&mut connection)
            .await?
        {
            let (scope, entries): (String, u64) = (row.try_get("scope")?, row.try_get("entries")?);
            let counted = lists.get(&scope).map_or(0, BTreeSet::len) as u64;
            ensure!(
                entries == counted,
                "list {scope:?} says {entries} entries and has {counted}"
            );
        }
        Ok((Version(head.try_get("version")?), head.try_get("change_id")?, lists))
    }

    /// Checks that MySQL and Redis hold the same change and the same lists, and returns both.
    ///
    /// # Errors
    /// They do not.
    pub async fn same(&self) -> Result<(Version, Lists)> {
        let (version, change_id, lists) = self.truth().await?;
        let content = self.writer().content().await?.context("Redis has no whitelist")?;
        let Head {
            version: copied,
            change_id: copied_id,
        } = content.head.clone();
        ensure!(
            copied == version && copied_id.as_str() == change_id,
            "MySQL has version {version} ({change_id}), Redis {copied} ({copied_id})"
        );
        let copy = lists_of(content);
        ensure!(copy == lists, "MySQL holds {} lists, Redis other ones", lists.len());
        Ok((version, lists))
    }

    /// Dumps all that the store keeps, in MySQL and in Redis, to compare.
    ///
    /// # Errors
    /// A server refused it.
    pub async fn dump(&self) -> Result<String> {
        let mut dump = format!("{:?}", self.writer().content().await?);
        for table in [
            "whitelist_head",
            "whitelist_lists",
            "whitelist_entries",
            "whitelist_changes",
            "whitelist_change_ids",
            "audit_events",
        ] {
            let checksum: String = sqlx::query(AssertSqlSafe(format!("CHECKSUM TABLE {table}")))
                .fetch_one(self.database.pool())
                .await
                .and_then(|row| Ok(format!("{:?}", row.try_get::<Option<i64>, _>(1)?)))?;
            dump.push_str(&format!("\n{table} {checksum}"));
        }
        Ok(dump)
    }

    /// Starts a worker's watcher.
    #[must_use]
    pub fn watch(&self) -> Watching {
        let names = TYPES.map(str::to_owned).to_vec();
        let config = whitelist::Config::default();
        let (watcher, handle) = Watcher::new(self.redis.clone(), names, config, Clock::system());
        let stop = CancellationToken::new();
        start(watcher.run(stop.clone()));
        Watching {
            handle,
            _stop: stop.drop_guard(),
        }
    }
}

/// Starts what runs beside the test: a change to be aborted (which is a crash, as far as the servers can tell), a
/// reconciler, a watcher.
#[expect(clippy::disallowed_methods, reason = "a test's tasks end with the test")]
pub fn start<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// A worker's watcher; stops when dropped.
#[derive(Debug)]
pub struct Watching {
    /// What it holds.
    pub handle: Handle,
    _stop: DropGuard,
}

impl Watching {
    /// Tells whether it lets an id through.
    #[must_use]
    pub fn allows(&self, data_type: &str, id: &str) -> bool {
        let place = TYPES.iter().position(|name| *name == data_type).unwrap_or(TYPES.len());
        self.handle
            .current()
            .is_some_and(|held| held.allows(TypeIndex(place), id.as_bytes()))
    }

    /// Waits until it holds a version or a later one.
    ///
    /// # Errors
    /// Not in time.
    pub async fn reaches(&self, version: Version) -> Result<()> {
        wait_for("the watcher to hold a version", ONE_POLL, async || {
            let state = self.handle.state();
            if state.applied >= Some(version) {
                Ok(())
            } else {
                Err(format!("{state:?}, wanted {version}"))
            }
        })
        .await
    }
}

/// A caller.
#[must_use]
pub fn caller(principal: &str) -> Caller {
    Caller {
        principal: principal.to_owned(),
        method: "WhitelistService/Test".to_owned(),
    }
}

/// A request of these tests, with a request id.
#[must_use]
pub fn with_request_id(mut request: Request, id: &str) -> Request {
    request.request_id = Some(id.to_owned());
    request
}

/// The list of a data type.
#[must_use]
pub fn of_type(name: &str) -> Scope {
    Scope::Type(name.to_owned())
}

/// The lists of a content.
#[must_use]
pub fn lists_of(content: Content) -> Lists {
    let mut lists: Lists = content.types;
    lists.insert(String::new(), content.global);
    lists.retain(|_, list| !list.is_empty());
    lists
}

fn open_database(isolation: &Isolation) -> Result<Database> {
    let config = mysql::Config {
        url: isolation.mysql_url().into(),
        ..mysql::Config::default()
    };
    Ok(Database::new(&config, Clock::system())?)
}

fn open_redis(isolation: &Isolation, bulk_timeout: Duration) -> Result<Redis> {
    let mut settings = Settings::new(isolation.redis_url());
    settings.prefix = KeyPrefix::new(isolation.key_prefix())?;
    settings.bulk_timeout = bulk_timeout;
    Ok(Redis::open(settings)?)
}
