//! What is wrong with a catalog: every fault at once, each with its place, what is there and what would be right.

use std::fmt;

/// One fault of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place in the YAML, for example `data_types.fund_valuation.columns.unit_nav.type`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        write!(formatter, "{}; {}", self.problem, self.remedy)
    }
}

/// Every fault of one catalog, never none. Displayed as one line each, beginning with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The catalog file.
    pub file: String,
    /// The faults: those of form first, then those of meaning, each in the order of the file.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            if number > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{}: {fault}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Gathers faults while the catalog is read.
#[derive(Debug, Default)]
pub(super) struct Collector(Vec<Fault>);

impl Collector {
    /// Adds a fault.
    pub(super) fn add(&mut self, path: &YamlPath, problem: impl Into<String>, remedy: impl Into<String>) {
        let fault = Fault {
            path: path.0.clone(),
            problem: problem.into(),
            remedy: remedy.into(),
        };
        if !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }

    /// Tells whether no fault was added.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the gathering.
    pub(super) fn into_faults(self, file: &str) -> Faults {
        Faults {
            file: file.to_owned(),
            faults: self.0,
        }
    }
}

/// A place in the YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct YamlPath(String);

impl YamlPath {
    /// The whole file.
    pub(super) fn root() -> Self {
        Self(String::new())
    }

    /// The place of a key under this one. A key with other characters than names have is quoted, as in
    /// `topics["fund.data"]`.
    pub(super) fn key(&self, key: &str) -> Self {
        let plain = !key.is_empty()
            && key
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || "_-$".contains(char));
        Self(match (plain, self.0.is_empty()) {
            (true, true) => key.to_owned(),
            (true, false) => format!("{}.{key}", self.0),
            (false, _) => format!("{}[{key:?}]", self.0),
        })
    }

    /// The place of an element of a list under this one.
    pub(super) fn element(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The place that serde names below this one, such as `[2]`; `.` is this one itself.
    pub(super) fn below(&self, serde_path: &str) -> Self {
        match serde_path {
            "." => self.clone(),
            path if path.starts_with('[') => Self(format!("{}{path}", self.0)),
            path => Self(format!("{}.{path}", self.0)),
        }
    }
}
