use reprise_shared::config::{self, Sources};

use super::*;

fn shipped(settings: &[(&str, &str)]) -> Result<Config, Faults> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/control-plane.yaml");
    let settings = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    config::load(&Sources {
        file: Some(file.into()),
        settings: settings.collect(),
        ..Sources::default()
    })
}

#[test]
fn the_shipped_file_is_valid_and_says_the_defaults() {
    let mut config = shipped(&[]).expect("config/control-plane.yaml is valid");
    let default = Config::default();
    // The worker has the usual port, and both run on one machine in demos.
    assert_ne!(config.http.listen, default.http.listen);
    config.http = default.http.clone();
    config.kafka = default.kafka.clone();
    config.mysql = default.mysql.clone();
    config.redis = default.redis.clone();
    config.log = default.log.clone();
    assert_eq!(format!("{config:?}"), format!("{default:?}"));
}

#[test]
fn an_address_beyond_this_machine_needs_auth_and_tls_or_an_explicit_word() {
    let outside = ("grpc.listen", "0.0.0.0:50051");
    let tls = [("tls.certificate_path", "a.pem"), ("tls.key_path", "a.key")];
    let auth = [
        ("auth.jwt.jwks_path", "keys.json"),
        ("auth.jwt.issuer", "us"),
        ("auth.jwt.audience", "reprise"),
    ];
    for (settings, missing) in [
        (vec![outside], "without auth and tls"),
        ([&[outside][..], &tls].concat(), "without auth"),
        ([&[outside][..], &auth].concat(), "without tls"),
        (vec![("grpc.listen", "[::]:50051")], "without auth and tls"),
    ] {
        let faults = shipped(&settings).expect_err("exposed").to_string();
        assert!(faults.contains("grpc.listen") && faults.contains(missing), "{faults}");
    }
    for settings in [
        vec![],
        vec![("grpc.listen", "[::1]:0")],
        vec![outside, ("grpc.insecure", "true")],
        [&[outside][..], &tls, &auth].concat(),
    ] {
        shipped(&settings).expect("allowed");
    }
}

#[test]
fn certificates_of_callers_need_their_authority_and_tls() {
    let faults = shipped(&[
        ("auth.certificates", "[{name: client.example, role: viewer}]"),
        ("tls.client_certificates", "required"),
        ("grpc.max_deadline", "1s"),
        ("auth.jwt.jwks_path", "keys.json"),
    ])
    .expect_err("faults")
    .to_string();
    for key in [
        "tls.client_ca_path",
        "grpc.max_deadline",
        "auth.jwt.issuer",
        "auth.jwt.audience",
    ] {
        assert!(faults.contains(key), "{key} is not in: {faults}");
    }
}

#[test]
fn kafka_is_required_and_the_group_is_a_name() {
    let faults = shipped(&[
        ("kafka.brokers", ""),
        ("ingest.group", "two words"),
        ("ingest.kafka_call", "1ms"),
    ])
    .expect_err("faults")
    .to_string();
    for told in [
        "kafka.brokers",
        "host:port of at least one broker",
        "ingest.group",
        "ingest.kafka_call",
    ] {
        assert!(faults.contains(told), "{told} is not in: {faults}");
    }
}

#[test]
fn migrate_needs_the_database_alone() {
    let sources = Sources {
        settings: vec![("mysql.url".to_owned(), "mysql://root@127.0.0.1/reprise".to_owned())],
        ..Sources::default()
    };
    config::load::<MigrateConfig>(&sources).expect("redis is not needed");
    config::load::<Config>(&sources).expect_err("redis is needed");
}
