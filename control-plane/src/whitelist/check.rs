//! Whether ids are let through, and which list decides.

use reprise_shared::whitelist::{Scope, Version};

use super::entries::Entry;
use super::error::Error;
use super::request::{Violations, id_problem};
use super::store::Store;
use super::{entries, head};

/// How often a check begins anew because the whitelist changed while it was read.
const MAX_ROUNDS: usize = 5;

/// What happens to records of one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The id.
    pub id: String,
    /// Whether they go through.
    pub allowed: bool,
    /// The id's entry on the deciding list. An id without one is let through by an empty list.
    pub entry: Option<Entry>,
}

/// Verdicts of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdicts {
    /// The version.
    pub version: Version,
    /// Which list decides: the type's own while it is not empty, else the global one.
    pub decided_by: Scope,
    /// The deciding list is empty, so everything goes through.
    pub unrestricted: bool,
    /// One for each id that was asked about, in that order.
    pub verdicts: Vec<Verdict>,
}

impl Store {
    /// Says whether ids are let through: for one data type, or by the global list alone.
    pub async fn check(&self, data_type: Option<&str>, ids: &[String]) -> Result<Verdicts, Error> {
        self.check_question(data_type, ids)?;
        let pool = self.shared.database.pool();
        let mut connection = pool.acquire().await?;
        for _ in 0..MAX_ROUNDS {
            let before = head::look(&mut *connection).await?.0;
            let own = data_type.map(|name| Scope::Type(name.to_owned()));
            let decided_by = match own {
                Some(own) if entries::size(&mut *connection, &own).await? > 0 => own,
                _ => Scope::Global,
            };
            let unrestricted = entries::size(&mut *connection, &decided_by).await? == 0;
            let listed = entries::named(&mut connection, &decided_by, ids).await?;
            if head::look(&mut *connection).await?.0 != before {
                continue;
            }
            let verdict = |id: &String| Verdict {
                id: id.clone(),
                allowed: unrestricted || listed.contains_key(id),
                entry: listed.get(id).cloned(),
            };
            return Ok(Verdicts {
                version: before.version,
                decided_by,
                unrestricted,
                verdicts: ids.iter().map(verdict).collect(),
            });
        }
        Err(Error::Busy)
    }

    fn check_question(&self, data_type: Option<&str>, ids: &[String]) -> Result<(), Error> {
        let config = &self.shared.config;
        let mut violations = Violations::default();
        if let Some(name) = data_type
            && !self.shared.type_names.iter().any(|known| known == name)
        {
            let known = self.shared.type_names.join(", ");
            violations.add(
                "data_type",
                format!("is no data type of the catalog; there are: {known}"),
            );
        }
        if ids.is_empty() || ids.len() > config.max_page {
            violations.add("ids", format!("must name 1 to {} ids", config.max_page));
        }
        for (place, id) in ids.iter().enumerate() {
            if let Some(problem) = id_problem(id, config.max_id_bytes) {
                violations.add(format!("ids[{place}]"), problem);
            }
        }
        violations.into_result()
    }
}
