//! The keys of the whitelist, all with the hash tag `{whitelist}`.

use crate::redis::KeyPrefix;

use super::Scope;

/// Key names under one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    base: String,
}

impl Keys {
    /// Derives the names.
    pub fn new(prefix: &KeyPrefix) -> Self {
        Self {
            base: format!("{prefix}:{{whitelist}}:"),
        }
    }

    /// Returns the hash with version and change id.
    pub fn head(&self) -> String {
        format!("{}head", self.base)
    }

    /// Returns the set of one list.
    pub fn list(&self, scope: &Scope) -> String {
        match scope {
            Scope::Global => format!("{}global", self.base),
            Scope::Type(name) => format!("{}{name}", self.type_prefix()),
        }
    }

    /// Returns what stands before a data type's name in the key of its list.
    pub fn type_prefix(&self) -> String {
        format!("{}type:", self.base)
    }

    /// Returns the set of data types that have a list.
    pub fn scopes(&self) -> String {
        format!("{}scopes", self.base)
    }

    /// Returns the channel of notices.
    pub fn changes(&self) -> String {
        format!("{}changes", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_the_prefix_and_the_one_hash_tag() {
        let keys = Keys::new(&KeyPrefix::default());
        assert_eq!(keys.head(), "databus:{whitelist}:head");
        assert_eq!(keys.list(&Scope::Global), "databus:{whitelist}:global");
        assert_eq!(
            keys.list(&Scope::Type("fund_basic".to_owned())),
            "databus:{whitelist}:type:fund_basic"
        );
        assert_eq!(keys.scopes(), "databus:{whitelist}:scopes");
        assert_eq!(keys.changes(), "databus:{whitelist}:changes");
    }
}
