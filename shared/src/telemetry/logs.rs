//! Logs go to standard error, for people or as one JSON object a line.

use std::io;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people at a terminal.
    Pretty,
    /// One JSON object a line.
    #[default]
    Json,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one of `tracing`'s.
    #[error("the log filter {filter:?} is not valid")]
    Filter {
        /// What was asked for.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
}

/// Checks a filter without setting anything up.
///
/// # Errors
/// When it is not one of `tracing`'s, for example `info,reprise_worker=debug`.
pub(crate) fn parse_filter(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::builder().parse(filter).map_err(|source| Error::Filter {
        filter: filter.to_owned(),
        source,
    })
}

/// Sends the process's logs to standard error.
///
/// Only the first call of a process takes effect, so that tests can start several services in one process.
///
/// # Errors
/// When the filter is not valid.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Error> {
    let registry = tracing_subscriber::registry().with(parse_filter(filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let already_set = match format {
        LogFormat::Pretty => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    if already_set.is_err() {
        tracing::debug!("logs were set up before, the first setting stays");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::chain;

    #[test]
    fn a_bad_filter_is_refused_by_name() {
        let error = init(LogFormat::Json, "info,reprise=loud").expect_err("no such level");

        assert!(
            chain(&error)
                .to_string()
                .starts_with("the log filter \"info,reprise=loud\" is not valid: ")
        );
    }

    #[test]
    fn a_second_setting_does_no_harm() {
        init(LogFormat::Json, "warn").expect("a filter");
        init(LogFormat::Pretty, "info").expect("a filter");
    }
}
