//! Times on their way to and from `DATETIME(3)` columns, in UTC: those of `reprise_shared::mysql`.

pub(crate) use reprise_shared::milliseconds;
pub(crate) use reprise_shared::mysql::times::{from_milliseconds, text};
