use std::collections::BTreeMap;

use super::*;
use crate::catalog::parse;

const CATALOG: &str = r#"
data_types:
  nav:
    topic: nav
    id: { field: /id }
    table: t_nav
    key: [code]
    version: { field: /time, type: "datetime(3)", column: time, position_column: place }
    columns:
      code: { field: /code, type: string(16) }
      name: { field: /name, type: string(100), optional: true }
"#;

/// A column as MariaDB describes it, by its type as written.
fn column(name: &str, full_type: &str) -> ColumnSnapshot {
    let data_type = full_type.split('(').next().expect("a type").to_owned();
    let numbers: Vec<u64> = full_type
        .split(['(', ',', ')'])
        .skip(1)
        .filter_map(|number| number.parse().ok())
        .collect();
    let is_text = data_type.ends_with("char") || data_type.ends_with("text");
    let length = if data_type.ends_with("text") {
        Some(65_535)
    } else {
        numbers.first().copied()
    };
    ColumnSnapshot {
        name: name.to_owned(),
        full_type: full_type.to_owned(),
        nullable: false,
        default: ColumnDefault::None,
        auto_increment: false,
        generated: false,
        length,
        octets: if data_type.ends_with("text") {
            length
        } else {
            length.map(|length| length * 4)
        },
        character_octets: is_text.then_some(4),
        precision: numbers.first().copied(),
        scale: numbers.get(1).copied().or(Some(0)),
        time_digits: numbers.first().copied(),
        character_set: is_text.then(|| "utf8mb4".to_owned()),
        collation: is_text.then(|| "utf8mb4_bin".to_owned()),
        data_type,
    }
}

fn index(name: &str, columns: &[&str]) -> IndexSnapshot {
    let parts = columns
        .iter()
        .map(|column| IndexPart {
            column: Some((*column).to_owned()),
            prefix: None,
        })
        .collect();
    IndexSnapshot {
        name: name.to_owned(),
        unique: true,
        parts,
    }
}

fn good() -> TableSnapshot {
    TableSnapshot {
        name: "t_nav".to_owned(),
        kind: "BASE TABLE".to_owned(),
        engine: Some("InnoDB".to_owned()),
        columns: vec![
            column("code", "varchar(16)"),
            ColumnSnapshot {
                nullable: true,
                ..column("name", "varchar(100)")
            },
            column("time", "datetime(3)"),
            column("place", "varbinary(16)"),
        ],
        indexes: vec![index("PRIMARY", &["code"])],
        triggers: Vec::new(),
    }
}

