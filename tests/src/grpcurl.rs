//! The program that operators call the control plane with.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::servers::install::{install_packages, program, run};

/// Debian's Go builds this one, too.
const VERSION: &str = "1.8.9";

/// Finds grpcurl, in the path or where an earlier call left it, or builds it with Go after saying so.
///
/// # Errors
/// It is missing and could not be built; the message says what to do.
pub async fn ensure() -> Result<PathBuf> {
    if let Ok(found) = program("grpcurl") {
        return Ok(found);
    }
    let folder = crate::env::cache_folder()?.join(format!("grpcurl-{VERSION}"));
    let path = folder.join("grpcurl");
    if path.is_file() {
        return Ok(path);
    }
    if program("go").is_err() {
        install_packages(&["golang-go"]).await?;
    }
    eprintln!("about to build grpcurl {VERSION} with Go into {}", folder.display());
    let module = format!("github.com/fullstorydev/grpcurl/cmd/grpcurl@v{VERSION}");
    let bin = format!("GOBIN={}", folder.display());
    run(&program("env")?, [bin.as_str(), "go", "install", &module])
        .await
        .context("build grpcurl: put one in the path, or see why Go cannot")?;
    Ok(path)
}
