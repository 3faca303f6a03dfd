//! A control plane under test, in this process or in one of its own, and callers of all kinds.

mod authority;
mod call;
mod flood;
mod tokens;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reprise_control_plane::config::Config;
use reprise_control_plane::{Listeners, run};
use reprise_shared::catalog;
use reprise_shared::clock::Clock;
use reprise_shared::config::{self, Sources};
use reprise_shared::mysql::{self, Database};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

pub use self::authority::{Authority, Certificate};
pub use self::call::{call, hang, reason, refused, send};
pub use self::flood::{Encoded, open_streams};
pub use self::tokens::{AUDIENCE, ISSUER, Issuer};

use crate::cluster::{Service, Spec, binary};
use crate::env::Isolation;
use crate::servers::ports;
use crate::servers::process::Lifetime;
use crate::wait::wait_for;

/// How long a test waits for what takes a moment on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Settings by their dotted keys.
pub type Settings = Vec<(&'static str, String)>;

/// A control plane in this process.
pub struct ControlPlane {
    /// Where it takes calls.
    pub grpc: SocketAddr,
    /// Where it serves health and metrics.
    pub http: SocketAddr,
    shutdown: CancellationToken,
    running: JoinSet<Result<(), reprise_control_plane::Error>>,
    /// Its part of the servers, if that is its own.
    _isolation: Option<Isolation>,
}

impl ControlPlane {
    /// Migrates a database of its own and starts, on free ports.
    pub async fn start(name: &str, settings: Settings) -> Result<Self> {
        let isolation = Isolation::new(name).await?;
        let started = Self::start_on(&isolation, settings).await?;
        Ok(Self {
            _isolation: Some(isolation),
            ..started
        })
    }

    /// Migrates and starts on these servers.
    pub async fn start_on(isolation: &Isolation, settings: Settings) -> Result<Self> {
        // Another test of this process may have been first, with the same choice.
        let _ = rustls::crypto::ring::default_provider().install_default();
        migrate(isolation).await?;
        let mut all = common(isolation);
        all.extend(settings);
        let settings = all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let config: Config = config::load(&Sources {
            settings,
            ..Sources::default()
        })
        .context("the test's configuration")?;
        let catalog = Arc::new(catalog::load(&config.catalog)?);
        let bind = async || TcpListener::bind("127.0.0.1:0").await.context("bind");
        let listeners = Listeners {
            grpc: bind().await?,
            http: bind().await?,
        };
        let (grpc, http) = (listeners.grpc.local_addr()?, listeners.http.local_addr()?);
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(run(config, catalog, listeners, shutdown.clone()));
        Ok(Self {
            grpc,
            http,
            shutdown,
            running,
            _isolation: None,
        })
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&self) -> Result<()> {
        let url = format!("http://{}/readyz", self.http);
        wait_for(
            "the control plane to be ready",
            PATIENCE,
            async || match reqwest::get(&url).await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(answer.text().await.unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            },
        )
        .await
    }

    /// Returns what `/metrics` shows.
    pub async fn metrics(&self) -> Result<String> {
        Ok(reqwest::get(format!("http://{}/metrics", self.http))
            .await?
            .text()
            .await?)
    }

    /// Asks it to stop, without waiting.
    pub fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Stops it in order.
    pub async fn stop(mut self) -> Result<()> {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.running.join_next()).await;
        ended
            .context("it did not end")?
            .context("it never ran")?
            .context("it panicked")?
            .context("it failed")
    }

    /// Returns a caller without encryption.
    pub fn channel(&self) -> Channel {
        plain(self.grpc)
    }

    /// Returns a caller who trusts an authority and shows a certificate, or none.
    pub fn tls_channel(&self, trusted: &Authority, shown: Option<&Certificate>) -> Result<Channel> {
        tls(self.grpc, trusted, shown)
    }
}

/// Returns a caller without encryption, who connects with its first call.
pub fn plain(address: SocketAddr) -> Channel {
    endpoint(format!("http://{address}")).connect_lazy()
}

/// Returns a caller with encryption, who connects with its first call.
pub fn tls(address: SocketAddr, trusted: &Authority, shown: Option<&Certificate>) -> Result<Channel> {
    let mut config = ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(trusted.pem()))
        .domain_name("localhost");
    if let Some(shown) = shown {
        config = config.identity(tonic::transport::Identity::from_pem(&shown.chain, &shown.key));
    }
    Ok(endpoint(format!("https://{address}"))
        .tls_config(config)?
        .connect_lazy())
}

fn endpoint(url: String) -> Endpoint {
    let endpoint = Endpoint::from_shared(url).expect("an address makes a URL");
    endpoint.connect_timeout(Duration::from_secs(10)).timeout(PATIENCE)
}

/// A control plane in a process of its own, for signals and logs. Not started yet.
pub fn process(isolation: &Isolation, folder: &Path, settings: Settings) -> Result<(Service, SocketAddr)> {
    let [grpc, http] = ports::free::<2>()?;
    let grpc = SocketAddr::from(([127, 0, 0, 1], grpc));
    let mut all = common(isolation);
    all.push(("grpc.listen", grpc.to_string()));
    all.push(("http.listen", format!("127.0.0.1:{http}")));
    all.extend(settings);
    let service = Service::new(Spec {
        name: "control-plane".to_owned(),
        binary: binary("reprise-control-plane")?,
        arguments: all
            .into_iter()
            .flat_map(|(key, value)| ["--set".into(), format!("{key}={value}").into()])
            .collect(),
        environment: Vec::new(),
        logs: folder.to_owned(),
        http: format!("http://127.0.0.1:{http}"),
        lifetime: Lifetime::Bound,
    });
    Ok((service, grpc))
}

/// Brings the database's schema up to date.
pub async fn migrate(isolation: &Isolation) -> Result<()> {
    let config = mysql::Config {
        url: isolation.mysql_url().into(),
        max_connections: 1,
        ..mysql::Config::default()
    };
    let database = Database::new(&config, Clock::system())?;
    mysql::migrate(database.pool()).await.context("migrate")?;
    database.pool().close().await;
    Ok(())
}

fn common(isolation: &Isolation) -> Settings {
    let catalog = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/catalog.yaml");
    vec![
        ("catalog", catalog.to_owned()),
        ("kafka.brokers", isolation.kafka_brokers().to_owned()),
        ("ingest.group", isolation.group()),
        ("mysql.url", isolation.mysql_url()),
        ("redis.url", isolation.redis_url().to_owned()),
        ("redis.key_prefix", isolation.key_prefix()),
        ("reload_every", "100ms".to_owned()),
        ("grpc.shutdown_notice", "10ms".to_owned()),
    ]
}
