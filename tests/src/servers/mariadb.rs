//! A MariaDB server: durable at every commit, strict, UTC, `root` without a password on loopback only.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};
use tokio::process::Command;

use super::{
    Kind, Place, Scale, Server, install, ports,
    process::{Process, Program},
};

/// The database that exists from the start.
pub const DATABASE: &str = "reprise";
const INSTALL_LIMIT: Duration = Duration::from_secs(120);

/// A MariaDB server.
#[derive(Debug)]
pub struct MariaDb {
    folder: PathBuf,
    port: u16,
    scale: Scale,
    endpoint: String,
    /// Further lines of its configuration, from its next start on.
    pub options: String,
    process: Process,
}

impl MariaDb {
    /// A server that does not run yet.
    ///
    /// # Errors
    /// MariaDB is not installed.
    pub fn at(place: &Place, port: u16) -> Result<Self> {
        let folder = place.of(Kind::MariaDb);
        let defaults = folder.join("my.cnf");
        let program = Program::new(
            "mariadb",
            install::program("mariadbd")?,
            place.log(Kind::MariaDb),
            place.lifetime,
        )
        .argument(format!("--defaults-file={}", defaults.display()));
        let endpoint = format!("mysql://root@127.0.0.1:{port}/{DATABASE}");
        Ok(Self {
            folder,
            port,
            scale: place.scale,
            endpoint,
            options: String::new(),
            process: Process::new(program),
        })
    }

    /// Starts a server on a free port.
    ///
    /// # Errors
    /// It could not be installed or started, or does not answer in time.
    pub async fn start(place: &Place) -> Result<Self> {
        install::ensure(&[Kind::MariaDb]).await?;
        let [port] = ports::free()?;
        let mut mariadb = Self::at(place, port)?;
        mariadb.start_again().await?;
        Ok(mariadb)
    }

    fn configuration(&self) -> Result<String> {
        let (buffer_pool, redo_log) = match self.scale {
            Scale::Small => ("256M", "256M"),
            Scale::Large => ("1G", "1G"),
        };
        Ok(format!(
            "\
[mariadbd]
datadir={data}
pid-file=mariadbd.pid
# Relative to the data folder: the length of a socket's path is limited, that of a checkout's is not.
socket=mariadbd.sock
# Its own: a server that starts deletes what others left, or still have, in the one it is given.
tmpdir={tmp}
port={port}
bind-address=127.0.0.1
skip-name-resolve
# MariaDB wants to be told that it may run as root.
user={user}
# Durable at every commit, as in production; no replica follows.
innodb_flush_log_at_trx_commit=1
skip-log-bin
innodb_buffer_pool_size={buffer_pool}
innodb_log_file_size={redo_log}
innodb_buffer_pool_dump_at_shutdown=OFF
max_allowed_packet=64M
max_connections=500
character-set-server=utf8mb4
default-time-zone=+00:00
{more}
",
            more = self.options,
            data = self.folder.join("data").display(),
            tmp = self.tmp().display(),
            port = self.port,
            user = user()?,
        ))
    }

    fn tmp(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// Makes an empty data folder. The final name appears at once and whole, so an interrupted try leaves none.
    async fn install_data(&self) -> Result<()> {
        let part = self.folder.join("data.part");
        if part.exists() {
            fs::remove_dir_all(&part).context("remove what an interrupted try left")?;
        }
        let install = Command::new(install::program("mariadb-install-db")?)
            .arg("--no-defaults")
            .arg(format!("--datadir={}", part.display()))
            .arg(format!("--tmpdir={}", self.tmp().display()))
            .arg(format!("--user={}", user()?))
            .args([
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(INSTALL_LIMIT, install)
            .await
            .with_context(|| format!("mariadb-install-db took longer than {INSTALL_LIMIT:?}"))?
            .context("run mariadb-install-db")?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            bail!("mariadb-install-db failed: {}", String::from_utf8_lossy(&text));
        }
        fs::rename(&part, self.folder.join("data")).context("give the data folder its name")
    }
}

impl Server for MariaDb {
    const KIND: Kind = Kind::MariaDb;

    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn prepare(&mut self) -> Result<()> {
        fs::create_dir_all(self.tmp()).with_context(|| format!("create {}", self.tmp().display()))?;
        fs::write(self.folder.join("my.cnf"), self.configuration()?).context("write my.cnf")?;
        if self.folder.join("data").exists() {
            Ok(())
        } else {
            self.install_data().await
        }
    }

    async fn look(&self) -> Result<()> {
        let mut connection = MySqlConnection::connect(&format!("mysql://root@127.0.0.1:{}/", self.port)).await?;
        connection
            .execute(AssertSqlSafe(format!("CREATE DATABASE IF NOT EXISTS {DATABASE}")))
            .await?;
        let _one: i64 = sqlx::query_scalar("SELECT 1").fetch_one(&mut connection).await?;
        connection.close().await.context("close the connection")
    }
}

/// The name of the user that this process runs as; the number where it has no name.
fn user() -> Result<String> {
    // Files under /proc belong to whom the process runs as.
    let uid = fs::metadata("/proc/self")
        .context("read who this process runs as")?
        .uid()
        .to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut entries = users.lines().map(|line| line.split(':'));
    Ok(entries
        .find_map(|mut entry| entry.next().filter(|_| entry.nth(1) == Some(&uid)))
        .map_or(uid.clone(), str::to_owned))
}
