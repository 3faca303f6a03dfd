//! `with-servers -- command …`: servers that live as long as one command.

use std::{
    ffi::OsString,
    fs,
    os::unix::process::ExitStatusExt as _,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{sys::signal, unistd::Pid};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    env,
    servers::{Lifetime, Place, Scale, Set},
};

/// How long the command may take to end after it was told to.
const END_LIMIT: Duration = Duration::from_secs(30);

/// The arguments of `with-servers`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The command, with its arguments.
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let folder = env::folder_of_this_process()?;
    let place = Place {
        folder: folder.clone(),
        lifetime: Lifetime::Bound,
        scale: Scale::Small,
    };
    let mut set = Set::start(&place, env::given()).await?;
    let (program, rest) = arguments.command.split_first().context("no command was given")?;
    let mut command = Command::new(program);
    command.args(rest).envs(set.endpoints.variables()).kill_on_drop(true);
    let mut child = command
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let status = wait(&mut child).await;
    // The servers' data goes with the folder, so there is nothing to stop in good order for; dropping kills them.
    (set.kafka, set.mariadb, set.redis) = (None, None, None);
    fs::remove_dir_all(&folder).context("remove the servers' data")?;
    Ok(exit_code(status?))
}

/// Waits for the command. A signal that asks this process to end asks the command, and the servers end after it.
async fn wait(child: &mut Child) -> Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        status = child.wait() => return status.context("wait for the command"),
        // The terminal sent it to the command as well.
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
            pid.map(|pid| signal::kill(Pid::from_raw(pid), signal::Signal::SIGTERM)).transpose()?;
        }
    }
    if let Ok(status) = timeout(END_LIMIT, child.wait()).await {
        return status.context("wait for the command");
    }
    child.kill().await.context("kill the command")?;
    child.wait().await.context("wait for the command")
}

/// The command's own exit code, or 128 and the signal's number, as shells say it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
