//! Which figures are asked for.

/// The argument that names figures.
#[derive(Debug, clap::Args)]
pub struct Only {
    /// Measure only these, for example `B1,B2`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Only {
    /// Tells whether one of these figures is wanted.
    pub fn wants(&self, ids: &[&str]) -> bool {
        let asked = |id: &&str| self.only.iter().any(|only| only.eq_ignore_ascii_case(id));
        self.only.is_empty() || ids.iter().any(asked)
    }
}
