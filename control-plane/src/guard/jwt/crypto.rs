//! Signatures of tokens by `ring`, which TLS uses too, so that one library does all of the process's cryptography.
//! Verifies by public keys and does nothing else.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Verifier::new(*algorithm, key)?)),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the token library use this. The first call of a process counts, and all calls say the same.
pub(super) fn install() {
    let _ = PROVIDER.install_default();
}

struct Verifier {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Bytes(&'static dyn VerificationAlgorithm, Vec<u8>),
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
}

impl Verifier {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        let unsupported = || jsonwebtoken::errors::Error::from(ErrorKind::UnsupportedAlgorithm);
        if key.family() != algorithm.family() {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        let key = match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let components = RsaPublicKeyComponents {
                    n: n.clone(),
                    e: e.clone(),
                };
                Key::Rsa(rsa(algorithm).ok_or_else(unsupported)?, components)
            }
            DecodingKeyKind::SecretOrDer(bytes) => {
                Key::Bytes(by_bytes(algorithm).ok_or_else(unsupported)?, bytes.clone())
            }
        };
        Ok(Self { algorithm, key })
    }
}

/// Algorithms whose key is a plain sequence of bytes. Shared secrets are not among them.
fn by_bytes(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::EdDSA => Some(&signature::ED25519),
        Algorithm::ES256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
        _ => None,
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

impl ::signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), ::signature::Error> {
        let verified = match &self.key {
            Key::Bytes(algorithm, key) => UnparsedPublicKey::new(*algorithm, key).verify(message, signature),
            Key::Rsa(parameters, key) => key.verify(parameters, message, signature),
        };
        verified.map_err(|_| ::signature::Error::new())
    }
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
