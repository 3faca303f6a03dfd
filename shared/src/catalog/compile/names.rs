//! Which names are allowed: of the catalog's own things, of tables and columns, of topics.

use super::super::faults::{Collector, YamlPath};
use super::super::section::Given;

/// Checks the name of a data type or a lookup.
pub(super) fn check_name(path: &YamlPath, name: &str, faults: &mut Collector) {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
        faults.add(
            path,
            format!("`{name}` is not a name"),
            "use 1 to 64 characters of a-z, 0-9 and _",
        );
    }
}

/// Checks the name of a table or column.
pub(super) fn check_identifier(path: &YamlPath, name: &str, faults: &mut Collector) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$';
    if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
        let remedy = "use 1 to 64 characters of A-Z, a-z, 0-9, _ and $";
        faults.add(path, format!("`{name}` is not a name for a table or column"), remedy);
    }
}

/// Returns the name of a table or column, checked.
pub(super) fn identifier(path: &YamlPath, given: &Given<String>, faults: &mut Collector) -> Option<String> {
    let name = given.value()?;
    check_identifier(path, name, faults);
    Some(name.clone())
}

/// Checks a topic's name by Kafka's rules.
pub(super) fn check_topic(path: &YamlPath, name: &str, faults: &mut Collector) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=249).contains(&name.len()) || !name.bytes().all(allowed) || name == "." || name == ".." {
        let remedy = "use 1 to 249 characters of A-Z, a-z, 0-9, `.`, `_` and `-`";
        faults.add(path, format!("`{name}` is not a name for a topic"), remedy);
    }
}
