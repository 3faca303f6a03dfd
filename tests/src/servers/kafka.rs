//! A Kafka broker: one node in KRaft combined mode, on jars that Maven resolved.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::process::Command;

use super::{
    Kind, Place, Server, install, ports,
    process::{Process, Program},
};
use crate::wait::blocking;

/// The id of the only cluster that this folder ever holds: 16 bytes in URL-safe base64.
const CLUSTER_ID: &str = "AAAAAAAAQACAAAAAAAAAAQ";
const FORMAT_LIMIT: Duration = Duration::from_secs(60);

/// The broker's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KafkaPorts {
    /// For clients.
    pub broker: u16,
    /// For the controller, which the broker alone talks to.
    pub controller: u16,
}

/// A Kafka broker.
#[derive(Debug)]
pub struct Kafka {
    folder: PathBuf,
    ports: KafkaPorts,
    endpoint: String,
    /// Further lines of its configuration, from its next start on; they overrule the usual ones.
    pub options: String,
    process: Process,
}

impl Kafka {
    /// A broker that does not run yet.
    ///
    /// # Errors
    /// Java or Kafka is not installed.
    pub fn at(place: &Place, ports: KafkaPorts) -> Result<Self> {
        let folder = place.of(Kind::Kafka);
        let program = Program::new(
            "kafka",
            install::program("java")?,
            place.log(Kind::Kafka),
            place.lifetime,
        )
        .argument("-Xmx512m")
        .argument("-XX:+UseSerialGC")
        .argument("-XX:+ExitOnOutOfMemoryError")
        .argument("-Dorg.slf4j.simpleLogger.showDateTime=true")
        .argument("-cp")
        .argument(install::kafka_jars()?.join("*"))
        .argument("kafka.Kafka")
        .argument(folder.join("server.properties"));
        let endpoint = format!("127.0.0.1:{}", ports.broker);
        Ok(Self {
            folder,
            ports,
            endpoint,
            options: String::new(),
            process: Process::new(program),
        })
    }

    /// Starts a broker on free ports.
    ///
    /// # Errors
    /// It could not be installed or started, or does not answer in time.
    pub async fn start(place: &Place) -> Result<Self> {
        install::ensure(&[Kind::Kafka]).await?;
        let [broker, controller] = ports::free()?;
        let mut kafka = Self::at(place, KafkaPorts { broker, controller })?;
        kafka.start_again().await?;
        Ok(kafka)
    }

    /// Returns its ports.
    #[must_use]
    pub const fn ports(&self) -> KafkaPorts {
        self.ports
    }

    fn properties(&self) -> String {
        let KafkaPorts { broker, controller } = self.ports;
        let data = self.folder.join("data");
        format!(
            "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
delete.topic.enable=true
# One node holds the only replica of everything, and few partitions make a quick start.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
# Do not wait for more members, nor between heartbeats while starting.
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
# Retention, deletion and compaction take effect within seconds, so that tests can wait for them.
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
log.segment.delete.delay.ms=1000
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=16777216
# Above reprise's own limit for a record, so that a record beyond that limit can be written.
message.max.bytes=16777216
{more}
",
            more = self.options,
            data = data.display()
        )
    }
}

impl Server for Kafka {
    const KIND: Kind = Kind::Kafka;

    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn port(&self) -> u16 {
        self.ports.broker
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn prepare(&mut self) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("create {}", self.folder.display()))?;
        let properties = self.folder.join("server.properties");
        fs::write(&properties, self.properties()).context("write server.properties")?;
        if self.folder.join("data/meta.properties").exists() {
            return Ok(());
        }
        let format = Command::new(&self.process.program().binary)
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
            .arg(install::kafka_jars()?.join("*"))
            .args([
                "kafka.tools.StorageTool",
                "format",
                "--ignore-formatted",
                "-t",
                CLUSTER_ID,
                "-c",
            ])
            .arg(&properties)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(FORMAT_LIMIT, format)
            .await
            .with_context(|| format!("formatting took longer than {FORMAT_LIMIT:?}"))?
            .context("run kafka.tools.StorageTool")?;
        if !output.status.success() {
            bail!(
                "kafka.tools.StorageTool failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    async fn look(&self) -> Result<()> {
        let brokers = self.endpoint.clone();
        blocking("a metadata call", Duration::from_secs(3), move || {
            let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
            let metadata = client
                .fetch_metadata(None, Duration::from_secs(2))
                .context("ask for metadata")?;
            ensure!(!metadata.brokers().is_empty(), "no broker is registered yet");
            Ok(())
        })
        .await
    }
}
