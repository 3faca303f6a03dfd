use std::path::Path;
use std::time::Duration;

use super::*;
use crate::position::TopicName;

const VALID: &str = r#"
lookups:
  code: { table: t_code, key: id, value: code, search: [name] }
topics:
  nav: { unmatched: skip }
data_types:
  nav:
    topic: nav
    match: { header: kind, equals: nav }
    rows: /items
    id: { field: /id, in_key: true }
    table: t_nav
    key: [code, day]
    version: { field: /time, type: "datetime(3)", zone: UTC, column: time, position_column: place }
    columns:
      code: { lookup: code }
      day: { field: /day, type: date }
      nav: { field: /nav, type: "decimal(20,8)", round: true }
      owner: { field: ^/owner, type: string(9), optional: true }
    batch: { max_rows: 500, linger: 5ms }
"#;

/// A second data type on the same topic, for what two types must not share.
const SECOND: &str = r#"
  risk:
    topic: nav
    match: { header: kind, equals: risk }
    id: { field: /id }
    table: t_risk
    key: [code, day]
    version: { position: true, position_column: risk_place }
    columns:
      code: { lookup: code }
      day: { field: /day, type: date }
      level: { field: /level, type: int }
"#;

fn shipped() -> String {
    format!("{}/../config/catalog.yaml", env!("CARGO_MANIFEST_DIR"))
}

