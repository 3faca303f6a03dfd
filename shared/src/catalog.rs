//! The catalog: data types are declared in one YAML file, never in code.
//!
//! [`load`] reads and validates the file and reports every fault at once. What it returns is compiled: names are
//! resolved to indexes and pointers are split, so that the pipeline never looks up a string.

pub mod model;

pub use model::*;
