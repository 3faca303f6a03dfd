//! JSON with everything that `serde_json::Value` would forget: members that stand twice, and numbers digit by digit.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    Null,
    Bool,
    /// As it was written.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    /// In the order of the text, with all members.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole text; strings with half a surrogate pair are refused wherever they stand.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        Self::grow(serde_json::from_str::<&RawValue>(text)?.get())
    }

    fn grow(text: &str) -> Result<Self, serde_json::Error> {
        Ok(match text.as_bytes().first() {
            Some(b'{') => Self::Object(
                serde_json::from_str::<Members<'_>>(text)?
                    .0
                    .into_iter()
                    .map(|(name, value)| Ok((name, Self::grow(value.get())?)))
                    .collect::<Result<_, serde_json::Error>>()?,
            ),
            Some(b'[') => Self::Array(
                serde_json::from_str::<Vec<&RawValue>>(text)?
                    .into_iter()
                    .map(|value| Self::grow(value.get()))
                    .collect::<Result<_, _>>()?,
            ),
            Some(b'"') => Self::Text(serde_json::from_str(text)?),
            Some(b't' | b'f') => Self::Bool,
            Some(b'n') => Self::Null,
            _ => Self::Number(text.to_owned()),
        })
    }

    /// Returns the members of that name; none when this is no object.
    pub(super) fn members<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        let members = if let Self::Object(members) = self {
            members.as_slice()
        } else {
            &[]
        };
        members
            .iter()
            .filter(move |(member, _)| member == name)
            .map(|(_, value)| value)
    }
}

/// How deep arrays and objects are nested in one another, in any text.
pub(super) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// An object's members, repeated ones too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    members.push((name.into_owned(), value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}
