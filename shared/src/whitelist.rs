//! The whitelist as workers hold it: an immutable snapshot, kept current from Redis.
