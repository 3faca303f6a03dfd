//! Where configurations come from.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path as FilePath, PathBuf};

use serde_norway::Value;

use super::Flags;
use super::faults::Faults;
use super::tree::{Origin, Path, Tree};

/// What our variables begin with.
const PREFIX: &str = "REPRISE_";
/// What parts the names of nested keys.
const NESTING: &str = "__";
/// What a variable ends with when it names a file that holds the value.
const FILE_SUFFIX: &str = "_FILE";
/// The variable that names the file when no flag does.
const CONFIG_VARIABLE: &str = "REPRISE_CONFIG";
/// No configuration or secret is larger.
const LARGEST_FILE: u64 = 1 << 20;

/// What a configuration is read from, lowest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The YAML file.
    pub file: Option<PathBuf>,
    /// The environment's variables; others than ours are ignored.
    pub variables: Vec<(OsString, OsString)>,
    /// Dotted keys and their values.
    pub settings: Vec<(String, String)>,
}

impl Sources {
    /// Takes the process's environment and flags. The file is the one that the flags name, else the one that
    /// `REPRISE_CONFIG` names.
    pub fn of_process(flags: &Flags) -> Self {
        let file = flags
            .config
            .clone()
            .or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
        Self {
            file,
            variables: std::env::vars_os().collect(),
            settings: flags.set.clone(),
        }
    }

    pub(super) fn read(&self, faults: &mut Faults) -> Tree {
        let mut tree = Tree::default();
        if let Some(path) = &self.file
            && let Err(problem) = read_yaml(path, &mut tree)
        {
            faults.add_from("", path.display().to_string(), problem);
        }
        self.read_variables(&mut tree, faults);
        for (key, value) in &self.settings {
            tree.set(
                key.split('.').map(str::to_owned).collect(),
                Value::from(value.as_str()),
                Origin::Flag,
            );
        }
        tree
    }

    fn read_variables(&self, tree: &mut Tree, faults: &mut Faults) {
        let mut ours: Vec<(&str, &OsString)> = self
            .variables
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)))
            .filter(|(name, _)| name.strip_prefix(PREFIX).is_some_and(|name| name.contains(NESTING)))
            .collect();
        ours.sort_unstable();
        for (name, value) in &ours {
            let from_file = name.strip_suffix(FILE_SUFFIX);
            let path = path_of(from_file.unwrap_or(name));
            if let Some(plain) = from_file {
                if ours.iter().any(|(other, _)| *other == plain) {
                    faults.add_from(
                        &path.join("."),
                        *name,
                        format!("{plain} is set too; one of the two has to go"),
                    );
                }
                let file = PathBuf::from(value);
                match read_limited(&file) {
                    Ok(text) => {
                        let value = Value::from(text.trim_end_matches(['\r', '\n']));
                        tree.set(
                            path,
                            value,
                            Origin::VariableFile {
                                variable: (*name).to_owned(),
                                file,
                            },
                        );
                    }
                    Err(error) => {
                        faults.add_from(
                            &path.join("."),
                            *name,
                            format!("cannot read {}: {error}", file.display()),
                        );
                    }
                }
            } else if let Some(text) = value.to_str() {
                tree.set(path, Value::from(text), Origin::Variable((*name).to_owned()));
            } else {
                faults.add_from(&path.join("."), *name, "is not valid UTF-8");
            }
        }
    }
}

/// Returns the key that a variable sets: `REPRISE_MYSQL__URL` is `mysql.url`.
fn path_of(variable: &str) -> Path {
    let name = variable.strip_prefix(PREFIX).unwrap_or(variable);
    name.to_ascii_lowercase().split(NESTING).map(str::to_owned).collect()
}

fn read_yaml(path: &FilePath, tree: &mut Tree) -> Result<(), String> {
    let text = read_limited(path).map_err(|error| format!("cannot be read: {error}"))?;
    let value: Value = serde_norway::from_str(&text).map_err(|error| format!("is not YAML: {error}"))?;
    match value {
        Value::Null => Ok(()),
        Value::Mapping(mapping) => tree.set_mapping(&[], mapping, &Origin::File(path.to_owned())),
        _ => Err("has to be a mapping of keys to values".to_owned()),
    }
}

fn read_limited(path: &FilePath) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if length as u64 > LARGEST_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}
