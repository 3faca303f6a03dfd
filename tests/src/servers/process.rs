//! Child processes: started, found again, paused, stopped and killed by pid, never by name.
//!
//! A pid alone proves nothing after a while, because the kernel gives it to someone else. So a process is remembered
//! by its [`Identity`], and whatever no longer has it is left alone.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::wait::wait_for;

/// How long the kernel may take to end a process that was sent SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Whether a child outlives the process that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Killed when the handle is dropped, and by the kernel when the starting process ends in whatever way.
    Bound,
    /// Stays until it is stopped.
    Detached,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in messages.
    pub name: String,
    /// The executable, with its path.
    pub binary: PathBuf,
    /// The arguments.
    pub arguments: Vec<OsString>,
    /// Variables in addition to those of this process.
    pub environment: Vec<(OsString, OsString)>,
    /// The file that takes standard output and standard error, appended to.
    pub log: PathBuf,
    /// Whether it outlives this process.
    pub lifetime: Lifetime,
}

impl Program {
    /// A program without arguments.
    pub fn new(
        name: impl Into<String>,
        binary: impl Into<PathBuf>,
        log: impl Into<PathBuf>,
        lifetime: Lifetime,
    ) -> Self {
        Self {
            name: name.into(),
            binary: binary.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            log: log.into(),
            lifetime,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn command(&self) -> Result<Command> {
        fs::create_dir_all(self.log.parent().unwrap_or(Path::new("."))).context("create the folder of the log")?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open {}", self.log.display()))?;
        // A session of its own keeps Ctrl-C at the terminal from us, which is ours to turn into an orderly stop.
        // Both tools of util-linux replace themselves by the program, so the pid is the program's.
        let mut command = Command::new("setsid");
        if self.lifetime == Lifetime::Bound {
            command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        }
        command
            .arg(&self.binary)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log between the two outputs")?)
            .stderr(log);
        Ok(command)
    }
}

/// One process for certain: its pid, with when it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: i32,
    /// When it began, in clock ticks since the machine was started.
    pub start_time: u64,
    /// Which start of the machine that was.
    pub boot_id: String,
}

impl Identity {
    /// Reads the identity of a process that runs now; `None` when there is none with this pid.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
        if matches!(stat.state, 'Z' | 'X') {
            return None;
        }
        Some(Self {
            pid,
            start_time: stat.starttime,
            boot_id: boot_id(),
        })
    }

    /// Says whether exactly this process still runs (a paused one does, one that waits to be reaped does not).
    #[must_use]
    pub fn is_running(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal if exactly this process still runs, and says whether it did.
    ///
    /// # Errors
    /// The process belongs to someone else.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        if !self.is_running() {
            return Ok(false);
        }
        match signal::kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("send {signal} to process {}", self.pid)),
        }
    }

    /// Ends the process: SIGTERM, and SIGKILL when it still runs after `limit`. Also ends a paused one.
    ///
    /// # Errors
    /// It belongs to someone else, or not even SIGKILL ended it.
    pub async fn end(&self, name: &str, limit: Duration) -> Result<()> {
        if !self.signal(Signal::SIGTERM)? {
            return Ok(());
        }
        self.signal(Signal::SIGCONT)?;
        let gone = async |limit| {
            let what = format!("{name} (process {}) to end", self.pid);
            wait_for(&what, limit, async || (!self.is_running()).then_some(())).await
        };
        if gone(limit).await.is_ok() {
            return Ok(());
        }
        self.signal(Signal::SIGKILL)?;
        gone(KILL_LIMIT).await
    }
}

/// A program and, while it runs, its process. Dropping it kills a [`Lifetime::Bound`] process and leaves others alone.
#[derive(Debug)]
pub struct Process {
    program: Program,
    running: Option<(Identity, Option<Child>)>,
}

impl Process {
    /// A program that does not run yet.
    #[must_use]
    pub const fn new(program: Program) -> Self {
        Self { program, running: None }
    }

    /// Starts a program.
    ///
    /// # Errors
    /// It could not be started.
    pub fn spawn(program: Program) -> Result<Self> {
        let mut process = Self::new(program);
        process.start()?;
        Ok(process)
    }

    /// What is run.
    #[must_use]
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// Takes over a process that an earlier run of this program started.
    pub fn adopt(&mut self, identity: Identity) {
        self.running = Some((identity, None));
    }

    /// Starts the program (again).
    ///
    /// # Errors
    /// It runs already, or it could not be started.
    pub fn start(&mut self) -> Result<()> {
        if let Some(pid) = self.pid() {
            bail!("{} runs already as process {pid}", self.program.name);
        }
        let mut command = self.program.command()?;
        let child = on_lasting_thread(move || command.spawn())?
            .with_context(|| format!("start {} ({})", self.program.name, self.program.binary.display()))?;
        let pid = i32::try_from(child.id()).context("a process id that is too large")?;
        let identity = Identity::of(pid).with_context(|| format!("{} ended at once", self.program.name))?;
        self.running = Some((identity, Some(child)));
        Ok(())
    }

    /// The process that runs now.
    pub fn identity(&mut self) -> Option<&Identity> {
        if let Some((_, Some(child))) = &mut self.running {
            // Reaps the child, so that it does not linger; how it ended is in its log.
            let _status = child.try_wait();
        }
        self.running
            .as_ref()
            .map(|(identity, _)| identity)
            .filter(|identity| identity.is_running())
    }

