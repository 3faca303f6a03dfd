//! Redis for these tests: a server of one's own for each, since most of them empty, freeze or kill it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use reprise_shared::redis::{KeyPrefix, Redis, Settings};

/// A redis-server that one test may stop, empty and reconfigure. Ends when dropped.
pub(crate) struct OwnServer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl OwnServer {
    /// Starts one on a free port, without persistence, and waits until it answers.
    pub(crate) async fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        let child = Self::spawn(port, folder.path())?;
        let server = Self {
            child,
            port,
            _folder: folder,
        };
        server.wait_ready().await?;
        Ok(server)
    }

    fn spawn(port: u16, folder: &std::path::Path) -> Result<Child> {
        Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start redis-server")
    }

    async fn wait_ready(&self) -> Result<()> {
        eventually("redis-server answers", Duration::from_secs(20), async || {
            self.command(&["PING"]).await.is_ok()
        })
        .await;
        Ok(())
    }

    /// Stops the server as a crash would: what it held is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again, empty, on the same port.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.child = Self::spawn(self.port, self._folder.path())?;
        self.wait_ready().await
    }

    /// Stops answering without closing any connection, as a host does that vanished from the network.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Answers again.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(nix::sys::signal::kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            signal,
        )?)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Runs one command past the code under test.
    pub(crate) async fn command(&self, parts: &[&str]) -> Result<redis::Value> {
        let mut connection = redis::Client::open(self.url())?
            .get_multiplexed_async_connection()
            .await?;
        let mut command = redis::cmd(parts[0]);
        command.arg(&parts[1..]);
        Ok(command.query_async(&mut connection).await?)
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens a handle under a prefix of its own.
pub(crate) fn open(url: &str) -> Redis {
    let mut settings = Settings::new(url);
    settings.prefix = KeyPrefix::new(format!("test-{}", uuid::Uuid::now_v7().simple())).expect("a legal prefix");
    settings.response_timeout = Duration::from_secs(2);
    settings.bulk_timeout = Duration::from_secs(4);
    Redis::open(settings).expect("usable settings")
}

/// Waits until `condition` holds; fails the test when it does not within `limit`.
pub(crate) async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(limit, waiting).await.is_ok(),
        "not within {limit:?}: {what}"
    );
}
