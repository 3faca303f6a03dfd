//! Connections to Redis, MySQL and Kafka that are encrypted and need a certificate of ours and a password: they work
//! with the right ones, in every connection of every process, and with no others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use reprise_control_plane::config::Config;
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::{AddWhitelistEntriesRequest, GetWhitelistStatusRequest};
use reprise_shared::clock::Clock;
use reprise_shared::config::{MysqlConfig, MysqlTls, RedisConfig, Secret, Sources, TlsConfig, load};
use reprise_shared::kafka::client::consumer_config;
use reprise_shared::mysql::Database;
use reprise_shared::redis::{Error, Event, Limit, Redis};
use reprise_tests::control::{ControlPlane, PATIENCE, process};
use reprise_tests::env::{Isolation, Servers};
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Fleet, Options};
use reprise_tests::servers::encrypted::{Certificates, PASSWORD, USER};
use reprise_tests::servers::{Endpoints, Server as _};
use reprise_tests::wait::blocking;

fn tls(files: &Certificates, ca: &str, own: Option<&str>) -> TlsConfig {
    let own = |kind: &str| own.map(|name| files.path(&format!("{name}.{kind}")).into());
    TlsConfig {
        ca_path: Some(files.path(ca).into()),
        certificate_path: own("pem"),
        key_path: own("key"),
    }
}

fn redis_at(url: &str, tls: TlsConfig) -> Result<Redis> {
    // Another test of this process may have been first, with the same choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = RedisConfig {
        url: Secret::new(url),
        tls,
        ..RedisConfig::default()
    };
    Ok(Redis::open(config.settings()?)?)
}

