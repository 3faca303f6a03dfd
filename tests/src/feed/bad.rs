//! Makes good records bad, with one fault each, so that its class is certain.

mod edit;

use std::fmt;

use reprise_shared::fault::FaultClass;
use serde::{Deserialize, Serialize};

use edit::{find_field, insert_first, rename_field, set_field};

use super::{DATA_TYPE_HEADER, DataType, Expectation, FeedRecord, render};

/// One way in which a record can be bad, or merely odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadClass {
    /// The payload ends in the middle, or is no JSON at all.
    NotJson,
    /// A field has another JSON type.
    WrongType,
    /// A field is missing, or null.
    MissingField,
    /// 10,000 arrays in one another.
    TooDeep,
    /// A byte that is not UTF-8.
    InvalidUtf8,
    /// Half of a surrogate pair as an escape.
    LoneSurrogate,
    /// A named field stands twice in the record.
    DuplicateField,
    /// `NaN` for a number.
    NotANumber,
    /// `1e999` for a number.
    HugeExponent,
    /// A decimal of 40 digits.
    FortyDigits,
    /// `0000-00-00` for a date.
    ZeroDate,
    /// A string of 2 MiB.
    HugeString,
    /// The Kafka key is another fund's id.
    KeyMismatch,
    /// The Kafka key is empty.
    EmptyKey,
    /// A version that lies 4,000 years after the record's time, so beyond any clock.
    VersionAhead,
    /// No payload.
    Tombstone,
    /// A header that matches no data type, or none.
    Unmatched,
    /// An empty array of items: no fault, and no row.
    NoItems,
}

impl BadClass {
    /// Every class.
    pub const ALL: [Self; 18] = [
        Self::NotJson,
        Self::WrongType,
        Self::MissingField,
        Self::TooDeep,
        Self::InvalidUtf8,
        Self::LoneSurrogate,
        Self::DuplicateField,
        Self::NotANumber,
        Self::HugeExponent,
        Self::FortyDigits,
        Self::ZeroDate,
        Self::HugeString,
        Self::KeyMismatch,
        Self::EmptyKey,
        Self::VersionAhead,
        Self::Tombstone,
        Self::Unmatched,
        Self::NoItems,
    ];

    /// Returns the name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::WrongType => "wrong_type",
            Self::MissingField => "missing_field",
            Self::TooDeep => "too_deep",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::LoneSurrogate => "lone_surrogate",
            Self::DuplicateField => "duplicate_field",
            Self::NotANumber => "not_a_number",
            Self::HugeExponent => "huge_exponent",
            Self::FortyDigits => "forty_digits",
            Self::ZeroDate => "zero_date",
            Self::HugeString => "huge_string",
            Self::KeyMismatch => "key_mismatch",
            Self::EmptyKey => "empty_key",
            Self::VersionAhead => "version_ahead",
            Self::Tombstone => "tombstone",
            Self::Unmatched => "unmatched",
            Self::NoItems => "no_items",
        }
    }

    /// Returns the data types that can have it.
    pub fn data_types(self) -> &'static [DataType] {
        match self {
            Self::NoItems => &[DataType::Valuation],
            Self::NotANumber | Self::HugeExponent | Self::FortyDigits => &[DataType::Valuation, DataType::Risk],
            _ => &DataType::ALL,
        }
    }

    /// A share that is small enough to have all classes at once, and smaller for large payloads.
    pub(super) fn small_share(self) -> f64 {
        match self {
            Self::HugeString => 0.000_5,
            _ => 0.003,
        }
    }
}

impl fmt::Display for BadClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How to spoil a record.
pub(super) struct Spoil {
    /// Decides between the forms of a class, and which item is hit.
    pub(super) choice: u32,
    /// How many items the record has.
    pub(super) items: u32,
    /// Another known fund.
    pub(super) other_fund: u32,
}

/// Makes a good record bad and sets what must become of it.
pub(super) fn spoil(record: &mut FeedRecord, class: BadClass, spoil: &Spoil) {
    record.expectation = match class {
        BadClass::KeyMismatch => {
            record.key.clear();
            render::performance_id(spoil.other_fund, &mut record.key);
            Expectation::DeadLettered(FaultClass::KeyMismatch)
        }
        BadClass::EmptyKey => {
            record.key.clear();
            Expectation::DeadLettered(FaultClass::KeyMismatch)
        }
        BadClass::Tombstone => {
            record.payload = None;
            Expectation::Skipped
        }
        BadClass::Unmatched => {
            record.headers = if spoil.choice.is_multiple_of(2) {
                &[]
            } else {
                &[(DATA_TYPE_HEADER, "fund_unknown")]
            };
            Expectation::DeadLettered(FaultClass::Unmatched)
        }
        _ => match &mut record.payload {
            Some(payload) => spoil_payload(payload, record.data_type, class, spoil),
            None => record.expectation,
        },
    };
}

