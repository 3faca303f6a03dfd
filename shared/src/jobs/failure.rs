//! Lock waits that are not waited for twice.

use crate::mysql::{AsDriverError, errors};

const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;

/// Why a transaction did not come about.
///
/// The named transactions try again after a lock wait that ran out, which takes seconds each time. Where another
/// process will do the same work soon, or the same one a little later, that is of no use.
#[derive(Debug)]
pub(super) enum Failure {
    /// Somebody held a row for as long as the session waits for one.
    Waited,
    /// Anything else that the driver says.
    Driver(sqlx::Error),
}

impl Failure {
    /// Tells apart what only says that others were at the same rows; everything else is an error.
    pub(super) fn or_busy(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Waited => Ok(()),
            // The last of the tries that a named transaction makes.
            Self::Driver(error) if errors::number(&error) == Some(DEADLOCK) => Ok(()),
            Self::Driver(error) => Err(error),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if errors::number(&error) == Some(LOCK_WAIT_TIMEOUT) {
            Self::Waited
        } else {
            Self::Driver(error)
        }
    }
}

impl AsDriverError for Failure {
    fn as_driver_error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Waited => None,
            Self::Driver(error) => Some(error),
        }
    }
}
