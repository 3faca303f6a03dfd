//! The message that a lookup's own table changed, over Redis pub/sub: workers drop what they cached of it.
//!
//! A lost message costs at most the lookup's `ttl`, so nothing is repeated.

use serde::{Deserialize, Serialize};

use crate::redis::{Error, Limit, Redis};

/// Keys of one lookup that workers should read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The lookup's name in the catalog.
    pub lookup: String,
    /// The keys.
    pub keys: Vec<String>,
    /// All keys, whatever `keys` says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl Change {
    /// Returns the channel that changes are published on.
    pub fn channel(redis: &Redis) -> String {
        format!("{}:lookup-changes", redis.prefix())
    }

    /// Tells all workers, and returns how many listened.
    ///
    /// # Errors
    /// When Redis did not take it.
    pub async fn publish(&self, redis: &Redis) -> Result<u64, Error> {
        let call = "publish lookup changes";
        let message = serde_json::to_vec(self).map_err(|error| Error::Answer {
            call,
            message: error.to_string(),
        })?;
        let mut command = redis::cmd("PUBLISH");
        command.arg(Self::channel(redis)).arg(message);
        redis.query(call, Limit::Ordinary, &command).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_keys_reads_as_it_did_before_all_was_there() {
        let text = r#"{"lookup":"fund_code","keys":["a"]}"#;
        let change: Change = serde_json::from_str(text).expect("a change");
        assert!(!change.all);
        assert_eq!(serde_json::to_string(&change).expect("JSON"), text);
    }
}
