//! What Redis holds of a whitelist, seen past everything that is under test.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use redis::{AsyncCommands as _, aio::MultiplexedConnection};

/// Keys and what they hold, in an order of its own.
pub(crate) type Held = BTreeMap<String, Vec<String>>;

/// Connects to a server as its default user.
pub(crate) async fn connect(url: &str) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(url)?;
    client
        .get_multiplexed_async_connection()
        .await
        .context("connect to Redis")
}

/// Reads every key of the whitelist with plain commands: scripts may be what the server refuses.
pub(crate) async fn held(url: &str, key_prefix: &str) -> Result<Held> {
    let mut connection = connect(url).await?;
    let keys: Vec<String> = connection.keys(format!("{key_prefix}:{{whitelist}}:*")).await?;
    let mut held = Held::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await?;
        let mut values: Vec<String> = match kind.as_str() {
            "hash" => {
                let fields: BTreeMap<String, String> = connection.hgetall(&key).await?;
                fields.iter().map(|(name, value)| format!("{name}={value}")).collect()
            }
            "set" => connection.smembers(&key).await?,
            _ => vec![connection.get(&key).await?],
        };
        values.sort_unstable();
        held.insert(key, values);
    }
    Ok(held)
}
