//! Sends updates: one Lua call per partition, all partitions in one round trip.

use redis::Cmd;
use serde::Serialize;

use super::Update;
use super::member::{Keys, Millis, coverage_head, range_head};
use crate::position::Offset;
use crate::redis::{Error, Limit, Redis, Script};

const CALL: &str = "write the offset ledger";

/// Offsets and times must be exact as Lua numbers.
const MAX_EXACT: u64 = 1 << 53;

/// Writes the ledger; shared by all partitions of a process.
#[derive(Debug)]
pub struct Writer {
    redis: Redis,
    keys: Keys,
    write: Script,
    partitions_per_call: usize,
}

impl Writer {
    /// Makes a writer that sends at most `partitions_per_call` partitions in one round trip.
    pub fn new(redis: Redis, partitions_per_call: usize) -> Self {
        let keys = Keys::new(redis.prefix().clone());
        Self {
            redis,
            keys,
            write: Script::new(include_str!("write.lua")),
            partitions_per_call: partitions_per_call.max(1),
        }
    }

    /// Writes updates and returns each one's own result, in order. After a failure Redis may have an update or not;
    /// sending it, or a newer one, again puts that right.
    pub async fn write(&self, updates: &[Update]) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(updates.len());
        for part in updates.chunks(self.partitions_per_call) {
            let commands: Result<Vec<Cmd>, Error> = part.iter().map(|update| self.command(update)).collect();
            let answers = match commands {
                Ok(commands) => {
                    self.redis
                        .invoke_all::<i64>(CALL, Limit::Bulk, &self.write, commands)
                        .await
                }
                Err(error) => Err(error),
            };
            match answers {
                Ok(answers) => results.extend(answers.into_iter().map(|answer| answer.map(drop))),
                Err(error) => {
                    let message = error.to_string();
                    let outage = error.is_outage();
                    results.push(Err(error));
                    // The others of this round trip were not answered either.
                    results.extend((1..part.len()).map(|_| Err(unanswered(&message, outage))));
                }
            }
        }
        results
    }

    fn command(&self, update: &Update) -> Result<Cmd, Error> {
        let partition = &update.identity.partition;
        let mut keys = vec![self.keys.coverage(partition), self.keys.indexed_from(partition)];
        let mut ranges = Vec::with_capacity(update.ranges.len());
        for (data_type, range) in &update.ranges {
            let key = self.keys.ranges(data_type, partition);
            let place = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
                keys.push(key);
                keys.len() - 1
            });
            check(range.end)?;
            ranges.push(RangeArgument {
                key: place + 1,
                data_type,
                start: range.start,
                head: range_head(&range.run, range.segment),
                member: serde_json::to_string(range).map_err(|error| unsendable(&error))?,
            });
        }
        let mut coverage = Vec::with_capacity(update.coverage.len());
        for interval in &update.coverage {
            check(interval.end)?;
            coverage.push(CoverageArgument {
                start: interval.start,
                end: interval.end,
                first_processed: interval.first_processed,
                last_processed: interval.last_processed,
            });
        }
        let coverage_head = coverage_head(update.identity.source.covers_as(), &update.identity.topic_id, None);
        let argument = serde_json::to_string(&Argument {
            coverage_head,
            coverage,
            ranges,
        });
        let mut command = self.write.call(keys.iter().map(String::as_str));
        command.arg(argument.map_err(|error| unsendable(&error))?);
        Ok(command)
    }
}

#[derive(Serialize)]
struct Argument<'a> {
    coverage_head: String,
    coverage: Vec<CoverageArgument>,
    ranges: Vec<RangeArgument<'a>>,
}

#[derive(Serialize)]
struct CoverageArgument {
    start: Offset,
    end: Offset,
    first_processed: Millis,
    last_processed: Millis,
}

#[derive(Serialize)]
struct RangeArgument<'a> {
    key: usize,
    data_type: &'a str,
    start: Offset,
    head: String,
    member: String,
}

fn check(end: Offset) -> Result<(), Error> {
    if end.0 >= MAX_EXACT {
        return Err(Error::Answer {
            call: CALL,
            message: format!("position {end} is above 2^53"),
        });
    }
    Ok(())
}

fn unsendable(error: &serde_json::Error) -> Error {
    Error::Answer {
        call: CALL,
        message: error.to_string(),
    }
}

fn unanswered(message: &str, outage: bool) -> Error {
    if outage {
        let source = redis::RedisError::from((redis::ErrorKind::Io, "the round trip failed", message.to_owned()));
        Error::Call { call: CALL, source }
    } else {
        Error::Answer {
            call: CALL,
            message: message.to_owned(),
        }
    }
}
