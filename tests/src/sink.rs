//! What tests of lanes, sink and dead letters stand on: a database of their own, private servers to break, chunks
//! with rows in memory, and hooks that remember what they were told.

pub mod chunks;
pub mod hooks;
pub mod server;
