//! One typed configuration for each service: defaults < YAML file < environment < flags.
//!
//! - Names: `mysql.connect_timeout` is that in the file (nested, or with dots), `REPRISE_MYSQL__CONNECT_TIMEOUT` in the
//!   environment, and `--set mysql.connect_timeout=5s` as a flag. Variables without `__` are not ours: Kubernetes adds
//!   such for every service of a namespace.
//! - `REPRISE_MYSQL__URL_FILE` names a file that holds the value, for secrets. So no key may end in `_file`.
//! - What comes from the environment and from flags is taken as text where text is wanted, else read as YAML.
//! - A key without a value (`null`) counts as not there.
//! - All faults are reported at once: unknown keys, values of a wrong type, and what [`Validate`] finds.
//!
//! Configuration types take `#[serde(default)]` as a whole and leave what is required to [`Validate`]; `flatten` and
//! untagged enums would hide where a fault is. This is the only module that reads the environment.

mod faults;
mod flags;
mod secret;
pub mod sections;
mod sources;
#[cfg(test)]
mod tests;
mod tree;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Segment, Track};

pub use faults::{Fault, Faults, Validate};
pub use flags::Flags;
pub use secret::Secret;
pub use sections::{
    HttpConfig, KafkaConfig, LogConfig, MysqlConfig, MysqlTls, Properties, RedisConfig, RedisSettingsError, TlsConfig,
    TlsFileError, TlsFiles,
};
pub use sources::Sources;

use tree::{Path, Tree};

/// Reads a configuration.
///
/// # Errors
/// All faults at once, each with its key, where its value came from, and what would be right.
pub fn load<C>(sources: &Sources) -> Result<C, Faults>
where
    C: DeserializeOwned + Serialize + Validate,
{
    let mut faults = Faults::default();
    let mut tree = sources.read(&mut faults);
    let origins = tree.clone();
    if let Some(config) = read::<C>(&mut tree, &mut faults) {
        config.validate(&mut faults);
        if faults.is_empty() {
            return Ok(config);
        }
    }
    faults.find_origins(&origins);
    Err(faults)
}

/// Returns a configuration as YAML, with its defaults, and with secrets left out.
///
/// # Errors
/// When a configuration type cannot be written as YAML, which is a mistake in its definition.
pub fn dump<C: Serialize>(config: &C) -> Result<String, serde_norway::Error> {
    serde_norway::to_string(config)
}

/// Deserialises the tree. A value of a wrong type is reported and taken out, so that its default stands in and the
/// next fault is found.
fn read<C: DeserializeOwned + Serialize>(tree: &mut Tree, faults: &mut Faults) -> Option<C> {
    loop {
        let mut unknown = Vec::new();
        let mut track = Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(tree.to_value(), &mut track);
        let error = match serde_ignored::deserialize::<_, _, C>(deserializer, |path| unknown.push(path.to_string())) {
            Ok(config) => {
                report_unknown(&unknown, &config, faults);
                return Some(config);
            }
            Err(error) => error,
        };
        let path: Path = track
            .path()
            .iter()
            .map_while(|segment| match segment {
                Segment::Map { key } => Some(key.clone()),
                Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
            })
            .collect();
        // A value from the environment or a flag was offered as text first; a number is tried when text was wrong.
        if tree.reread(&path) {
            continue;
        }
        faults.add(&path.join("."), secret::scrub(&error.to_string()), "");
        if tree.remove(&path) == 0 {
            return None;
        }
    }
}

/// Reports keys that nothing reads, each with the keys that stand in its place.
fn report_unknown<C: Serialize>(unknown: &[String], config: &C, faults: &mut Faults) {
    if unknown.is_empty() {
        return;
    }
    let known = serde_norway::to_value(config).unwrap_or_default();
    for path in unknown {
        let mut segments: Vec<&str> = path
            .split('.')
            .filter(|segment| !segment.is_empty() && *segment != "?")
            .collect();
        let key = segments.join(".");
        segments.pop();
        let place = segments.iter().try_fold(&known, |place, segment| place.get(*segment));
        let keys = place
            .and_then(|place| place.as_mapping())
            .into_iter()
            .flat_map(|place| place.keys());
        let names: Vec<&str> = keys.filter_map(|name| name.as_str()).collect();
        faults.add(&key, "there is no such key", format!("one of {}", names.join(", ")));
    }
}
