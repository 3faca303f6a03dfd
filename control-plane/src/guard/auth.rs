//! Finds out who calls: by a token, or by the certificate of the connection.
//!
//! A token that is sent has to be good, whatever the certificate says. Without `auth` in the configuration everybody is
//! `anonymous` and an admin, which is refused at start beyond a loopback address.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use reprise_shared::supervise::Supervisor;

use super::{gate, jwt};
use crate::config::{Config, Role};
use crate::grpc::error::{Error, ErrorReason};
use crate::reload;
use crate::serve::Peer;

/// Who calls, in the extensions of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's subject or the certificate's name.
    pub principal: Arc<str>,
    /// What it may do.
    pub role: Role,
}

/// Knows callers.
pub struct Gate {
    on: bool,
    tokens: Option<jwt::Verifier>,
    certificates: HashMap<String, Role>,
}

impl Gate {
    /// Reads the keys, and keeps them current.
    ///
    /// # Errors
    /// When the file of keys cannot be read or used.
    pub fn new(config: &Config, supervisor: &Supervisor) -> Result<Self, reload::Error> {
        let certificates = config.auth.certificates.iter();
        Ok(Self {
            on: config.auth.is_on(),
            tokens: jwt::Verifier::load(&config.auth.jwt, config.reload_every, supervisor)?,
            certificates: certificates.map(|known| (known.name.clone(), known.role)).collect(),
        })
    }

    fn identify(&self, call: &Parts) -> Result<Caller, Error> {
        if !self.on {
            return Ok(Caller {
                principal: "anonymous".into(),
                role: Role::Admin,
            });
        }
        if let Some(token) = bearer(&call.headers)? {
            let Some(tokens) = &self.tokens else {
                return Err(refused("tokens are not taken here: call with a certificate"));
            };
            return tokens.verify(token).map_err(|problem| refused(&problem.to_string()));
        }
        let peer = call.extensions.get::<Peer>();
        let names = peer.map(|peer| &*peer.names).unwrap_or_default();
        // The order of names in a certificate means nothing, so the highest role counts.
        let known = names
            .iter()
            .filter_map(|name| Some((name, *self.certificates.get(name)?)));
        if let Some((name, role)) = known.max_by_key(|(_, role)| *role) {
            return Ok(Caller {
                principal: name.as_str().into(),
                role,
            });
        }
        Err(refused(match (names.is_empty(), self.certificates.is_empty()) {
            (false, false) => "the certificate is genuine, but none of its names is in auth.certificates",
            (true, false) if self.tokens.is_none() => "call with a certificate",
            (true, false) => "send a token in the header `authorization: Bearer …`, or call with a certificate",
            (_, true) => "send a token in the header `authorization: Bearer …`",
        }))
    }
}

impl gate::Gate for Gate {
    async fn admit(&self, call: &mut Parts) -> Result<(), Error> {
        let caller = self.identify(call);
        // Nothing behind this gate has use for the token, so nothing can show it.
        call.headers.remove(AUTHORIZATION);
        call.extensions.insert(caller?);
        Ok(())
    }
}

fn refused(problem: &str) -> Error {
    Error::new(ErrorReason::CredentialsRefused, problem)
}

/// Returns the token of the one `authorization` header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(refused("there is more than one authorization header"));
    }
    let text = value.to_str().ok();
    let token = text.and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token
        .map(Some)
        .ok_or_else(|| refused("the authorization header has to be `Bearer` and a token"))
}