fn faults(text: &str) -> Vec<String> {
    match parse("catalog.yaml", text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.faults.iter().map(ToString::to_string).collect(),
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no `{from}` in the text");
    text.replacen(from, to, 1)
}

fn check(cases: &[(&str, &str, &[&str])], text: &str) {
    for (from, to, expected) in cases {
        let found = faults(&replaced(text, from, to));
        assert_eq!(found, *expected, "{from} => {to}");
    }
}

#[test]
fn the_shipped_catalog_is_valid() {
    let catalog = load(Path::new(&shipped())).unwrap_or_else(|faults| panic!("{faults}"));
    let names: Vec<_> = catalog
        .data_types
        .iter()
        .map(|data_type| data_type.name.as_str())
        .collect();
    assert_eq!(names, ["fund_basic", "fund_risk", "fund_valuation"]);
    assert!(
        catalog
            .data_types
            .iter()
            .all(|data_type| data_type.in_key && data_type.topic == TopicName::new("fund-data"))
    );
    let valuation = catalog.data_type(catalog.find_data_type("fund_valuation").expect("a shipped type"));
    let columns: Vec<_> = valuation.insert_columns().collect();
    assert_eq!(
        columns,
        ["fund_code", "nav_date", "unit_nav", "accumulated_nav", "source_time"]
    );
    assert_eq!(
        (valuation.key.as_slice(), valuation.lookups().as_slice()),
        ([0, 1].as_slice(), [LookupIndex(0)].as_slice())
    );
    assert_eq!(valuation.rows, Some(Pointer(vec!["items".to_owned()])));
}

#[test]
fn everything_is_compiled() {
    let catalog = parse("catalog.yaml", VALID).expect("a valid catalog");
    let nav = &catalog.data_types[0];
    assert_eq!(
        nav.matcher,
        Some(Matcher::Header {
            name: "kind".to_owned(),
            equals: "nav".to_owned()
        })
    );
    assert_eq!(
        nav.batch,
        Batch {
            max_rows: 500,
            linger: Duration::from_millis(5)
        }
    );
    assert_eq!(nav.version.max_ahead, Some(Duration::from_hours(24)));
    assert_eq!(nav.columns[0].column_type, ColumnType::LOOKUP);
    assert_eq!(
        nav.columns[3].source,
        ColumnSource::Field(Field::parse("^/owner").expect("a pointer"))
    );
    assert_eq!(catalog.topics[0].unmatched, Unmatched::Skip);
    let lookup = &catalog.lookups[0];
    assert_eq!(
        (lookup.ttl, lookup.refresh_after),
        (Duration::from_mins(60), Duration::from_mins(45))
    );
    assert_eq!(
        (lookup.negative_ttl, lookup.capacity, lookup.preload),
        (Duration::from_secs(30), 1_000_000, false)
    );
}

#[test]
fn the_three_forms_of_version_are_compiled() {
    let form = r#"{ field: /time, type: "datetime(3)", zone: UTC, column: time, position_column: place }"#;
    let version = |to: &str| {
        let text = replaced(VALID, form, to);
        parse("catalog.yaml", &text)
            .unwrap_or_else(|faults| panic!("{faults}"))
            .data_types[0]
            .version
            .clone()
    };
    let time = version("{ record_time: true, column: time, position_column: place, max_ahead: 2h }");
    assert_eq!(time.source, VersionSource::RecordTime);
    assert_eq!(
        (time.max_ahead, time.column_type()),
        (Some(Duration::from_hours(2)), Some(ColumnType::DateTime(3)))
    );
    let position = version("{ position: true, position_column: place }");
    assert_eq!(position.source, VersionSource::Position);
    assert_eq!((position.column, position.max_ahead), (None, None));
    let number = version("{ field: ^/v, type: bigint, column: v, position_column: place }");
    assert_eq!(
        (number.max_ahead, number.column_type()),
        (None, Some(ColumnType::BigInt))
    );
}

#[test]
fn a_topic_that_is_not_listed_keeps_its_unmatched_records() {
    let text = replaced(VALID, "topics:\n  nav: { unmatched: skip }\n", "");
    assert_eq!(
        parse("catalog.yaml", &text).expect("valid").topics[0].unmatched,
        Unmatched::DeadLetter
    );
    let text = replaced(VALID, "nav: { unmatched: skip }", "nav:");
    assert_eq!(
        parse("catalog.yaml", &text).expect("valid").topics[0].unmatched,
        Unmatched::DeadLetter
    );
}

#[test]
fn a_wide_type_gets_smaller_batches_by_default() {
    let columns: String = (0..100)
        .map(|number| format!("      c{number}: {{ field: /c, type: int }}\n"))
        .collect();
    let text = replaced(VALID, "    batch: { max_rows: 500, linger: 5ms }\n", &columns);
    assert_eq!(
        parse("catalog.yaml", &text).expect("valid").data_types[0]
            .batch
            .max_rows,
        65_535 / 106
    );
}

#[test]
fn the_hash_is_of_the_meaning_alone() {
    let hash = |text: &str| {
        parse("catalog.yaml", text)
            .unwrap_or_else(|faults| panic!("{faults}"))
            .hash
    };
    let plain = hash(VALID);
    assert_eq!(plain.len(), 64);
    let commented = replaced(VALID, "topics:", "# why\n\ntopics:   # here");
    let reordered = replaced(
        VALID,
        "{ field: /day, type: date }",
        "{ type: 'date', field: \"/day\" }",
    );
    let moved = replaced(VALID, "topics:\n  nav: { unmatched: skip }\n", "") + "topics:\n  nav: { unmatched: skip }\n";
    let columns = replaced(VALID, "      day: { field: /day, type: date }\n", "");
    let columns = replaced(
        &columns,
        "      owner:",
        "      day: { field: /day, type: date }\n      owner:",
    );
    let spelled_out = replaced(
        VALID,
        "search: [name] }",
        "search: [name], ttl: 60m, capacity: 1000000 }",
    );
    for same in [commented, reordered, moved, columns, spelled_out] {
        assert_eq!(hash(&same), plain, "{same}");
    }
    for (from, to) in [
        ("skip", "dead_letter"),
        ("search: [name]", "search: []"),
        ("equals: nav", "equals: naw"),
        ("rows: /items", "rows: /item"),
        ("in_key: true", "in_key: false"),
        ("[code, day]", "[day, code]"),
        ("zone: UTC", "zone: Asia/Shanghai"),
        ("position_column: place", "position_column: place, max_ahead: 2d"),
        ("^/owner", "/owner"),
        ("string(9)", "string(8)"),
        (", optional: true", ""),
        ("500", "501"),
    ] {
        assert_ne!(hash(&replaced(VALID, from, to)), plain, "{from} => {to}");
    }
}

#[test]
fn the_hash_of_some_types_ignores_the_others() {
    let one = parse("catalog.yaml", VALID).expect("valid");
    let two = parse("catalog.yaml", &format!("{VALID}{SECOND}")).unwrap_or_else(|faults| panic!("{faults}"));
    let hash = |catalog: &Catalog, name| catalog.hash_of(&[catalog.find_data_type(name).expect("declared")]);
    assert_ne!(one.hash, two.hash);
    assert_eq!(hash(&one, "nav"), hash(&two, "nav"));
    assert_ne!(hash(&two, "nav"), hash(&two, "risk"));
}

#[test]
fn faults_of_form_name_their_place_and_what_would_be_right() {
    check(
        &[
            (
                "unmatched: skip",
                "unmatched: drop",
                &[
                    "topics.nav.unmatched: unknown variant `drop`, expected `skip` or `dead_letter`; write skip or dead_letter",
                ],
            ),
            (
                "type: date }",
                "typ: date }",
                &[
                    "data_types.nav.columns.day.typ: is not a key of the catalog; did you mean `type`? The keys here are \
                     field, lookup, type, optional, round, zone",
                    "data_types.nav.columns.day.type: is missing; write one of string(n), int, bigint, decimal(p,s), date, \
                     datetime(0) to datetime(6), bool, json",
                ],
            ),
            (
                "key: [code, day]",
                "key: [code, 7]",
                &[
                    "data_types.nav.key[1]: invalid type: integer `7`, expected a string; write a list of names, such as \
                   [fund_code, nav_date]",
                ],
            ),
            (
                "linger: 5ms",
                "linger: 5",
                &[
                    "data_types.nav.batch.linger: invalid type: integer `5`, expected a string; write a number with its \
                   unit, such as 20ms, 45m, 1h or 1d",
                ],
            ),
            (
                "    table: t_nav\n",
                "",
                &["data_types.nav.table: is missing; write text, in quotes where it looks like something else"],
            ),
            (
                "id: { field: /id, in_key: true }",
                "id: /id",
                &["data_types.nav.id: is not a mapping; write a mapping (`key: value` lines, or {…})"],
            ),
            (
                "rows: /items",
                "rows:",
                &[
                    "data_types.nav.rows: has no value; write text, in quotes where it looks like \
              something else, or leave the key out",
                ],
            ),
            (
                "topics:",
                "topic:",
                &[
                    "topic: is not a key of the catalog; did you mean `topics`? The keys here are lookups, topics, data_types",
                ],
            ),
        ],
        VALID,
    );
}

#[test]
fn what_is_no_catalog_at_all_is_one_fault() {
    assert_eq!(
        faults("lookups: {}"),
        ["data_types: is missing; declare at least one data type"]
    );
    assert_eq!(faults("data_types:"), ["data_types: is empty; declare at least one"]);
    assert_eq!(
        faults("[]"),
        ["is not a mapping; write a mapping (`key: value` lines, or {…})"]
    );
    assert!(faults("a: [")[0].starts_with("is not YAML: "));
    let missing = load(Path::new("/nowhere/catalog.yaml"))
        .expect_err("no such file")
        .to_string();
    assert!(
        missing.starts_with("/nowhere/catalog.yaml: cannot be read: "),
        "{missing}"
    );
}

#[test]
fn names_that_stand_twice_are_faults_where_they_stand() {
    let text = format!(
        "{VALID}{SECOND}{}",
        SECOND.replace("code: { lookup: code }", "day: { lookup: code }")
    );
    let text = replaced(&text, "topics:", "  code: { table: u, key: id, value: code }\ntopics:");
    assert_eq!(
        faults(&text),
        [
            "lookups.code: stands twice; keep one of the two",
            "data_types.risk.columns.day: stands twice; keep one of the two",
            "data_types.risk: stands twice; keep one of the two",
        ]
    );
}

#[test]
fn faults_of_names_pointers_and_types_are_found() {
    check(
        &[
            (
                "  nav:\n    topic",
                "  Nav-1:\n    topic",
                &["data_types.Nav-1: `Nav-1` is not a name; use 1 to 64 characters of a-z, 0-9 and _"],
            ),
            (
                "table: t_nav",
                "table: db.nav",
                &[
                    "data_types.nav.table: `db.nav` is not a name for a table or column; use 1 to 64 characters of A-Z, \
                   a-z, 0-9, _ and $",
                ],
            ),
            (
                "rows: /items",
                "rows: ^/items",
                &[
                    "data_types.nav.rows: `^/items` starts with `^`; write `/items`: it is relative to the record always",
                ],
            ),
            (
                "id: { field: /id,",
                "id: { field: id,",
                &[
                    "data_types.nav.id.field: `id` does not start with `/`; write a JSON pointer (RFC 6901), such as \
                   /performanceId",
                ],
            ),
            (
                "field: /day",
                "field: /day~2",
                &[
                    "data_types.nav.columns.day.field: `/day~2` has a `~` that is not followed by 0 or 1; write a JSON \
                   pointer (RFC 6901), such as /navDate, or ^/navDate to start from the record",
                ],
            ),
            (
                "type: date }",
                "type: day }",
                &[
                    "data_types.nav.columns.day.type: `day` is not a column type; write one of string(n), int, bigint, \
                   decimal(p,s), date, datetime(0) to datetime(6), bool, json",
                ],
            ),
            (
                "decimal(20,8)",
                "decimal(66,8)",
                &[
                    "data_types.nav.columns.nav.type: `decimal(66,8)` is not a decimal that MySQL has (1 to 65 digits, 0 \
                   to 30 of them, and no more than all, after the point); write one of string(n), int, bigint, \
                   decimal(p,s), date, datetime(0) to datetime(6), bool, json",
                ],
            ),
            (
                "string(9), optional: true",
                "string(9), round: true, zone: UTC",
                &[
                    "data_types.nav.columns.owner.round: has no meaning for string(9); leave it out: only decimal and \
                     datetime have digits to drop",
                    "data_types.nav.columns.owner.zone: has no meaning for string(9); leave it out: only datetime has a zone",
                ],
            ),
        ],
        VALID,
    );
}

#[test]
fn faults_of_where_columns_come_from_are_found() {
    check(
        &[
            (
                "{ lookup: code }",
                "{ lookup: cod, optional: true }",
                &[
                    "data_types.nav.columns.code.optional: has no meaning for a lookup; leave it out: an id without a \
                     value is a dead letter until it has one",
                    "data_types.nav.columns.code.lookup: `cod` is not a lookup; did you mean `code`?",
                    "data_types.nav.columns.code.optional: is set on a key column; leave it out: a key is never null",
                ],
            ),
            (
                "{ lookup: code }",
                "{ lookup: code, field: /code }",
                &["data_types.nav.columns.code: comes from both a field and a lookup; write one of field: and lookup:"],
            ),
        ],
        VALID,
    );
}

#[test]
fn faults_of_keys_versions_and_limits_are_found() {
    check(
        &[
            (
                "[code, day]",
                "[code, days]",
                &["data_types.nav.key[1]: `days` is not among the columns; did you mean `day`?"],
            ),
            (
                "type: date }",
                "type: json, optional: true }",
                &[
                    "data_types.nav.columns.day.optional: is set on a key column; leave it out: a key is never null",
                    "data_types.nav.columns.day.type: is json on a key column; choose a type whose equal values are equal bytes",
                ],
            ),
            (
                "\"datetime(3)\"",
                "date",
                &["data_types.nav.version.type: date cannot be a version; write datetime(0) to datetime(6), or bigint"],
            ),
            (
                "\"datetime(3)\"",
                "bigint",
                &["data_types.nav.version.zone: has no meaning for bigint, which is not a time; leave it out"],
            ),
            (
                "zone: UTC",
                "zone: Mars",
                &[
                    "data_types.nav.version.zone: `Mars` is not a known time zone; write a name of the time zone database, \
                   such as UTC or Asia/Shanghai",
                ],
            ),
            (
                "{ field: /time,",
                "{ record_time: true, field: /time,",
                &[
                    "data_types.nav.version: has more than one source; write one of field: (with type:), record_time: true \
                   and position: true",
                ],
            ),
            (
                "position_column: place",
                "position_column: nav",
                &[
                    "data_types.nav.version.position_column: `nav` is among the columns too; choose a column that `columns` \
                   does not name",
                ],
            ),
            (
                "position_column: place",
                "position_column: TIME",
                &[
                    "data_types.nav.version.position_column: `TIME` is the version column too; choose two different columns",
                ],
            ),
            (
                "max_rows: 500, linger: 5ms",
                "max_rows: 10001, linger: 11s",
                &[
                    "data_types.nav.batch.max_rows: 10001 is out of bounds; write 1 to 10000",
                    "data_types.nav.batch.linger: 11s is out of bounds; write at most 10s",
                ],
            ),
            (
                "search: [name] }",
                "search: [name], ttl: 10m, refresh_after: 10m, capacity: 0 }",
                &[
                    "lookups.code.refresh_after: 10m is not below the ttl of 10m; write less than ttl",
                    "lookups.code.capacity: is 0; write how many keys to cache, at least 1",
                ],
            ),
            (
                "topics:\n  nav:",
                "topics:\n  nav: {}\n  navs:",
                &["topics.navs: is not the topic of any data type; did you mean `nav`? Otherwise leave it out"],
            ),
        ],
        VALID,
    );
}

#[test]
fn what_types_share_has_to_be_told_apart() {
    let both = format!("{VALID}{SECOND}");
    assert_eq!(faults(&both), [""; 0]);
    check(
        &[
            (
                "    match: { header: kind, equals: risk }\n",
                "",
                &[
                    "data_types.risk.match: is missing, and `nav` carries 2 data types; write match: { header: …, equals: … } \
                   or match: { field: /…, equals: … }",
                ],
            ),
            (
                "equals: risk",
                "equals: nav",
                &[
                    "data_types.risk.match: matches the same records as nav; give each data type of a topic its own match",
                ],
            ),
            (
                "{ header: kind, equals: nav }",
                "{ field: /kind, equals: nav }",
                &[
                    "data_types.nav.id.in_key: is set, but only a field tells the data type; match by a header, give the \
                   data type its own topic, or leave it out",
                ],
            ),
            ("t_risk", "t_nav", &[]),
            (
                "t_risk\n    key: [code, day]",
                "t_nav\n    key: [day, code]",
                &[
                    "data_types.risk.key: is another key than that of nav, which shares the table t_nav; write [code, day]",
                ],
            ),
        ],
        &both,
    );
    check(
        &[
            (
                "risk_place",
                "Place",
                &[
                    "data_types.risk.version.position_column: `place` is written by nav too, which shares the table t_nav; \
                   let each column, version column and position column have one writer",
                ],
            ),
            (
                "level: {",
                "Owner: {",
                &[
                    "data_types.risk.columns.owner: `owner` is written by nav too, which shares the table t_nav; let each \
                   column, version column and position column have one writer",
                ],
            ),
        ],
        &replaced(&both, "t_risk", "t_nav"),
    );
}

#[test]
fn all_faults_of_a_catalog_are_reported_at_once() {
    let text = r#"
lookups:
  Code: { table: t code, key: id, value: code, ttl: 1x, refresh_after: 2h, capacity: 0, preload: maybe }
topics:
  nav: { unmatched: drop }
data_types:
  nav:
    topic: nav topic
    match: { header: kind, field: /kind }
    rows: items
    id: { field: /id, inkey: true }
    key: [codes, day]
    version: { field: /time, type: date, zone: Mars, position_column: nav }
    columns:
      day: { field: day, type: date, round: true, optional: true }
      nav: { field: /nav, type: decimal(20,8) }
      owner: { lookup: own }
      owner: { lookup: own }
    batch: { max_rows: 0, linger: 1h }
    bach: {}
"#;
    let found = parse("catalog.yaml", text).expect_err("faults").to_string();
    insta::assert_snapshot!(found, @r#"
    catalog.yaml: data_types.nav.columns.owner: stands twice; keep one of the two
    catalog.yaml: lookups.Code.ttl: `1x` is not a duration: unknown time unit "x", supported units: ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations); write a number with its unit, such as 20ms, 45m, 1h or 1d
    catalog.yaml: lookups.Code.preload: invalid type: string "maybe", expected a boolean; write true or false
    catalog.yaml: topics.nav.unmatched: unknown variant `drop`, expected `skip` or `dead_letter`; write skip or dead_letter
    catalog.yaml: data_types.nav.match.equals: is missing; write text, in quotes where it looks like something else
    catalog.yaml: data_types.nav.id.inkey: is not a key of the catalog; did you mean `in_key`? The keys here are field, in_key
    catalog.yaml: data_types.nav.table: is missing; write text, in quotes where it looks like something else
    catalog.yaml: data_types.nav.columns.nav["8)"]: is not a key of the catalog; the keys here are field, lookup, type, optional, round, zone
    catalog.yaml: data_types.nav.bach: is not a key of the catalog; did you mean `batch`? The keys here are topic, match, rows, id, table, key, version, columns, batch
    catalog.yaml: lookups.Code: `Code` is not a name; use 1 to 64 characters of a-z, 0-9 and _
    catalog.yaml: lookups.Code.table: `t code` is not a name for a table or column; use 1 to 64 characters of A-Z, a-z, 0-9, _ and $
    catalog.yaml: lookups.Code.capacity: is 0; write how many keys to cache, at least 1
    catalog.yaml: topics.nav: is not the topic of any data type; did you mean `nav topic`? Otherwise leave it out
    catalog.yaml: data_types.nav.topic: `nav topic` is not a name for a topic; use 1 to 249 characters of A-Z, a-z, 0-9, `.`, `_` and `-`
    catalog.yaml: data_types.nav.match: names both a header and a field; write one of header: and field:
    catalog.yaml: data_types.nav.rows: `items` does not start with `/`; write a JSON pointer (RFC 6901), such as /performanceId
    catalog.yaml: data_types.nav.columns.day.field: `day` does not start with `/`; write a JSON pointer (RFC 6901), such as /navDate, or ^/navDate to start from the record
    catalog.yaml: data_types.nav.columns.day.round: has no meaning for date; leave it out: only decimal and datetime have digits to drop
    catalog.yaml: data_types.nav.columns.nav.type: `decimal(20` is not a column type (a type with a comma has to stand in quotes); write one of string(n), int, bigint, decimal(p,s), date, datetime(0) to datetime(6), bool, json
    catalog.yaml: data_types.nav.columns.owner.lookup: `own` is not a lookup; the lookups are Code
    catalog.yaml: data_types.nav.key[0]: `codes` is not among the columns; name one of the columns
    catalog.yaml: data_types.nav.columns.day.optional: is set on a key column; leave it out: a key is never null
    catalog.yaml: data_types.nav.version.column: is missing; name the column that stores the version
    catalog.yaml: data_types.nav.version.zone: `Mars` is not a known time zone; write a name of the time zone database, such as UTC or Asia/Shanghai
    catalog.yaml: data_types.nav.version.type: date cannot be a version; write datetime(0) to datetime(6), or bigint
    catalog.yaml: data_types.nav.version.position_column: `nav` is among the columns too; choose a column that `columns` does not name
    catalog.yaml: data_types.nav.batch.max_rows: 0 is out of bounds; write 1 to 10000
    catalog.yaml: data_types.nav.batch.linger: 1h is out of bounds; write at most 10s
    "#);
}