fn spoil_payload(payload: &mut Vec<u8>, data_type: DataType, class: BadClass, spoil: &Spoil) -> Expectation {
    // Where a row's field is hit: the record of a type with `rows` goes on without that row.
    let item = if data_type == DataType::Valuation {
        spoil.choice % spoil.items
    } else {
        0
    };
    let of_row = |fault| match data_type {
        DataType::Valuation => Expectation::Processed {
            rows: spoil.items - 1,
            letter: Some((item, fault)),
        },
        DataType::Basic | DataType::Risk => Expectation::DeadLettered(fault),
    };
    let variant = (spoil.choice / 64).is_multiple_of(2);
    let (date, number, text) = match data_type {
        DataType::Basic => ("inceptionDate", "", "fundName"),
        DataType::Valuation => ("date", "unitNav", "date"),
        DataType::Risk => ("alertDate", "riskScore", "alertDate"),
    };
    let mut set = |field: &str, value: &[u8]| set_field(payload, field, item, value);
    match class {
        BadClass::WrongType => {
            let (field, value): (_, &[u8]) = match data_type {
                DataType::Basic => ("fundName", b"42"),
                DataType::Valuation => ("unitNav", if variant { b"true" } else { b"[1.5]" }),
                DataType::Risk => ("riskLevel", if variant { b"\"3\"" } else { b"{}" }),
            };
            set(field, value);
            of_row(FaultClass::WrongType)
        }
        BadClass::MissingField if variant => {
            set(text, b"null");
            of_row(FaultClass::MissingField)
        }
        BadClass::MissingField => {
            rename_field(payload, text, item);
            of_row(FaultClass::MissingField)
        }
        BadClass::LoneSurrogate => {
            set(
                text,
                if variant {
                    b"\"2024-\\ud800\""
                } else {
                    b"\"\\udc00 2024\""
                },
            );
            Expectation::DeadLettered(FaultClass::NotJson)
        }
        BadClass::NotANumber => {
            set(number, if variant { b"NaN" } else { b"-Infinity" });
            Expectation::DeadLettered(FaultClass::NotJson)
        }
        BadClass::HugeExponent => {
            set(number, b"1e999");
            of_row(FaultClass::OutOfRange)
        }
        BadClass::FortyDigits => {
            set(number, b"1234567890123456789012345678901234567890");
            of_row(FaultClass::OutOfRange)
        }
        BadClass::ZeroDate => {
            if !set(date, b"\"0000-00-00\"") {
                insert_first(payload, b"\"inceptionDate\":\"0000-00-00\"");
            }
            of_row(FaultClass::BadTime)
        }
        BadClass::VersionAhead => {
            // The first digit of the year in `"sourceTime":"2024-…`; 4,000 years later the same days exist.
            if let Some((start, _)) = find_field(payload, "sourceTime", item) {
                payload[start + 1] += 4;
            }
            of_row(FaultClass::VersionAhead)
        }
        BadClass::NoItems => {
            set_field(payload, "items", 0, b"[]");
            Expectation::Processed { rows: 0, letter: None }
        }
        _ => spoil_record(payload, class, variant),
    }
}

/// The faults that concern the payload as a whole.
fn spoil_record(payload: &mut Vec<u8>, class: BadClass, variant: bool) -> Expectation {
    const LEVELS: usize = 10_000;
    const HUGE: usize = 2 * 1024 * 1024;
    Expectation::DeadLettered(match class {
        BadClass::TooDeep => {
            let nested = [b"\"nested\":".as_slice(), &[b'['; LEVELS], &[b']'; LEVELS]].concat();
            insert_first(payload, &nested);
            FaultClass::TooDeep
        }
        BadClass::InvalidUtf8 => {
            insert_first(
                payload,
                if variant {
                    b"\"note\":\"\xff\""
                } else {
                    b"\"note\":\"\xc3\x28\""
                },
            );
            FaultClass::InvalidUtf8
        }
        BadClass::DuplicateField => {
            let twice = match find_field(payload, "performanceId", 0) {
                Some((start, end)) => [b"\"performanceId\":", &payload[start..end]].concat(),
                None => Vec::new(),
            };
            insert_first(payload, &twice);
            FaultClass::DuplicateField
        }
        BadClass::HugeString => {
            let huge = [b"\"note\":\"".as_slice(), &vec![b'x'; HUGE], b"\""].concat();
            insert_first(payload, &huge);
            FaultClass::RecordTooLarge
        }
        _ if variant => {
            let is_inside_character = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
            let rest = payload[payload.len() / 2..]
                .iter()
                .position(|byte| !is_inside_character(byte))
                .unwrap_or(0);
            payload.truncate(payload.len() / 2 + rest);
            FaultClass::NotJson
        }
        _ => {
            payload.clear();
            payload.extend_from_slice(b"fund data, but not as JSON");
            FaultClass::NotJson
        }
    })
}
