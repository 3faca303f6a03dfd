//! Connections, sessions, named transactions and migrations.
