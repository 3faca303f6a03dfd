use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use tempfile::NamedTempFile;

use super::*;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    mysql: MysqlConfig,
    redis: RedisConfig,
    kafka: KafkaConfig,
    http: HttpConfig,
    log: LogConfig,
    budget: Budget,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
struct Budget {
    rows: u32,
    bytes: ByteSize,
    paused: bool,
    #[serde(with = "humantime_serde")]
    linger: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            rows: 50_000,
            bytes: ByteSize::mib(64),
            paused: false,
            linger: Duration::from_millis(20),
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        faults.section("mysql", &self.mysql);
        faults.section("redis", &self.redis);
        faults.section("kafka", &self.kafka);
        faults.section("http", &self.http);
        faults.section("log", &self.log);
        if self.budget.rows == 0 {
            faults.add("budget.rows", "0 rows let nothing through", "at least 1");
        }
    }
}

const GOOD: &str = "
mysql: { url: 'mysql://reprise:hunter2@db/reprise', acquire_timeout: 3s }
redis: { url: 'redis://:hunter2@cache:6379/0' }
kafka:
  brokers: [kafka-0:9092]
  properties: { security.protocol: SASL_SSL, sasl.password: hunter2, socket.timeout.ms: 10000 }
budget: { bytes: 32MiB }
";

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("its text");
    file
}

