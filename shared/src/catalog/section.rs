//! Reads one mapping of the catalog key by key, so that one bad value does not hide the next.

use std::time::Duration;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
use serde_norway::{Mapping, Value};

use super::faults::{Collector, YamlPath};
use super::model::Unmatched;

/// A value of the file that may be missing, or be there but unreadable. Of the latter a fault was added already, so
/// whatever depends on it is left unjudged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Given<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// A fault was added.
    Faulty,
    /// The value.
    Value(T),
}

impl<T> Given<T> {
    /// Returns the value, if it is there and readable.
    pub(super) fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Faulty => None,
        }
    }

    /// Returns the value, or the default where the key is not there; `None` where the value is faulty.
    pub(super) fn or(&self, default: T) -> Option<T>
    where
        T: Clone,
    {
        match self {
            Self::Value(value) => Some(value.clone()),
            Self::Absent => Some(default),
            Self::Faulty => None,
        }
    }

    /// Tells whether the key is there, readable or not.
    pub(super) fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

/// What a key of the catalog can hold.
pub(super) trait Readable: DeserializeOwned {
    /// What to write there.
    const REMEDY: &'static str;
}

impl Readable for String {
    const REMEDY: &'static str = "write text, in quotes where it looks like something else";
}

impl Readable for bool {
    const REMEDY: &'static str = "write true or false";
}

impl Readable for u64 {
    const REMEDY: &'static str = "write a whole number, not below 0";
}

impl Readable for Vec<String> {
    const REMEDY: &'static str = "write a list of names, such as [fund_code, nav_date]";
}

impl Readable for Unmatched {
    const REMEDY: &'static str = "write skip or dead_letter";
}

/// A duration as people write it: `20ms`, `45m`, `1h`, `1d`.
pub(super) struct Humane(pub(super) Duration);

impl<'de> Deserialize<'de> for Humane {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let duration = humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format_args!("`{text}` is not a duration: {error}")))?;
        Ok(Self(duration))
    }
}

impl Readable for Humane {
    const REMEDY: &'static str = "write a number with its unit, such as 20ms, 45m, 1h or 1d";
}

/// One mapping that is being read.
pub(super) struct Section {
    path: YamlPath,
    /// `None`: there is no mapping where one should be, and a fault says so.
    mapping: Option<Mapping>,
    known: Vec<&'static str>,
}

impl Section {
    /// Begins to read a mapping. When the value is something else, that is a fault, and every key reads as faulty.
    pub(super) fn open(path: YamlPath, value: Value, faults: &mut Collector) -> Self {
        let mapping = match value {
            Value::Mapping(mapping) => Some(mapping),
            other => {
                let problem = if other.is_null() {
                    "has no value"
                } else {
                    "is not a mapping"
                };
                faults.add(&path, problem, "write a mapping (`key: value` lines, or {…})");
                None
            }
        };
        Self {
            path,
            mapping,
            known: Vec::new(),
        }
    }

    /// Returns the place of this mapping.
    pub(super) fn path(&self) -> &YamlPath {
        &self.path
    }

    /// Takes the value of a key as it is.
    pub(super) fn take(&mut self, key: &'static str) -> Given<Value> {
        self.known.push(key);
        match &mut self.mapping {
            None => Given::Faulty,
            Some(mapping) => mapping.remove(key).map_or(Given::Absent, Given::Value),
        }
    }

    /// Reads a key that may be left out.
    pub(super) fn optional<T: Readable>(&mut self, key: &'static str, faults: &mut Collector) -> Given<T> {
        let path = self.path.key(key);
        match self.take(key) {
            Given::Absent => Given::Absent,
            Given::Faulty => Given::Faulty,
            Given::Value(Value::Null) => {
                faults.add(&path, "has no value", format!("{}, or leave the key out", T::REMEDY));
                Given::Faulty
            }
            Given::Value(value) => match serde_path_to_error::deserialize(value) {
                Ok(value) => Given::Value(value),
                Err(error) => {
                    faults.add(
                        &path.below(&error.path().to_string()),
                        error.into_inner().to_string(),
                        T::REMEDY,
                    );
                    Given::Faulty
                }
            },
        }
    }

    /// Reads a key that must be there.
    pub(super) fn required<T: Readable>(&mut self, key: &'static str, faults: &mut Collector) -> Given<T> {
        let given = self.optional(key, faults);
        if given.is_present() {
            return given;
        }
        faults.add(&self.path.key(key), "is missing", T::REMEDY);
        Given::Faulty
    }

    /// Reads a duration that may be left out.
    pub(super) fn duration(&mut self, key: &'static str, faults: &mut Collector) -> Given<Duration> {
        match self.optional::<Humane>(key, faults) {
            Given::Absent => Given::Absent,
            Given::Faulty => Given::Faulty,
            Given::Value(Humane(duration)) => Given::Value(duration),
        }
    }

    /// Ends the reading: every key that was not asked for is a fault.
    pub(super) fn close(self, faults: &mut Collector) {
        for key in self.mapping.iter().flat_map(Mapping::keys).filter_map(Value::as_str) {
            let known = self.known.join(", ");
            let remedy = match nearest(key, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? The keys here are {known}"),
                None => format!("the keys here are {known}"),
            };
            faults.add(&self.path.key(key), "is not a key of the catalog", remedy);
        }
    }
}

/// Returns the name that is most like what was written, if one is like it at all.
pub(super) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro_winkler(written, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}
