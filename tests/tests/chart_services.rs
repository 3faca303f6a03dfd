//! The real programs take what the chart gives them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_tests::chart::mounted::{Mounted, Secrets};
use reprise_tests::chart::{self, Chart, case, cases};
use reprise_tests::cluster::binary;
use serde_json::Value;

const COMPONENTS: [&str; 3] = ["control-plane", "ingest", "replay"];

fn programs() -> Result<PathBuf> {
    let worker = binary("reprise-worker")?;
    Ok(worker.parent().context("a program lies in a folder")?.to_owned())
}

fn secrets() -> Result<Secrets> {
    Secrets::new(
        "mysql://user:word@mysql:3306/reprise",
        "rediss://user:word@redis:6379/0",
    )
}

/// The whole configuration of a component, with its defaults, as its program has it.
fn dump(mounted: &Mounted) -> Result<Value> {
    let output = mounted.run(&programs()?, &["--dump-config"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "--dump-config: {said}");
    serde_norway::from_slice(&output.stdout).context("parse the configuration")
}

#[tokio::test]
async fn the_programs_accept_their_configuration_and_catalog() -> Result<()> {
    let chart = Chart::open().await?;
    let mut faults = Vec::new();
    for values in cases()? {
        let rendered = chart.render(&values, &[])?;
        for component in COMPONENTS.iter().chain(&["migration"]) {
            let mounted = Mounted::new(&rendered, component, &secrets()?)?;
            let output = mounted.run(&programs()?, &["--check-config"])?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                faults.push(format!("{} {component}: {said}", values.display()));
            }
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_the_program_refuses_is_found() -> Result<()> {
    let chart = Chart::open().await?;
    // The chart cannot know that the drain has to be shorter than the shutdown; the program does.
    let rendered = chart.render(&case("minimal"), &["--set", "ingest.config.ingest.drain=26s"])?;
    let mounted = Mounted::new(&rendered, "ingest", &secrets()?)?;
    let output = mounted.run(&programs()?, &["--check-config"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("ingest.shutdown"), "{said}");
    Ok(())
}

#[tokio::test]
async fn pods_get_more_time_to_end_than_the_programs_take() -> Result<()> {
    let chart = Chart::open().await?;
    for values in cases()? {
        let rendered = chart.render(&values, &[])?;
        for component in COMPONENTS {
            let config = dump(&Mounted::new(&rendered, component, &secrets()?)?)?;
            let section = if component == "control-plane" {
                "grpc"
            } else {
                component
            };
            let shutdown = config[section]["shutdown"].as_str().context("a shutdown limit")?;
            let shutdown: Duration = shutdown.parse::<Time>()?.0;
            let pod = &rendered.object("Deployment", component)?["spec"]["template"]["spec"];
            let grace = pod["terminationGracePeriodSeconds"]
                .as_u64()
                .context("a grace period")?;
            // After the limit the last changes have 3 s, and then the last tasks.
            let needed = shutdown + Duration::from_secs(6);
            ensure!(
                Duration::from_secs(grace) > needed,
                "{} {component}: {grace} s for {needed:?}",
                values.display()
            );
        }
    }
    Ok(())
}

/// A time as the programs write it.
struct Time(Duration);

impl std::str::FromStr for Time {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut whole = Duration::ZERO;
        for part in text.split_whitespace() {
            let end = part.find(|letter: char| !letter.is_ascii_digit()).context("a unit")?;
            let (number, unit) = part.split_at(end);
            let number: u64 = number.parse()?;
            whole += match unit {
                "ms" => Duration::from_millis(number),
                "s" => Duration::from_secs(number),
                "m" => Duration::from_secs(60 * number),
                other => anyhow::bail!("the unit {other} is not known here"),
            };
        }
        Ok(Self(whole))
    }
}

/// Every key that holds no others, with dots.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                keys(field, &path, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// Every key that the schema knows below a place.
fn schema_keys(root: &Value, place: &Value, path: &str, found: &mut BTreeSet<String>) {
    let place = place["$ref"]
        .as_str()
        .and_then(|name| root.pointer(name.trim_start_matches('#')))
        .unwrap_or(place);
    let Some(fields) = place["properties"].as_object() else {
        found.insert(path.to_owned());
        return;
    };
    for (name, field) in fields {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        schema_keys(root, field, &path, found);
    }
}

/// Whether the chart sets a key from other values, so that `config` must not.
fn is_the_charts(key: &str, component: &str) -> bool {
    let ours = [
        "catalog",
        "role",
        "kafka.brokers",
        "kafka.properties",
        "mysql.url",
        "mysql.tls",
        "redis.url",
        "redis.tls",
        "redis.key_prefix",
        "http",
        "log",
        "tls",
        "ingest.group",
        "grpc.listen",
        "grpc.insecure",
        "auth.certificates",
        "auth.networks",
        "auth.jwt",
        "replay.live_first.replica_url",
    ];
    let exceptions = ["auth.jwt.max_token"];
    let below = |prefix: &&str| {
        let rest = key.strip_prefix(*prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with("_mode"))
    };
    // A worker's config holds its own role's section alone.
    let others = match component {
        "ingest" => key.starts_with("replay."),
        "replay" => key.starts_with("ingest."),
        _ => false,
    };
    others || (ours.iter().any(below) && !exceptions.contains(&key))
}

#[tokio::test]
async fn config_takes_every_key_of_the_programs_that_the_chart_does_not_set() -> Result<()> {
    let rendered = Chart::open().await?.render(&case("demo"), &[])?;
    let schema = std::fs::read_to_string(Path::new(&chart::folder()).join("values.schema.json"))?;
    let schema: Value = serde_json::from_str(&schema)?;
    for (component, value) in [
        ("control-plane", "controlPlane"),
        ("ingest", "ingest"),
        ("replay", "replay"),
    ] {
        let mut programs = BTreeSet::new();
        keys(
            &dump(&Mounted::new(&rendered, component, &secrets()?)?)?,
            "",
            &mut programs,
        );
        programs.retain(|key| !is_the_charts(key, component));
        let mut charts = BTreeSet::new();
        let place = &schema["properties"][value]["properties"]["config"];
        schema_keys(&schema, place, "", &mut charts);
        let missing: Vec<&String> = programs.difference(&charts).collect();
        let unknown: Vec<&String> = charts.difference(&programs).collect();
        ensure!(
            missing.is_empty() && unknown.is_empty(),
            "values.schema.json, {value}.config: missing {missing:?}, unknown to the program {unknown:?}"
        );
    }
    Ok(())
}
