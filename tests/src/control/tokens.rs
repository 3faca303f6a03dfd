//! Makes tokens, good ones and bad ones.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reprise_shared::clock::Clock;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

/// The `iss` of good tokens.
pub const ISSUER: &str = "https://issuer.test";
/// The `aud` of good tokens.
pub const AUDIENCE: &str = "reprise";

/// Who signs tokens: one key pair and its id.
pub struct Issuer {
    key: Ed25519KeyPair,
    kid: String,
}

impl Issuer {
    /// Makes a new key.
    pub fn new(kid: &str) -> Result<Self> {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| anyhow!("make a key"))?;
        let key = Ed25519KeyPair::from_pkcs8(key.as_ref()).map_err(|_| anyhow!("read the key again"))?;
        Ok(Self {
            key,
            kid: kid.to_owned(),
        })
    }

    /// Takes over the key in a file, or makes one and leaves it there, for this user alone to read.
    pub fn kept(kid: &str, path: &Path) -> Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| anyhow!("make a key"))?;
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)
                    .with_context(|| format!("make {}", path.display()))?;
                file.write_all(key.as_ref()).context("write the key")?;
                key.as_ref().to_vec()
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let key = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| anyhow!("{} holds no key", path.display()))?;
        Ok(Self {
            key,
            kid: kid.to_owned(),
        })
    }

    /// Returns the public key, as it is.
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// Returns the JWKS of some issuers.
    #[must_use]
    pub fn jwks(issuers: &[&Self]) -> String {
        let keys: Vec<Value> = issuers
            .iter()
            .map(|issuer| {
                let x = URL_SAFE_NO_PAD.encode(issuer.public_key());
                json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": issuer.kid, "x": x})
            })
            .collect();
        json!({"keys": keys}).to_string()
    }

    /// Writes the JWKS file of some issuers.
    pub fn write_jwks(issuers: &[&Self], path: &Path) -> Result<()> {
        // In one step, so that nobody reads half a file.
        let written = path.with_extension("new");
        std::fs::write(&written, Self::jwks(issuers)).context("write the keys")?;
        std::fs::rename(written, path).context("put the keys in place")
    }

    /// Returns the settings of a server that takes this issuer's tokens.
    pub fn settings(jwks: &Path) -> super::Settings {
        vec![
            ("auth.jwt.jwks_path", jwks.display().to_string()),
            ("auth.jwt.issuer", ISSUER.to_owned()),
            ("auth.jwt.audience", AUDIENCE.to_owned()),
        ]
    }

    /// Returns the header of good tokens.
    pub fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "JWT", "kid": self.kid})
    }

    /// Returns the claims of good tokens.
    pub fn claims(subject: &str, role: &str) -> Value {
        let now = Clock::system().now().as_second();
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "role": role, "iat": now, "exp": now + 600})
    }

    /// Returns a good token.
    pub fn token(&self, subject: &str, role: &str) -> String {
        self.sign(&self.header(), &Self::claims(subject, role))
    }

    /// Returns a token that is good for so long.
    pub fn lasting_token(&self, subject: &str, role: &str, lifetime: Duration) -> String {
        let mut claims = Self::claims(subject, role);
        let issued = claims["iat"].as_u64().unwrap_or_default();
        claims["exp"] = json!(issued + lifetime.as_secs());
        self.sign(&self.header(), &claims)
    }

    /// Signs any header and claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_with(header, claims, |message| self.key.sign(message).as_ref().to_vec())
    }

    /// Signs any header and claims by any means.
    pub fn sign_with(&self, header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}
