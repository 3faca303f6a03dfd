//! A database of one's own on the shared server, and MariaDB servers of one's own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use reprise_shared::clock::Clock;
use reprise_shared::mysql::{Config, Database, Session, migrate};
use secrecy::SecretString;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::env::mysql_server;

/// A database that this test alone uses.
#[derive(Debug)]
pub struct TestDatabase {
    /// Its URL.
    pub url: SecretString,
    /// A pool on it.
    pub database: Database,
}

impl TestDatabase {
    /// Makes an empty database on the server that `MYSQL_URL` names, with reprise's own schema.
    pub async fn shared() -> Result<Self> {
        Self::on(&mysql_server()?).await
    }

    /// Makes one on another server; `server` is a URL that ends in `/`.
    pub async fn on(server: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sink_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = MySqlConnection::connect(server)
            .await
            .context("connect to the server")?;
        connection
            .execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}")))
            .await?;
        connection
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
        connection.close().await?;
        let url = SecretString::from(format!("{server}{name}"));
        let config = Config {
            url: url.clone(),
            ..Config::default()
        };
        let database = Database::new(&config, Clock::system())?;
        migrate(database.pool()).await.context("migrate")?;
        Ok(Self { url, database })
    }

    /// Runs SQL statements, separated by semicolons.
    pub async fn run(&self, sql: impl Into<String>) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.into()))
            .execute(self.database.pool())
            .await?;
        Ok(())
    }

    /// Asks for one number.
    pub async fn number(&self, sql: impl Into<String>) -> Result<i64> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.into()))
            .fetch_one(self.database.pool())
            .await?)
    }

    /// Asks for one column of text, in order.
    pub async fn texts(&self, sql: impl Into<String>) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.into()))
            .fetch_all(self.database.pool())
            .await?)
    }

    /// The session that lanes use by default.
    pub fn session() -> Session {
        Session {
            lock_wait_timeout: Duration::from_secs(2),
            wait_timeout: Duration::from_secs(20),
            statement_cache: 64,
        }
    }
}

/// A MariaDB server of one's own; killed, and its data removed, when this is dropped.
#[derive(Debug)]
pub struct OwnServer {
    folder: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
    child: Option<Child>,
}

impl OwnServer {
    /// Starts a server with extra options.
    pub async fn start(options: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        let installed = Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--user=root",
            ])
            .arg(format!("--datadir={}", data.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("run mariadb-install-db")?;
        anyhow::ensure!(installed.success(), "mariadb-install-db failed");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let options = options.iter().map(ToString::to_string).collect();
        let mut server = Self {
            folder,
            port,
            options,
            child: None,
        };
        server.resume().await?;
        Ok(server)
    }

    /// Its URL, to which a database's name is appended.
    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/", self.port)
    }

    /// Kills the process at once.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops the process from running without closing its connections: a black hole.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let child = self.child.as_ref().context("the server runs")?;
        let signal = if frozen {
            nix::sys::signal::SIGSTOP
        } else {
            nix::sys::signal::SIGCONT
        };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal)?;
        Ok(())
    }

    /// Starts it (again) on the same port and data, and waits until it answers.
    pub async fn resume(&mut self) -> Result<()> {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        let child = Command::new("mariadbd")
            .args([
                "--no-defaults",
                "--user=root",
                "--skip-name-resolve",
                "--bind-address=127.0.0.1",
            ])
            .args([
                "--innodb-buffer-pool-size=64M",
                "--innodb-log-file-size=64M",
                "--character-set-server=utf8mb4",
            ])
            .arg(format!("--port={}", self.port))
            .arg(format!("--datadir={}", path("data").display()))
            .arg(format!("--socket={}", path("socket").display()))
            .arg(format!("--pid-file={}", path("pid").display()))
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start mariadbd")?;
        self.child = Some(child);
        for _ in 0..600 {
            if MySqlConnection::connect(&self.url()).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the server does not answer")
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // Nothing to do about a failure here; the process is gone either way.
        let _ = self.kill();
    }
}
