//! The one classification of MySQL errors: what the caller has to do, decided by a table.
//!
//! Nothing that an outage can cause is ever data, size or schema, so an outage never dead-letters a record and never
//! stops a type. What the table does not know is retried like an outage, with an alarm.

use std::error::Error as _;

use sqlx::mysql::MySqlDatabaseError;

use crate::fault::FaultClass;

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Roll back, back off and do the whole transaction again, for as long as it takes.
    Transient,
    /// Like transient, but a few tries at once come first.
    Deadlock,
    /// The statement is too large: halve it.
    Size,
    /// A value of some row is refused: find the row.
    Data(FaultClass),
    /// Table and catalog disagree: stop the type.
    Schema,
    /// Not in the table: like transient, with an alarm.
    Unknown,
}

impl Class {
    /// Tells whether the same transaction may succeed later without anybody changing it.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Transient | Self::Deadlock | Self::Unknown)
    }

    /// Returns the name as metrics and logs show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Deadlock => "deadlock",
            Self::Size => "size",
            Self::Data(_) => "data",
            Self::Schema => "schema",
            Self::Unknown => "unknown",
        }
    }
}

/// What was done when the error came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A connection was being opened: nothing can be said about rows or tables.
    Connecting,
    /// A statement ran on an open connection.
    Running,
}

/// Every known number while a statement runs. A test walks all rows.
pub const TABLE: &[(u16, Class)] = &[
    (1020, Class::Transient), // record has changed since last read
    (1021, Class::Transient), // disk full
    (1040, Class::Transient), // too many connections
    (1053, Class::Transient), // server shutdown in progress
    (1114, Class::Transient), // the table (or tablespace) is full
    (1158, Class::Transient), // network read error
    (1159, Class::Transient), // network read interrupted
    (1160, Class::Transient), // network write error
    (1161, Class::Transient), // network write interrupted
    (1180, Class::Transient), // error during commit
    (1205, Class::Transient), // lock wait timeout
    (1226, Class::Transient), // a resource limit of the user is used up
    (1290, Class::Transient), // server runs with --read-only
    (1317, Class::Transient), // query execution was interrupted
    (1461, Class::Transient), // too many prepared statements
    (1836, Class::Transient), // read-only mode
    (1927, Class::Transient), // connection was killed (MariaDB)
    (1969, Class::Transient), // max_statement_time exceeded (MariaDB)
    (2006, Class::Transient), // server has gone away
    (2013, Class::Transient), // lost connection during query
    (1213, Class::Deadlock),
    (1153, Class::Size), // packet larger than max_allowed_packet
    (1390, Class::Size), // too many placeholders
    (1406, Class::Data(FaultClass::TooLong)),
    (1264, Class::Data(FaultClass::OutOfRange)),
    (1265, Class::Data(FaultClass::BadValue)),
    (1292, Class::Data(FaultClass::BadTime)),
    (1366, Class::Data(FaultClass::BadValue)),
    (1048, Class::Data(FaultClass::NullValue)),
    (1452, Class::Data(FaultClass::Constraint)),
    (3819, Class::Data(FaultClass::Constraint)), // CHECK violated (MySQL)
    (4025, Class::Data(FaultClass::Constraint)), // CHECK violated (MariaDB)
    (1054, Class::Schema),                       // unknown column
    (1062, Class::Schema),                       // duplicate entry: a second unique index
    (1142, Class::Schema),                       // no right on the table
    (1146, Class::Schema),                       // no such table
    (1364, Class::Schema),                       // a column without default is not in the catalog
];

/// Classifies an error number of the server.
pub fn classify_number(number: u16, phase: Phase) -> Class {
    let class = TABLE
        .iter()
        .find(|(known, _)| *known == number)
        .map_or(Class::Unknown, |(_, class)| *class);
    match phase {
        Phase::Running => class,
        // Wrong credentials, a missing database or an expired password (1044, 1045, 1049, 1862) are an operator's to
        // mend, not a fault of a record or a type.
        Phase::Connecting if class == Class::Transient => class,
        Phase::Connecting => Class::Unknown,
    }
}

/// Classifies any error of the driver.
pub fn classify(error: &sqlx::Error, phase: Phase) -> Class {
    match error {
        sqlx::Error::Database(_) => number(error).map_or(Class::Unknown, |number| classify_number(number, phase)),
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Class::Transient,
        _ => Class::Unknown,
    }
}

/// Returns the server's error number, if the error came from the server.
pub fn number(error: &sqlx::Error) -> Option<u16> {
    let database = error.as_database_error()?;
    database
        .try_downcast_ref::<MySqlDatabaseError>()
        .map(MySqlDatabaseError::number)
}

/// Tells whether the connection is of no use any more after this error.
pub fn is_connection_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => matches!(number(error), Some(1053 | 1153 | 1158..=1161 | 1927 | 2006 | 2013)),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Returns what the server said, for a dead letter or a log line: number and message, or the driver's own words.
pub fn describe(error: &sqlx::Error) -> String {
    match (number(error), error.as_database_error()) {
        (Some(number), Some(database)) => format!("MySQL {number}: {}", database.message()),
        _ => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_number_has_its_class_and_no_other() {
        let transient = [
            1205, 1020, 1040, 1053, 1158, 1159, 1160, 1161, 1180, 1226, 1290, 1317, 1461, 1836, 1927, 1969, 2006, 2013,
            1114, 1021,
        ];
        let expected = transient
            .map(|number| (number, "transient"))
            .into_iter()
            .chain([(1213, "deadlock")])
            .chain([1153, 1390].map(|number| (number, "size")))
            .chain([1406, 1264, 1265, 1292, 1366, 1048, 1452, 3819, 4025].map(|number| (number, "data")))
            .chain([1054, 1146, 1142, 1062, 1364].map(|number| (number, "schema")))
            .collect::<Vec<_>>();
        for (number, name) in &expected {
            assert_eq!(classify_number(*number, Phase::Running).as_str(), *name, "{number}");
        }
        assert_eq!(expected.len(), TABLE.len());
        let mut numbers: Vec<_> = TABLE.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), TABLE.len(), "a number stands twice");
    }

    #[test]
    fn i4_nothing_that_happens_while_connecting_is_data_size_or_schema() {
        for number in 1000..5000 {
            assert!(classify_number(number, Phase::Connecting).is_retryable(), "{number}");
        }
        for number in [1044, 1045, 1049, 1862] {
            assert_eq!(classify_number(number, Phase::Connecting), Class::Unknown);
        }
    }

    #[test]
    fn i4_lost_connections_and_timeouts_are_transient() {
        let broken = sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        for error in [
            broken,
            sqlx::Error::PoolTimedOut,
            sqlx::Error::Protocol("packet cut".into()),
        ] {
            assert_eq!(classify(&error, Phase::Running), Class::Transient);
        }
        assert_eq!(classify(&sqlx::Error::RowNotFound, Phase::Running), Class::Unknown);
    }
}
