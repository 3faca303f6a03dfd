//! What the chart renders, with each of its `ci` files.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use reprise_tests::chart::{self, Chart, KUBERNETES, Rendered, case, cases, containers, name};
use reprise_tests::tools;
use serde_json::Value;

/// Every `ci` file, rendered.
async fn all() -> Result<Vec<Rendered>> {
    let chart = Chart::open().await?;
    cases()?.iter().map(|values| chart.render(values, &[])).collect()
}

/// What Kubernetes' own schemas say against renderings, with unknown fields refused.
struct Verdict {
    is_good: bool,
    /// Objects that passed.
    passed: usize,
    /// Everything else that was said.
    said: String,
}

async fn judge(renderings: &[(String, String)], version: &str) -> Result<Verdict> {
    let mut command = Command::new(tools::kubernetes_validate().await?);
    command.args(["--strict", "-k", version]);
    let folder = tempfile::tempdir()?;
    for (name, text) in renderings {
        let file = folder.path().join(format!("{name}.yaml"));
        fs::write(&file, text)?;
        command.arg(file);
    }
    let output = command.output().context("run kubernetes-validate")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let (passed, rest): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.contains(" passed for resource "));
    Ok(Verdict {
        is_good: output.status.success(),
        passed: passed.len(),
        said: rest.join("\n"),
    })
}

#[tokio::test]
async fn every_case_passes_lint_and_the_schemas_of_the_oldest_and_newest_kubernetes() -> Result<()> {
    let chart = Chart::open().await?;
    for version in KUBERNETES {
        let (mut renderings, mut known) = (Vec::new(), 0);
        for values in cases()? {
            chart.lint(&values)?;
            let rendered = chart.render(&values, &["--kube-version", version])?;
            // Kinds of others' definitions have no schema here.
            known += rendered.objects.iter().filter(|object| !is_foreign(object)).count();
            let case = values.file_stem().context("a values file has a name")?;
            renderings.push((case.to_string_lossy().into_owned(), rendered.text));
        }
        let verdict = judge(&renderings, version).await?;
        ensure!(verdict.is_good, "{version}: {}", verdict.said);
        ensure!(
            verdict.passed == known,
            "{} of {known} objects were judged: {}",
            verdict.passed,
            verdict.said
        );
    }
    Ok(())
}

fn is_foreign(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    ["keda.sh/", "monitoring.coreos.com/", "cert-manager.io/"]
        .iter()
        .any(|group| version.starts_with(group))
}

#[tokio::test]
async fn a_field_that_kubernetes_does_not_know_is_found() -> Result<()> {
    let rendered = Chart::open().await?.render(&case("minimal"), &[])?.text;
    let wrong = rendered.replacen("readinessProbe:", "readynessProbe:", 1);
    ensure!(wrong != rendered, "there is no readinessProbe to spoil");
    for version in KUBERNETES {
        let verdict = judge(&[("wrong".to_owned(), wrong.clone())], version).await?;
        ensure!(!verdict.is_good, "{version} took it: {}", verdict.said);
    }
    Ok(())
}

