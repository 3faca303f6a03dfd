//! The whitelist: which ids are let through.
//!
//! There is a global list, and one list per data type that replaces it for that type while it is not empty. An empty
//! list lets everything through. MySQL holds the truth; Redis holds the copy that workers read, in these keys (one
//! hash tag, so all lie in one Cluster slot and one script can change them together):
//!
//! | key | type | holds |
//! |---|---|---|
//! | `databus:{whitelist}:head` | hash | `version` (decimal) and `change_id` of the last change |
//! | `databus:{whitelist}:global` | set | the global list |
//! | `databus:{whitelist}:type:<data type>` | set | the list of one data type |
//! | `databus:{whitelist}:scopes` | set | the data types that have a list |
//! | `databus:{whitelist}:changes` | channel | a [`Notice`] for each change |
//!
//! Redis drops a set with its last member, so *the head alone* says whether anything is known: without it the
//! whitelist is **unknown**, never "empty". [`Writer`] changes the copy, [`Watcher`] follows it in each worker, and
//! [`Handle`] is what the rest of a worker asks.

mod change;
mod follower;
mod handle;
mod keys;
mod script;
mod snapshot;
mod watcher;

pub use change::{Change, ChangeId, Content, Edit, Head, Notice, Scope, Version};
pub use handle::{Handle, State, Status};
pub use keys::Keys;
pub use script::{Answer, Expect, WriteError, Writer};
pub use snapshot::Snapshot;
pub use watcher::{Config, Watcher};