fn found(catalog: &str, table: TableSnapshot) -> Vec<String> {
    let catalog = parse("catalog.yaml", catalog).unwrap_or_else(|faults| panic!("{faults}"));
    faults(&catalog, &BTreeMap::from([(table.name.clone(), table)]))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_table_that_fits_has_no_fault() {
    assert_eq!(found(CATALOG, good()), [""; 0]);
}

#[test]
fn all_faults_of_a_table_are_found_at_once_each_with_its_remedy() {
    let mut table = good();
    table.engine = Some("MyISAM".to_owned());
    table.triggers.push("audit".to_owned());
    table.indexes = vec![index("PRIMARY", &["time", "code"]), index("by_name", &["name"])];
    table.columns[0].collation = Some("utf8mb4_general_ci".to_owned());
    table.columns[1].nullable = false;
    table.columns[2] = ColumnSnapshot {
        nullable: true,
        ..column("time", "datetime(0)")
    };
    table.columns[3] = column("place", "binary(16)");
    table.columns.push(column("region", "varchar(9)"));
    insta::assert_snapshot!(found(CATALOG, table).join("\n"), @r#"
    t_nav: has a second unique index, by_name (name), by which an upsert would hit another row; ALTER TABLE `t_nav` DROP INDEX `by_name`
    t_nav: has the primary key (time, code), not (code); ALTER TABLE `t_nav` DROP PRIMARY KEY, ADD PRIMARY KEY (`code`)
    t_nav: has the trigger audit, which may change rows behind the guard; DROP TRIGGER `audit`
    t_nav: is stored by MyISAM, which has no transactions; ALTER TABLE `t_nav` ENGINE = InnoDB
    t_nav.code: has the collation utf8mb4_general_ci, in which different keys are equal; ALTER TABLE `t_nav` MODIFY COLUMN `code` varchar(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
    t_nav.name: is NOT NULL, and optional in the catalog; ALTER TABLE `t_nav` MODIFY COLUMN `name` VARCHAR(100) NULL
    t_nav.place: is binary(16), not VARBINARY(16); ALTER TABLE `t_nav` MODIFY COLUMN `place` VARBINARY(16) NOT NULL
    t_nav.region: is NOT NULL without a default, and nothing writes it; name it in the catalog, or ALTER TABLE `t_nav` MODIFY COLUMN `region` varchar(9) NULL
    t_nav.time: is datetime(0), not DATETIME(3); ALTER TABLE `t_nav` MODIFY COLUMN `time` DATETIME(3) NOT NULL
    t_nav.time: takes NULL, which no comparison orders; ALTER TABLE `t_nav` MODIFY COLUMN `time` DATETIME(3) NOT NULL
    "#);
}

#[test]
fn a_missing_table_comes_with_the_statement_that_creates_it() {
    let mut other = good();
    other.name = "t_other".to_owned();
    insta::assert_snapshot!(found(CATALOG, other).join("\n"), @"t_nav: does not exist; CREATE TABLE `t_nav` (`code` VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, `name` VARCHAR(100) NULL, `time` DATETIME(3) NOT NULL, `place` VARBINARY(16) NOT NULL, PRIMARY KEY (`code`)) ENGINE = InnoDB");
}

#[test]
fn a_type_fits_only_columns_that_hold_all_its_values() {
    for (column_type, fit, unfit) in [
        (
            "string(16)",
            &["varchar(16)", "char(20)", "text"][..],
            &["varchar(15)", "varbinary(64)", "int(11)"][..],
        ),
        ("string(16384)", &["varchar(16384)"], &["text"]),
        (
            "int",
            &["int(11)", "int", "bigint(20)"],
            &["int(10) unsigned", "smallint(6)", "decimal(10,0)"],
        ),
        ("bigint", &["bigint(20)", "bigint"], &["bigint(20) unsigned", "int(11)"]),
        (
            "decimal(20,8)",
            &["decimal(20,8)"],
            &["decimal(20,6)", "decimal(22,8)", "decimal(20,8) unsigned", "double"],
        ),
        ("date", &["date"], &["datetime(0)", "varchar(10)"]),
        (
            "datetime(3)",
            &["datetime(3)"],
            &["datetime(0)", "datetime(6)", "timestamp(3)"],
        ),
        ("bool", &["tinyint(1)", "int(11)"], &["bit(1)", "char(1)"]),
        ("json", &["json", "longtext"], &["text", "varchar(100)"]),
    ] {
        let column_type = column_type.parse().expect("a type");
        for text in fit {
            assert!(
                columns::fits(column_type, &column("c", text)),
                "{text} should hold {column_type}"
            );
        }
        for text in unfit {
            assert!(
                !columns::fits(column_type, &column("c", text)),
                "{text} should not hold {column_type}"
            );
        }
    }
}

#[test]
fn defaults_are_read_as_both_servers_write_them() {
    let read = ColumnDefault::from_information_schema;
    let value = |text: &str| ColumnDefault::Value(text.to_owned());
    assert_eq!(
        [read(None, true), read(Some("NULL"), true), read(None, false)],
        [const { ColumnDefault::None }; 3]
    );
    assert_eq!(read(Some("'a''b'"), true), value("a'b"));
    assert_eq!(read(Some("a'b"), false), value("a'b"));
    assert_eq!(read(Some("''"), true), value(""));
    assert_eq!(read(Some("-9223372036854775808"), true), value("-9223372036854775808"));
}
