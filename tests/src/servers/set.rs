//! Several servers at a time: those that the environment names are used as they are, the others are started.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Kafka, Kind, MariaDb, Place, Redis, Server as _, install, kafka::KafkaPorts, ports};

/// Where clients find the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Kafka's bootstrap servers, `host:port[,host:port…]`.
    pub kafka: String,
    /// `mysql://user[:password]@host:port/[database]`.
    pub mysql: String,
    /// `redis://host:port`.
    pub redis: String,
}

impl Endpoints {
    /// As variables of the environment, which every test reads.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("KAFKA_BROKERS", &self.kafka),
            ("MYSQL_URL", &self.mysql),
            ("REDIS_URL", &self.redis),
        ]
    }
}

/// Endpoints that were given, each or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Kafka's bootstrap servers.
    pub kafka: Option<String>,
    /// MySQL's URL.
    pub mysql: Option<String>,
    /// Redis's URL.
    pub redis: Option<String>,
}

impl Given {
    /// The kinds of server that were not given.
    #[must_use]
    pub fn missing(&self) -> Vec<Kind> {
        let given = |kind| match kind {
            Kind::Kafka => self.kafka.is_some(),
            Kind::MariaDb => self.mysql.is_some(),
            Kind::Redis => self.redis.is_some(),
        };
        Kind::ALL.into_iter().filter(|kind| !given(*kind)).collect()
    }
}

/// The ports of one server of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Kafka's, for clients.
    pub kafka: u16,
    /// Kafka's controller.
    pub kafka_controller: u16,
    /// MariaDB's.
    pub mysql: u16,
    /// Redis's.
    pub redis: u16,
}

impl Ports {
    /// Finds free ones.
    ///
    /// # Errors
    /// There are none.
    pub fn free() -> Result<Self> {
        let [kafka, kafka_controller, mysql, redis] = ports::free()?;
        Ok(Self {
            kafka,
            kafka_controller,
            mysql,
            redis,
        })
    }
}

/// One server of each kind that was not given.
#[derive(Debug)]
pub struct Set {
    /// Kafka, unless given.
    pub kafka: Option<Kafka>,
    /// MariaDB, unless given.
    pub mariadb: Option<MariaDb>,
    /// Redis, unless given.
    pub redis: Option<Redis>,
    /// Where clients find all of them, given or not.
    pub endpoints: Endpoints,
}

impl Set {
    /// Servers that do not run yet; installs their programs where missing.
    ///
    /// # Errors
    /// A program could not be installed.
    pub async fn at(place: &Place, ports: Ports, given: Given) -> Result<Self> {
        let missing = given.missing();
        install::ensure(&missing).await?;
        let wants = |kind| missing.contains(&kind).then_some(());
        let kafka_ports = KafkaPorts {
            broker: ports.kafka,
            controller: ports.kafka_controller,
        };
        let kafka = wants(Kind::Kafka).map(|()| Kafka::at(place, kafka_ports)).transpose()?;
        let mariadb = wants(Kind::MariaDb)
            .map(|()| MariaDb::at(place, ports.mysql))
            .transpose()?;
        let redis = wants(Kind::Redis).map(|()| Redis::at(place, ports.redis)).transpose()?;
        // What was not given is there now, so no endpoint stays empty.
        let endpoints = Endpoints {
            kafka: given
                .kafka
                .or_else(|| kafka.as_ref().map(|server| server.endpoint().to_owned()))
                .unwrap_or_default(),
            mysql: given
                .mysql
                .or_else(|| mariadb.as_ref().map(|server| server.endpoint().to_owned()))
                .unwrap_or_default(),
            redis: given
                .redis
                .or_else(|| redis.as_ref().map(|server| server.endpoint().to_owned()))
                .unwrap_or_default(),
        };
        Ok(Self {
            kafka,
            mariadb,
            redis,
            endpoints,
        })
    }

    /// Starts the servers that were not given, all at a time, on free ports, and waits until they answer.
    ///
    /// # Errors
    /// One could not be installed or started, or does not answer in time.
    pub async fn start(place: &Place, given: Given) -> Result<Self> {
        let mut set = Self::at(place, Ports::free()?, given).await?;
        tokio::try_join!(start(&mut set.kafka), start(&mut set.mariadb), start(&mut set.redis))?;
        Ok(set)
    }

    /// Stops them in good order.
    ///
    /// # Errors
    /// One could not be ended; the others are stopped all the same.
    pub async fn stop(&mut self) -> Result<()> {
        let (kafka, mariadb, redis) =
            tokio::join!(stop(&mut self.kafka), stop(&mut self.mariadb), stop(&mut self.redis));
        kafka.and(mariadb).and(redis)
    }
}

async fn start(server: &mut Option<impl super::Server>) -> Result<()> {
    match server {
        Some(server) => server.start_again().await,
        None => Ok(()),
    }
}

async fn stop(server: &mut Option<impl super::Server>) -> Result<()> {
    match server {
        Some(server) => server.stop().await,
        None => Ok(()),
    }
}
