//! The Redis pool and the one key prefix.