#[tokio::test]
async fn every_container_is_restricted_and_its_root_read_only() -> Result<()> {
    for rendered in all().await? {
        for (object, template) in rendered.pods() {
            let pod = &template["spec"]["securityContext"];
            ensure!(pod["runAsNonRoot"] == true, "{}", name(object));
            ensure!(pod["seccompProfile"]["type"] == "RuntimeDefault", "{}", name(object));
            ensure!(
                pod["runAsUser"] != 0 && pod["runAsGroup"] != 0,
                "{} is root",
                name(object)
            );
            ensure!(
                template["spec"]["automountServiceAccountToken"] == false,
                "{}",
                name(object)
            );
            for container in containers(template)? {
                let security = &container["securityContext"];
                ensure!(security["allowPrivilegeEscalation"] == false, "{}", name(object));
                ensure!(security["readOnlyRootFilesystem"] == true, "{}", name(object));
                ensure!(security["runAsNonRoot"] == true, "{}", name(object));
                ensure!(
                    security["capabilities"]["drop"] == serde_json::json!(["ALL"]),
                    "{}",
                    name(object)
                );
                ensure!(security["capabilities"]["add"].is_null(), "{}", name(object));
                ensure!(
                    !container["resources"]["limits"]["memory"].is_null(),
                    "{}",
                    name(object)
                );
            }
            for volume in template["spec"]["volumes"].as_array().into_iter().flatten() {
                ensure!(volume["hostPath"].is_null(), "{} mounts the node's files", name(object));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_variable_is_given_twice_and_selectors_find_their_pods() -> Result<()> {
    for rendered in all().await? {
        for (object, template) in rendered.pods() {
            for container in containers(template)? {
                let variables = container["env"].as_array().into_iter().flatten();
                let mut seen = BTreeSet::new();
                for variable in variables {
                    ensure!(seen.insert(variable["name"].as_str()), "{}: {variable}", name(object));
                }
            }
            let labels = &template["metadata"]["labels"];
            for (key, value) in object["spec"]["selector"]["matchLabels"]
                .as_object()
                .into_iter()
                .flatten()
            {
                ensure!(labels[key] == *value, "{} does not select its own pods", name(object));
            }
        }
        // Whatever else selects pods selects those of one component.
        for object in &rendered.objects {
            let spec = &object["spec"];
            let selector = match object["kind"].as_str() {
                Some("Service") => &spec["selector"],
                Some("PodDisruptionBudget" | "PodMonitor") => &spec["selector"]["matchLabels"],
                Some("NetworkPolicy") => &spec["podSelector"]["matchLabels"],
                _ => continue,
            };
            let selector = selector
                .as_object()
                .with_context(|| format!("{} selects all", name(object)))?;
            let finds = |template: &Value| {
                let labels = &template["metadata"]["labels"];
                selector.iter().all(|(key, value)| labels[key] == *value)
            };
            let found = rendered.pods().filter(|(_, template)| finds(template)).count();
            ensure!(found == 1, "{} selects {found} kinds of pods", name(object));
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_object_holds_the_value_of_a_secret() -> Result<()> {
    for rendered in all().await? {
        ensure!(rendered.of_kind("Secret").count() == 0, "secrets are made beforehand");
        for (object, template) in rendered.pods() {
            for container in containers(template)? {
                for variable in container["env"].as_array().into_iter().flatten() {
                    let variable_name = variable["name"].as_str().unwrap_or_default();
                    let secret = ["URL", "PASSWORD", "USERNAME", "TOKEN", "SECRET"];
                    let is_secret = secret.iter().any(|word| variable_name.contains(word));
                    ensure!(
                        !is_secret || variable_name.ends_with("_FILE"),
                        "{}: {variable}",
                        name(object)
                    );
                }
            }
        }
        for line in rendered.text.lines() {
            let has_credentials = line.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
            ensure!(!has_credentials, "{line}");
            ensure!(!line.contains("password:") || line.contains("/etc/reprise"), "{line}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_deployment_has_one_scaler_or_a_number_of_its_own() -> Result<()> {
    let mut scalers = 0;
    for rendered in all().await? {
        for deployment in rendered.of_kind("Deployment") {
            let target = &deployment["metadata"]["name"];
            let scaled = rendered.objects.iter().filter(|object| {
                let kind = object["kind"].as_str().unwrap_or_default();
                ["HorizontalPodAutoscaler", "ScaledObject"].contains(&kind)
                    && object["spec"]["scaleTargetRef"]["name"] == *target
            });
            let scaled = scaled.count();
            ensure!(scaled <= 1, "{target} has {scaled} scalers");
            ensure!(
                deployment["spec"]["replicas"].is_null() == (scaled == 1),
                "{target} has a number and a scaler, or neither"
            );
            scalers += scaled;
        }
    }
    ensure!(
        scalers == 4,
        "hpa-values and keda-values scale two Deployments each, not {scalers} in all"
    );
    Ok(())
}

/// The template of the pods of a Deployment.
fn pods<'a>(rendered: &'a Rendered, component: &str) -> Result<&'a Value> {
    Ok(&rendered.object("Deployment", component)?["spec"]["template"])
}

#[tokio::test]
async fn pods_are_replaced_when_what_they_read_changes_and_not_otherwise() -> Result<()> {
    let chart = Chart::open().await?;
    let minimal = case("minimal");
    let before = chart.render(&minimal, &[])?;
    let changed = |flags: &[&str]| -> Result<Vec<&str>> {
        let after = chart.render(&minimal, flags)?;
        let mut changed = Vec::new();
        for component in ["control-plane", "ingest", "replay"] {
            if pods(&before, component)? != pods(&after, component)? {
                changed.push(component);
            }
        }
        Ok(changed)
    };

    let catalog = tempfile::NamedTempFile::new()?;
    let text = fs::read_to_string(chart::folder().join("files/catalog.yaml"))?;
    fs::write(catalog.path(), text.replace("max_rows: 1000", "max_rows: 2000"))?;
    let catalog = format!("catalog={}", catalog.path().display());

    let all = ["control-plane", "ingest", "replay"];
    ensure!(changed(&["--set-file", &catalog])? == all, "the catalog is read by all");
    ensure!(changed(&["--set", "controlPlane.config.grpc.deadline=9s"])? == ["control-plane"]);
    ensure!(changed(&["--set", "controlPlane.resources.limits.memory=1Gi"])? == ["control-plane"]);
    ensure!(changed(&["--set", "controlPlane.replicas=5"])?.is_empty());
    ensure!(changed(&["--set", "replay.config.replay.max_tasks=3"])? == ["replay"]);
    ensure!(changed(&["--set", "ingest.config.lanes.per_table=3"])? == ["ingest"]);
    // What a record may be is the same for live traffic, for replays, and for explaining it.
    ensure!(changed(&["--set", "ingest.config.ingest.max_record=2MiB"])? == all);
    ensure!(changed(&["--set", "kafka.consumerGroup=other"])? == all);
    Ok(())
}

#[tokio::test]
async fn ingest_workers_are_replaced_one_at_a_time() -> Result<()> {
    let rendered = Chart::open().await?.render(&case("minimal"), &[])?;
    let strategy = &rendered.object("Deployment", "ingest")?["spec"]["strategy"]["rollingUpdate"];
    ensure!(
        strategy["maxSurge"] == 1 && strategy["maxUnavailable"] == 0,
        "{strategy}"
    );
    let budget = &rendered.object("PodDisruptionBudget", "ingest")?["spec"];
    ensure!(budget["maxUnavailable"] == 1, "{budget}");
    Ok(())
}

#[tokio::test]
async fn the_migration_needs_nothing_that_is_made_after_it() -> Result<()> {
    for rendered in all().await? {
        let job = rendered.object("Job", "migration")?;
        let weight = |object: &Value| -> Result<Option<i64>> {
            let annotations = &object["metadata"]["annotations"];
            if annotations["helm.sh/hook"] != "pre-install,pre-upgrade" {
                return Ok(None);
            }
            let weight = annotations["helm.sh/hook-weight"].as_str().context("a weight")?;
            Ok(Some(weight.parse()?))
        };
        let own = weight(job)?.context("the Job is a hook")?;
        let pod = &job["spec"]["template"]["spec"];
        for account in rendered.of_kind("ServiceAccount") {
            ensure!(
                pod["serviceAccountName"] != account["metadata"]["name"],
                "it is made later"
            );
        }
        let policy = rendered.object("NetworkPolicy", "migration")?;
        ensure!(
            weight(policy)?.is_some_and(|weight| weight < own),
            "{policy} is made later"
        );
        for volume in pod["volumes"].as_array().context("the Job has volumes")? {
            for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
                ensure!(source["configMap"].is_null(), "{source} is made later");
            }
            let Some(name) = volume["configMap"]["name"].as_str() else {
                continue;
            };
            let map = rendered
                .of_kind("ConfigMap")
                .find(|map| map["metadata"]["name"] == name);
            let map = map.with_context(|| format!("there is no ConfigMap {name}"))?;
            ensure!(weight(map)?.is_some_and(|weight| weight < own), "{name} is made later");
        }
    }
    Ok(())
}

#[tokio::test]
async fn names_fit_whatever_the_release_is_called() -> Result<()> {
    let chart = Chart::open()
        .await?
        .with_release("a-release-with-a-name-that-is-as-long-as-helm-lets-it");
    for values in cases()? {
        let rendered = chart.render(&values, &[])?;
        let mut seen = BTreeSet::new();
        for object in &rendered.objects {
            let name = name(object);
            let length = object["metadata"]["name"].as_str().map_or(0, str::len);
            ensure!((1..=63).contains(&length), "{name} has {length} characters");
            ensure!(seen.insert(name.clone()), "{name} is rendered twice");
        }
    }
    Ok(())
}

#[test]
fn the_charts_catalog_is_the_shipped_one() -> Result<()> {
    let charts = fs::read_to_string(chart::folder().join("files/catalog.yaml"))?;
    let shipped = fs::read_to_string(chart::folder().join("../../config/catalog.yaml"))?;
    ensure!(
        charts == shipped,
        "copy it: cp config/catalog.yaml helm/reprise/files/catalog.yaml"
    );
    Ok(())
}
