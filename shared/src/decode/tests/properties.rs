//! What holds for any payload.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// A type with a column of each kind, in items, with pointers of every sort.
fn everything() -> DataType {
    DataType {
        columns: vec![
            column("id", "^/performanceId", ColumnType::String(10)),
            column("date", "/date", ColumnType::Date),
            column("text", "/inner/text", ColumnType::String(5)),
            optional(column("whole", "/inner", ColumnType::Json)),
            column("int", "/list/0", ColumnType::Int),
            optional(column("big", "/list/1", ColumnType::BigInt)),
            column(
                "decimal",
                "/decimal",
                ColumnType::Decimal {
                    precision: 10,
                    scale: 3,
                },
            ),
            optional(column("flag", "/flag", ColumnType::Bool)),
        ],
        ..valuation()
    }
}

/// What one generated item says.
#[derive(Clone, Debug)]
struct Item {
    day: u8,
    text: String,
    int: i32,
    big: Option<i64>,
    thousandths: i32,
    flag: Option<bool>,
    millisecond: u16,
}

impl Item {
    fn decimal(&self) -> String {
        let (sign, size) = (
            if self.thousandths < 0 { "-" } else { "" },
            self.thousandths.unsigned_abs(),
        );
        format!("{sign}{}.{:03}", size / 1000, size % 1000)
    }

    fn json(&self) -> String {
        let text = serde_json::to_string(&self.text).expect("a string");
        format!(
            r#"{{"flag":{},"x":[{{}}],"list":[{},{}],"decimal":{},"inner":{{"text":{text}}},"date":"2024-02-{:02}","sourceTime":"2024-03-07T09:30:00.{:03}Z"}}"#,
            self.flag.map_or("null".to_owned(), |flag| flag.to_string()),
            self.int,
            self.big.map_or("null".to_owned(), |big| big.to_string()),
            self.decimal(),
            self.day,
            self.millisecond,
        )
    }
}

fn item() -> impl Strategy<Value = Item> {
    let text = proptest::collection::vec(any::<char>(), 0..5).prop_map(String::from_iter);
    (
        1_u8..29,
        text,
        any::<i32>(),
        any::<Option<i64>>(),
        any::<i32>(),
        any::<Option<bool>>(),
        0_u16..1000,
    )
        .prop_map(|(day, text, int, big, thousandths, flag, millisecond)| Item {
            day,
            text,
            int,
            big,
            thousandths,
            flag,
            millisecond,
        })
}

fn payload(items: &[Item]) -> String {
    let items: Vec<_> = items.iter().map(Item::json).collect();
    format!(
        r#"{{"other":"é\ud83d\ude00","items":[{}],"performanceId":"0P1"}}"#,
        items.join(", ")
    )
}

/// Whether a payload is JSON; `None`: `serde_json` does not tell.
///
/// It holds no number beyond a float's range in a `Value` and reads no further there. What follows may be broken, which
/// it sees when it ignores all values, but for escapes and bytes that are no UTF-8.
fn is_json(payload: &[u8]) -> Option<bool> {
    match serde_json::from_slice::<serde_json::Value>(payload) {
        Ok(_) => Some(true),
        Err(error) if error.to_string().starts_with("number out of range") => {
            let is_plain = !payload.contains(&b'\\') && std::str::from_utf8(payload).is_ok();
            match serde_json::from_slice::<serde::de::IgnoredAny>(payload) {
                Ok(_) => is_plain.then_some(true),
                Err(_) => Some(false),
            }
        }
        Err(_) => Some(false),
    }
}

/// Decodes with every part of the module and checks that broken JSON leaves nothing.
fn judge(payload: &[u8]) -> Result<(), TestCaseError> {
    let limits = Limits::default();
    let everything = everything();
    let matched = DataType {
        matcher: Some(Matcher::Field {
            pointer: pointer("/items/0/inner/text"),
            equals: "a".to_owned(),
        }),
        ..everything.clone()
    };
    let outcome = decode(&everything, payload);
    let id = Decoder::new(&everything)
        .expect("a plan")
        .id(payload, &limits)
        .map(Cow::into_owned);
    let found = FieldMatcher::new([(TypeIndex(0), &matched)])
        .expect("a type")
        .find(payload, &limits);
    match is_json(payload) {
        Some(false) => {
            prop_assert!(outcome.is_err(), "{:?}", outcome);
            prop_assert!(id.is_err() && found.is_err());
        }
        Some(true) => {
            for fault in [outcome.err(), id.err(), found.err()].into_iter().flatten() {
                prop_assert!(
                    fault.class != FaultClass::NotJson && fault.class != FaultClass::InvalidUtf8,
                    "{}",
                    fault
                );
            }
        }
        None => {}
    }
    Ok(())
}

