//! Decides what the next record is: a new one, a variation of a recent one, or a bad one.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reprise_shared::fault::FaultClass;

use super::config::ConfigError;
use super::{BadClass, DataType, Expectation, FeedConfig, FeedRecord, bad, render};

/// How many recent records variations are made of.
const RECENT: usize = 256;

/// How many ids beyond the last fund stand for unknown ones.
const UNKNOWN_IDS: u32 = 1_000;

/// Everything that a payload follows from. Two equal drafts have equal bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub(super) data_type: DataType,
    pub(super) fund: u32,
    /// From 0, the first day.
    pub(super) day: u32,
    /// Rows of a valuation; 1 otherwise.
    pub(super) items: u32,
    /// The last item has the key of the first.
    pub(super) same_key: bool,
    pub(super) version_ms: i64,
    /// All values are derived from this number.
    pub(super) values: u64,
}

/// What a record is in relation to those before it.
#[derive(Clone, Copy, Debug)]
enum Variation {
    Disorder,
    Duplicate,
    EqualVersion,
    UnknownId,
    Bad(BadClass),
}

/// The generator. Also an iterator, which allocates for each record; [`Feed::next_into`] does not.
#[derive(Clone, Debug)]
pub struct Feed {
    config: FeedConfig,
    random: ChaCha8Rng,
    /// Variations by the upper end of their part of a random u32's range, ascending.
    variations: Vec<(u32, Variation)>,
    /// Every day as `YYYY-MM-DD`.
    days: Vec<[u8; 10]>,
    start_ms: i64,
    stride: u64,
    sequence: u64,
    per_type: [u64; 3],
    recent: Vec<Draft>,
    recent_at: usize,
}

impl Feed {
    /// Makes a feed at its beginning.
    pub fn new(config: FeedConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let last_day = jiff::tz::Offset::UTC.to_datetime(config.start).date();
        let days = (0..config.days)
            .map(|day| {
                let back = jiff::Span::new().days(i64::from(config.days - 1 - day));
                let mut text = [0; 10];
                text.copy_from_slice(last_day.saturating_sub(back).to_string().as_bytes());
                text
            })
            .collect();
        Ok(Self {
            random: ChaCha8Rng::seed_from_u64(config.seed),
            variations: variations(&config),
            days,
            start_ms: config.start.as_millisecond(),
            stride: stride(u64::from(config.funds)),
            sequence: 0,
            per_type: [0; 3],
            recent: Vec::with_capacity(RECENT),
            recent_at: 0,
            config,
        })
    }

    /// Returns the settings.
    pub fn config(&self) -> &FeedConfig {
        &self.config
    }

    /// Overwrites `record` with the next one, reusing its memory; `false` at the end of the feed.
    pub fn next_into(&mut self, record: &mut FeedRecord) -> bool {
        if self.config.records.is_some_and(|records| self.sequence >= records) {
            return false;
        }
        let now_ms = self.now_ms();
        self.sequence += 1;
        let draw = self.random.next_u32();
        let variation = self
            .variations
            .iter()
            .find(|(end, _)| draw < *end)
            .map(|(_, variation)| *variation);
        record.partition = None;
        record.timestamp_ms = now_ms;
        match variation {
            Some(Variation::Bad(class)) => self.make_bad(class, now_ms, record),
            Some(Variation::UnknownId) => {
                let mut draft = self.new_draft(&[DataType::Valuation, DataType::Risk], now_ms);
                draft.fund = self.config.funds + 1 + self.random.next_u32() % UNKNOWN_IDS;
                self.write(&draft, record);
                record.expectation = Expectation::DeadLettered(FaultClass::LookupMiss);
            }
            Some(Variation::Disorder | Variation::Duplicate | Variation::EqualVersion) if !self.recent.is_empty() => {
                let draft = self.vary_recent(variation, record);
                self.write(&draft, record);
                self.remember(draft);
            }
            _ => {
                let draft = self.new_draft(&DataType::ALL, now_ms);
                self.write(&draft, record);
                self.remember(draft);
            }
        }
        true
    }

    fn now_ms(&self) -> i64 {
        let passed = self.sequence.saturating_mul(u64::from(self.config.step_ms));
        self.start_ms.saturating_add_unsigned(passed)
    }

