//! Connections, sessions, named transactions and migrations.
//!
//! Lanes open their own connections with a [`Connector`]; everything else goes through a [`Database`]. Which errors
//! mean what is decided in [`errors`] alone.

pub mod errors;
mod identity;
mod migrations;
pub mod positions;
mod session;
pub mod times;
mod transaction;

pub use identity::{ServerChange, ServerIdentity, note_server, server_identity};
pub use migrations::{Error as MigrationError, MigrationLock, check_schema, migrate, migrate_demo};
pub use session::{Config, Connector, InvalidUrl, Session};
pub use transaction::{AsDriverError, Database};

/// Quotes an identifier of the validated catalog.
pub fn quote(identifier: &str) -> String {
    format!("`{}`", identifier.replace('`', "``"))
}
