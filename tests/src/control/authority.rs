//! Makes certificates, good ones and bad ones.

use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub chain: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// Makes a new authority.
    pub fn new(name: &str) -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?).context("make an authority")?;
        Ok(Self(issuer))
    }

    /// Returns the authority's own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Makes a server's certificate for `localhost` and `127.0.0.1`.
    pub fn server(&self) -> Result<Certificate> {
        self.sign(["localhost", "127.0.0.1"].map(str::to_owned).into(), |_| {})
    }

    /// Makes a client's certificate with a URI as its name.
    pub fn client(&self, uri: &str) -> Result<Certificate> {
        let name = SanType::URI(uri.try_into()?);
        self.sign(Vec::new(), |parameters| {
            parameters.subject_alt_names = vec![name.clone()]
        })
    }

    /// Makes a client's certificate that ended years ago.
    pub fn expired_client(&self, uri: &str) -> Result<Certificate> {
        let name = SanType::URI(uri.try_into()?);
        self.sign(Vec::new(), |parameters| {
            parameters.subject_alt_names = vec![name.clone()];
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    fn sign(&self, names: Vec<String>, change: impl Fn(&mut CertificateParams)) -> Result<Certificate> {
        let mut parameters = CertificateParams::new(names)?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut parameters);
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.0).context("sign a certificate")?;
        Ok(Certificate {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Certificate {
    /// Writes both files, the key first, each in one step.
    pub fn write(&self, chain: &Path, key: &Path) -> Result<()> {
        for (path, text) in [(key, &self.key), (chain, &self.chain)] {
            let written = path.with_extension("new");
            std::fs::write(&written, text).context("write a certificate")?;
            std::fs::rename(written, path).context("put a certificate in place")?;
        }
        Ok(())
    }
}