    /// The pid of the process that runs now.
    pub fn pid(&mut self) -> Option<i32> {
        self.identity().map(|identity| identity.pid)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The program does not run.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let sent = self
            .identity()
            .cloned()
            .map_or(Ok(false), |identity| identity.signal(signal))?;
        if sent {
            Ok(())
        } else {
            Err(anyhow!("send {signal} to {}: it does not run", self.program.name))
        }
    }

    /// Waits until the process has ended by itself, and returns its exit code (`None` after a signal, or when it was
    /// started by another process).
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<Option<i32>> {
        let what = format!("{} to end", self.program.name);
        wait_for(&what, limit, async || {
            self.pid().map_or(Ok(()), |pid| Err(format!("process {pid} runs")))
        })
        .await?;
        let Some((_, Some(mut child))) = self.running.take() else {
            return Ok(None);
        };
        Ok(child.wait().context("read the exit code")?.code())
    }

    /// Ends the process in good order: SIGTERM, and SIGKILL when it still runs after `limit`. Does nothing when it
    /// does not run.
    ///
    /// # Errors
    /// Not even SIGKILL ended it.
    pub async fn stop(&mut self, limit: Duration) -> Result<()> {
        if let Some(identity) = self.identity().cloned() {
            let name = self.program.name.clone();
            // A child of ours is only gone once it is reaped; `is_running` already sees that it has ended.
            identity.end(&name, limit).await?;
            self.identity();
        }
        self.running = None;
        Ok(())
    }

    /// Ends the process at once, as a crash would. Does nothing when it does not run.
    ///
    /// # Errors
    /// It did not end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(identity) = self.identity() {
            identity.signal(Signal::SIGKILL)?;
        }
        if let Some((_, Some(mut child))) = self.running.take() {
            child
                .wait()
                .with_context(|| format!("wait for the end of {}", self.program.name))?;
        }
        Ok(())
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.program.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// An error that says that the program ended although it should not, with the end of its log.
    #[must_use]
    pub fn ended(&self) -> anyhow::Error {
        anyhow!(
            "{} has ended; the end of {}:\n{}",
            self.program.name,
            self.program.log.display(),
            self.log_tail()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.program.lifetime == Lifetime::Bound {
            // Nobody is left to tell; the kernel kills it with this process all the same.
            let _ended = self.kill();
        }
    }
}

/// Runs `work` on one thread that lives as long as this process.
///
/// The kernel counts the *thread* that started a child as the parent whose death kills it, and the threads of tests
/// end long before their process does.
fn on_lasting_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    type Work = Box<dyn FnOnce() + Send>;
    static THREAD: OnceLock<mpsc::Sender<Work>> = OnceLock::new();

    let thread = THREAD.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Work>();
        std::thread::spawn(move || receiver.into_iter().for_each(|work| work()));
        sender
    });
    let (answer, result) = mpsc::sync_channel(1);
    let send_answer = move || {
        // The asker waits below, so the answer always arrives.
        let _sent = answer.send(work());
    };
    thread
        .send(Box::new(send_answer))
        .map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    result.recv().context("the thread that starts processes has ended")
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Program {
        Program::new("sleep", "/bin/sleep", folder.join("log"), Lifetime::Bound).argument("60")
    }

    #[test]
    fn a_pid_that_went_to_another_process_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::spawn(sleeper(folder.path())).unwrap();
        let mut foreign = process.identity().unwrap().clone();
        foreign.start_time -= 1;
        assert!(!foreign.is_running());
        assert!(!foreign.signal(Signal::SIGKILL).unwrap());
        assert!(process.pid().is_some());
    }

    #[tokio::test]
    async fn a_paused_process_can_still_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::spawn(sleeper(folder.path())).unwrap();
        process.signal(Signal::SIGSTOP).unwrap();
        process.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(process.pid(), None);
        process.stop(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_ignores_the_first_signal_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        let program = Program::new("deaf", "/bin/sh", folder.path().join("log"), Lifetime::Bound);
        let mut process = Process::spawn(program.argument("-c").argument(script)).unwrap();
        wait_for("the trap", Duration::from_secs(5), async || {
            process.log_tail().contains("ready").then_some(())
        })
        .await
        .unwrap();
        process.stop(Duration::from_millis(200)).await.unwrap();
        assert_eq!(process.pid(), None);
    }

    #[test]
    fn a_dropped_bound_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::spawn(sleeper(folder.path())).unwrap();
        let identity = process.identity().unwrap().clone();
        drop(process);
        assert!(!identity.is_running());
    }

    #[test]
    fn a_killed_program_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::spawn(sleeper(folder.path())).unwrap();
        assert!(process.start().is_err());
        process.kill().unwrap();
        process.start().unwrap();
        assert!(process.pid().is_some());
    }

    #[tokio::test]
    async fn the_exit_code_of_a_program_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let program = Program::new("seven", "/bin/sh", folder.path().join("log"), Lifetime::Bound);
        let mut process = Process::spawn(program.argument("-c").argument("sleep 0.2; exit 7")).unwrap();
        assert_eq!(process.wait(Duration::from_secs(5)).await.unwrap(), Some(7));
    }
}
