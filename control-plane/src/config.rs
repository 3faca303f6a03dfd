//! The control plane's configuration: every bound of the server, with its default.

mod auth;
mod grpc;
mod ingest;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use reprise_shared::config::{Faults, HttpConfig, KafkaConfig, LogConfig, MysqlConfig, RedisConfig, Validate};
use serde::{Deserialize, Serialize};

use crate::{explain, jobs, offsets, whitelist};

pub use auth::{AuthConfig, CertificateRole, JwtConfig, Network, RateLimitConfig, Role};
pub use grpc::GrpcConfig;
pub use ingest::IngestGroup;
pub use tls::{ClientCertificates, ServerTlsConfig};

/// A whole configuration of the control plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The catalog file.
    pub catalog: PathBuf,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// MySQL.
    pub mysql: MysqlConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// The ingest workers.
    pub ingest: IngestGroup,
    /// How much explaining records may cost.
    pub explain: explain::Config,
    /// Limits of questions about offsets.
    pub offsets: offsets::Config,
    /// Limits of the whitelist.
    pub whitelist: whitelist::Config,
    /// Limits of jobs.
    pub jobs: jobs::Config,
    /// Health and metrics.
    pub http: HttpConfig,
    /// Logs.
    pub log: LogConfig,
    /// The gRPC server and its limits.
    pub grpc: GrpcConfig,
    /// The gRPC server's certificates.
    pub tls: ServerTlsConfig,
    /// Who may call what.
    pub auth: AuthConfig,
    /// How many calls one caller may make.
    pub rate_limit: RateLimitConfig,
    /// How often the files of keys and certificates are looked at.
    #[serde(with = "humantime_serde")]
    pub reload_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            catalog: PathBuf::from("config/catalog.yaml"),
            kafka: KafkaConfig::default(),
            mysql: MysqlConfig::default(),
            redis: RedisConfig::default(),
            ingest: IngestGroup::default(),
            explain: explain::Config::default(),
            offsets: offsets::Config::default(),
            whitelist: whitelist::Config::default(),
            jobs: jobs::Config::default(),
            http: HttpConfig::default(),
            log: LogConfig::default(),
            grpc: GrpcConfig::default(),
            tls: ServerTlsConfig::default(),
            auth: AuthConfig::default(),
            rate_limit: RateLimitConfig::default(),
            reload_every: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Says why this server must not listen where it is told to: beyond this machine, callers need to be known and
    /// connections encrypted.
    fn exposure(&self) -> Option<String> {
        let missing = match (self.auth.is_on(), self.tls.is_on()) {
            (true, true) => return None,
            (false, true) => "auth",
            (true, false) => "tls",
            (false, false) => "auth and tls",
        };
        let local = self.grpc.listen.ip().to_canonical().is_loopback();
        (!local && !self.grpc.insecure)
            .then(|| format!("{} is reachable from outside, without {missing}", self.grpc.listen))
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        faults.section("kafka", &self.kafka);
        faults.section("mysql", &self.mysql);
        faults.section("redis", &self.redis);
        faults.section("ingest", &self.ingest);
        faults.section("explain", &self.explain);
        faults.section("offsets", &self.offsets);
        faults.section("whitelist", &self.whitelist);
        faults.section("jobs", &self.jobs);
        faults.section("http", &self.http);
        faults.section("log", &self.log);
        faults.section("grpc", &self.grpc);
        faults.section("tls", &self.tls);
        faults.section("auth", &self.auth);
        faults.section("rate_limit", &self.rate_limit);
        duration(faults, "reload_every", self.reload_every, 100, 3_600_000);
        if let Some(problem) = self.exposure() {
            let right = "set auth and tls, or a loopback address; or grpc.insecure: true if something else protects it";
            faults.add("grpc.listen", problem, right);
        }
        if !self.auth.certificates.is_empty() && self.tls.client_ca_path.is_none() {
            let right = "the authorities that sign callers' certificates";
            faults.add("tls.client_ca_path", "is not set, but auth.certificates is", right);
        }
    }
}

/// What `migrate` needs of a configuration: the database and logs. The other sections are read and not judged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MigrateConfig(pub Config);

impl Validate for MigrateConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.section("mysql", &self.0.mysql);
        faults.section("log", &self.0.log);
    }
}

/// Adds a fault unless a duration lies within bounds, which are milliseconds.
fn duration(faults: &mut Faults, key: &str, value: Duration, least: u64, most: u64) {
    faults.check_range(key, value, Duration::from_millis(least), Duration::from_millis(most));
}

#[cfg(test)]
mod tests;
