//! Real servers for the sandbox and the tests: Kafka, MariaDB and Redis on loopback, in a folder of their own.
//!
//! Each has a typed handle with the same moves ([`Server`]): start, stop, kill, pause, resume, and start again on the
//! same port and data, ready when a real client's call is answered. [`Set`] starts several at a time.

pub mod encrypted;
pub mod install;
pub mod kafka;
pub mod mariadb;
pub mod ports;
pub mod process;
pub mod redis;

pub mod set;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use self::process::{Identity, Process};
pub use self::{
    kafka::Kafka,
    mariadb::MariaDb,
    process::Lifetime,
    redis::Redis,
    set::{Endpoints, Ports, Set},
};
use crate::wait::{Seen, wait_for};

/// How long a server may take from its start to its first answer, on a busy machine with two cores.
pub const START_LIMIT: Duration = Duration::from_secs(90);
/// How long a server may take to stop in good order before it is killed.
pub const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long one readiness call may take.
const LOOK_LIMIT: Duration = Duration::from_secs(3);

/// The kinds of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Apache Kafka, one node that is broker and controller.
    Kafka,
    /// MariaDB, which stands for MySQL.
    MariaDb,
    /// Redis.
    Redis,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kafka, Self::MariaDb, Self::Redis];

    /// The name in messages, of its folder and of its log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::MariaDb => "mariadb",
            Self::Redis => "redis",
        }
    }
}

/// How much memory and disk a server may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Enough for tests; cheap to start.
    Small,
    /// Enough for a load of a million rows without a full redo log: for `./dev up` and benchmarks.
    Large,
}

/// Where a server lives and for how long.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder of its data and of `logs/`; absolute.
    pub folder: PathBuf,
    /// Whether it outlives this process.
    pub lifetime: Lifetime,
    /// How much it may take.
    pub scale: Scale,
}

impl Place {
    /// The folder of one kind of server.
    #[must_use]
    pub fn of(&self, kind: Kind) -> PathBuf {
        self.folder.join(kind.name())
    }

    /// The folder of all logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// The log of one kind of server.
    #[must_use]
    pub fn log(&self, kind: Kind) -> PathBuf {
        self.logs().join(format!("{}.log", kind.name()))
    }
}

/// One server and what can be done to it. Dropping a [`Lifetime::Bound`] one kills it.
#[expect(
    async_fn_in_trait,
    reason = "nobody spawns these: a test, or `up`, waits for them in place"
)]
pub trait Server: Sized {
    /// Its kind.
    const KIND: Kind;

    /// What clients connect to: `host:port` for Kafka, a URL for the others.
    fn endpoint(&self) -> &str;

    /// The port that clients connect to.
    fn port(&self) -> u16;

    /// Its process.
    fn process(&mut self) -> &mut Process;

    /// Writes configuration and empty data where they are missing. Needs the programs to be installed.
    async fn prepare(&mut self) -> Result<()>;

    /// Makes one client call that only a ready server answers.
    async fn look(&self) -> Result<()>;

    /// Its pid while it runs.
    fn pid(&mut self) -> Option<i32> {
        self.process().pid()
    }

    /// Its process for certain, to find it again from another process.
    fn identity(&mut self) -> Option<Identity> {
        self.process().identity().cloned()
    }

    /// Starts it (again, on the same port and data) and waits until it answers.
    ///
    /// # Errors
    /// It runs already, ended while starting, or does not answer in time.
    async fn start_again(&mut self) -> Result<()> {
        self.prepare()
            .await
            .with_context(|| format!("prepare {}", Self::KIND.name()))?;
        self.process().start()?;
        self.ready(START_LIMIT).await
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It has ended, or does not answer in time.
    async fn ready(&mut self, limit: Duration) -> Result<()> {
        let what = format!("an answer of {} at {}", Self::KIND.name(), self.endpoint());
        wait_for(&what, limit, async || {
            if self.process().pid().is_none() {
                return Seen::Never(self.process().ended());
            }
            match tokio::time::timeout(LOOK_LIMIT, self.look()).await {
                Ok(Ok(())) => Seen::Ready(()),
                Ok(Err(error)) => Seen::NotYet(format!("{error:#}")),
                Err(_) => Seen::NotYet(format!("no answer within {LOOK_LIMIT:?}")),
            }
        })
        .await
    }

    /// Stops it in good order, or kills it after [`STOP_LIMIT`]. Does nothing when it does not run.
    ///
    /// # Errors
    /// It could not be ended.
    async fn stop(&mut self) -> Result<()> {
        self.process().stop(STOP_LIMIT).await
    }

    /// Ends it at once, as a crash would. Does nothing when it does not run.
    ///
    /// # Errors
    /// It could not be ended.
    fn kill(&mut self) -> Result<()> {
        self.process().kill()
    }

    /// Freezes it: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// It does not run.
    fn pause(&mut self) -> Result<()> {
        self.process().signal(Signal::SIGSTOP)
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    /// It does not run.
    fn resume(&mut self) -> Result<()> {
        self.process().signal(Signal::SIGCONT)
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start_again`](Self::start_again).
    async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }
}
