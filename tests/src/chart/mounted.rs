//! A pod's files without a cluster: what its volumes hold, below a folder of the test's.
//!
//! A program that is started on this machine finds them there because the paths in commands, variables and
//! configurations, which are absolute, are rewritten to that folder, and nothing else is. One that is started from the
//! image's root has that folder mounted, so nothing is rewritten.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{Rendered, containers};
use crate::control::{Authority, Certificate, Issuer};

/// Where all mounts of the chart are.
const MOUNTS: &str = "/etc/reprise";

/// The files of the pods of one component, and their container.
#[derive(Debug)]
pub struct Mounted {
    folder: TempDir,
    container: Value,
    rewrites: bool,
    secret_files: Vec<PathBuf>,
}

/// What a container runs.
#[derive(Clone, Debug)]
pub struct Container {
    /// The program's path.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its variables, as `NAME=value`.
    pub variables: Vec<String>,
}

/// What secrets hold, and the ConfigMap of token keys, by the path at which they are mounted.
pub struct Secrets {
    /// MySQL's URL.
    pub mysql: String,
    /// Redis' URL.
    pub redis: String,
    /// Signed the certificates.
    pub authority: Authority,
    /// Signs callers' tokens.
    pub issuer: Issuer,
    keys: String,
    certificate: Certificate,
    authorities: String,
}

impl Secrets {
    /// Secrets of servers that need not be there.
    ///
    /// # Errors
    /// A certificate or key cannot be made.
    pub fn new(mysql: &str, redis: &str) -> Result<Self> {
        let authority = Authority::new("authority")?;
        let issuer = Issuer::new("key")?;
        Ok(Self {
            mysql: mysql.to_owned(),
            redis: redis.to_owned(),
            keys: Issuer::jwks(&[&issuer]),
            certificate: authority.server()?,
            authorities: authority.pem(),
            authority,
            issuer,
        })
    }

    fn file(&self, path: &str) -> &str {
        match path {
            "mysql/url" | "mysql/replica-url" => &self.mysql,
            "redis/url" => &self.redis,
            "jwks.json" => &self.keys,
            _ if path.ends_with("ca.crt") => &self.authorities,
            _ if path.ends_with(".crt") => &self.certificate.chain,
            _ if path.ends_with(".key") => &self.certificate.key,
            _ => "word",
        }
    }
}

impl Mounted {
    /// Lays out the files of a component's pods for a program of this machine.
    ///
    /// # Errors
    /// A volume names what is not rendered, or a mount has no volume.
    pub fn new(rendered: &Rendered, component: &str, secrets: &Secrets) -> Result<Self> {
        Self::lay_out(rendered, component, secrets, true)
    }

    /// Lays out the files of a component's pods for a program of the image.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_image(rendered: &Rendered, component: &str, secrets: &Secrets) -> Result<Self> {
        Self::lay_out(rendered, component, secrets, false)
    }

    fn lay_out(rendered: &Rendered, component: &str, secrets: &Secrets, rewrites: bool) -> Result<Self> {
        let template = rendered.pod(component)?;
        let container = containers(template)?.first().context("one container")?.clone();
        let mut mounted = Self {
            folder: tempfile::tempdir().context("create a folder")?,
            container,
            rewrites,
            secret_files: Vec::new(),
        };
        for mount in list(&mounted.container["volumeMounts"])?.clone() {
            let volumes = list(&template["spec"]["volumes"])?;
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
            let volume = volume.with_context(|| format!("{} has no volume", mount["name"]))?;
            mounted.fill(rendered, volume, text(&mount["mountPath"])?, secrets)?;
        }
        Ok(mounted)
    }

    fn fill(&mut self, rendered: &Rendered, volume: &Value, place: &str, secrets: &Secrets) -> Result<()> {
        if let Some(name) = volume["configMap"]["name"].as_str() {
            let mut maps = rendered.of_kind("ConfigMap");
            let map = maps.find(|map| map["metadata"]["name"] == name);
            let map = map.with_context(|| format!("there is no ConfigMap {name}"))?;
            for (file, content) in map["data"].as_object().context("a ConfigMap has data")? {
                self.write(&format!("{place}/{file}"), &self.here(text(content)?))?;
            }
            return Ok(());
        }
        for source in list(&volume["projected"]["sources"])? {
            let source = if source["secret"].is_null() {
                &source["configMap"]
            } else {
                &source["secret"]
            };
            for item in list(&source["items"])? {
                let path = text(&item["path"])?;
                let file = self.write(&format!("{place}/{path}"), secrets.file(path))?;
                self.secret_files.push(file);
            }
        }
        Ok(())
    }

    fn write(&self, path: &str, content: &str) -> Result<PathBuf> {
        let path = PathBuf::from(format!("{}{path}", self.folder.path().display()));
        let folder = path.parent().context("a file lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        ensure!(!path.exists(), "{} is mounted twice", path.display());
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// The folder below which the files have the paths that they have in the pod.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Those files that only the pod's group may read.
    #[must_use]
    pub fn secret_files(&self) -> &[PathBuf] {
        &self.secret_files
    }

    /// What the container runs.
    ///
    /// # Errors
    /// It has no command.
    pub fn container(&self) -> Result<Container> {
        let arguments = list(&self.container["args"])?.iter();
        let variables = list(&self.container["env"])?.iter();
        Ok(Container {
            program: text(&self.container["command"][0])?.to_owned(),
            arguments: arguments
                .map(|argument| Ok(self.here(text(argument)?)))
                .collect::<Result<_>>()?,
            variables: variables
                .map(|one| Ok(format!("{}={}", text(&one["name"])?, self.here(text(&one["value"])?))))
                .collect::<Result<_>>()?,
        })
    }

    /// Runs the container's program from a folder of programs, with its arguments and variables alone, and more.
    ///
    /// # Errors
    /// It could not be run.
    pub fn run(&self, programs: &Path, more: &[&str]) -> Result<Output> {
        let container = self.container()?;
        let name = Path::new(&container.program)
            .file_name()
            .context("a program has a name")?;
        let mut command = Command::new(programs.join(name));
        let variables = container.variables.iter();
        command
            .env_clear()
            .envs(variables.filter_map(|variable| variable.split_once('=')))
            .args(&container.arguments)
            .args(more);
        command.output().with_context(|| format!("run {}", container.program))
    }

    fn here(&self, text: &str) -> String {
        if !self.rewrites {
            return text.to_owned();
        }
        text.replace(MOUNTS, &format!("{}{MOUNTS}", self.folder.path().display()))
    }
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    static NOTHING: Vec<Value> = Vec::new();
    if value.is_null() {
        return Ok(&NOTHING);
    }
    value.as_array().with_context(|| format!("{value} is not a list"))
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is not text"))
}
