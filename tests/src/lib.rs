//! reprise.

pub mod sink;
