//! One column of each type, value by value.

use super::*;

/// Decodes one value of one column; `Ok` is its cell as text, NULL as `NULL`.
fn value(column_type: ColumnType, change: impl Fn(&mut Column), json: &str) -> Result<String, FaultClass> {
    let mut column = column("value", "/value", column_type);
    change(&mut column);
    let outcome = decode(
        &one_row(vec![column]),
        format!(r#"{{"id": "a", "value": {json}, "other": 1e999}}"#),
    );
    if let Some(class) = class(&outcome) {
        return Err(class);
    }
    Ok(match cells(&outcome)[1] {
        Cell::Null => "NULL".to_owned(),
        Cell::Int(value) => format!("int {value}"),
        Cell::Text(text) => text.to_owned(),
    })
}

/// One column type, how its column is declared otherwise, and what values come to.
type Case = (
    ColumnType,
    fn(&mut Column),
    &'static [(&'static str, Result<&'static str, FaultClass>)],
);

const PLAIN: fn(&mut Column) = |_| {};
const OPTIONAL: fn(&mut Column) = |column| column.optional = true;
const ROUND: fn(&mut Column) = |column| column.round = true;
const BERLIN: fn(&mut Column) = |column| column.zone = Some("Europe/Berlin".to_owned());

const CASES: &[Case] = &[
    (
        ColumnType::String(3),
        PLAIN,
        &[
            (r#""abc""#, Ok("abc")),
            (r#""""#, Ok("")),
            (r#""日本語""#, Ok("日本語")),
            (r#""\ud83d\ude00\n\u0000""#, Ok("😀\n\0")),
            (r#""ab ""#, Ok("ab ")),
            (r#""abcd""#, Err(FaultClass::TooLong)),
            (r#""日本語日""#, Err(FaultClass::TooLong)),
            ("1", Err(FaultClass::WrongType)),
            ("true", Err(FaultClass::WrongType)),
            ("[\"a\"]", Err(FaultClass::WrongType)),
            ("null", Err(FaultClass::MissingField)),
        ],
    ),
    (
        ColumnType::String(3),
        OPTIONAL,
        &[("null", Ok("NULL")), ("7", Err(FaultClass::WrongType))],
    ),
    (
        ColumnType::Int,
        PLAIN,
        &[
            ("0", Ok("int 0")),
            ("-0", Ok("int 0")),
            ("2147483647", Ok("int 2147483647")),
            ("-2147483648", Ok("int -2147483648")),
            ("2147483648", Err(FaultClass::OutOfRange)),
            ("-2147483649", Err(FaultClass::OutOfRange)),
            ("99999999999999999999999999999999999999999", Err(FaultClass::OutOfRange)),
            ("1.0", Err(FaultClass::WrongType)),
            ("1e3", Err(FaultClass::WrongType)),
            ("\"1\"", Err(FaultClass::WrongType)),
            ("false", Err(FaultClass::WrongType)),
        ],
    ),
    (
        ColumnType::BigInt,
        PLAIN,
        &[
            ("9223372036854775807", Ok("int 9223372036854775807")),
            ("-9223372036854775808", Ok("int -9223372036854775808")),
            ("9223372036854775808", Err(FaultClass::OutOfRange)),
            ("9007199254740993", Ok("int 9007199254740993")),
            ("{}", Err(FaultClass::WrongType)),
        ],
    ),
    (
        ColumnType::Decimal {
            precision: 20,
            scale: 8,
        },
        PLAIN,
        &[
            ("1.2345", Ok("1.2345")),
            ("0.10000000", Ok("0.1")),
            ("\"1.50e1\"", Ok("15")),
            ("123456789012.12345678", Ok("123456789012.12345678")),
            ("-0.0", Ok("0")),
            ("0.123456789", Err(FaultClass::OutOfRange)),
            ("1234567890123", Err(FaultClass::OutOfRange)),
            ("1e999", Err(FaultClass::OutOfRange)),
            ("1e-999999999", Err(FaultClass::OutOfRange)),
            ("1234567890123456789012345678901234567890", Err(FaultClass::OutOfRange)),
            ("\"NaN\"", Err(FaultClass::WrongType)),
            ("\" 1\"", Err(FaultClass::WrongType)),
            ("true", Err(FaultClass::WrongType)),
            ("[1]", Err(FaultClass::WrongType)),
        ],
    ),
    (
        ColumnType::Decimal { precision: 5, scale: 2 },
        ROUND,
        &[
            ("1.005", Ok("1.01")),
            ("-1.005", Ok("-1.01")),
            ("999.995", Err(FaultClass::OutOfRange)),
        ],
    ),
    (
        ColumnType::Date,
        PLAIN,
        &[
            ("\"2024-02-29\"", Ok("2024-02-29")),
            ("\"0001-01-01\"", Ok("0001-01-01")),
            ("\"9999-12-31\"", Ok("9999-12-31")),
            ("\"2024-\\u0030\\u0033-07\"", Ok("2024-03-07")),
            ("\"2023-02-29\"", Err(FaultClass::BadTime)),
            ("\"0000-00-00\"", Err(FaultClass::BadTime)),
            ("\"0000-01-01\"", Err(FaultClass::BadTime)),
            ("\"2024-3-7\"", Err(FaultClass::BadTime)),
            ("\"20240307\"", Err(FaultClass::BadTime)),
            ("\"2024-03-07 \"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T00:00:00Z\"", Err(FaultClass::BadTime)),
            ("\"\"", Err(FaultClass::BadTime)),
            ("20240307", Err(FaultClass::WrongType)),
        ],
    ),
    (
        ColumnType::DateTime(3),
        PLAIN,
        &[
            ("\"2024-03-07T09:30:00Z\"", Ok("2024-03-07 09:30:00.000")),
            ("\"2024-03-07 09:30:00.120000+08:00\"", Ok("2024-03-07 01:30:00.120")),
            ("\"2024-01-01t00:00:00.5-05:30\"", Ok("2024-01-01 05:30:00.500")),
            ("\"9999-12-31T23:59:59.999Z\"", Ok("9999-12-31 23:59:59.999")),
            ("\"1000-01-01T00:00:00Z\"", Ok("1000-01-01 00:00:00.000")),
            ("\"2024-03-07T09:30:00.1234Z\"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T09:30:00\"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T09:30Z\"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T09:30:00.Z\"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T09:30:60Z\"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T24:00:00Z\"", Err(FaultClass::BadTime)),
            ("\"2024-02-30T00:00:00Z\"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T09:30:00+24:00\"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T09:30:00+0800\"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T09:30:00Z \"", Err(FaultClass::BadTime)),
            ("\"2024-03-07T09:30:00Ünïcode\"", Err(FaultClass::BadTime)),
            ("\"0000-00-00T00:00:00Z\"", Err(FaultClass::BadTime)),
            ("\"0999-12-31T23:59:59Z\"", Err(FaultClass::BadTime)),
            ("\"9999-12-31T23:59:59-01:00\"", Err(FaultClass::BadTime)),
            ("1709803800", Err(FaultClass::WrongType)),
        ],
    ),
    (
        ColumnType::DateTime(0),
        ROUND,
        &[("\"2024-03-07T09:30:00.999999999999Z\"", Ok("2024-03-07 09:30:00"))],
    ),
    (
        ColumnType::DateTime(6),
        PLAIN,
        &[("\"2024-03-07T09:30:00.123456Z\"", Ok("2024-03-07 09:30:00.123456"))],
    ),
    (
        ColumnType::DateTime(0),
        BERLIN,
        &[
            ("\"2024-07-01T12:00:00\"", Ok("2024-07-01 10:00:00")),
            ("\"2024-07-01T12:00:00Z\"", Ok("2024-07-01 12:00:00")),
            // Twice on that day: the first, in summer time.
            ("\"2024-10-27T02:30:00\"", Ok("2024-10-27 00:30:00")),
            // Skipped on that day.
            ("\"2024-03-31T02:30:00\"", Err(FaultClass::BadTime)),
        ],
    ),
    (
        ColumnType::Bool,
        PLAIN,
        &[
            ("true", Ok("int 1")),
            ("false", Ok("int 0")),
            ("1", Err(FaultClass::WrongType)),
            ("\"true\"", Err(FaultClass::WrongType)),
        ],
    ),
    (
        ColumnType::Json,
        PLAIN,
        &[
            (
                "{\"a\" : [1.50, 1e999, {\"a\":1,\"a\":2}]}",
                Ok("{\"a\" : [1.50, 1e999, {\"a\":1,\"a\":2}]}"),
            ),
            ("\"text\"", Ok("\"text\"")),
            ("null", Err(FaultClass::MissingField)),
        ],
    ),
    (ColumnType::Json, OPTIONAL, &[("null", Ok("NULL"))]),
];

#[test]
fn values_become_cells_or_faults_by_their_declared_type() {
    for (column_type, change, values) in CASES {
        for (json, expected) in *values {
            let found = value(*column_type, change, json);
            assert_eq!(found, expected.map(str::to_owned), "{column_type:?} {json}");
        }
    }
}

#[test]
fn key_columns_refuse_trailing_spaces() {
    let data_type = one_row(Vec::new());
    assert_eq!(
        class(&decode(&data_type, r#"{"id": "ab "}"#)),
        Some(FaultClass::TrailingSpace)
    );
    assert_eq!(
        class(&decode(&data_type, r#"{"id": "ab\u0020"}"#)),
        Some(FaultClass::TrailingSpace)
    );
    assert_eq!(class(&decode(&data_type, r#"{"id": " ab\u00a0"}"#)), None);
}

#[test]
fn keys_are_encoded_in_key_order_and_by_value() {
    let mut data_type = one_row(vec![
        column("amount", "/amount", ColumnType::Decimal { precision: 6, scale: 2 }),
        column("number", "/number", ColumnType::Int),
    ]);
    data_type.key = vec![2, 1, 0];
    let key = |payload: &str| decode(&data_type, payload).expect("a row").0.remove(0).key;
    let encoded = key(r#"{"id": "a\u0000b", "amount": 1.5, "number": -1}"#);
    assert_eq!(
        &*encoded,
        b"\x7f\xff\xff\xff\xff\xff\xff\xff\x01000150a\x00\xffb\x00\x00"
    );
    assert_eq!(
        encoded,
        key(r#"{"number": -1, "amount": "15.00e-1", "id": "a\u0000b"}"#)
    );
}

#[test]
fn messages_name_the_field_the_value_and_what_is_right() {
    let data_type = one_row(vec![column(
        "nav",
        "/a~1b/nav",
        ColumnType::Decimal { precision: 5, scale: 2 },
    )]);
    let message = |payload: &str| decode(&data_type, payload).expect_err("a fault").message;
    assert_eq!(
        message(r#"{"id": "a", "a/b": {"nav": "12\t"}}"#),
        r#"/a~1b/nav is "12\t"; expected a number that fits decimal(5,2) exactly"#
    );
    assert_eq!(
        message(r#"{"id": "a"}"#),
        "/a~1b/nav is missing or null; expected a value"
    );
    assert_eq!(
        message(r#"{"id": "a", "a/b": 1e999}"#),
        "/a~1b/nav cannot be reached: a number stands on its way; expected an object there"
    );
    let long = message(&format!(
        r#"{{"id": "a", "a/b": {{"nav": "{}"}}}}"#,
        "x".repeat(100_000)
    ));
    assert!(long.len() < 200, "{long}");
}
