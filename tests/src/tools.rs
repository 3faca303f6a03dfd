//! Programs that tests call and that are neither ours nor servers: taken from the path, or made once and kept in the
//! cache folder.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::servers::install::{install_packages, program, run};

/// A program that Go builds from its module.
struct GoProgram {
    name: &'static str,
    package: &'static str,
    version: &'static str,
}

/// The program that operators call the control plane with. Debian's Go builds this version, too.
const GRPCURL: GoProgram = GoProgram {
    name: "grpcurl",
    package: "github.com/fullstorydev/grpcurl/cmd/grpcurl",
    version: "1.8.9",
};

/// The program that renders the chart.
const HELM: GoProgram = GoProgram {
    name: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    version: "4.3.1",
};

/// The newest one that an older Go builds, such as Debian's.
const OLDER_HELM: GoProgram = GoProgram {
    name: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    version: "3.12.3",
};

/// What Helm 4 needs: Go 1.26.
const GO_OF_HELM: u32 = 26;

/// Carries the schemas of all versions of Kubernetes, so that it needs no network.
const KUBERNETES_VALIDATE: &str = "1.37.0";

/// Finds grpcurl, or builds it after saying so.
///
/// # Errors
/// It is missing and could not be built; the message says what to do.
pub async fn grpcurl() -> Result<PathBuf> {
    static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
    FOUND.get_or_try_init(|| GRPCURL.ensure()).await.cloned()
}

/// Finds Helm, or builds it after saying so.
///
/// # Errors
/// It is missing and could not be built; the message says what to do.
pub async fn helm() -> Result<PathBuf> {
    static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
    let ensured = FOUND.get_or_try_init(|| async {
        if program("helm").is_err() && !HELM.path()?.is_file() && go().await? < GO_OF_HELM {
            return OLDER_HELM.ensure().await;
        }
        HELM.ensure().await
    });
    ensured.await.cloned()
}

/// Finds `kubernetes-validate`, or installs it from PyPI after saying so.
///
/// # Errors
/// It is missing and could not be installed; the message says what to do.
pub async fn kubernetes_validate() -> Result<PathBuf> {
    static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
    FOUND.get_or_try_init(install_kubernetes_validate).await.cloned()
}

/// Finds Go, or installs Debian's, and returns its minor version: 26 for 1.26.
async fn go() -> Result<u32> {
    if program("go").is_err() {
        install_packages(&["golang-go"]).await?;
    }
    let asked = Command::new(program("go")?).args(["env", "GOVERSION"]).output().await;
    let version = String::from_utf8(asked.context("ask Go for its version")?.stdout)?;
    let minor = version.trim().split('.').nth(1).and_then(|minor| minor.parse().ok());
    minor.with_context(|| format!("Go says that it is {version:?}"))
}

impl GoProgram {
    /// Where it is kept, there or not.
    fn path(&self) -> Result<PathBuf> {
        let folder = format!("{}-{}", self.name, self.version);
        Ok(crate::env::cache_folder()?.join(folder).join(self.name))
    }

    async fn ensure(&self) -> Result<PathBuf> {
        let Self { name, package, version } = self;
        if let Ok(found) = program(name) {
            return Ok(found);
        }
        let path = self.path()?;
        if path.is_file() {
            return Ok(path);
        }
        go().await?;
        let folder = path.parent().context("a program lies in a folder")?;
        eprintln!("about to build {name} {version} with Go into {}", folder.display());
        let bin = format!("GOBIN={}", folder.display());
        let module = format!("{package}@v{version}");
        run(&program("env")?, [bin.as_str(), "go", "install", &module])
            .await
            .with_context(|| format!("build {name}: put one in the path, or see why Go cannot"))?;
        Ok(path)
    }
}

async fn install_kubernetes_validate() -> Result<PathBuf> {
    let name = "kubernetes-validate";
    let folder = crate::env::cache_folder()?.join(format!("{name}-{KUBERNETES_VALIDATE}"));
    let path = folder.join("bin").join(name);
    if path.is_file() {
        return Ok(path);
    }
    // Debian has the module that makes environments in a package of its own.
    let makes_environments = async || {
        let python = program("python3").ok()?;
        let asked = Command::new(python).args(["-c", "import ensurepip, venv"]).output();
        asked.await.ok()?.status.success().then_some(())
    };
    if makes_environments().await.is_none() {
        install_packages(&["python3", "python3-venv"]).await?;
    }
    eprintln!(
        "about to install {name} {KUBERNETES_VALIDATE} from PyPI into {}",
        folder.display()
    );
    let by_hand = "install Python with its module venv (Debian: python3-venv), or see why pip cannot";
    let environment = folder.display().to_string();
    run(&program("python3")?, ["-m", "venv", &environment])
        .await
        .context(by_hand)?;
    let package = format!("{name}=={KUBERNETES_VALIDATE}");
    run(
        &folder.join("bin/python"),
        ["-m", "pip", "install", "--quiet", &package],
    )
    .await
    .context(by_hand)?;
    Ok(path)
}
