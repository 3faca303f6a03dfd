//! reprise.
