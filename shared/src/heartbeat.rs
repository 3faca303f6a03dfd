//! What each worker says of itself, in Redis.
