//! A corner of the shared servers for one test: a database, and prefixes for topics, Redis keys and consumer groups.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};

use super::Servers;
use crate::{
    servers::Endpoints,
    wait::{blocking, wait_for},
};

/// How long cleaning up may take; what is left behind then does no harm.
const CLEAN_LIMIT: Duration = Duration::from_secs(15);
const ADMIN_LIMIT: Duration = Duration::from_secs(10);
/// A broker on a busy machine has this long to lead the partitions of a new topic.
const LEADERS_LIMIT: Duration = Duration::from_secs(60);

/// Names that no other test uses, so that tests run beside each other on the same servers.
///
/// Dropping it drops the database and deletes the topics and keys with its prefix; what cannot be cleaned up is said
/// on standard error.
#[derive(Debug)]
pub struct Isolation {
    endpoints: Endpoints,
    id: Id,
}

/// What all names of one isolation begin with.
#[derive(Clone, Debug)]
struct Id(String);

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Isolation {
    /// A corner of the shared servers. `name` appears in all its names, so that a person can tell whose they are.
    ///
    /// # Errors
    /// The shared servers could not be started, or the database not created.
    pub async fn new(name: &str) -> Result<Self> {
        Self::on(name, Servers::shared().await?.endpoints().clone()).await
    }

    /// A corner of other servers: private ones, or shared ones with one replaced.
    ///
    /// # Errors
    /// The database could not be created.
    pub async fn on(name: &str, endpoints: Endpoints) -> Result<Self> {
        let isolation = Self {
            endpoints,
            id: Id::new(name),
        };
        let mut connection = isolation.connect_to_server().await?;
        let statement = format!("CREATE DATABASE `{}` CHARACTER SET utf8mb4", isolation.database());
        connection
            .execute(AssertSqlSafe(statement))
            .await
            .context("create the test's database")?;
        Ok(isolation)
    }

    /// Kafka's bootstrap servers.
    #[must_use]
    pub fn kafka_brokers(&self) -> &str {
        &self.endpoints.kafka
    }

    /// The URL of the test's own database.
    #[must_use]
    pub fn mysql_url(&self) -> String {
        with_database(&self.endpoints.mysql, &self.database())
    }

    /// The URL of the shared Redis; write only keys with [`key_prefix`](Self::key_prefix).
    #[must_use]
    pub fn redis_url(&self) -> &str {
        &self.endpoints.redis
    }

    /// The name of the test's own database.
    #[must_use]
    pub fn database(&self) -> String {
        self.id.0.clone()
    }

    /// What the names of all the test's topics begin with.
    #[must_use]
    pub fn topic_prefix(&self) -> String {
        format!("{}.", self.id)
    }

    /// The name of one of the test's topics.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix())
    }

    /// What all the test's Redis keys begin with, in place of `databus`.
    #[must_use]
    pub fn key_prefix(&self) -> String {
        self.id.0.clone()
    }

    /// What the names of all tests begin with.
    pub const PREFIX: &str = "test_";

    /// The test's consumer group.
    #[must_use]
    pub fn group(&self) -> String {
        self.id.0.clone()
    }

    /// Creates one of the test's topics, waits until the broker leads all its partitions, and returns its whole name.
    ///
    /// `settings` are the topic's own, for example `[("cleanup.policy", "compact")]`.
    ///
    /// # Errors
    /// Kafka refused or does not answer.
    pub async fn create_topic(&self, name: &str, partitions: u16, settings: &[(&str, &str)]) -> Result<String> {
        let topic = self.topic(name);
        let admin = self.admin()?;
        let wanted = NewTopic {
            name: &topic,
            num_partitions: i32::from(partitions),
            replication: TopicReplication::Fixed(1),
            config: settings.to_vec(),
        };
        let options = AdminOptions::new()
            .operation_timeout(Some(ADMIN_LIMIT))
            .request_timeout(Some(ADMIN_LIMIT));
        for result in admin
            .create_topics([&wanted], &options)
            .await
            .context("create a topic")?
        {
            result.map_err(|(topic, code)| anyhow::anyhow!("create topic {topic}: {code}"))?;
        }
        let admin = std::sync::Arc::new(admin);
        wait_for(&format!("topic {topic}"), LEADERS_LIMIT, async || {
            let (admin, topic) = (admin.clone(), topic.clone());
            blocking("a metadata call", ADMIN_LIMIT, move || {
                let metadata = admin.inner().fetch_metadata(Some(&topic), Duration::from_secs(5))?;
                let found = metadata.topics().first().context("no metadata for it")?;
                let led = found
                    .partitions()
                    .iter()
                    .filter(|partition| partition.leader() >= 0)
                    .count();
                ensure!(
                    led == usize::from(partitions),
                    "{led} of {partitions} partitions have a leader"
                );
                Ok(())
            })
            .await
        })
        .await?;
        Ok(topic)
    }

    /// A client for Kafka's administration.
    ///
    /// # Errors
    /// The client could not be created.
    pub fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.kafka_brokers())
            .create()
            .context("create an admin client")
    }

    async fn connect_to_server(&self) -> Result<MySqlConnection> {
        let url = with_database(&self.endpoints.mysql, "");
        MySqlConnection::connect(&url).await.context("connect to MySQL")
    }

    async fn clean(&self) -> Result<()> {
        let (mysql, redis, kafka) = tokio::join!(self.clean_mysql(), self.clean_redis(), self.clean_kafka());
        mysql
            .context("drop the database")
            .and(redis.context("delete the keys"))
            .and(kafka.context("delete the topics"))
    }

    async fn clean_mysql(&self) -> Result<()> {
        let mut connection = self.connect_to_server().await?;
        let statement = format!("DROP DATABASE IF EXISTS `{}`", self.database());
        connection.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    async fn clean_redis(&self) -> Result<()> {
        let client = redis::Client::open(self.redis_url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let pattern = format!("{}*", self.key_prefix());
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
            if !keys.is_empty() {
                let () = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn clean_kafka(&self) -> Result<()> {
        let prefix = self.topic_prefix();
        let admin = std::sync::Arc::new(self.admin()?);
        let lister = admin.clone();
        let topics: Vec<String> = blocking("a metadata call", CLEAN_LIMIT, move || {
            let metadata = lister.inner().fetch_metadata(None, Duration::from_secs(5))?;
            Ok(metadata
                .topics()
                .iter()
                .map(|topic| topic.name().to_owned())
                .filter(|name| name.starts_with(&prefix))
                .collect())
        })
        .await?;
        if !topics.is_empty() {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let options = AdminOptions::new().request_timeout(Some(ADMIN_LIMIT));
            admin.delete_topics(&names, &options).await?;
        }
        Ok(())
    }
}

impl Drop for Isolation {
    fn drop(&mut self) {
        // A thread with a runtime of its own, because a drop may happen inside or outside of one, and in a panic.
        let cleaned = std::thread::scope(|scope| {
            let clean = || -> Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let result = runtime.block_on(async { tokio::time::timeout(CLEAN_LIMIT, self.clean()).await });
                runtime.shutdown_timeout(Duration::from_secs(1));
                result.with_context(|| format!("not done after {CLEAN_LIMIT:?}"))?
            };
            scope.spawn(clean).join()
        });
        if let Ok(Err(error)) = cleaned {
            eprintln!("{} was not cleaned up: {error:#}", self.id);
        }
    }
}

impl Id {
    /// Lower-case letters, digits and `_`, at most 55 characters: a name that a database, a topic, a key and a group
    /// may all have.
    fn new(name: &str) -> Self {
        let clean = |letter: char| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_lowercase()
            } else {
                '_'
            }
        };
        let name: String = name.chars().map(clean).take(32).collect();
        // The end of a v7 id is its random part.
        let id = uuid::Uuid::now_v7().simple().to_string();
        Self(format!("{}{name}_{}", Isolation::PREFIX, &id[id.len() - 12..]))
    }
}