fn sources(file: &NamedTempFile, variables: &[(&str, &str)], settings: &[(&str, &str)]) -> Sources {
    Sources {
        file: Some(file.path().to_owned()),
        variables: variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect(),
        settings: settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn fault<'a>(faults: &'a Faults, key: &str) -> &'a Fault {
    faults
        .iter()
        .find(|fault| fault.key == key)
        .unwrap_or_else(|| panic!("no fault of {key} in {faults}"))
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let file = file(GOOD);
    let variables = [
        ("REPRISE_BUDGET__ROWS", "7"),
        ("REPRISE_BUDGET__PAUSED", "true"),
        ("REPRISE_BUDGET__LINGER", "1s"),
        ("REPRISE_KAFKA__BROKERS", "a:1, b:2"),
        ("REPRISE_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    let settings = [("budget.linger", "2s"), ("kafka.properties.security.protocol", "SSL")];

    let config: Config = load(&sources(&file, &variables, &settings)).expect("no faults");

    assert_eq!(config.mysql.acquire_timeout, Duration::from_secs(3));
    assert_eq!(config.mysql.max_connections, 8);
    assert_eq!((config.budget.rows, config.budget.paused), (7, true));
    assert_eq!(config.budget.linger, Duration::from_secs(2));
    assert_eq!(config.budget.bytes, ByteSize::mib(32));
    assert_eq!(config.kafka.brokers, ["a:1", "b:2"]);
    let properties: Vec<_> = config.kafka.properties.iter().collect();
    assert_eq!(
        properties,
        [
            ("sasl.password", "hunter2"),
            ("security.protocol", "SSL"),
            ("socket.timeout.ms", "10000")
        ]
    );
}

#[test]
fn text_from_the_environment_stays_as_it_is_where_text_is_wanted() {
    let file = file(GOOD);
    let variables = [
        ("REPRISE_REDIS__KEY_PREFIX", "007"),
        ("REPRISE_KAFKA__PROPERTIES__SASL__PASSWORD", "[1e3]"),
    ];

    let config: Config = load(&sources(&file, &variables, &[])).expect("no faults");

    assert_eq!(config.redis.key_prefix, "007");
    assert!(
        config
            .kafka
            .properties
            .iter()
            .any(|property| property == ("sasl.password", "[1e3]"))
    );
}

#[test]
fn a_secret_comes_from_a_file_without_its_last_line_break() {
    let config_file = file(GOOD);
    let secret = file("mysql://reprise:other@db/reprise\n");
    let path = secret.path().to_str().expect("a path");

    let config: Config = load(&sources(&config_file, &[("REPRISE_MYSQL__URL_FILE", path)], &[])).expect("no faults");
    assert_eq!(config.mysql.url.expose(), "mysql://reprise:other@db/reprise");

    let both = [
        ("REPRISE_MYSQL__URL_FILE", path),
        ("REPRISE_MYSQL__URL", "mysql://x@db/y"),
    ];
    let faults = load::<Config>(&sources(&config_file, &both, &[])).expect_err("two sources");
    assert!(
        fault(&faults, "mysql.url")
            .problem
            .contains("REPRISE_MYSQL__URL is set too")
    );

    let absent = [("REPRISE_MYSQL__URL_FILE", "/nowhere/at/all")];
    let faults = load::<Config>(&sources(&config_file, &absent, &[])).expect_err("no file");
    assert!(
        fault(&faults, "mysql.url")
            .problem
            .starts_with("cannot read /nowhere/at/all")
    );
}

#[test]
fn all_faults_are_reported_at_once_each_with_its_source() {
    let file = file(
        "
mysql: { url: 'mysql://u:hunter2@db', acquire_timeot: 3s, max_connections: many }
redis: { pool_size: 'redis://u:hunter2@cache/0', key_prefix: 'a b' }
kafka: { brokers: [kafka-0], properties: { enable.auto.commit: true } }
http: { listen: everywhere }
log: { format: loud }
budgett: { rows: 1 }
",
    );
    let variables = [("REPRISE_BUDGET__ROWS", "0"), ("REPRISE_BUDGET__BYTES", "much")];

    let faults = load::<Config>(&sources(&file, &variables, &[("log.filter", "info,x=loud")])).expect_err("faults");

    let keys: BTreeSet<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    let expected = [
        "budget.bytes",
        "budget.rows",
        "budgett",
        "http.listen",
        "kafka.brokers",
        "kafka.properties.enable.auto.commit",
        "log.filter",
        "log.format",
        "mysql.acquire_timeot",
        "mysql.max_connections",
        "mysql.url",
        "redis.key_prefix",
        "redis.pool_size",
        "redis.url",
    ];
    assert_eq!(keys, BTreeSet::from(expected), "{faults}");
    let path = file.path().display().to_string();
    assert_eq!(
        fault(&faults, "budget.rows").origin.as_deref(),
        Some("REPRISE_BUDGET__ROWS")
    );
    assert_eq!(fault(&faults, "mysql.url").origin.as_deref(), Some(&*path));
    assert_eq!(fault(&faults, "log.filter").origin.as_deref(), Some("--set"));
    assert_eq!(fault(&faults, "redis.url").origin, None);
    assert!(fault(&faults, "mysql.acquire_timeot").right.contains("acquire_timeout"));
    assert!(!faults.to_string().contains("hunter2"), "{faults}");
}

#[test]
fn secrets_appear_neither_in_debug_nor_in_a_dump() {
    let config: Config = load(&sources(&file(GOOD), &[], &[])).expect("no faults");

    let shown = format!("{config:?}\n{}", dump(&config).expect("YAML"));

    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        shown.contains("url: '[redacted]'") && shown.contains("sasl.password: '[redacted]'"),
        "{shown}"
    );
    assert!(
        shown.contains("acquire_timeout: 3s") && shown.contains("security.protocol: SASL_SSL"),
        "{shown}"
    );
}

#[test]
fn a_secret_that_is_a_number_is_refused_without_repeating_it() {
    let file = file("mysql: { url: 123456 }");

    let faults = load::<Config>(&sources(&file, &[], &[])).expect_err("not text");

    assert_eq!(
        fault(&faults, "mysql.url").problem,
        "a secret has to be text: put it in quotes"
    );
    assert!(!faults.to_string().contains("123456"));
}

#[test]
fn a_file_that_is_not_there_or_not_yaml_is_a_fault_of_the_whole() {
    let absent = Sources {
        file: Some("/nowhere/reprise.yaml".into()),
        ..Sources::default()
    };
    let faults = load::<Config>(&absent).expect_err("no file");
    assert_eq!(fault(&faults, "").origin.as_deref(), Some("/nowhere/reprise.yaml"));

    let faults = load::<Config>(&sources(&file("mysql: ["), &[], &[])).expect_err("not YAML");
    assert!(fault(&faults, "").problem.starts_with("is not YAML"), "{faults}");
}

#[test]
fn what_a_dump_shows_can_be_read_again_but_for_its_secrets() {
    let config: Config = load(&sources(&file(GOOD), &[], &[])).expect("no faults");
    let dumped = file(&dump(&config).expect("YAML"));
    let secrets = [
        ("mysql.url", "mysql://reprise@db/reprise"),
        ("redis.url", "redis://cache"),
        ("kafka.client_id", "again"),
    ];

    let again: Config = load(&sources(&dumped, &[], &secrets)).expect("no faults");

    assert_eq!(again.kafka.client_id, "again");
    assert_eq!(again.budget.bytes, config.budget.bytes);
    assert_eq!(again.kafka.brokers, config.kafka.brokers);
}
