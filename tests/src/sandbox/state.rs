//! What the stack leaves in its folder, for people, for tests and for the next `up` or `down`.
//!
//! | file | holds |
//! |---|---|
//! | `endpoints.json` | where everything is; exists while the stack is up |
//! | `pids.json` | which processes are ours, each with when it began |
//! | `ports.json`, `service-ports.json` | the ports, so that a stack comes back where it was |
//! | `keys/` | the development key that signs the tokens, and its public half |
//! | `lock` | held by the `up` or `down` that is at work |

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::servers::{Lifetime, Place, Ports, Scale, ports, process::Identity};

/// `endpoints.json`: where everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointsFile {
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// Redis's URL.
    pub redis: String,
    /// MySQL's URL, with the database.
    pub mysql: String,
    /// The control plane's gRPC address, `host:port`; null while none runs.
    pub control_plane: Option<String>,
    /// The control plane's plain HTTP address, for metrics and health.
    pub control_plane_http: Option<String>,
    /// Each ingest worker's HTTP address.
    pub ingest_http: Vec<String>,
    /// Each replay worker's HTTP address.
    pub replay_http: Vec<String>,
    /// A token for each role; empty while there is no authentication.
    pub tokens: BTreeMap<String, String>,
    /// The folder of all logs.
    pub log_dir: PathBuf,
}

impl EndpointsFile {
    /// Reads the file in a stack's folder, without waiting for anyone; `None` while no stack is up.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        read(&folder.join("endpoints.json"))
    }
}

/// A process of the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    /// Its name, for example `kafka` or `ingest-1`.
    pub(super) name: String,
    /// Its process for certain.
    #[serde(flatten)]
    pub(super) identity: Identity,
    /// What a service was started with, to see whether it has to be started anew; servers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) settings: Option<String>,
}

/// The stack's folder; nobody else changes the stack while this is held.
#[derive(Debug)]
pub struct StateFolder {
    folder: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Opens the folder, creates it when missing, and waits for another `up` or `down` to finish.
    ///
    /// # Errors
    /// It could not be created or locked.
    pub fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let lock =
            File::create(folder.join("lock")).with_context(|| format!("open the lock in {}", folder.display()))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another run that works on {}", folder.display());
            lock.lock().context("lock the folder of the stack")?;
        }
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    pub(super) fn place(&self) -> Place {
        Place {
            folder: self.folder.clone(),
            lifetime: Lifetime::Detached,
            scale: Scale::Large,
        }
    }

    pub(super) fn recorded(&self) -> Result<Vec<Recorded>> {
        Ok(self.read("pids.json")?.unwrap_or_default())
    }

    pub(super) fn record(&self, processes: &[Recorded]) -> Result<()> {
        self.write("pids.json", &processes)
    }

    /// The ports of last time, each replaced by a free one where it is taken and not by one of ours.
    pub(super) fn ports(&self, running: &[Recorded]) -> Result<Ports> {
        let fresh = Ports::free()?;
        let last: Ports = self.read("ports.json")?.unwrap_or(fresh);
        let keep = |name: &str, last: u16, fresh: u16| {
            let ours = running
                .iter()
                .any(|process| process.name == name && process.identity.is_running());
            if ours || ports::is_free(last) { last } else { fresh }
        };
        let ports = Ports {
            kafka: keep("kafka", last.kafka, fresh.kafka),
            kafka_controller: keep("kafka", last.kafka_controller, fresh.kafka_controller),
            mysql: keep("mariadb", last.mysql, fresh.mysql),
            redis: keep("redis", last.redis, fresh.redis),
        };
        self.write("ports.json", &ports)?;
        Ok(ports)
    }

    /// A port of a service (`purpose` tells several apart) of last time, or a free one where it is taken and not by this
    /// very service.
    pub(super) fn service_port(&self, name: &str, purpose: &str, running: &[Recorded]) -> Result<u16> {
        let mut known: BTreeMap<String, u16> = self.read("service-ports.json")?.unwrap_or_default();
        let ours = running
            .iter()
            .any(|process| process.name == name && process.identity.is_running());
        let key = format!("{name} {purpose}");
        if let Some(port) = known.get(&key).copied().filter(|port| ours || ports::is_free(*port)) {
            return Ok(port);
        }
        let [port] = ports::free()?;
        known.insert(key, port);
        self.write("service-ports.json", &known)?;
        Ok(port)
    }

    pub(super) fn write_endpoints(&self, endpoints: &EndpointsFile) -> Result<()> {
        self.write("endpoints.json", endpoints)
    }

    /// Forgets processes and endpoints: nothing of the stack runs any more.
    pub(super) fn forget(&self) -> Result<()> {
        for name in ["endpoints.json", "pids.json"] {
            match fs::remove_file(self.folder.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {name}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        read(&self.folder.join(name))
    }

    /// Replaces a file at once, so that a reader never sees half of it.
    fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let part = self.folder.join(format!("{name}.part"));
        let mut text = serde_json::to_vec_pretty(value).with_context(|| format!("write {name}"))?;
        text.push(b'\n');
        fs::write(&part, text).with_context(|| format!("write {}", part.display()))?;
        fs::rename(&part, self.folder.join(name)).with_context(|| format!("replace {name}"))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_comes_back_on_its_ports_unless_someone_took_them() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path().join("stack")).unwrap();
        let first = folder.ports(&[]).unwrap();
        assert_eq!(folder.ports(&[]).unwrap(), first);
        let _foreign = std::net::TcpListener::bind(("127.0.0.1", first.mysql)).unwrap();
        let second = folder.ports(&[]).unwrap();
        assert_ne!(second.mysql, first.mysql);
        assert_eq!(second.kafka, first.kafka);
    }

    #[test]
    fn what_is_recorded_is_read_again_and_can_be_forgotten_twice() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path().to_owned()).unwrap();
        let identity = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let processes = [Recorded {
            name: "kafka".to_owned(),
            identity,
            settings: None,
        }];
        folder.record(&processes).unwrap();
        assert_eq!(folder.recorded().unwrap(), processes);
        folder.forget().unwrap();
        folder.forget().unwrap();
        assert_eq!(folder.recorded().unwrap(), []);
    }
}
