//! Lookups: read-through maps kept in a local cache.