/// Replaces the database in a MySQL URL and keeps its options.
pub(crate) fn with_database(url: &str, database: &str) -> String {
    let (address, options) = url
        .split_once('?')
        .map_or((url, None), |(address, options)| (address, Some(options)));
    let host = address.find("://").map_or(0, |scheme| scheme + 3);
    let end = address[host..].find('/').map_or(address.len(), |slash| host + slash);
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    format!("{}/{database}{options}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced_and_the_rest_kept() {
        for (url, expected) in [
            ("mysql://root@127.0.0.1:3306", "mysql://root@127.0.0.1:3306/mine"),
            ("mysql://root@127.0.0.1:3306/", "mysql://root@127.0.0.1:3306/mine"),
            (
                "mysql://u:p@db/other?ssl-mode=DISABLED",
                "mysql://u:p@db/mine?ssl-mode=DISABLED",
            ),
        ] {
            assert_eq!(with_database(url, "mine"), expected);
        }
    }

    #[test]
    fn names_are_unique_and_fit_everywhere() {
        let (one, two) = (
            Id::new("I1 nothing is lost, however long the name may be"),
            Id::new("I1 nothing"),
        );
        assert_ne!(one.0, two.0);
        assert!(
            one.0.len() <= 55 && one.0.starts_with("test_i1_nothing_is_lost__"),
            "{one}"
        );
    }
}
