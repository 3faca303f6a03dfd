//! Servers that have, beside the plain port that the harness looks through, one that takes only encrypted connections
//! of clients with a certificate and a password.

use std::fs;

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, Executor as _, MySqlConnection};
use tempfile::TempDir;

use super::install::{kafka_jars, program, run};
use super::kafka::KafkaPorts;
use super::{Kafka, MariaDb, Redis, Server as _, ports};
use crate::control::Authority;

/// Whom the servers know, besides by a certificate.
pub const USER: &str = "reprise";
/// The user's password, with letters that mean something in a URL.
pub const PASSWORD: &str = "p@ss/w:rd";
/// The password as a URL has it.
const PASSWORD_IN_URL: &str = "p%40ss%2Fw%3Ard";

/// An authority, and certificates of a server and of a client, as PEM files.
pub struct Certificates(TempDir);

impl Certificates {
    /// Makes them: `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`, and another authority's
    /// `other-ca.pem`, `other.pem` and `other.key`.
    ///
    /// # Errors
    /// Files cannot be written.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let (ours, other) = (Authority::new("ours")?, Authority::new("another")?);
        let made = Self(folder);
        fs::write(made.path("ca.pem"), ours.pem())?;
        fs::write(made.path("other-ca.pem"), other.pem())?;
        let server = ours.server()?;
        server.write(made.path("server.pem").as_ref(), made.path("server.key").as_ref())?;
        // Kafka wants key and certificates in one.
        fs::write(made.path("server-both.pem"), format!("{}{}", server.key, server.chain))?;
        for (authority, name) in [(&ours, "client"), (&other, "other")] {
            let client = authority.client("spiffe://test/reprise")?;
            let [chain, key] = ["pem", "key"].map(|kind| made.path(&format!("{name}.{kind}")));
            client.write(chain.as_ref(), key.as_ref())?;
        }
        Ok(made)
    }

    /// Returns where a file lies.
    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Gives a Redis a port for encrypted connections, and starts it again. Returns its URL with the user.
    ///
    /// # Errors
    /// It does not start.
    pub async fn guard_redis(&self, redis: &mut Redis) -> Result<String> {
        let [port] = ports::free()?;
        redis.options = format!(
            "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients yes\n\
             user {USER} on >{PASSWORD} ~* &* +@all\n",
            self.path("server.pem"),
            self.path("server.key"),
            self.path("ca.pem"),
        );
        redis.restart().await?;
        Ok(format!("rediss://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}/"))
    }

    /// Gives a MariaDB certificates and a user who needs one, and starts it again. Returns the URL with the user and
    /// without a database.
    ///
    /// # Errors
    /// It does not start.
    pub async fn guard_mariadb(&self, mariadb: &mut MariaDb) -> Result<String> {
        mariadb.options = format!(
            "ssl-cert={}\nssl-key={}\nssl-ca={}\n",
            self.path("server.pem"),
            self.path("server.key"),
            self.path("ca.pem"),
        );
        mariadb.restart().await?;
        let mut root = MySqlConnection::connect(mariadb.endpoint()).await?;
        let user = format!("'{USER}'@'%'");
        for statement in [
            format!("CREATE USER {user} IDENTIFIED BY '{PASSWORD}' REQUIRE X509"),
            format!("GRANT ALL ON *.* TO {user}"),
        ] {
            root.execute(sqlx::AssertSqlSafe(statement)).await?;
        }
        Ok(format!(
            "mysql://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/",
            mariadb.port()
        ))
    }

    /// Gives a Kafka a listener for encrypted connections of a SCRAM user with a certificate, and starts it again.
    /// Returns the listener's address.
    ///
    /// # Errors
    /// It does not start.
    pub async fn guard_kafka(&self, kafka: &mut Kafka) -> Result<String> {
        let [secure] = ports::free()?;
        let KafkaPorts {
            broker: plain,
            controller,
        } = kafka.ports();
        kafka.options = format!(
            "\
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SECURE://127.0.0.1:{secure}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SECURE://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={}
ssl.truststore.type=PEM
ssl.truststore.location={}
listener.name.secure.ssl.client.auth=required
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
",
            self.path("server-both.pem"),
            self.path("ca.pem"),
        );
        kafka.restart().await?;
        let jars = kafka_jars()?.join("*").display().to_string();
        let (bootstrap, password) = (kafka.endpoint(), format!("SCRAM-SHA-256=[password={PASSWORD}]"));
        let command = [
            "-XX:TieredStopAtLevel=1",
            "-cp",
            &jars,
            "kafka.admin.ConfigCommand",
            "--bootstrap-server",
        ];
        let user = [
            bootstrap,
            "--alter",
            "--add-config",
            &password,
            "--entity-type",
            "users",
            "--entity-name",
            USER,
        ];
        run(&program("java")?, command.into_iter().chain(user))
            .await
            .context("create Kafka's user")?;
        Ok(format!("127.0.0.1:{secure}"))
    }
}
