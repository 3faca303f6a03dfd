//! The Redis pool, the one key prefix, and what a failed call means.
//!
//! Every call has time limits: one for waiting for a connection, one for opening it, one for the answer. A connection
//! that did not answer in time is thrown away: a black-holed server never answers. Futures here may be dropped at any point: the server may then have done the call, as after a
//! lost answer.
//!
//! Pub/sub has a connection of its own ([`Subscription`]); it is never taken from the pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::{Connection, Pool, PoolConfig, Runtime, Timeouts};
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion, ServerErrorKind,
    TlsCertificates,
};
use secrecy::{ExposeSecret, SecretString};

pub mod error;
pub mod subscription;

pub use error::Error;
pub use subscription::{Event, Subscription};

/// The first part of every key, `databus` by default. Two installations on one Redis differ in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPrefix(Arc<str>);

impl KeyPrefix {
    /// Checks and wraps a prefix: 1 to 64 of `[A-Za-z0-9_.-]`. Braces would change the hash tag of every key, and
    /// `:` parts a key's pieces.
    pub fn new(prefix: impl AsRef<str>) -> Result<Self, InvalidKeyPrefix> {
        let prefix = prefix.as_ref();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if (1..=64).contains(&prefix.len()) && prefix.bytes().all(legal) {
            Ok(Self(Arc::from(prefix)))
        } else {
            Err(InvalidKeyPrefix(prefix.chars().take(80).collect()))
        }
    }

    /// Returns the prefix, without the `:` that follows it in keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        Self(Arc::from("databus"))
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A key prefix that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Redis key prefix {0:?} must be 1 to 64 letters, digits, dots, hyphens or underscores")]
pub struct InvalidKeyPrefix(String);

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://` or `rediss://` with user, password and database. Needs Redis 6 or newer.
    pub url: SecretString,
    /// For `rediss://`: authorities other than the public ones, and our own certificate. Every connection uses them.
    pub certificates: Option<TlsCertificates>,
    /// The first part of every key.
    pub prefix: KeyPrefix,
    /// The limit of opening a connection.
    pub connect_timeout: Duration,
    /// The limit of one ordinary answer, and of waiting for a free connection.
    pub response_timeout: Duration,
    /// The limit of an answer that moves whole lists (a whitelist of 100,000 ids).
    pub bulk_timeout: Duration,
    /// At most this many pooled connections.
    pub pool_size: usize,
}

impl Settings {
    /// Returns the defaults for a URL: prefix `databus`, 2 s to connect, 500 ms to answer, 10 s in bulk, 8
    /// connections.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            certificates: None,
            prefix: KeyPrefix::default(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_millis(500),
            bulk_timeout: Duration::from_secs(10),
            pool_size: 8,
        }
    }
}

/// Which time limit a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Settings::response_timeout`].
    Ordinary,
    /// [`Settings::bulk_timeout`].
    Bulk,
}

/// A Lua script, run by its hash and loaded when the server does not know it.
#[derive(Debug)]
pub struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    /// Wraps a script's text.
    pub fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Begins an `EVALSHA` with its keys; the caller appends the arguments.
    pub fn call<'a>(&self, keys: impl IntoIterator<Item = &'a str>) -> Cmd {
        let keys: Vec<_> = keys.into_iter().collect();
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        command
    }
}

/// A handle to Redis; cheap to clone.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    push_client: Client,
    settings: Settings,
}

