//! Reads the ledger in pages, by position.

use redis::Pipeline;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::interval::Interval;
use super::member::{Coverage, Keys, Range};
use super::span::Span;
use crate::position::{Offset, TopicPartition};
use crate::redis::{Error, Limit, Redis};

const CALL: &str = "read the offset ledger";

/// Where the next page begins: after so many members of this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The start that the page begins with.
    pub start: Offset,
    /// Members of this start that former pages had.
    pub skip: u32,
}

/// Members by ascending start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The members.
    pub members: Vec<T>,
    /// Members that could not be read: something else wrote them.
    pub unreadable: usize,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Reads ranges and coverage.
#[derive(Clone, Debug)]
pub struct Reader {
    redis: Redis,
    keys: Keys,
}

impl Reader {
    /// At most this many members come in one page.
    pub const MAX_PAGE: usize = 10_000;
    /// Looking for members that begin before the asked interval and reach into it goes back at most this far. Within
    /// a run and type ranges are disjoint, and a run that begins below an offset has, from there on, ranges of its
    /// own, so the union of what a page shows lacks nothing; only an older run's line may be left out.
    const LOOK_BACK: usize = 1_000;

    /// Makes a reader.
    pub fn new(redis: Redis) -> Self {
        let keys = Keys::new(redis.prefix().clone());
        Self { redis, keys }
    }

    /// Reads the ranges of one type in one partition that overlap `within`, at most `limit` (and those that reach in
    /// from before). Ranges of two runs may overlap after a crash: counts are per processing.
    pub async fn ranges(
        &self,
        data_type: &str,
        partition: &TopicPartition,
        within: Interval,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Range>, Error> {
        let key = self.keys.ranges(data_type, partition);
        self.page(key, within, cursor, limit, |text| parse(text, Range::interval))
            .await
    }

    /// As [`Self::ranges`], without counts.
    pub async fn spans(
        &self,
        data_type: &str,
        partition: &TopicPartition,
        within: Interval,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Span>, Error> {
        let key = self.keys.ranges(data_type, partition);
        let read = |text: &str| {
            let span = Span::read(text)?;
            let interval = span.interval();
            Ok(Some((span, interval)))
        };
        self.page(key, within, cursor, limit, read).await
    }

    /// As [`Self::ranges`], of at most `limit` only those that are wanted. The others are not read whole.
    pub async fn wanted(
        &self,
        data_type: &str,
        partition: &TopicPartition,
        within: Interval,
        cursor: Option<Cursor>,
        limit: usize,
        wanted: impl Fn(&Span) -> bool,
    ) -> Result<Page<Range>, Error> {
        let key = self.keys.ranges(data_type, partition);
        let read = |text: &str| {
            if wanted(&Span::read(text)?) {
                parse(text, Range::interval)
            } else {
                Ok(None)
            }
        };
        self.page(key, within, cursor, limit, read).await
    }

    /// Reads a partition's coverage of all kinds and topic ids that overlaps `within`. Pass those that count to
    /// [`super::holes`].
    pub async fn coverage(
        &self,
        partition: &TopicPartition,
        within: Interval,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Coverage>, Error> {
        let key = self.keys.coverage(partition);
        self.page(key, within, cursor, limit, |text| parse(text, Coverage::interval))
            .await
    }

    /// Reads a page. `read` gives a member and its interval, or nothing for one that is passed over.
    async fn page<T>(
        &self,
        key: String,
        within: Interval,
        cursor: Option<Cursor>,
        limit: usize,
        read: impl Fn(&str) -> serde_json::Result<Option<(T, Interval)>>,
    ) -> Result<Page<T>, Error> {
        let limit = limit.clamp(1, Self::MAX_PAGE);
        let mut page = Page {
            members: Vec::new(),
            unreadable: 0,
            next: None,
        };
        if within.is_empty() {
            return Ok(page);
        }
        let from = cursor.unwrap_or(Cursor {
            start: within.start,
            skip: 0,
        });
        let mut pipeline = Pipeline::new();
        pipeline
            .cmd("ZRANGEBYSCORE")
            .arg(&key)
            .arg(from.start.0)
            .arg(format!("({}", within.end));
        pipeline.arg("LIMIT").arg(from.skip).arg(limit + 1);
        if cursor.is_none() {
            pipeline
                .cmd("ZREVRANGEBYSCORE")
                .arg(&key)
                .arg(format!("({}", within.start))
                .arg("-inf");
            pipeline.arg("LIMIT").arg(0).arg(Self::LOOK_BACK);
        }
        let answers = self
            .redis
            .pipeline::<Vec<String>>(CALL, Limit::Bulk, &mut pipeline)
            .await?;
        let mut answers = answers.into_iter().collect::<Result<Vec<_>, Error>>()?.into_iter();
        let (here, before) = (answers.next().unwrap_or_default(), answers.next().unwrap_or_default());

        for text in before.iter().rev() {
            page.push(read(text), |interval| interval.end > within.start);
        }
        for text in here.iter().take(limit) {
            page.push(read(text), |_| true);
        }
        if let Some(first) = here.get(limit) {
            let start = self.start(&key, first).await?.unwrap_or(from.start);
            let mut skip = 0;
            for text in here[..limit].iter().rev() {
                if self.start(&key, text).await? != Some(start) {
                    break;
                }
                skip += 1;
            }
            // A page of one start alone goes on where it began.
            if skip as usize == limit && start == from.start {
                skip += from.skip;
            }
            page.next = Some(Cursor { start, skip });
        }
        Ok(page)
    }

    /// Returns where a member stands: what it says of itself, which costs less than to have Redis write the score of
    /// every member; of one that cannot be read, its score. `None`: it is gone by now.
    async fn start(&self, key: &str, text: &str) -> Result<Option<Offset>, Error> {
        #[derive(Deserialize)]
        struct Begins {
            start: Offset,
        }
        if let Ok(Begins { start }) = serde_json::from_str(text) {
            return Ok(Some(start));
        }
        let mut command = redis::cmd("ZSCORE");
        command.arg(key).arg(text);
        let score: Option<f64> = self.redis.query(CALL, Limit::Bulk, &command).await?;
        Ok(score.map(exact))
    }
}

impl<T> Page<T> {
    fn push(&mut self, read: serde_json::Result<Option<(T, Interval)>>, wanted: impl Fn(Interval) -> bool) {
        match read {
            Ok(Some((member, interval))) if wanted(interval) => self.members.push(member),
            Ok(_) => {}
            Err(_) => self.unreadable += 1,
        }
    }
}

fn parse<T: DeserializeOwned>(text: &str, interval: fn(&T) -> Interval) -> serde_json::Result<Option<(T, Interval)>> {
    let member = serde_json::from_str(text)?;
    let interval = interval(&member);
    Ok(Some((member, interval)))
}

/// Scores are offsets below 2^53, which a double holds exactly.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a score is a whole number below 2^53"
)]
fn exact(score: f64) -> Offset {
    Offset(score as u64)
}
