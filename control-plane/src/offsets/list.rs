//! Lists ranges in pages.
//!
//! The ledger orders members by start, and those of one start by run. A page goes on after the last range that the one
//! before looked at, by that order, so ranges that grow, come or go in between neither repeat nor hide others.

use reprise_shared::ingest_state::topics;
use reprise_shared::ledger::{Cursor, Interval, Range, Span};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName};
use serde::{Deserialize, Serialize};

use super::window::{Basis, Window};
use super::{Error, Offsets, chosen, place};

/// Which ranges are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The data type.
    pub data_type: String,
    /// Its topic.
    pub topic: TopicName,
    /// Only these partitions; none: all.
    pub partitions: Vec<Partition>,
    /// Only ranges that overlap these positions.
    pub within: Interval,
    /// Only ranges with a time in this window.
    pub times: Option<(Basis, Window)>,
}

/// A range's place in the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    partition: Partition,
    start: Offset,
    run: String,
    segment: Offset,
}

/// A page of ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The ranges, by partition and start.
    pub ranges: Vec<(Partition, Range)>,
    /// After which place to go on; `None`: there are no more.
    pub next: Option<Place>,
}

impl Query {
    fn wants(&self, range: &Span) -> bool {
        let in_time = |(basis, window): (Basis, Window)| basis.of(range).is_some_and(|times| window.touches(times));
        range.end > self.within.start && range.start < self.within.end && self.times.is_none_or(in_time)
    }
}

impl Place {
    fn of(partition: Partition, range: &Range) -> Self {
        Self {
            partition,
            start: range.start,
            run: range.run.as_str().to_owned(),
            segment: range.segment,
        }
    }
}

impl Offsets {
    /// Lists at most `size` ranges after a place. A page may hold fewer, or none, and still have a next one: it ends
    /// when it has looked at `offsets.max_looked_at` ranges.
    ///
    /// # Errors
    /// When Redis or MySQL does not answer.
    pub async fn list(&self, query: &Query, after: Option<&Place>, size: usize) -> Result<Listed, Error> {
        let pool = self.parts().database.pool();
        let Some(accepted) = topics::accepted(pool, &query.topic).await? else {
            return Ok(Listed::default());
        };
        let mut page = Page {
            query,
            after,
            size,
            topic_id: &accepted.topic_id,
            listed: Listed::default(),
            looked_at: 0,
        };
        for partition in chosen(&query.partitions, accepted.partitions) {
            if after.is_none_or(|after| after.partition <= partition) && self.fill(&mut page, partition).await? {
                break;
            }
        }
        Ok(page.listed)
    }

    /// Adds the ranges of a partition; tells whether the page is finished.
    async fn fill(&self, page: &mut Page<'_>, partition: Partition) -> Result<bool, Error> {
        let query = page.query;
        let asked = place(&query.topic, partition);
        let here = page.after.filter(|after| after.partition == partition);
        let mut cursor = here.map(|after| Cursor {
            start: after.start,
            skip: 0,
        });
        loop {
            // One more than is wanted tells whether there is a next page.
            let limit = match query.times {
                None => (page.size - page.listed.ranges.len() + 1).min(self.config().max_read),
                Some(_) => self.config().max_read,
            };
            let wanted = |range: &Span| range.topic_id == *page.topic_id && query.wants(range);
            let reader = &self.0.reader;
            let read = reader
                .wanted(&query.data_type, &asked, query.within, cursor, limit, wanted)
                .await?;
            page.looked_at += limit;
            for range in read.members {
                if page.take(partition, range) {
                    return Ok(true);
                }
            }
            let Some(next) = read.next else {
                return Ok(false);
            };
            cursor = Some(next);
            let moved = here.is_none_or(|after| next.start > after.start);
            if page.looked_at >= self.config().max_looked_at && moved {
                page.listed.next = Some(page.go_on_at(partition, next.start));
                return Ok(true);
            }
        }
    }
}

struct Page<'a> {
    query: &'a Query,
    after: Option<&'a Place>,
    size: usize,
    topic_id: &'a TopicId,
    listed: Listed,
    looked_at: usize,
}

impl Page<'_> {
    /// Takes a range; tells whether the page was full and another one follows.
    fn take(&mut self, partition: Partition, range: Range) -> bool {
        if self.after.is_some_and(|after| Place::of(partition, &range) <= *after) {
            return false;
        }
        if self.listed.ranges.len() == self.size {
            self.listed.next = self.last();
            return true;
        }
        self.listed.ranges.push((partition, range));
        false
    }

    /// Returns the place before the ranges of a start, or after the last one that was taken: some of that very start
    /// may have been.
    fn go_on_at(&self, partition: Partition, start: Offset) -> Place {
        let before = Place {
            partition,
            start,
            run: String::new(),
            segment: Offset(0),
        };
        let taken = self.last().into_iter().chain(self.after.cloned());
        taken.fold(before, Place::max)
    }

    fn last(&self) -> Option<Place> {
        let last = self.listed.ranges.last();
        last.map(|(partition, range)| Place::of(*partition, range))
    }
}
