//! What the chart takes as values, and what it says against wrong ones.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use reprise_tests::chart::reference::{self, markdown, with_reference};
use reprise_tests::chart::{self, Chart, case};

/// Flags that make `ci/minimal-values.yaml` wrong, and what the message has to name (as Helm 4 writes it; Helm 3 writes
/// `ingest.replicas` for `/ingest/replicas`, and no quotes).
const WRONG: [(&str, &str); 32] = [
    // Types and ranges.
    ("ingest.replicas=-1", "/ingest/replicas"),
    ("ingest.replicas=three", "/ingest/replicas"),
    ("insecure=yes", "/insecure"),
    ("controlPlane.service.port=70000", "/controlPlane/service/port"),
    ("pods.runAsUser=0", "/pods/runAsUser"),
    ("log.format=xml", "/log/format"),
    ("image.tag=a:b", "/image/tag"),
    ("image.digest=latest", "/image/digest"),
    ("kafka.brokers={kafka}", "/kafka/brokers/0"),
    ("kafka.sasl.mechanism=GSSAPI", "/kafka/sasl/mechanism"),
    ("mysql.tls.mode=verify", "/mysql/tls/mode"),
    ("mysql.existingSecret=My_Secret", "/mysql/existingSecret"),
    (
        "controlPlane.auth.networks={everywhere}",
        "/controlPlane/auth/networks/0",
    ),
    ("ingest.config.ingest.shutdown=25", "/ingest/config/ingest/shutdown"),
    ("ingest.config.ingest.shutdown=soon", "/ingest/config/ingest/shutdown"),
    ("ingest.config.ingest.shutdown=null", "shutdown"),
    // Keys that are not there, or that other values set.
    ("ingest.replica=3", "'replica'"),
    ("mysql.url=mysql://host/database", "'url'"),
    ("replay.config.replay.max_task=2", "'max_task'"),
    ("controlPlane.config.grpc.listen=0.0.0.0:1", "'listen'"),
    ("ingest.resources.requests.gpu=1", "'gpu'"),
    // Two scalers.
    ("ingest.autoscaling.scaler={hpa,keda}", "/ingest/autoscaling/scaler"),
    ("ingest.autoscaling.hpa.enabled=true", "/ingest/autoscaling/hpa"),
    // Rules between values.
    (
        "controlPlane.auth.jwt.existingConfigMap=",
        "set controlPlane.auth.jwt.existingConfigMap",
    ),
    (
        "controlPlane.auth.jwt.issuer=",
        "controlPlane.auth.jwt.issuer is not set",
    ),
    (
        "controlPlane.tls.existingSecret=",
        "set controlPlane.tls.existingSecret",
    ),
    (
        "controlPlane.tls.clientCertificates=required",
        "controlPlane.tls.clientCa.existingSecret is not set",
    ),
    ("kafka.sasl.mechanism=PLAIN", "kafka.sasl.existingSecret is not set"),
    (
        "kafka.properties.sasl\\.password=word",
        "kafka.properties.sasl.password would show a secret",
    ),
    (
        "replay.autoscaling.scaler=keda",
        "replay.autoscaling.keda.mysql.existingSecret is not set",
    ),
    (
        "ingest.rollingUpdate.maxSurge=0",
        "ingest.rollingUpdate.maxSurge and ingest.rollingUpdate.maxUnavailable",
    ),
    (
        "pods.labels.app\\.kubernetes\\.io/name=x",
        "pods.labels and ingest.podLabels cannot hold app.kubernetes.io/name",
    ),
];

#[tokio::test]
async fn wrong_values_are_refused_with_the_key_that_is_wrong() -> Result<()> {
    let chart = Chart::open().await?;
    for (flag, named) in WRONG {
        let said = chart.refusal(&case("minimal"), &["--set", flag])?;
        let plain = |text: &str| text.replace('/', ".").replace('\'', "");
        let is_named = plain(&said).contains(plain(named).trim_start_matches('.'));
        ensure!(is_named, "{flag}: {named} is not in: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn with_nothing_set_the_chart_says_all_that_has_to_be_set() -> Result<()> {
    let chart = Chart::open().await?;
    let nothing = tempfile::NamedTempFile::new()?;
    let said = chart.refusal(nothing.path(), &[])?;
    for key in [
        "kafka.brokers",
        "mysql.existingSecret",
        "redis.existingSecret",
        "controlPlane.auth.jwt.existingConfigMap",
        "controlPlane.auth.certificates",
        "controlPlane.tls.existingSecret",
        "insecure: true",
    ] {
        ensure!(said.contains(key), "{key} is not in: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn only_the_demo_is_insecure_and_it_says_so() -> Result<()> {
    let chart = Chart::open().await?;
    for values in chart::cases()? {
        let is_demo = values == case("demo");
        let says_so = fs::read_to_string(&values)?.contains("insecure: true");
        ensure!(says_so == is_demo, "{}", values.display());
    }
    let said = chart.refusal(&case("demo"), &["--set", "insecure=false"])?;
    ensure!(said.contains("nobody is known to the control plane"), "{said}");
    ensure!(said.contains("calls would not be encrypted"), "{said}");
    Ok(())
}

#[test]
fn the_reference_of_the_values_is_current() -> Result<()> {
    let values = fs::read_to_string(chart::folder().join("values.yaml"))?;
    let path = chart::folder().join("../../docs/deploying.md");
    let document = fs::read_to_string(&path)?;
    let right = with_reference(&document, &markdown(&values)?)?;
    if right != document {
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploying.md");
        fs::write(&made, right)?;
        anyhow::bail!("docs/deploying.md is not current: copy {} over it", made.display());
    }
    Ok(())
}

#[test]
fn the_schema_knows_every_key_and_no_other() -> Result<()> {
    let values = fs::read_to_string(chart::folder().join("values.yaml"))?;
    let schema: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(chart::folder().join("values.schema.json"))?)?;
    for entry in reference::entries(&values)? {
        let mut place = &schema;
        for part in entry.key.split('.') {
            if let Some(name) = place["$ref"].as_str() {
                place = schema.pointer(name.trim_start_matches('#')).context("a definition")?;
            }
            place = &place["properties"][part];
        }
        ensure!(place.is_object(), "values.schema.json does not know {}", entry.key);
    }
    let mut open = Vec::new();
    find_open(&schema, "", &mut open);
    // Labels and annotations, librdkafka's properties, and parts of Kubernetes' own objects.
    let meant = |path: &&String| {
        [
            "/strings",
            "/quantities",
            "/properties/global",
            "Selector",
            "ipBlock",
            "ffinity",
            "/kafka/properties/properties",
        ]
        .iter()
        .any(|part| path.contains(part))
    };
    let open: Vec<&String> = open.iter().filter(|path| !meant(path)).collect();
    ensure!(open.is_empty(), "these objects take any key: {open:?}");
    Ok(())
}

/// Finds objects that take keys that are not named.
fn find_open(schema: &serde_json::Value, path: &str, open: &mut Vec<String>) {
    if schema["type"] == "object" && schema["additionalProperties"] != false {
        open.push(path.to_owned());
    }
    match schema {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                find_open(field, &format!("{path}/{name}"), open);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| find_open(item, path, open)),
        _ => {}
    }
}
