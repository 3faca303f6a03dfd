//! reprise.

pub mod feed;
pub mod oracle;
