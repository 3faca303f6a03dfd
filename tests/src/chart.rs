//! The Helm chart as tests see it: rendered by the real Helm, and taken apart.

pub mod mounted;
pub mod reference;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize as _;
use serde_json::Value;

use crate::tools;

/// The versions of Kubernetes that the chart is for: the oldest and the newest.
pub const KUBERNETES: [&str; 2] = ["1.29", "1.37"];

/// The chart's folder.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/reprise")
}

/// The values files of the chart's `ci` folder, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn cases() -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder().join("ci")).context("read the folder ci")?;
    let mut cases = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    cases.retain(|path| path.to_string_lossy().ends_with("-values.yaml"));
    cases.sort();
    ensure!(cases.len() >= 6, "only {cases:?} were found");
    Ok(cases)
}

/// A values file of the `ci` folder: `minimal` is `ci/minimal-values.yaml`.
#[must_use]
pub fn case(name: &str) -> PathBuf {
    folder().join(format!("ci/{name}-values.yaml"))
}

/// The chart and the program that renders it.
#[derive(Clone, Debug)]
pub struct Chart {
    helm: PathBuf,
    release: String,
}

/// What was rendered.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// All objects as one text.
    pub text: String,
    /// Each object, hooks and tests included.
    pub objects: Vec<Value>,
}

impl Chart {
    /// Finds Helm, or builds it.
    ///
    /// # Errors
    /// There is none, and none could be built.
    pub async fn open() -> Result<Self> {
        Ok(Self {
            helm: tools::helm().await?,
            release: "release".to_owned(),
        })
    }

    /// Names the release otherwise.
    #[must_use]
    pub fn with_release(self, release: &str) -> Self {
        Self {
            release: release.to_owned(),
            ..self
        }
    }

    /// Runs `helm lint --strict`.
    ///
    /// # Errors
    /// What lint found.
    pub fn lint(&self, values: &Path) -> Result<()> {
        let output = self.run("lint", &["--strict"], values)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "helm lint with {}: {said}", values.display());
        Ok(())
    }

    /// Renders with a values file and further flags of `helm template`.
    ///
    /// # Errors
    /// The chart refuses the values, or renders what is not YAML.
    pub fn render(&self, values: &Path, flags: &[&str]) -> Result<Rendered> {
        let output = self.run("template", flags, values)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "helm template with {} {flags:?}: {said}",
            values.display()
        );
        let text = String::from_utf8(output.stdout).context("read what helm rendered")?;
        let objects = serde_norway::Deserializer::from_str(&text)
            .map(|document| Value::deserialize(document).context("parse what helm rendered"))
            .collect::<Result<Vec<Value>>>()?;
        let objects = objects.into_iter().filter(|object| !object.is_null()).collect();
        Ok(Rendered { text, objects })
    }

    /// Returns what the chart says against values that it has to refuse.
    ///
    /// # Errors
    /// It takes them.
    pub fn refusal(&self, values: &Path, flags: &[&str]) -> Result<String> {
        let output = self.run("template", flags, values)?;
        ensure!(
            !output.status.success(),
            "{} {flags:?} was not refused",
            values.display()
        );
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn run(&self, command: &str, flags: &[&str], values: &Path) -> Result<Output> {
        let mut helm = Command::new(&self.helm);
        helm.arg(command);
        if command == "template" {
            helm.args([self.release.as_str(), "--namespace", "data"]);
            if !flags.contains(&"--kube-version") {
                helm.args(["--kube-version", KUBERNETES[1]]);
            }
        }
        helm.arg(folder()).arg("--values").arg(values).args(flags);
        helm.output().context("run helm")
    }
}

impl Rendered {
    /// Returns the objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// Returns the object of a kind and component.
    ///
    /// # Errors
    /// There is none.
    pub fn object<'a>(&'a self, kind: &'a str, component: &str) -> Result<&'a Value> {
        self.of_kind(kind)
            .find(|object| object["metadata"]["labels"]["app.kubernetes.io/component"] == component)
            .with_context(|| format!("there is no {kind} of {component}"))
    }

    /// Returns the template of a component's pods.
    ///
    /// # Errors
    /// There is none.
    pub fn pod(&self, component: &str) -> Result<&Value> {
        let mut pods = self.pods();
        let found = pods.find(|(object, _)| object["metadata"]["labels"]["app.kubernetes.io/component"] == component);
        Ok(found.with_context(|| format!("there are no pods of {component}"))?.1)
    }

    /// Returns each object that makes pods, with the template of its pods (a pod is its own).
    pub fn pods(&self) -> impl Iterator<Item = (&Value, &Value)> {
        self.objects.iter().filter_map(|object| match object["kind"].as_str()? {
            "Deployment" | "Job" => Some((object, &object["spec"]["template"])),
            "Pod" => Some((object, object)),
            _ => None,
        })
    }
}

/// Returns the containers of a pod's template.
///
/// # Errors
/// It has none, or has kinds of containers that the chart does not use.
pub fn containers(template: &Value) -> Result<&Vec<Value>> {
    let spec = &template["spec"];
    for other in ["initContainers", "ephemeralContainers"] {
        ensure!(spec[other].is_null(), "{other} are not looked at yet");
    }
    spec["containers"].as_array().context("a pod has containers")
}

/// Returns an object's kind and name, for messages.
#[must_use]
pub fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
