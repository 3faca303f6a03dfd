//! reprise's own binaries as processes: started with a config file and a log, ready when `/readyz` says so.
//!
//! `./dev up` runs its stack with these, and so do the tests that need a real process: for signals, crashes and exit
//! codes. Everything else is tested in-process, through each service's `run`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use reqwest::Client;

use crate::{
    servers::process::{Identity, Lifetime, Process, Program},
    wait::{Seen, wait_for},
};

/// How long one call of `/readyz` may take.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// Beyond the services' own shutdown limit of 25 s, so that a hang is theirs and not cut short here.
pub const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How to run one process of a service.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name in messages, in `pids.json` and of its log, for example `ingest-1`.
    pub name: String,
    /// The executable; [`binary`] finds reprise's own.
    pub binary: PathBuf,
    /// Its arguments, for example `--config …`.
    pub arguments: Vec<OsString>,
    /// Variables in addition to those of this process.
    pub environment: Vec<(OsString, OsString)>,
    /// The folder of its log.
    pub logs: PathBuf,
    /// Where it serves `/healthz`, `/readyz` and `/metrics`: `http://host:port`.
    pub http: String,
    /// Whether it outlives this process.
    pub lifetime: Lifetime,
}

/// One process of a service.
#[derive(Debug)]
pub struct Service {
    process: Process,
    http: String,
    client: Client,
}

impl Service {
    /// A service that does not run yet.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        let log = spec.logs.join(format!("{}.log", spec.name));
        let mut program = Program::new(spec.name, spec.binary, log, spec.lifetime);
        program.arguments = spec.arguments;
        program.environment = spec.environment;
        Self {
            process: Process::new(program),
            http: spec.http,
            client: Client::new(),
        }
    }

    /// Starts the process, without waiting for anything.
    ///
    /// # Errors
    /// It runs already, or it could not be started.
    pub fn start(&mut self) -> Result<()> {
        self.process.start()
    }

    /// Takes over a process that an earlier run started.
    pub fn adopt(&mut self, identity: Identity) {
        self.process.adopt(identity);
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// The process has ended (with the end of its log), or is not ready in time (with what `/readyz` said last).
    pub async fn ready(&mut self, limit: Duration) -> Result<()> {
        let url = format!("{}/readyz", self.http);
        wait_for(&format!("{url} to answer 200"), limit, async || {
            if self.process.pid().is_none() {
                return Seen::Never(self.process.ended());
            }
            match look(&self.client, &url).await {
                Ok(()) => Seen::Ready(()),
                Err(error) => Seen::NotYet(format!("{error:#}")),
            }
        })
        .await
    }

    /// Where it serves `/healthz`, `/readyz` and `/metrics`.
    #[must_use]
    pub fn http(&self) -> &str {
        &self.http
    }

    /// Its pid while it runs.
    pub fn pid(&mut self) -> Option<i32> {
        self.process.pid()
    }

    /// Its process for certain, to find it again from another process.
    pub fn identity(&mut self) -> Option<Identity> {
        self.process.identity().cloned()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits until it has ended by itself and returns its exit code, `None` after a signal.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<Option<i32>> {
        self.process.wait(limit).await
    }

    /// Stops it in good order, or kills it after [`STOP_LIMIT`].
    ///
    /// # Errors
    /// It could not be ended.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP_LIMIT).await
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// It could not be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }
}

async fn look(client: &Client, url: &str) -> Result<()> {
    let answer = client.get(url).timeout(LOOK_LIMIT).send().await?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    bail!("{status}: {}", answer.text().await.unwrap_or_default())
}

/// The path of one of reprise's own binaries, built by the same profile as this process.
///
/// # Errors
/// It was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this process's own executable")?;
    // Tests lie in `target/<profile>/deps`, binaries beside that folder.
    let mut folders = this.ancestors().skip(1).filter(|folder| !folder.ends_with("deps"));
    let path = folders.next().context("this executable lies in no folder")?.join(name);
    ensure!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace --bins` with the same profile",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        path::Path,
    };

    use super::*;

    fn service(folder: &Path, script: &str, http: String) -> Service {
        Service::new(Spec {
            name: "under-test".to_owned(),
            binary: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            logs: folder.to_owned(),
            http,
            lifetime: Lifetime::Bound,
        })
    }

    /// Answers each connection with the next status, and the last one for ever.
    fn answering(statuses: &'static [&'static str]) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let http = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let last = statuses.last().into_iter().cycle();
            for (connection, status) in listener.incoming().zip(statuses.iter().chain(last)) {
                let mut connection = connection.unwrap();
                let _read = connection.read(&mut [0; 1_024]).unwrap();
                let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 4\r\n\r\nmore");
                connection.write_all(head.as_bytes()).unwrap();
            }
        });
        http
    }

    #[tokio::test]
    async fn a_service_is_ready_once_readyz_answers_200() {
        let folder = tempfile::tempdir().unwrap();
        let http = answering(&["503 Service Unavailable", "503 Service Unavailable", "200 OK"]);
        let mut service = service(folder.path(), "sleep 60", http);
        service.start().unwrap();
        service.ready(Duration::from_secs(10)).await.unwrap();
        service.stop().await.unwrap();
        assert_eq!(service.pid(), None);
    }

    #[tokio::test]
    async fn a_service_that_dies_is_not_waited_for_and_its_log_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut service = service(
            folder.path(),
            "sleep 0.1; echo no such table >&2; exit 3",
            answering(&["503 Busy"]),
        );
        service.start().unwrap();
        let error = service.ready(Duration::from_secs(30)).await.unwrap_err();
        assert!(format!("{error:#}").contains("no such table"), "{error:#}");
    }
}
