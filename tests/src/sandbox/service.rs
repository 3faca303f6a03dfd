//! The stack's own processes: which there are, and with which settings.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::stack::{GROUP, HEARTBEAT, catalog_path};
use super::state::EndpointsFile;
use crate::cluster::{Spec, binary};
use crate::control::Issuer;
use crate::servers::process::Lifetime;

/// Returns how to run a worker of a stack, without its place in the network: that is `port`.
pub(super) fn worker(endpoints: &EndpointsFile, folder: &Path, name: &str, role: &str, port: u16) -> Result<Spec> {
    let settings = [
        ("REPRISE_KAFKA__BROKERS", endpoints.kafka.clone()),
        ("REPRISE_MYSQL__URL", endpoints.mysql.clone()),
        ("REPRISE_REDIS__URL", endpoints.redis.clone()),
        ("REPRISE_HTTP__LISTEN", format!("127.0.0.1:{port}")),
        ("REPRISE_INGEST__GROUP", GROUP.to_owned()),
        ("REPRISE_INGEST__HEARTBEAT", format!("{}ms", HEARTBEAT.as_millis())),
        ("REPRISE_LOG__FORMAT", "pretty".to_owned()),
    ];
    let catalog = catalog_path(folder)?;
    Ok(Spec {
        name: name.to_owned(),
        binary: binary("reprise-worker")?,
        arguments: vec![
            "--set".into(),
            format!("catalog={}", catalog.display()).into(),
            "--set".into(),
            format!("role={role}").into(),
        ],
        environment: settings
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        logs: endpoints.log_dir.clone(),
        http: format!("http://127.0.0.1:{port}"),
        lifetime: Lifetime::Detached,
    })
}

/// Returns how to run the control plane of a stack; `jwks` holds the keys of the tokens that it takes.
pub(super) fn control_plane(
    endpoints: &EndpointsFile,
    folder: &Path,
    name: &str,
    [grpc, http]: [u16; 2],
    jwks: &Path,
) -> Result<Spec> {
    let settings = [
        ("kafka.brokers", endpoints.kafka.clone()),
        ("mysql.url", endpoints.mysql.clone()),
        ("redis.url", endpoints.redis.clone()),
        ("grpc.listen", format!("127.0.0.1:{grpc}")),
        ("http.listen", format!("127.0.0.1:{http}")),
        ("ingest.group", GROUP.to_owned()),
        ("log.format", "pretty".to_owned()),
        ("catalog", catalog_path(folder)?.display().to_string()),
    ];
    let settings = settings.into_iter().chain(Issuer::settings(jwks));
    Ok(Spec {
        name: name.to_owned(),
        binary: binary("reprise-control-plane")?,
        arguments: settings
            .flat_map(|(key, value)| ["--set".into(), format!("{key}={value}").into()])
            .collect(),
        environment: Vec::new(),
        logs: endpoints.log_dir.clone(),
        http: format!("http://127.0.0.1:{http}"),
        lifetime: Lifetime::Detached,
    })
}

/// Sums up what a service is started with: its settings, its binary and its catalog. A running one with another sum
/// is out of date.
pub(super) fn settings(spec: &Spec, folder: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for (name, value) in &spec.environment {
        hash.update(format!("{name:?}={value:?}\n"));
    }
    hash.update(format!("{:?}\n", spec.arguments));
    let binary = fs::metadata(&spec.binary).with_context(|| format!("look at {}", spec.binary.display()))?;
    hash.update(format!(
        "{} {} {}\n",
        binary.size(),
        binary.mtime(),
        binary.mtime_nsec()
    ));
    let catalog = catalog_path(folder)?;
    hash.update(fs::read(&catalog).with_context(|| format!("read {}", catalog.display()))?);
    let bytes = hash.finalize();
    Ok(bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}
