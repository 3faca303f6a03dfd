//! Certificates for a connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};

use crate::config::{Faults, Validate};

/// Certificates, as PEM files. They are read at start, and the process does not start with one that cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsConfig {
    /// The authorities that the server's certificate is checked against; without it, public ones: the system's for
    /// MySQL, Mozilla's for Redis.
    pub ca_path: Option<PathBuf>,
    /// Our own certificate, with the chain to its authority, for servers that ask for one.
    pub certificate_path: Option<PathBuf>,
    /// Our certificate's key.
    pub key_path: Option<PathBuf>,
}

/// What the files hold, as PEM. Not shown by `Debug`: it may hold a key.
#[derive(Clone)]
pub struct TlsFiles {
    /// The authorities.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate and its key.
    pub own: Option<(Vec<u8>, Vec<u8>)>,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tls.{key}: {path} {problem}", path = path.display())]
pub struct TlsFileError {
    /// The key that names the file.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it. Never holds a part of it.
    pub problem: String,
}

impl TlsConfig {
    /// Reads the files and checks that they can be used, and together.
    ///
    /// # Errors
    /// When one cannot be read, is not PEM, or the key is another certificate's.
    pub fn read(&self) -> Result<TlsFiles, TlsFileError> {
        let mut roots = RootCertStore::empty();
        let ca = self.ca_path.as_deref().map(|path| read("ca_path", path)).transpose()?;
        if let (Some(path), Some(pem)) = (&self.ca_path, &ca) {
            for authority in certificates("ca_path", path, pem)? {
                let added = roots.add(authority);
                added.map_err(|error| unusable("ca_path", path, format!("holds no authority: {error}")))?;
            }
        }
        let (Some(certificate_path), Some(key_path)) = (&self.certificate_path, &self.key_path) else {
            return Ok(TlsFiles { ca, own: None });
        };
        let certificate = read("certificate_path", certificate_path)?;
        let chain = certificates("certificate_path", certificate_path, &certificate)?;
        let key_pem = read("key_path", key_path)?;
        // The parser's own words are left out: they may repeat the key.
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|_| unusable("key_path", key_path, "holds no private key in PEM"))?;
        // The client libraries would find this out with the first connection.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key))
            .map_err(|error| {
                unusable(
                    "key_path",
                    key_path,
                    format!("does not go with the certificate: {error}"),
                )
            })?;
        Ok(TlsFiles {
            ca,
            own: Some((certificate, key_pem)),
        })
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsFileError> {
    std::fs::read(path).map_err(|error| unusable(key, path, format!("cannot be read: {error}")))
}

fn certificates(key: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| unusable(key, path, "is not PEM"))?;
    if found.is_empty() {
        return Err(unusable(key, path, "holds no certificate in PEM"));
    }
    Ok(found)
}

fn unusable(key: &'static str, path: &Path, problem: impl Into<String>) -> TlsFileError {
    TlsFileError {
        key,
        path: path.to_owned(),
        problem: problem.into(),
    }
}

impl Validate for TlsConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.check_pair(
            ("certificate_path", self.certificate_path.is_some()),
            ("key_path", self.key_path.is_some()),
        );
        if let Err(TlsFileError { key, path, problem }) = self.read() {
            faults.add(key, format!("{} {problem}", path.display()), "a PEM file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another's certificate and key that do not belong together are tested on real servers.
    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = folder.path().join("text.pem");
        std::fs::write(&text, "hunter2").expect("a file");
        let absent = folder.path().join("absent.pem");
        let ca = |path: &Path| TlsConfig {
            ca_path: Some(path.to_owned()),
            ..TlsConfig::default()
        };
        for (path, problem) in [(&absent, "cannot be read"), (&text, "holds no certificate")] {
            let error = ca(path).read().map(|_| ()).expect_err("no certificate");
            assert!(error.key == "ca_path" && error.problem.contains(problem), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(TlsConfig::default().read().expect("no files").ca.is_none());
    }
}