    fn new_draft(&mut self, data_types: &[DataType], version_ms: i64) -> Draft {
        let draw = self.random.next_u32();
        let data_type = self.config.mix.choose(draw, data_types).unwrap_or(DataType::Valuation);
        let count = self.per_type[data_type as usize];
        self.per_type[data_type as usize] += 1;
        let funds = u64::from(self.config.funds);
        let round = count / funds;
        let mut draft = Draft {
            data_type,
            // Both are below a u32 divisor.
            fund: (count % funds * self.stride % funds) as u32 + 1,
            day: (round % u64::from(self.config.days)) as u32,
            items: 1,
            same_key: false,
            version_ms,
            values: self.random.next_u64(),
        };
        let multi_row = self.config.multi_row;
        if data_type == DataType::Valuation && multi_row.multi_row > 0.0 && self.happens(multi_row.multi_row) {
            draft.items = 2 + self.random.next_u32() % (multi_row.items - 1);
            draft.same_key = self.happens(multi_row.same_key);
        }
        draft
    }

    /// Makes a variation of a recent record.
    fn vary_recent(&mut self, variation: Option<Variation>, record: &mut FeedRecord) -> Draft {
        const HOUR_MS: u32 = 3_600_000;
        let mut draft = self.recent[self.random.next_u32() as usize % self.recent.len()];
        match variation {
            Some(Variation::Disorder) => {
                draft.version_ms -= 1 + i64::from(self.random.next_u32() % HOUR_MS);
                draft.values = self.random.next_u64();
            }
            Some(Variation::EqualVersion) => {
                record.partition = Some((self.random.next_u32() % u32::from(self.config.partitions)) as i32);
                draft.values = self.random.next_u64();
            }
            _ => {}
        }
        draft
    }

    fn make_bad(&mut self, class: BadClass, now_ms: i64, record: &mut FeedRecord) {
        let draft = self.new_draft(class.data_types(), now_ms);
        self.write(&draft, record);
        let choice = self.random.next_u32();
        let other_fund = draft.fund % self.config.funds + 1;
        bad::spoil(
            record,
            class,
            &bad::Spoil {
                choice,
                items: draft.items,
                other_fund,
            },
        );
    }

    /// Writes a good record.
    fn write(&self, draft: &Draft, record: &mut FeedRecord) {
        record.data_type = draft.data_type;
        record.headers = draft.data_type.headers();
        record.key.clear();
        render::performance_id(draft.fund, &mut record.key);
        let payload = record.payload.get_or_insert_default();
        payload.clear();
        render::payload(draft, &self.days, payload);
        record.expectation = Expectation::Processed {
            rows: draft.items,
            letter: None,
        };
    }

    fn remember(&mut self, draft: Draft) {
        if self.recent.len() < RECENT {
            self.recent.push(draft);
        } else {
            self.recent[self.recent_at] = draft;
            self.recent_at = (self.recent_at + 1) % RECENT;
        }
    }

    fn happens(&mut self, share: f64) -> bool {
        self.random.next_u32() < threshold(share)
    }
}

impl Iterator for Feed {
    type Item = FeedRecord;

    fn next(&mut self) -> Option<FeedRecord> {
        let mut record = FeedRecord::empty();
        self.next_into(&mut record).then_some(record)
    }
}

/// Lays the shares one after another into the range of a u32.
fn variations(config: &FeedConfig) -> Vec<(u32, Variation)> {
    let shares = [
        (config.disorder, Variation::Disorder),
        (config.duplicates, Variation::Duplicate),
        (config.equal_versions, Variation::EqualVersion),
        (config.unknown_ids, Variation::UnknownId),
    ];
    let bad = config.bad.iter().map(|bad| (bad.share, Variation::Bad(bad.class)));
    let mut end = 0.0;
    shares
        .into_iter()
        .chain(bad)
        .filter(|(share, _)| *share > 0.0)
        .map(|(share, variation)| {
            end += share;
            (threshold(end), variation)
        })
        .collect()
}

/// The number below which a random u32 lies with the probability `share`.
fn threshold(share: f64) -> u32 {
    // A float beyond the range is cast to the nearest end of it.
    (share * f64::from(u32::MAX)) as u32
}

/// A step through the funds that visits each once a round, yet neighbours far apart.
fn stride(funds: u64) -> u64 {
    fn greatest_common_divisor(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { greatest_common_divisor(b, a % b) }
    }
    let golden = funds * 618 / 1_000;
    (golden.max(1)..=funds)
        .find(|step| greatest_common_divisor(*step, funds) == 1)
        .unwrap_or(1)
}