/// Found by `changed_payloads_are_judged`, which took such payloads for JSON.
#[test]
fn a_payload_that_breaks_behind_a_number_out_of_range_is_judged() {
    for (payload, expected) in [
        (br#"{"items": [1e999}"#.as_slice(), Some(false)),
        (br#"{"items": [1e999]}"#, Some(true)),
        (br#"{"items": [1e999, "\ud800"]}"#, None),
    ] {
        assert_eq!(is_json(payload), expected);
        judge(payload).expect("judged right");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(payload: Vec<u8>) {
        judge(&payload)?;
    }

    #[test]
    fn any_json_like_text_is_judged(payload in r#"(\{|\}|\[|\]|,|:|"|"a"|"items"|"performanceId"|"inner"|\\u|\\|d800|1|-|e9|\.|null|true| ){0,24}"#) {
        judge(payload.as_bytes())?;
    }

    #[test]
    fn changed_payloads_are_judged(
        items in proptest::collection::vec(item(), 0..3),
        changes in proptest::collection::vec((0_u8..3, any::<Index>(), any::<u8>()), 1..3),
    ) {
        let mut payload = payload(&items).into_bytes();
        for (kind, place, byte) in changes {
            let place = place.index(payload.len());
            match kind {
                0 => payload[place] = byte,
                1 => payload.insert(place, byte),
                _ => { payload.remove(place); }
            }
        }
        judge(&payload)?;
    }

    #[test]
    fn any_truncation_is_judged(items in proptest::collection::vec(item(), 0..3), end: Index) {
        let payload = payload(&items);
        judge(&payload.as_bytes()[..end.index(payload.len())])?;
    }

    #[test]
    fn valid_records_come_out_as_they_went_in(items in proptest::collection::vec(item(), 0..6)) {
        let (rows, faults) = decode(&everything(), payload(&items)).expect("a good record");
        prop_assert_eq!(faults, vec![]);
        prop_assert_eq!(rows.len(), items.len());
        for (row, item) in rows.iter().zip(&items) {
            let decimal = item.decimal();
            let decimal = decimal.trim_end_matches('0').trim_end_matches('.');
            let date = format!("2024-02-{:02}", item.day);
            let whole = format!(r#"{{"text":{}}}"#, serde_json::to_string(&item.text).expect("a string"));
            let time = format!("2024-03-07 09:30:00.{:03}", item.millisecond);
            prop_assert_eq!(row.cells.iter().collect::<Vec<_>>(), vec![
                Cell::Text("0P1"),
                Cell::Text(&date),
                Cell::Text(&item.text),
                Cell::Text(&whole),
                Cell::Int(item.int.into()),
                item.big.map_or(Cell::Null, Cell::Int),
                Cell::Text(decimal),
                item.flag.map_or(Cell::Null, |flag| Cell::Int(flag.into())),
                Cell::Text(&time),
            ]);
            prop_assert_eq!(row.version, 1_709_803_800_000_000 + i64::from(item.millisecond) * 1000);
        }
    }

    #[test]
    fn memory_left_over_from_another_record_does_not_matter(first: Vec<u8>, items in proptest::collection::vec(item(), 0..3)) {
        let decoder = Decoder::new(&everything()).expect("a plan");
        let mut drafts = Drafts::default();
        let payload = payload(&items);
        let mut rows = [Vec::new(), Vec::new()];
        for (rows, before) in rows.iter_mut().zip([first, GARBAGE.to_vec()]) {
            let _ = decoder.decode(&source(None), &before, now(), &Limits::default(), &mut drafts);
            decoder.decode(&source(None), payload.as_bytes(), now(), &Limits::default(), &mut drafts).expect("drafts");
            drafts.complete(|_| "", rows).expect("rows");
        }
        prop_assert_eq!(&rows[0], &rows[1]);
        prop_assert_eq!(&rows[0], &decode(&everything(), &payload).expect("rows").0);
    }
}

/// A record with good and bad rows.
const GARBAGE: &[u8] = br#"{"performanceId":"left over","items":[{"date":"2024-02-01","list":[1,2],"decimal":"7",
    "inner":{"text":"a"},"sourceTime":"2024-03-07T09:30:00Z"},{"date":1}]}"#;
