//! Whole records: ids, items, versions, and payloads that are broken.

use super::*;

const GOOD: &str = r#"{"performanceId":"0P00000042","items":[
    {"date":"2024-03-07","unitNav":1.2345,"accumulatedNav":1.5,"sourceTime":"2024-03-07T09:30:00Z"}]}"#;

#[test]
fn a_record_becomes_its_rows() {
    let outcome = decode_from(&source(Some(b"0P00000042")), &valuation(), GOOD.as_bytes());
    let texts = ["000042", "2024-03-07", "1.2345", "1.5", "2024-03-07 09:30:00.000"];
    assert_eq!(cells(&outcome), texts.map(Cell::Text));
    let row = &outcome.expect("a row").0[0];
    assert_eq!(&*row.key, b"000042\x00\x002024-03-07\x00\x00");
    assert_eq!(row.version, 1_709_803_800_000_000);
    assert_eq!(format!("{:?}", row.position), "g1/p2/o3/r0");
}

#[test]
fn a_faulty_item_leaves_the_others_alone() {
    let good = r#"{"date":"2024-03-07","unitNav":1,"sourceTime":"2024-03-07 09:30:00"}"#;
    let bad = [
        (
            r#"{"date":"2024-02-30","unitNav":1,"sourceTime":"2024-03-07 09:30:00"}"#,
            FaultClass::BadTime,
        ),
        (
            r#"{"date":"2024-02-07","unitNav":1e999,"sourceTime":"2024-03-07 09:30:00"}"#,
            FaultClass::OutOfRange,
        ),
        (
            r#"{"date":"2024-02-07","sourceTime":"2024-03-07 09:30:00"}"#,
            FaultClass::MissingField,
        ),
        (r#"{"date":"2024-02-07","unitNav":1}"#, FaultClass::MissingField),
        (
            r#"{"date":"2024-02-07","unitNav":1,"sourceTime":"2025-03-07 09:30:00"}"#,
            FaultClass::VersionAhead,
        ),
        (
            r#"{"date":"2024-02-07","unitNav":1,"unitNav":1,"sourceTime":"2024-03-07"}"#,
            FaultClass::DuplicateField,
        ),
        ("1e999", FaultClass::WrongType),
        ("[]", FaultClass::WrongType),
        ("\"text\"", FaultClass::WrongType),
        ("null", FaultClass::MissingField),
    ];
    for (item, class) in bad {
        let payload = format!(r#"{{"items":[{good},{item},{good}],"performanceId":"x"}}"#);
        let (rows, faults) = decode(&valuation(), payload).expect("no fault of the record");
        assert_eq!(
            rows.iter().map(|row| row.position.row().0).collect::<Vec<_>>(),
            [0, 2],
            "{item}"
        );
        assert_eq!(rows[0].cells, rows[1].cells, "{item}");
        assert_eq!(
            faults
                .iter()
                .map(|(row, fault)| (row.0, fault.class))
                .collect::<Vec<_>>(),
            [(1, class)],
            "{item}"
        );
    }
}

#[test]
fn broken_payloads_are_faults_of_the_record() {
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for (payload, expected) in [
        (&b""[..], FaultClass::NotJson),
        (b"   ", FaultClass::NotJson),
        (b"not json", FaultClass::NotJson),
        (b"\xef\xbb\xbf{}", FaultClass::NotJson),
        (b"{\"performanceId\":\"a\",\"items\":[]} x", FaultClass::NotJson),
        (b"{\"performanceId\":\"a\",\"items\":[]", FaultClass::NotJson),
        (b"{\"performanceId\":\"a\",\"items\":[],}", FaultClass::NotJson),
        (b"{\"performanceId\":\"a\",\"items\":[],\"x\":NaN}", FaultClass::NotJson),
        (
            b"{\"performanceId\":\"a\",\"items\":[],\"x\":Infinity}",
            FaultClass::NotJson,
        ),
        (
            b"{\"performanceId\":\"a\",\"items\":[],\"x\":\"\\ud800\"}",
            FaultClass::NotJson,
        ),
        (
            b"{\"performanceId\":\"a\",\"items\":[],\"x\":\"\n\"}",
            FaultClass::NotJson,
        ),
        (b"{\"performanceId\":\"a\",\"items\":[],\"x\":01}", FaultClass::NotJson),
        (b"{\"performanceId\":\"\xff\",\"items\":[]}", FaultClass::InvalidUtf8),
        (
            b"{\"performanceId\":\"a\",\"items\":[],\"x\":\"\xc0\x80\"}",
            FaultClass::InvalidUtf8,
        ),
        (deep.as_bytes(), FaultClass::TooDeep),
        (b"{\"items\":[]}", FaultClass::MissingField),
        (b"{\"performanceId\":null,\"items\":[]}", FaultClass::MissingField),
        (b"{\"performanceId\":42,\"items\":[]}", FaultClass::WrongType),
        (
            b"{\"performanceId\":\"a\",\"performanceId\":\"a\",\"items\":[]}",
            FaultClass::DuplicateField,
        ),
        (
            b"{\"performanceId\":\"a\",\"performance\\u0049d\":\"a\",\"items\":[]}",
            FaultClass::DuplicateField,
        ),
        (b"{\"performanceId\":\"a\"}", FaultClass::MissingField),
        (b"{\"performanceId\":\"a\",\"items\":null}", FaultClass::MissingField),
        (b"{\"performanceId\":\"a\",\"items\":{}}", FaultClass::WrongType),
        (b"{\"performanceId\":\"a\",\"items\":1e999}", FaultClass::WrongType),
        (
            b"{\"performanceId\":\"a\",\"items\":[],\"items\":[]}",
            FaultClass::DuplicateField,
        ),
        (b"[]", FaultClass::WrongType),
        (b"1e999", FaultClass::WrongType),
        (b"null", FaultClass::MissingField),
    ] {
        let outcome = decode(&valuation(), payload);
        assert_eq!(
            class(&outcome),
            Some(expected),
            "{} {outcome:?}",
            String::from_utf8_lossy(payload)
        );
    }
}

#[test]
fn broken_json_after_good_items_leaves_no_row() {
    let broken = GOOD.replace("}]}", "}],\"x\":[1,}");
    assert_eq!(class(&decode(&valuation(), broken)), Some(FaultClass::NotJson));
}

#[test]
fn an_empty_array_yields_nothing() {
    let (rows, faults) = decode(&valuation(), r#"{"performanceId":"a","items":[]}"#).expect("no fault");
    assert!(rows.is_empty() && faults.is_empty());
}

#[test]
fn key_and_id_must_agree_where_the_key_is_the_id() {
    for key in [Some(&b"0P00000043"[..]), Some(b""), Some(b"\xff"), None] {
        let source = RecordSource {
            in_key: true,
            ..source(key)
        };
        assert_eq!(
            class(&decode_from(&source, &valuation(), GOOD.as_bytes())),
            Some(FaultClass::KeyMismatch)
        );
        let source = RecordSource {
            in_key: false,
            ..source
        };
        assert_eq!(class(&decode_from(&source, &valuation(), GOOD.as_bytes())), None);
    }
}

#[test]
fn limits_on_size_and_rows_hold() {
    let decoder = Decoder::new(&valuation()).expect("a plan");
    let mut drafts = Drafts::default();
    let payload = br#"{"performanceId":"a","items":[1,2,3]}"#;
    let mut class = |limits: Limits| {
        decoder
            .decode(&source(None), payload, now(), &limits, &mut drafts)
            .err()
            .map(|fault| fault.class)
    };
    assert_eq!(
        class(Limits {
            max_rows: 3,
            ..Limits::default()
        }),
        None
    );
    assert_eq!(
        class(Limits {
            max_rows: 2,
            ..Limits::default()
        }),
        Some(FaultClass::RecordTooLarge)
    );
    assert_eq!(
        class(Limits {
            max_payload: 10,
            ..Limits::default()
        }),
        Some(FaultClass::RecordTooLarge)
    );
    assert_eq!(
        class(Limits {
            max_depth: 1,
            ..Limits::default()
        }),
        Some(FaultClass::TooDeep)
    );
}

#[test]
fn duplicates_count_only_where_a_pointer_goes() {
    let data_type = one_row(vec![optional(column("b", "/a/b", ColumnType::Int))]);
    for (payload, expected) in [
        (r#"{"id":"a","a":{"b":1}}"#, None),
        (
            r#"{"id":"a","x":1,"x":2,"a":{"c":1,"c":1,"b":{"b":1}}}"#,
            Some(FaultClass::WrongType),
        ),
        (r#"{"id":"a","x":1,"x":2,"a":{"c":1,"c":1,"b":1}}"#, None),
        (r#"{"id":"a","a":{"b":1},"a":{}}"#, Some(FaultClass::DuplicateField)),
        (r#"{"id":"a","a":null,"a":{"b":1}}"#, Some(FaultClass::DuplicateField)),
        (r#"{"id":"a","a":{"b":1,"b":1}}"#, Some(FaultClass::DuplicateField)),
        (r#"{"id":"a","a":7}"#, Some(FaultClass::WrongType)),
        (r#"{"id":"a","a":null}"#, None),
        (r#"{"id":"a"}"#, None),
    ] {
        assert_eq!(class(&decode(&data_type, payload)), expected, "{payload}");
    }
}

#[test]
fn pointers_reach_the_record_arrays_and_whole_values() {
    let mut data_type = one_row(vec![
        column("currency", "^/meta/currency", ColumnType::String(3)),
        column("first", "^/list/1/name", ColumnType::String(9)),
        column("item", "", ColumnType::Json),
        column("first_item", "^/items/0", ColumnType::Json),
        column("member", "/n", ColumnType::Int),
    ]);
    data_type.rows = Some(pointer("/items"));
    data_type.columns[0].source = ColumnSource::Field(field("^/id"));
    let payload = r#"{"items":[{"n":1},{"n":2}],"list":[0,{"name":"one"},2],"meta":{"currency":"EUR"},"id":"a"}"#;
    let (rows, faults) = decode(&data_type, payload).expect("rows");
    assert_eq!(faults, []);
    let texts = |row: usize| rows[row].cells.iter().collect::<Vec<_>>();
    let text = Cell::Text;
    assert_eq!(
        texts(0),
        [
            text("a"),
            text("EUR"),
            text("one"),
            text(r#"{"n":1}"#),
            text(r#"{"n":1}"#),
            Cell::Int(1)
        ]
    );
    assert_eq!(
        texts(1),
        [
            text("a"),
            text("EUR"),
            text("one"),
            text(r#"{"n":2}"#),
            text(r#"{"n":1}"#),
            Cell::Int(2)
        ]
    );

    let shared_fault = payload.replace("EUR", "EURO");
    assert_eq!(class(&decode(&data_type, shared_fault)), Some(FaultClass::TooLong));
}

#[test]
fn rows_may_be_the_whole_record() {
    let mut data_type = one_row(vec![column("n", "/n", ColumnType::Int)]);
    data_type.rows = Some(pointer(""));
    data_type.id = pointer("/0/id");
    let (rows, faults) = decode(
        &data_type,
        r#"[{"id":"a","n":1},{"id":"b","n":1e999},{"id":"c","n":3}]"#,
    )
    .expect("rows");
    assert_eq!((rows.len(), faults.len()), (2, 1));
}

#[test]
fn versions_come_from_fields_times_and_positions() {
    let version = |source: VersionSource| Version {
        source,
        column: Some("version".to_owned()),
        max_ahead: Some(Duration::from_secs(60)),
        ..one_row(Vec::new()).version
    };
    let from_field = |column_type| VersionSource::Field {
        field: field("/v"),
        column_type,
        zone: None,
    };
    let found = |version: Version, timestamp, value: &str| {
        let data_type = DataType {
            version,
            ..one_row(Vec::new())
        };
        let source = RecordSource {
            timestamp,
            ..source(None)
        };
        let outcome = decode_from(&source, &data_type, format!(r#"{{"id":"a","v":{value}}}"#).as_bytes());
        match &outcome {
            Err(fault) => Err(fault.class),
            Ok((rows, _)) => Ok((rows[0].version, cells(&outcome).get(1).map(|cell| format!("{cell:?}")))),
        }
    };
    let text = |text: &str| Some(format!("Text({text:?})"));

    let time = || version(from_field(ColumnType::DateTime(3)));
    let cut = Ok((1_709_803_800_123_000, text("2024-03-07 09:30:00.123")));
    assert_eq!(found(time(), 0, r#""2024-03-07T09:30:00.123999Z""#), cut);
    assert_eq!(
        found(time(), 0, r#""1969-12-31T23:59:59.9999Z""#),
        Ok((-1000, text("1969-12-31 23:59:59.999")))
    );
    assert!(found(time(), 0, r#""2024-03-08T00:01:00.0009Z""#).is_ok());
    assert_eq!(
        found(time(), 0, r#""2024-03-08T00:01:00.001Z""#),
        Err(FaultClass::VersionAhead)
    );
    assert_eq!(
        found(time(), 0, r#""2025-03-08T00:00:00Z""#),
        Err(FaultClass::VersionAhead)
    );
    assert_eq!(found(time(), 0, "null"), Err(FaultClass::MissingField));
    assert_eq!(found(time(), 0, "1"), Err(FaultClass::WrongType));

    let number = || Version {
        max_ahead: None,
        ..version(from_field(ColumnType::BigInt))
    };
    assert_eq!(
        found(number(), 0, "-9007199254740993"),
        Ok((-9_007_199_254_740_993, Some("Int(-9007199254740993)".to_owned())))
    );
    assert_eq!(found(number(), 0, "1.5"), Err(FaultClass::WrongType));

    let record_time = || version(VersionSource::RecordTime);
    assert_eq!(
        found(record_time(), 1_709_803_800_123, "0"),
        Ok((1_709_803_800_123, text("2024-03-07 09:30:00.123")))
    );
    assert_eq!(found(record_time(), -1, "0"), Err(FaultClass::MissingField));
    assert_eq!(found(record_time(), i64::MAX, "0"), Err(FaultClass::BadTime));
    assert_eq!(
        found(record_time(), 1_741_392_000_000, "0"),
        Err(FaultClass::VersionAhead)
    );

    assert_eq!(found(one_row(Vec::new()).version, -1, "0"), Ok((0, None)));
}

#[test]
fn looked_up_keys_refuse_trailing_spaces() {
    let decoder = Decoder::new(&valuation()).expect("a plan");
    let (mut drafts, mut rows) = (Drafts::default(), Vec::new());
    decoder
        .decode(&source(None), GOOD.as_bytes(), now(), &Limits::default(), &mut drafts)
        .expect("drafts");
    assert_eq!((drafts.id(), drafts.len()), ("0P00000042", 1));
    assert_eq!(
        drafts.complete(|_| "x ", &mut rows).map_err(|fault| fault.class),
        Err(FaultClass::TrailingSpace)
    );
    assert!(rows.is_empty());
}

#[test]
fn the_id_alone_needs_valid_json_and_nothing_else() {
    let decoder = Decoder::new(&valuation()).expect("a plan");
    let id = |payload| decoder.id(payload, &Limits::default()).map_err(|fault| fault.class);
    assert_eq!(id(br#"{"items":7,"performanceId":"a\u0062"}"#).as_deref(), Ok("ab"));
    assert_eq!(id(br#"{"performanceId":"a"} x"#), Err(FaultClass::NotJson));
    assert_eq!(id(br#"{"performanceId":["a"]}"#), Err(FaultClass::WrongType));
    assert_eq!(
        id(br#"{"performanceId":"a","performanceId":"a"}"#),
        Err(FaultClass::DuplicateField)
    );
}

#[test]
fn fields_tell_the_type_of_a_record() {
    let with = |from: &str, equals: &str, id: &str| DataType {
        matcher: Some(Matcher::Field {
            pointer: pointer(from),
            equals: equals.to_owned(),
        }),
        id: pointer(id),
        ..one_row(Vec::new())
    };
    let types = [
        with("/type", "a", "/id"),
        one_row(Vec::new()),
        with("/type", "b", "/key"),
        with("/kind/x", "c", "/id"),
    ];
    let matcher = FieldMatcher::new((0..).map(TypeIndex).zip(&types)).expect("three types");
    let find = |payload: &str| match matcher.find(payload.as_bytes(), &Limits::default()) {
        Ok(None) => Ok(None),
        Ok(Some(matched)) => Ok(Some((
            matched.index.0,
            matched.id.map(Cow::into_owned).map_err(|fault| fault.class),
        ))),
        Err(fault) => Err(fault.class),
    };
    let id = |id: &str| Ok(id.to_owned());
    assert_eq!(find(r#"{"type":"a","id":"1","key":"2"}"#), Ok(Some((0, id("1")))));
    assert_eq!(find(r#"{"type":"\u0062","id":"1","key":"2"}"#), Ok(Some((2, id("2")))));
    assert_eq!(
        find(r#"{"type":"z","kind":{"x":"c"},"id":"1"}"#),
        Ok(Some((3, id("1"))))
    );
    assert_eq!(
        find(r#"{"type":"a","key":"2","key":"2"}"#),
        Ok(Some((0, Err(FaultClass::MissingField))))
    );
    for unmatched in [r#"{"type":"z"}"#, r#"{"type":1e999,"kind":1e999}"#, "{}", "[]", "7"] {
        assert_eq!(find(unmatched), Ok(None), "{unmatched}");
    }
    assert_eq!(find(r#"{"type":"a","type":"a"}"#), Err(FaultClass::DuplicateField));
    assert_eq!(find("{"), Err(FaultClass::NotJson));
    assert!(FieldMatcher::new([(TypeIndex(0), &types[1])]).is_none());
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let refused = |data_type: &DataType| Decoder::new(data_type).err().map(|error| error.to_string());
    let time = ColumnType::DateTime(0);
    let zoned = Column {
        zone: Some("Nowhere/Land".to_owned()),
        ..column("at", "/at", time)
    };
    let unknown = "data type thing, column at: zone Nowhere/Land is not known here";
    assert_eq!(refused(&one_row(vec![zoned])).as_deref(), Some(unknown));
    let keyed = |column: Column| DataType {
        key: vec![0, 1],
        ..one_row(vec![column])
    };
    let key = "data type thing: column k cannot be part of the key";
    assert_eq!(
        refused(&keyed(column("k", "/k", ColumnType::Json))).as_deref(),
        Some(key)
    );
    assert_eq!(refused(&keyed(optional(column("k", "/k", time)))).as_deref(), Some(key));
    assert!(
        refused(&DataType {
            key: vec![7],
            ..one_row(Vec::new())
        })
        .is_some()
    );
    assert!(refused(&one_row(vec![column("far", &"/x".repeat(51), time)])).is_some());
}
