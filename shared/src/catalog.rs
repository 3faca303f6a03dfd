//! The catalog: data types are declared in one YAML file, never in code.
//!
//! [`load`] reads and validates the file and reports every fault at once. What it returns is compiled: names are
//! resolved to indexes and pointers are split, so that the pipeline never looks up a string. [`tables::check`]
//! compares it with the tables that it writes to and reads from.
//!
//! From file to [`Catalog`]: `document` (text to a tree, keys that stand twice), `section` and `raw` (the form:
//! unknown and missing keys, values of another kind), `compile` (the meaning), `hash`.

mod column_type;
mod compile;
mod document;
mod faults;
mod hash;
pub mod model;
mod pointer;
mod raw;
mod section;
pub mod tables;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use faults::{Fault, Faults};
pub use model::*;

use faults::{Collector, YamlPath};

/// The largest catalog file that is read, in bytes.
pub const MAX_FILE_SIZE: u64 = 1024 * 1024;

/// Reads, validates and compiles a catalog file.
///
/// Blocks on the file system; call it at start.
///
/// # Errors
///
/// Every fault of the file at once; a file that cannot be read is one fault.
pub fn load(path: &Path) -> Result<Catalog, Faults> {
    let file_name = path.display().to_string();
    match read(path) {
        Ok(text) => parse(&file_name, &text),
        Err(error) => {
            let mut faults = Collector::default();
            faults.add(
                &YamlPath::root(),
                format!("cannot be read: {error}"),
                "give the path of a catalog in YAML",
            );
            Err(faults.into_faults(&file_name))
        }
    }
}

/// Validates and compiles the text of a catalog. `file_name` is only used to name faults.
///
/// # Errors
///
/// Every fault of the text at once.
pub fn parse(file_name: &str, text: &str) -> Result<Catalog, Faults> {
    let mut faults = Collector::default();
    let catalog = document::read(text, &mut faults)
        .map(|document| raw::read(document, &mut faults))
        .map(|raw| compile::compile(&raw, &mut faults));
    match catalog {
        Some(catalog) if faults.is_empty() => Ok(catalog),
        _ => Err(faults.into_faults(file_name)),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_SIZE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {MAX_FILE_SIZE} bytes"),
        ));
    }
    Ok(text)
}
