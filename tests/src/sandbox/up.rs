//! `up`: starts what does not run, heals what runs in part, and leaves it all running.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;

use super::{
    prepare, service,
    state::{EndpointsFile, Recorded, StateFolder},
    whitelist,
};
use crate::{
    cluster::{Service, Spec},
    control::Issuer,
    env,
    servers::{START_LIMIT, Server, Set, process::Identity},
};

/// How long a server that runs already may take to answer before it is taken for dead.
const ALIVE_LIMIT: Duration = Duration::from_secs(10);

/// The stack's control plane.
const CONTROL_PLANE: &str = "control-plane";
/// The stack's one ingest worker.
const INGEST: &str = "ingest-1";
/// The stack's one replay worker.
const REPLAY: &str = "replay-1";
/// The roles, each of which has a token of a person who is named like it.
const ROLES: [&str; 3] = ["viewer", "operator", "admin"];
/// The tokens are made anew by each `up`, and this is longer than a stack stays up.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long a worker may take to be ready: it joins its group, which has to notice first that a killed one is gone.
const READY_LIMIT: Duration = Duration::from_secs(90);

pub(super) async fn run(folder: &StateFolder) -> Result<ExitCode> {
    start(folder).await?;
    eprintln!("the stack is up: {}", folder.path().join("endpoints.json").display());
    Ok(ExitCode::SUCCESS)
}

/// Leaves the whole stack running and ready, and returns where it is.
pub(super) async fn start(folder: &StateFolder) -> Result<EndpointsFile> {
    let recorded = folder.recorded()?;
    let mut set = Set::at(&folder.place(), folder.ports(&recorded)?, env::given()).await?;
    let port = |name: &str, purpose: &str| folder.service_port(name, purpose, &recorded);
    let (ingest_http, replay_http, control_ports) = (
        port(INGEST, "http")?,
        port(REPLAY, "http")?,
        [port(CONTROL_PLANE, "grpc")?, port(CONTROL_PLANE, "http")?],
    );
    let ledger = Ledger {
        folder,
        processes: Mutex::new(recorded),
    };
    tokio::try_join!(
        ledger.ensure(&mut set.kafka),
        ledger.ensure(&mut set.mariadb),
        ledger.ensure(&mut set.redis)
    )?;
    let (mysql, ()) = tokio::try_join!(
        prepare::database(&set.endpoints.mysql),
        prepare::topic(&set.endpoints.kafka)
    )?;
    let (jwks, tokens) = keys(folder.path())?;
    let mut endpoints = EndpointsFile {
        kafka: set.endpoints.kafka,
        redis: set.endpoints.redis,
        mysql,
        log_dir: folder.place().logs(),
        control_plane: Some(format!("127.0.0.1:{}", control_ports[0])),
        control_plane_http: Some(format!("http://127.0.0.1:{}", control_ports[1])),
        tokens,
        ..EndpointsFile::default()
    };
    let control = service::control_plane(&endpoints, folder.path(), CONTROL_PLANE, control_ports, &jwks)?;
    let ingest = service::worker(&endpoints, folder.path(), INGEST, "ingest", ingest_http)?;
    let replay = service::worker(&endpoints, folder.path(), REPLAY, "replay", replay_http)?;
    endpoints.ingest_http.push(ingest.http.clone());
    endpoints.replay_http.push(replay.http.clone());
    ledger.ensure_service(control).await?;
    // A worker does not start before there is a whitelist.
    whitelist::initialise(&endpoints).await?;
    ledger.ensure_service(ingest).await?;
    ledger.ensure_service(replay).await?;
    folder.write_endpoints(&endpoints)?;
    Ok(endpoints)
}

/// Makes the development keys where there are none, and a token for each role.
fn keys(folder: &Path) -> Result<(PathBuf, BTreeMap<String, String>)> {
    let folder = folder.join("keys");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let issuer = Issuer::kept("development", &folder.join("signing.pk8"))?;
    let jwks = folder.join("jwks.json");
    Issuer::write_jwks(&[&issuer], &jwks)?;
    let tokens = ROLES.map(|role| (role.to_owned(), issuer.lasting_token(role, role, TOKEN_LIFETIME)));
    Ok((jwks, tokens.into()))
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
        if let Some(known) = self.known(name).await {
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
        let identity = server.identity().with_context(|| format!("{name} ended at once"))?;
        self.started(name, identity, None).await?;
        server.ready(START_LIMIT).await
    }

    /// Leaves the service running and ready, with the settings and the binary of today.
    async fn ensure_service(&self, spec: Spec) -> Result<()> {
        let (name, http) = (spec.name.clone(), spec.http.clone());
        let settings = service::settings(&spec, self.folder.path())?;
        let mut service = Service::new(spec);
        if let Some(known) = self.known(&name).await {
            service.adopt(known.identity);
            if known.settings.as_ref() != Some(&settings) {
                eprintln!("{name} runs with other settings or an older binary: starting it again");
            } else if service.ready(ALIVE_LIMIT).await.is_ok() {
                return Ok(());
            } else {
                eprintln!("{name} runs but is not ready: starting it again");
            }
            service.stop().await?;
        }
        eprintln!("starting {name} at {http}");
        service.start()?;
        let identity = service.identity().with_context(|| format!("{name} ended at once"))?;
        self.started(&name, identity, Some(settings)).await?;
        service.ready(READY_LIMIT).await
    }

    /// The recorded process of this name, if it still runs.
    async fn known(&self, name: &str) -> Option<Recorded> {
        let processes = self.processes.lock().await;
        let known = processes.iter().find(|process| process.name == name).cloned();
        known.filter(|known| known.identity.is_running())
    }

    async fn started(&self, name: &str, identity: Identity, settings: Option<String>) -> Result<()> {
        let mut processes = self.processes.lock().await;
        processes.retain(|process| process.name != name);
        processes.push(Recorded {
            name: name.to_owned(),
            identity,
            settings,
        });
        self.folder.record(&processes)
    }
}
