//! A configuration before it has types: values by path, each with where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_norway::{Mapping, Value};

/// A key's place: `["mysql", "url"]`.
pub(super) type Path = Vec<String>;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File(PathBuf),
    Variable(String),
    VariableFile { variable: String, file: PathBuf },
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Variable(name) => formatter.write_str(name),
            Self::VariableFile { variable, file } => write!(formatter, "{variable}={}", file.display()),
            Self::Flag => formatter.write_str("--set"),
        }
    }
}

/// The values that were given, without mappings: those are the paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(BTreeMap<Path, Leaf>);

#[derive(Clone, Debug)]
struct Leaf {
    value: Value,
    origin: Origin,
    /// The value is text that may turn out to be meant as YAML.
    is_text: bool,
}

impl Tree {
    /// Sets a value over what was there, which includes what was above and below its path.
    pub(super) fn set(&mut self, path: Path, value: Value, origin: Origin) {
        let is_text = !matches!(origin, Origin::File(_)) && value.is_string();
        self.0
            .retain(|other, _| !other.starts_with(&path) && !path.starts_with(other));
        self.0.insert(path, Leaf { value, origin, is_text });
    }

    /// Sets all values of a mapping, whose keys may be dotted.
    pub(super) fn set_mapping(&mut self, prefix: &[String], mapping: Mapping, origin: &Origin) -> Result<(), String> {
        for (key, value) in mapping {
            let Value::String(key) = key else {
                return Err(format!("a key below {:?} is not text", prefix.join(".")));
            };
            let path: Path = prefix
                .iter()
                .cloned()
                .chain(key.split('.').map(str::to_owned))
                .collect();
            match value {
                Value::Null => {}
                Value::Mapping(inner) => self.set_mapping(&path, inner, origin)?,
                value => self.set(path, value, origin.clone()),
            }
        }
        Ok(())
    }

    /// Turns a value that was given as text into what YAML reads in it; returns whether there was one to turn.
    pub(super) fn reread(&mut self, path: &[String]) -> bool {
        let Some(leaf) = self.0.get_mut(path).filter(|leaf| leaf.is_text) else {
            return false;
        };
        leaf.is_text = false;
        let parsed = leaf
            .value
            .as_str()
            .and_then(|text| serde_norway::from_str::<Value>(text).ok());
        match parsed {
            Some(value) if !value.is_string() => {
                leaf.value = value;
                true
            }
            _ => false,
        }
    }

    /// Removes what is at or below a path, or what it lies within; returns how many values that were.
    pub(super) fn remove(&mut self, path: &[String]) -> usize {
        let before = self.0.len();
        self.0
            .retain(|other, _| !other.starts_with(path) && !path.starts_with(other));
        before - self.0.len()
    }

    /// Returns where the value of a dotted key, or the first below it, came from.
    pub(super) fn origin(&self, key: &str) -> Option<String> {
        let path: Path = key.split('.').map(str::to_owned).collect();
        let leaf = self
            .0
            .iter()
            .find(|(other, _)| path.starts_with(other) || other.starts_with(&path));
        leaf.map(|(_, leaf)| leaf.origin.to_string())
    }

    /// Returns the whole as nested mappings.
    pub(super) fn to_value(&self) -> Value {
        let mut root = Mapping::new();
        for (path, leaf) in &self.0 {
            let Some((name, parents)) = path.split_last() else {
                continue;
            };
            let place = parents.iter().try_fold(&mut root, |place, parent| {
                place
                    .entry(Value::from(parent.as_str()))
                    .or_insert_with(|| Mapping::new().into())
                    .as_mapping_mut()
            });
            if let Some(place) = place {
                place.insert(Value::from(name.as_str()), leaf.value.clone());
            }
        }
        root.into()
    }
}
