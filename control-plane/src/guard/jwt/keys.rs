//! The public keys of a JWKS file, by `kid`. Each says its algorithm, so that no token can choose one.

use std::collections::HashMap;
use std::str::FromStr as _;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

/// More keys are nobody's rotation.
const MOST_KEYS: usize = 100;

/// One key.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// All keys.
pub(super) struct Keys(HashMap<String, Key>);

impl Keys {
    /// Reads a JWKS file. One key that cannot be used makes the whole file unusable: a key that is silently left out
    /// would show only when its tokens are refused.
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(file).map_err(|error| format!("is not a JWKS: {error}"))?;
        if set.keys.is_empty() || set.keys.len() > MOST_KEYS {
            return Err(format!("has {} keys; 1 to {MOST_KEYS} are taken", set.keys.len()));
        }
        let mut keys = HashMap::new();
        for (place, jwk) in set.keys.iter().enumerate() {
            let (kid, key) = read_key(jwk).map_err(|problem| format!("keys[{place}] {problem}"))?;
            if keys.insert(kid, key).is_some() {
                return Err(format!("keys[{place}] has the kid of another key"));
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn find(&self, kid: &str) -> Option<&Key> {
        self.0.get(kid)
    }
}

fn read_key(jwk: &Jwk) -> Result<(String, Key), String> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};

    let kid = jwk
        .common
        .key_id
        .clone()
        .filter(|kid| !kid.is_empty())
        .ok_or("has no kid")?;
    let algorithm = jwk
        .common
        .key_algorithm
        .ok_or("has no alg: it pins what its tokens are signed by")?;
    let algorithm = Algorithm::from_str(&algorithm.to_string()).map_err(|_| "has an alg that is not taken here")?;
    if jwk
        .common
        .public_key_use
        .as_ref()
        .is_some_and(|purpose| *purpose != PublicKeyUse::Signature)
    {
        return Err("is not for signatures: its use has to be sig".to_owned());
    }
    let fits = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
        AlgorithmParameters::EllipticCurve(key) => matches!(
            (&key.curve, algorithm),
            (EllipticCurve::P256, ES256) | (EllipticCurve::P384, ES384)
        ),
        AlgorithmParameters::OctetKeyPair(key) => {
            matches!((&key.curve, algorithm), (EllipticCurve::Ed25519, EdDSA))
        }
        AlgorithmParameters::OctetKey(_) => {
            return Err("is a shared secret (kty oct): only public keys are taken".to_owned());
        }
        _ => false,
    };
    if !fits {
        return Err("has an alg that does not fit its kty and crv".to_owned());
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "cannot be read")?;
    Ok((kid, Key { algorithm, key }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(keys: &str) -> String {
        match Keys::read(format!("{{\"keys\":[{keys}]}}").as_bytes()) {
            Ok(_) => "none".to_owned(),
            Err(problem) => problem,
        }
    }

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn keys_say_their_id_and_an_algorithm_that_fits() {
        let key = |rest: &str| problem(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}"{rest}}}"#));
        assert_eq!(key(r#","kid":"a","alg":"EdDSA","use":"sig""#), "none");
        assert_eq!(key(r#","alg":"EdDSA""#), "keys[0] has no kid");
        assert!(key(r#","kid":"a""#).starts_with("keys[0] has no alg"));
        assert!(key(r#","kid":"a","alg":"RS256""#).contains("does not fit"));
        assert!(key(r#","kid":"a","alg":"EdDSA","use":"enc""#).contains("not for signatures"));
    }

    #[test]
    fn shared_secrets_and_twice_used_ids_are_refused() {
        assert!(problem(r#"{"kty":"oct","k":"AAAA","kid":"a","alg":"HS256"}"#).contains("only public keys"));
        let key = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}","kid":"a","alg":"EdDSA"}}"#);
        assert!(problem(&format!("{key},{key}")).contains("kid of another key"));
        assert!(problem("").contains("has 0 keys"));
        assert!(Keys::read(b"not json").is_err());
    }
}
