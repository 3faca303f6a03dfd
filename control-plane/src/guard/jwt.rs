//! Tokens, judged as RFC 8725 asks: the algorithm is the key's and never the token's choice, keys are public ones
//! found by `kid` in a local file, and `exp`, `aud`, `iss` and `sub` have to be there and right.

mod crypto;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use reprise_shared::supervise::{OnCancel, OnError, Supervisor};
use serde_json::{Map, Value};

use self::keys::Keys;
use super::auth::Caller;
use crate::config::{JwtConfig, Role};
use crate::reload::{self, Reloaded};

/// A longer subject is no name.
const LONGEST_SUBJECT: usize = 255;
/// More values of the role claim are not looked at.
const MOST_ROLES: usize = 256;

/// Why a token is refused. Never says what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is longer than any token of ours.
    #[error("the token is too long")]
    TooLong,
    /// It is no JWT, or none that is signed by one of the algorithms of our keys.
    #[error("the token is not a signed JWT of a kind that is taken here")]
    Malformed,
    /// Its header asks for what we do not know.
    #[error("the token's header has critical or embedded parts that are not taken here")]
    Header,
    /// No key has its `kid`.
    #[error("the token's key is not known here: its header needs the kid of a key of the JWKS file")]
    UnknownKey,
    /// The key's algorithm is not the token's.
    #[error("the token is not signed by the algorithm of its key")]
    Algorithm,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// It ended.
    #[error("the token has expired: get a new one")]
    Expired,
    /// It has not begun.
    #[error("the token is not valid yet: check the clocks")]
    TooEarly,
    /// `aud` is not ours.
    #[error("the token is for another audience")]
    Audience,
    /// `iss` is not ours.
    #[error("the token is from another issuer")]
    Issuer,
    /// A claim is missing or has a wrong type.
    #[error("the token needs the claims exp (a number), aud, iss and sub (text)")]
    Claims,
    /// No value of the role claim is one of ours.
    #[error("the token has no role: its role claim has to name a viewer, operator or admin")]
    NoRole,
}

/// Judges tokens.
pub struct Verifier {
    config: JwtConfig,
    longest: usize,
    keys: Arc<ArcSwap<Keys>>,
}

impl Verifier {
    /// Reads the keys and keeps them current; `None`: no tokens are taken.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub fn load(config: &JwtConfig, every: Duration, supervisor: &Supervisor) -> Result<Option<Self>, reload::Error> {
        let Some(path) = config.jwks_path.clone() else {
            return Ok(None);
        };
        crypto::install();
        let file = Reloaded::load("jwks", vec![path], |files| Keys::read(&files[0]))?;
        let keys = file.current();
        let watch = file.watch(every, supervisor.shutdown_token());
        supervisor.spawn("jwks", OnError::Log, OnCancel::Abort, async move {
            watch.await;
            Ok::<_, reload::Error>(())
        });
        Ok(Some(Self {
            longest: usize::try_from(config.max_token.as_u64()).unwrap_or(usize::MAX),
            config: config.clone(),
            keys,
        }))
    }

    /// Judges a token.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str) -> Result<Caller, Refused> {
        if token.len() > self.longest {
            return Err(Refused::TooLong);
        }
        let header = decode_header(token).map_err(|_| Refused::Malformed)?;
        let kind = header.typ.as_deref().unwrap_or("JWT");
        if !["JWT", "at+jwt", "application/at+jwt"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(kind))
        {
            return Err(Refused::Malformed);
        }
        if header.crit.is_some() || header.jwk.is_some() || header.jku.is_some() || header.x5u.is_some() {
            return Err(Refused::Header);
        }
        let keys = self.keys.load();
        let key = header.kid.and_then(|kid| keys.find(&kid)).ok_or(Refused::UnknownKey)?;
        let mut rules = Validation::new(key.algorithm);
        rules.leeway = self.config.leeway.as_secs();
        rules.validate_nbf = true;
        rules.set_audience(&[&self.config.audience]);
        rules.set_issuer(&[&self.config.issuer]);
        rules.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let token = decode::<Map<String, Value>>(token, &key.key, &rules).map_err(|error| refused(error.kind()))?;
        self.caller(&token.claims)
    }

    fn caller(&self, claims: &Map<String, Value>) -> Result<Caller, Refused> {
        // The library takes a list of issuers too; one token has one.
        let text = |name: &str| claims.get(name).and_then(Value::as_str).ok_or(Refused::Claims);
        text("iss")?;
        let subject = text("sub")?;
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT || subject.chars().any(char::is_control) {
            return Err(Refused::Claims);
        }
        Ok(Caller {
            principal: subject.into(),
            role: self.role(claims).ok_or(Refused::NoRole)?,
        })
    }

    /// Returns the highest role that the claim names, as text, as words with spaces between, or as a list.
    fn role(&self, claims: &Map<String, Value>) -> Option<Role> {
        let claim = &self.config.role_claim;
        let value = match claim.strip_prefix('/') {
            None => claims.get(claim)?,
            Some(rest) => {
                let (first, rest) = rest.split_once('/').map_or((rest, ""), |(first, rest)| (first, rest));
                let below = if rest.is_empty() {
                    String::new()
                } else {
                    format!("/{rest}")
                };
                claims.get(first)?.pointer(&below)?
            }
        };
        let names: Vec<&str> = match value {
            Value::String(text) => text.split_ascii_whitespace().take(MOST_ROLES).collect(),
            Value::Array(items) => items.iter().take(MOST_ROLES).filter_map(Value::as_str).collect(),
            _ => return None,
        };
        names
            .into_iter()
            .filter_map(|name| self.config.roles.role_of(name))
            .max()
    }
}

fn refused(kind: &ErrorKind) -> Refused {
    match kind {
        ErrorKind::InvalidSignature => Refused::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::MissingAlgorithm | ErrorKind::UnsupportedAlgorithm => {
            Refused::Algorithm
        }
        ErrorKind::ExpiredSignature => Refused::Expired,
        ErrorKind::ImmatureSignature => Refused::TooEarly,
        ErrorKind::InvalidAudience => Refused::Audience,
        ErrorKind::InvalidIssuer => Refused::Issuer,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::InvalidSubject => {
            Refused::Claims
        }
        _ => Refused::Malformed,
    }
}
