//! Certificates: ours, and whom we believe those of callers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use reprise_shared::supervise::{OnCancel, OnError, Supervisor};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use crate::config::{ClientCertificates, ServerTlsConfig};
use crate::reload::{Error, Reloaded};

/// Callers' certificates carry at most so many names that are looked at.
const MOST_NAMES: usize = 32;

/// The server's side of TLS, always by the newest files.
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// Reads the files and keeps them current; `None`: connections are not encrypted.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn load(
        config: &ServerTlsConfig,
        every: std::time::Duration,
        supervisor: &Supervisor,
    ) -> Result<Option<Self>, Error> {
        let (Some(certificate), Some(key)) = (&config.certificate_path, &config.key_path) else {
            return Ok(None);
        };
        let mut paths = vec![certificate.clone(), key.clone()];
        paths.extend(config.client_ca_path.clone());
        let required = config.client_certificates == ClientCertificates::Required;
        let files = Reloaded::load("certificates", paths, move |files| server_config(files, required))?;
        let current = files.current();
        let watch = files.watch(every, supervisor.shutdown_token());
        supervisor.spawn("certificates", OnError::Log, OnCancel::Abort, async move {
            watch.await;
            Ok::<_, Error>(())
        });
        Ok(Some(Self(current)))
    }

    /// Returns what does the next handshake.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

/// Makes the server's side of TLS from certificate, key and, if there is one, the authorities of callers.
fn server_config(files: &[Vec<u8>], required: bool) -> Result<ServerConfig, String> {
    let [certificate, key, authorities @ ..] = files else {
        return Err("certificate or key is missing".to_owned());
    };
    let chain = certificates(certificate, "the certificate")?;
    // The parser's own words are left out: they may repeat the key.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "the key is not a PEM private key".to_owned())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match authorities.first() {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(authorities, "the callers' authority")? {
                roots
                    .add(authority)
                    .map_err(|error| format!("the callers' authority: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if required {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("certificate and key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{what} is not PEM"))?;
    if certificates.is_empty() {
        return Err(format!("{what} holds no certificate"));
    }
    Ok(certificates)
}

/// Returns the DNS names and URIs of the certificate that the caller showed, which the handshake has verified.
pub(super) fn names_of_peer(connection: &ServerConnection) -> Arc<[String]> {
    let Some(leaf) = connection.peer_certificates().and_then(<[_]>::first) else {
        return Arc::default();
    };
    let Ok(leaf) = EndEntityCert::try_from(leaf) else {
        return Arc::default();
    };
    let names = leaf.valid_dns_names().chain(leaf.valid_uri_names());
    names.take(MOST_NAMES).map(str::to_owned).collect()
}
