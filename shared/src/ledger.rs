//! The offset ledger in Redis: which offsets of which data type were processed when.
