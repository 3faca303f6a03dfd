//! Text that is never shown.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in a secret's place.
pub(super) const REDACTED: &str = "[redacted]";

/// A secret from the configuration: a password, or a URL that may hold one. Not shown by `Debug` or in a dump, and
/// wiped from memory when dropped.
#[derive(Clone, Default)]
pub struct Secret(SecretString);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// Returns the text, to be handed to a client and nowhere else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_empty() { "[empty]" } else { REDACTED })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { REDACTED })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Hidden).map(Self::new)
    }
}

/// Takes text, and refuses everything else without repeating it.
struct Hidden;

impl Hidden {
    fn refuse<E: Error>() -> Result<String, E> {
        Err(E::custom("a secret has to be text: put it in quotes"))
    }
}

impl Visitor<'_> for Hidden {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<String, E> {
        Self::refuse()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        Self::refuse()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        Self::refuse()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<String, E> {
        Self::refuse()
    }
}

/// Takes the user and password of URLs out of a message: someone may have put a URL where it does not belong.
pub(super) fn scrub(message: &str) -> String {
    let words = message
        .split_inclusive(char::is_whitespace)
        .map(|word| match (word.find("://"), word.rfind('@')) {
            (Some(start), Some(end)) if start < end => format!("{}://{REDACTED}{}", &word[..start], &word[end..]),
            _ => word.to_owned(),
        });
    words.collect()
}
