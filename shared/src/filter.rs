//! Which records are let through: pure, from one snapshot of the whitelist.
