//! The servers themselves, real ones: they start, stop, freeze, crash and come back; and tests do not meet in them.

use std::time::Duration;

use anyhow::Result;
use reprise_tests::{
    env::{Isolation, Servers},
    servers::Server,
};
use sqlx::{Connection as _, Executor as _, MySqlConnection};

/// Longer than one look of a readiness check that gets no answer.
const SHORT: Duration = Duration::from_secs(4);

async fn survives_everything(server: &mut impl Server) -> Result<()> {
    let (first, endpoint) = (server.pid(), server.endpoint().to_owned());
    server.pause()?;
    assert!(server.ready(SHORT).await.is_err(), "a frozen server has answered");
    server.resume()?;
    server.ready(SHORT).await?;
    assert_eq!(server.pid(), first);

    server.kill()?;
    assert_eq!(server.pid(), None);
    server.start_again().await?;
    server.restart().await?;
    assert_ne!(server.pid(), first);
    assert_eq!(server.endpoint(), endpoint);
    server.stop().await?;
    server.stop().await
}

#[tokio::test]
async fn kafka_comes_back_after_a_pause_a_crash_and_a_restart() -> Result<()> {
    survives_everything(&mut *Servers::own().kafka().await?).await
}

#[tokio::test]
async fn mariadb_comes_back_after_a_pause_a_crash_and_a_restart() -> Result<()> {
    survives_everything(&mut *Servers::own().mariadb().await?).await
}

#[tokio::test]
async fn redis_comes_back_after_a_pause_a_crash_and_a_restart() -> Result<()> {
    survives_everything(&mut *Servers::own().redis().await?).await
}

#[tokio::test]
async fn a_committed_row_survives_a_crash_of_mariadb() -> Result<()> {
    let mut mariadb = Servers::own().mariadb().await?;
    let mut connection = MySqlConnection::connect(mariadb.endpoint()).await?;
    connection.execute("CREATE TABLE t (a INT PRIMARY KEY)").await?;
    connection.execute("INSERT INTO t VALUES (7)").await?;
    mariadb.kill()?;
    mariadb.start_again().await?;
    let mut connection = MySqlConnection::connect(mariadb.endpoint()).await?;
    let kept: i32 = sqlx::query_scalar("SELECT a FROM t").fetch_one(&mut connection).await?;
    assert_eq!(kept, 7);
    Ok(())
}

#[tokio::test]
async fn two_tests_share_servers_and_nothing_else_and_leave_nothing_behind() -> Result<()> {
    let (one, two) = (Isolation::new("isolation").await?, Isolation::new("isolation").await?);
    assert_ne!(one.mysql_url(), two.mysql_url());
    let topic = one.create_topic("data", 3, &[("cleanup.policy", "compact")]).await?;
    assert_ne!(topic, two.topic("data"));

    let client = redis::Client::open(two.redis_url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let key = |isolation: &Isolation| format!("{}:key", isolation.key_prefix());
    for isolation in [&one, &two] {
        let () = redis::cmd("SET")
            .arg(key(isolation))
            .arg(1)
            .query_async(&mut redis)
            .await?;
    }
    let (gone, database) = (key(&one), one.database());
    drop(one);

    let exists: bool = redis::cmd("EXISTS").arg(&gone).query_async(&mut redis).await?;
    assert!(!exists, "{gone} is left");
    let kept: bool = redis::cmd("EXISTS").arg(key(&two)).query_async(&mut redis).await?;
    assert!(kept, "another test's key was deleted");
    let mut mysql = MySqlConnection::connect(&two.mysql_url()).await?;
    let databases: Vec<String> = sqlx::query_scalar("SELECT schema_name FROM information_schema.schemata")
        .fetch_all(&mut mysql)
        .await?;
    assert!(!databases.contains(&database), "{database} is left");
    assert!(databases.contains(&two.database()));
    let metadata = two.admin()?;
    let metadata = metadata.inner().fetch_metadata(None, Duration::from_secs(5))?;
    assert!(
        metadata.topics().iter().all(|found| found.name() != topic),
        "{topic} is left"
    );
    Ok(())
}
