//! What the services need to find on the servers: database and schema, and the topic.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use reprise_shared::clock::Clock;
use reprise_shared::mysql::{self, Database};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};

use super::stack::TOPIC;
use crate::env;
use crate::servers::mariadb::DATABASE;

/// The topic's partitions when it is made here.
const PARTITIONS: i32 = 4;
/// Nothing is ever deleted, and the largest record of the feed has room.
const TOPIC_SETTINGS: [(&str, &str); 2] = [("retention.ms", "-1"), ("max.message.bytes", "4194304")];
const ADMIN_LIMIT: Duration = Duration::from_secs(30);

/// Creates the database where it is missing, brings its tables up to date, and returns the URL with the database.
pub(super) async fn database(url: &str) -> Result<String> {
    let given = MySqlConnectOptions::from_str(url).context("read MySQL's URL")?;
    let name = given.get_database().filter(|name| !name.is_empty()).unwrap_or(DATABASE);
    let mut connection = MySqlConnection::connect(&env::with_database(url, ""))
        .await
        .context("connect to MySQL")?;
    let create = format!(
        "CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4",
        mysql::quote(name)
    );
    connection
        .execute(AssertSqlSafe(create))
        .await
        .context("create the database")?;
    let url = env::with_database(url, name);
    let config = mysql::Config {
        url: url.clone().into(),
        max_connections: 1,
        ..mysql::Config::default()
    };
    let database = Database::new(&config, Clock::system())?;
    mysql::migrate(database.pool()).await.context("migrate the schema")?;
    mysql::migrate_demo(database.pool())
        .await
        .context("create the target tables")?;
    database.pool().close().await;
    Ok(url)
}

/// Creates the topic where it is missing.
pub(super) async fn topic(brokers: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .context("make a Kafka client")?;
    let wanted = NewTopic {
        name: TOPIC,
        num_partitions: PARTITIONS,
        replication: TopicReplication::Fixed(1),
        config: TOPIC_SETTINGS.to_vec(),
    };
    let options = AdminOptions::new()
        .operation_timeout(Some(ADMIN_LIMIT))
        .request_timeout(Some(ADMIN_LIMIT));
    let answers = admin
        .create_topics([&wanted], &options)
        .await
        .context("create the topic")?;
    for answer in answers {
        match answer {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => bail!("create topic {name}: {code}"),
        }
    }
    Ok(())
}
