//! `up`: starts what does not run, heals what runs in part, and leaves it all running.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;

use super::state::{EndpointsFile, Recorded, StateFolder};
use crate::{
    env,
    servers::{START_LIMIT, Server, Set},
};

/// How long a server that runs already may take to answer before it is taken for dead.
const ALIVE_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn run(folder: &StateFolder) -> Result<ExitCode> {
    let recorded = folder.recorded()?;
    let mut set = Set::at(&folder.place(), folder.ports(&recorded)?, env::given()).await?;
    let ledger = Ledger {
        folder,
        processes: Mutex::new(recorded),
    };
    tokio::try_join!(
        ledger.ensure(&mut set.kafka),
        ledger.ensure(&mut set.mariadb),
        ledger.ensure(&mut set.redis)
    )?;
    let endpoints = EndpointsFile {
        kafka: set.endpoints.kafka,
        redis: set.endpoints.redis,
        mysql: set.endpoints.mysql,
        log_dir: folder.place().logs(),
        ..EndpointsFile::default()
    };
    folder.write_endpoints(&endpoints)?;
    eprintln!("the stack is up: {}", folder.path().join("endpoints.json").display());
    Ok(ExitCode::SUCCESS)
}

/// Keeps `pids.json` true after every start, so that a `down` finds what an interrupted `up` has started.
struct Ledger<'a> {
    folder: &'a StateFolder,
    processes: Mutex<Vec<Recorded>>,
}

impl Ledger<'_> {
    /// Leaves the server running and answering, whatever it did before.
    async fn ensure<S: Server>(&self, server: &mut Option<S>) -> Result<()> {
        let Some(server) = server else { return Ok(()) };
        let name = S::KIND.name();
        let known = self
            .processes
            .lock()
            .await
            .iter()
            .find(|process| process.name == name)
            .cloned();
        if let Some(known) = known.filter(|known| known.identity.is_running()) {
            server.process().adopt(known.identity);
            if server.ready(ALIVE_LIMIT).await.is_ok() {
                return Ok(());
            }
            eprintln!("{name} runs but does not answer: starting it again");
            server.stop().await?;
        }
        eprintln!("starting {name} at {}", server.endpoint());
        server.prepare().await.with_context(|| format!("prepare {name}"))?;
        server.process().start()?;
        self.started(server).await?;
        server.ready(START_LIMIT).await
    }

    async fn started<S: Server>(&self, server: &mut S) -> Result<()> {
        let name = S::KIND.name();
        let identity = server.identity().with_context(|| format!("{name} ended at once"))?;
        let mut processes = self.processes.lock().await;
        processes.retain(|process| process.name != name);
        processes.push(Recorded {
            name: name.to_owned(),
            identity,
        });
        self.folder.record(&processes)
    }
}