async fn greets(redis: &Redis) -> Result<String, Error> {
    let mut echo = redis::cmd("ECHO");
    redis.query("greet", Limit::Ordinary, echo.arg("hello")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_reached_by_our_certificate_and_pub_sub_too() -> Result<()> {
    let files = Certificates::new()?;
    let mut server = Servers::own().redis().await?;
    let url = files.guard_redis(&mut server).await?;
    let ours = tls(&files, "ca.pem", Some("client"));
    let redis = redis_at(&url, ours.clone())?;
    ensure!(greets(&redis).await? == "hello", "another answer");
    let who: String = redis
        .query("ask", Limit::Ordinary, redis::cmd("ACL").arg("WHOAMI"))
        .await?;
    ensure!(who == USER, "{who}");
    let mut subscription = redis.subscribe("news", 10).await?;
    let mut publish = redis::cmd("PUBLISH");
    let heard: u32 = redis
        .query("tell", Limit::Ordinary, publish.arg("news").arg("it works"))
        .await?;
    ensure!(heard == 1, "{heard} heard it");
    let event = tokio::time::timeout(PATIENCE, subscription.next()).await?;
    ensure!(event == Event::Message(b"it works".to_vec()), "{event:?}");

    let wrong = url.replacen("p%40", "p", 1);
    for (what, url, tls) in [
        ("another authority", &url, tls(&files, "other-ca.pem", Some("client"))),
        ("public authorities", &url, TlsConfig::default()),
        ("no certificate of ours", &url, tls(&files, "ca.pem", None)),
        ("a foreign certificate", &url, tls(&files, "ca.pem", Some("other"))),
        ("another password", &wrong, ours),
    ] {
        let redis = redis_at(url, tls)?;
        let called = greets(&redis).await;
        ensure!(
            matches!(called, Err(Error::Connect { .. } | Error::Call { .. })),
            "{what}: {called:?}"
        );
        let subscribed = redis.subscribe("news", 10).await;
        ensure!(subscribed.is_err(), "{what}: subscribed");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_reached_by_our_certificate() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let files = Certificates::new()?;
    let mut server = Servers::own().mariadb().await?;
    let url = files.guard_mariadb(&mut server).await? + "reprise";
    let ask = async |tls_mode, tls| -> Result<String> {
        let config = MysqlConfig {
            url: Secret::new(url.clone()),
            tls_mode,
            tls,
            acquire_timeout: Duration::from_secs(5),
            ..MysqlConfig::default()
        };
        let database = Database::new(&config.database(), Clock::system())?;
        let cipher = sqlx::query_as::<_, (String, String)>("SHOW SESSION STATUS LIKE 'Ssl_cipher'");
        Ok(cipher.fetch_one(database.pool()).await?.1)
    };
    for mode in [MysqlTls::Required, MysqlTls::VerifyCa, MysqlTls::VerifyIdentity] {
        let cipher = ask(mode, tls(&files, "ca.pem", Some("client"))).await?;
        ensure!(!cipher.is_empty(), "{mode:?} is not encrypted");
    }
    for (what, mode, tls) in [
        (
            "another authority",
            MysqlTls::VerifyCa,
            tls(&files, "other-ca.pem", Some("client")),
        ),
        (
            "the system's authorities",
            MysqlTls::VerifyIdentity,
            TlsConfig::default(),
        ),
        (
            "no certificate of ours",
            MysqlTls::VerifyCa,
            tls(&files, "ca.pem", None),
        ),
        (
            "a foreign certificate",
            MysqlTls::VerifyCa,
            tls(&files, "ca.pem", Some("other")),
        ),
        ("no encryption", MysqlTls::Disabled, TlsConfig::default()),
    ] {
        let asked = ask(mode, tls).await;
        ensure!(asked.is_err(), "{what}: {asked:?}");
    }
    Ok(())
}

/// The settings of a process that reaches all three, in order: Kafka, MySQL, Redis.
fn settings(files: &Certificates, [kafka, mysql, redis]: [String; 3]) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("kafka.brokers", kafka),
        ("kafka.properties.security.protocol", "SASL_SSL".to_owned()),
        ("kafka.properties.sasl.mechanism", "SCRAM-SHA-256".to_owned()),
        ("kafka.properties.sasl.username", USER.to_owned()),
        ("kafka.properties.sasl.password", PASSWORD.to_owned()),
        ("kafka.properties.ssl.ca.location", files.path("ca.pem")),
        ("kafka.properties.ssl.certificate.location", files.path("client.pem")),
        ("kafka.properties.ssl.key.location", files.path("client.key")),
        ("mysql.url", mysql),
        ("mysql.tls_mode", "verify_identity".to_owned()),
        ("redis.url", redis),
    ];
    for (ca, certificate, key) in [
        ("mysql.tls.ca_path", "mysql.tls.certificate_path", "mysql.tls.key_path"),
        ("redis.tls.ca_path", "redis.tls.certificate_path", "redis.tls.key_path"),
    ] {
        settings.push((ca, files.path("ca.pem")));
        settings.push((certificate, files.path("client.pem")));
        settings.push((key, files.path("client.key")));
    }
    settings
}

/// Tells whether Kafka's listener answers a client with these settings, some of them changed.
async fn kafka_answers(settings: &[(&'static str, String)], changed: &[(&str, &str)]) -> Result<bool> {
    let settings = settings.iter().filter(|(key, _)| key.starts_with("kafka"));
    let mut all: Vec<(String, String)> = settings
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    let changed = changed
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    all.extend(changed);
    let isolation_is_not_needed = [
        ("mysql.url".to_owned(), "mysql://u@h/d".to_owned()),
        ("redis.url".to_owned(), "redis://h".to_owned()),
    ];
    all.extend(isolation_is_not_needed);
    let config: Config = load(&Sources {
        settings: all,
        ..Sources::default()
    })?;
    blocking("ask Kafka", PATIENCE, move || {
        let consumer: BaseConsumer = consumer_config(&config.kafka, "nobody").create()?;
        Ok(consumer.fetch_metadata(None, Duration::from_secs(5)).is_ok())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_works_on_encrypted_servers_alone() -> Result<()> {
    let files = Certificates::new()?;
    let own = Servers::own();
    let (mut kafka, mut mariadb, mut redis) = tokio::try_join!(own.kafka(), own.mariadb(), own.redis())?;
    let brokers = files.guard_kafka(&mut kafka).await?;
    let mysql = files.guard_mariadb(&mut mariadb).await?;
    let redis_url = files.guard_redis(&mut redis).await?;
    let endpoints = Endpoints {
        kafka: kafka.endpoint().to_owned(),
        mysql: mariadb.endpoint().to_owned(),
        redis: redis.endpoint().to_owned(),
    };
    let options = Options {
        endpoints: Some(endpoints),
        ..Options::quick()
    };
    let mut fleet = Fleet::new("encrypted", options).await?;
    let mysql = mysql + &fleet.isolation.database();
    let settings = settings(&files, [brokers, mysql, redis_url]);
    ensure!(kafka_answers(&settings, &[]).await?, "kafka does not answer us");
    for changed in [
        ("kafka.properties.ssl.ca.location", files.path("other-ca.pem")),
        ("kafka.properties.sasl.password", "another".to_owned()),
    ] {
        let answers = kafka_answers(&settings, &[(changed.0, &changed.1)]).await?;
        ensure!(!answers, "kafka answers with another {}", changed.0);
    }

    for (key, value) in &settings {
        fleet.set(key, value);
    }
    // Beyond the test's patience: only a message over pub/sub tells workers of a change in time.
    fleet.set("ingest.whitelist_poll", "60s");
    let config = FeedConfig {
        records: Some(2_000),
        funds: 100,
        ..FeedConfig::default()
    };
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    let mut control = settings;
    control.push(("catalog", fleet.catalog_path().display().to_string()));
    let server = ControlPlane::start_on(&fleet.isolation, control).await?;
    server.ready().await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(reprise_tests::fleet::PATIENCE).await?;
    fleet.check_tables(Some(config), Vec::new()).await?;

    let mut client = WhitelistServiceClient::new(server.channel());
    let request = AddWhitelistEntriesRequest {
        ids: vec!["F0001".to_owned()],
        ..AddWhitelistEntriesRequest::default()
    };
    client.add_whitelist_entries(request).await?;
    let request = GetWhitelistStatusRequest {
        wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..GetWhitelistStatusRequest::default()
    };
    let status = client.get_whitelist_status(request).await?.into_inner();
    ensure!(status.applied_everywhere && status.workers.len() == 1, "{status:?}");
    fleet.stop().await?;
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_named_at_start() -> Result<()> {
    let files = Certificates::new()?;
    let isolation = Isolation::new("bad-files").await?;
    let folder = tempfile::tempdir()?;
    let mut settings = vec![("redis.url", "rediss://127.0.0.1:1/".to_owned())];
    settings.push(("redis.tls.ca_path", files.path("absent.pem")));
    settings.push(("mysql.tls.certificate_path", files.path("client.pem")));
    settings.push(("mysql.tls.key_path", files.path("other.key")));
    let (mut service, _) = process(&isolation, folder.path(), settings)?;
    service.start()?;
    let code = service.wait(Duration::from_secs(30)).await?;
    let log = std::fs::read_to_string(folder.path().join("control-plane.log")).context("read the log")?;
    eprintln!("{log}");
    ensure!(code == Some(1), "the exit code is {code:?}");
    for told in [
        "redis.tls.ca_path",
        "absent.pem cannot be read",
        "mysql.tls.key_path",
        "does not go with the certificate",
    ] {
        ensure!(log.contains(told), "{told:?} is not told");
    }
    Ok(())
}
