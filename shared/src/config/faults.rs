//! What is wrong with a configuration, all of it at once.

use std::fmt;

use super::tree::Tree;

/// Checks what types cannot say: ranges, what is required, and what must agree with what.
pub trait Validate {
    /// Adds every fault of this section; keys are relative to it.
    fn validate(&self, faults: &mut Faults);
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, with dots; empty: the configuration as a whole.
    pub key: String,
    /// Where the value came from: a file, an environment variable or a flag; `None`: it is a default.
    pub origin: Option<String>,
    /// What is wrong. Never holds a secret.
    pub problem: String,
    /// What would be right; may be empty when the problem says it.
    pub right: String,
}

/// All that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    faults: Vec<Fault>,
    section: Vec<String>,
}

impl Faults {
    /// Adds a fault of a key of the current section. A key that has a fault gets no second one, because it would
    /// mostly be about the default that stands in for the faulty value.
    pub fn add(&mut self, key: &str, problem: impl Into<String>, right: impl Into<String>) {
        let mut path = self.section.clone();
        if !key.is_empty() {
            path.push(key.to_owned());
        }
        let key = path.join(".");
        if self.faults.iter().all(|fault| fault.key != key) {
            self.faults.push(Fault {
                key,
                origin: None,
                problem: problem.into(),
                right: right.into(),
            });
        }
    }

    /// Adds a fault unless a value lies within bounds, both of which are allowed.
    pub fn check_range<T: PartialOrd + fmt::Debug>(&mut self, key: &str, value: T, least: T, most: T) {
        // Not a number lies nowhere.
        if !(&least..=&most).contains(&&value) {
            self.add(
                key,
                format!("{value:?} is out of range"),
                format!("from {least:?} to {most:?}"),
            );
        }
    }

    /// Adds a fault unless two keys are both set, or neither: a certificate and its key.
    pub fn check_pair(&mut self, first: (&str, bool), second: (&str, bool)) {
        if first.1 != second.1 {
            let absent = if first.1 { second.0 } else { first.0 };
            self.add(absent, "is not set, but its counterpart is", "both, or neither");
        }
    }

    /// Adds a fault of a value that never came as far as a key's type.
    pub(super) fn add_from(&mut self, key: &str, origin: impl Into<String>, problem: impl Into<String>) {
        let fault = Fault {
            key: key.to_owned(),
            origin: Some(origin.into()),
            problem: problem.into(),
            right: String::new(),
        };
        self.faults.push(fault);
    }

    /// Adds the faults of a section.
    pub fn section(&mut self, name: &str, section: &impl Validate) {
        self.section.push(name.to_owned());
        section.validate(self);
        self.section.pop();
    }

    /// Returns whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Returns the faults, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    pub(super) fn find_origins(&mut self, tree: &Tree) {
        for fault in &mut self.faults {
            if fault.origin.is_none() {
                fault.origin = tree.origin(&fault.key);
            }
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.faults.len() == 1 { "fault" } else { "faults" };
        write!(formatter, "{} {noun} in the configuration", self.faults.len())?;
        for Fault {
            key,
            origin,
            problem,
            right,
        } in &self.faults
        {
            let key = if key.is_empty() { "(all)" } else { key };
            let origin = origin.as_deref().unwrap_or("default");
            write!(formatter, "\n- {key} (from {origin}): {problem}")?;
            if !right.is_empty() {
                write!(formatter, "; right would be: {right}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