impl Redis {
    /// Prepares the pool. Nothing connects before the first call. Must be called within a Tokio runtime's life.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let refused = |source| Error::Settings { source };
        let mut info = settings.url.expose_secret().into_connection_info().map_err(refused)?;
        if let Some(certificates) = settings.certificates.clone() {
            let client = Client::build_with_tls(info, certificates).map_err(refused)?;
            info = client.get_connection_info().clone();
        }
        // Pushed messages need RESP3; calls stay on RESP2, which proxies in front of Redis understand better.
        let push = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let push_client = Client::open(info.clone().set_redis_settings(push)).map_err(refused)?;
        // The limits of a call are ours (see `limited`), so the library's own are off.
        let connection = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(None);
        let manager = deadpool_redis::Manager::new_with_config(info, connection).map_err(refused)?;
        let mut config = PoolConfig::new(settings.pool_size.max(1));
        config.timeouts = Timeouts {
            wait: Some(settings.response_timeout),
            create: Some(settings.connect_timeout),
            recycle: Some(settings.response_timeout),
        };
        let pool = Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build()?;
        Ok(Self {
            shared: Arc::new(Shared {
                pool,
                push_client,
                settings,
            }),
        })
    }

    /// Returns the key prefix.
    pub fn prefix(&self) -> &KeyPrefix {
        &self.shared.settings.prefix
    }

    /// Runs one command. `call` names it in errors.
    pub async fn query<T: FromRedisValue>(&self, call: &'static str, limit: Limit, command: &Cmd) -> Result<T, Error> {
        let mut connection = self.connection(call).await?;
        let limit = self.limit(limit);
        let answer = tokio::time::timeout(limit, command.query_async(&mut connection)).await;
        settle(call, limit, connection, answer)
    }

    /// Runs a pipeline in one round trip and returns each command's own result, in order.
    pub async fn pipeline<T: FromRedisValue>(
        &self,
        call: &'static str,
        limit: Limit,
        pipeline: &mut Pipeline,
    ) -> Result<Vec<Result<T, Error>>, Error> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        pipeline.ignore_errors();
        let mut connection = self.connection(call).await?;
        let limit = self.limit(limit);
        let answer = tokio::time::timeout(limit, pipeline.query_async(&mut connection)).await;
        let answers: Vec<redis::RedisResult<T>> = settle(call, limit, connection, answer)?;
        Ok(answers
            .into_iter()
            .map(|answer| answer.map_err(|source| Error::Call { call, source }))
            .collect())
    }

    /// Runs a script's command (from [`Script::call`]), loading the script when the server does not know it.
    pub async fn invoke<T: FromRedisValue>(
        &self,
        call: &'static str,
        limit: Limit,
        script: &Script,
        command: &Cmd,
    ) -> Result<T, Error> {
        match self.query(call, limit, command).await {
            Err(error) if error.is_unknown_script() => {
                self.load(script).await?;
                self.query(call, limit, command).await
            }
            answer => answer,
        }
    }

    /// Runs many commands of one script in one round trip; each has its own result, in order. When the server does
    /// not know the script, it is loaded and **all** commands are run again, so the script must bear repetition.
    pub async fn invoke_all<T: FromRedisValue>(
        &self,
        call: &'static str,
        limit: Limit,
        script: &Script,
        commands: Vec<Cmd>,
    ) -> Result<Vec<Result<T, Error>>, Error> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command);
        }
        let answers = self.pipeline(call, limit, &mut pipeline).await?;
        let unknown = |answer: &Result<T, Error>| answer.as_ref().is_err_and(Error::is_unknown_script);
        if !answers.iter().any(unknown) {
            return Ok(answers);
        }
        self.load(script).await?;
        self.pipeline(call, limit, &mut pipeline).await
    }

    /// Opens a connection of its own and subscribes to one channel. At most `capacity` messages wait to be read;
    /// see [`Event::Overflow`].
    pub async fn subscribe(&self, channel: &str, capacity: usize) -> Result<Subscription, Error> {
        let settings = &self.shared.settings;
        Subscription::open(
            &self.shared.push_client,
            channel,
            capacity,
            settings.connect_timeout,
            settings.response_timeout,
        )
        .await
    }

    async fn load(&self, script: &Script) -> Result<(), Error> {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(script.code);
        let hash: String = self.query("load a script", Limit::Ordinary, &command).await?;
        debug_assert_eq!(hash, script.hash, "SHA-1 of the same text");
        Ok(())
    }

    async fn connection(&self, call: &'static str) -> Result<Connection, Error> {
        self.shared.pool.get().await.map_err(|source| Error::Connect {
            call,
            source: Box::new(source),
        })
    }

    fn limit(&self, limit: Limit) -> Duration {
        match limit {
            Limit::Ordinary => self.shared.settings.response_timeout,
            Limit::Bulk => self.shared.settings.bulk_timeout,
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Redis")
            .field("prefix", &self.shared.settings.prefix.as_str())
            .finish_non_exhaustive()
    }
}

/// Gives the connection back to the pool, or throws it away when it is no good. A server that became a replica keeps
/// its connections, so `READONLY` is met with a new one too: a name may point elsewhere now.
fn settle<T>(
    call: &'static str,
    limit: Duration,
    connection: Connection,
    answer: Result<redis::RedisResult<T>, tokio::time::error::Elapsed>,
) -> Result<T, Error> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => {
            if source.is_unrecoverable_error() || source.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
                drop(Connection::take(connection));
            }
            Err(Error::Call { call, source })
        }
        Err(_) => {
            drop(Connection::take(connection));
            Err(Error::TimedOut { call, limit })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_with_braces_or_colons_is_refused() {
        for bad in ["", "a:b", "{a}", "a b", &"x".repeat(65)] {
            assert!(KeyPrefix::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(KeyPrefix::new("data-bus_2.x").expect("legal").as_str(), "data-bus_2.x");
        assert_eq!(KeyPrefix::default().to_string(), "databus");
    }

    #[test]
    fn the_password_is_in_no_debug_output() {
        let settings = Settings::new("redis://user:hunter2@127.0.0.1:1/");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
