//! The three shipped data types as the catalog declares them, written down a second time.

/// A data type and its table.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) data_type: &'static str,
    pub(super) table: &'static str,
    /// The member that holds the array of rows.
    pub(super) rows: Option<&'static str>,
    /// Names of columns.
    pub(super) key: &'static [&'static str],
    pub(super) columns: &'static [Column],
}

/// A column of a table.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// The member of the record or item; `None`: looked up by the id.
    pub(super) field: Option<&'static str>,
    pub(super) kind: Kind,
    pub(super) optional: bool,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// At most so many characters.
    Text(usize),
    Int,
    /// At most so many digits before and after the point.
    Decimal(usize, usize),
    Date,
}

/// The member that holds the id.
pub(super) const ID: &str = "performanceId";
/// The member that holds the version.
pub(super) const VERSION: &str = "sourceTime";
/// The column of the version.
pub(super) const VERSION_COLUMN: &str = "source_time";
/// The column of the source position.
pub(super) const POSITION_COLUMN: &str = "source_position";

impl Shape {
    /// Returns the places of the key's columns.
    pub(super) fn key_places(&self) -> impl Iterator<Item = usize> {
        self.key
            .iter()
            .filter_map(|key| self.columns.iter().position(|column| column.name == *key))
    }

    /// Tells whether a column is part of the key.
    pub(super) fn is_key(&self, column: &Column) -> bool {
        self.key.contains(&column.name)
    }

    /// Tells whether a column is looked up.
    pub(super) fn has_lookup(&self) -> bool {
        self.columns.iter().any(|column| column.field.is_none())
    }
}

/// Every data type.
pub(super) static SHAPES: [Shape; 3] = [
    Shape {
        data_type: "fund_basic",
        table: "t_fund_basic_info",
        rows: None,
        key: &["performance_id"],
        columns: &[
            required("performance_id", "performanceId", Kind::Text(32)),
            required("fund_code", "fundCode", Kind::Text(16)),
            required("fund_name", "fundName", Kind::Text(200)),
            optional("fund_type", "fundType", Kind::Text(50)),
            optional("currency", "currency", Kind::Text(3)),
            optional("inception_date", "inceptionDate", Kind::Date),
        ],
    },
    Shape {
        data_type: "fund_valuation",
        table: "t_fund_valuation",
        rows: Some("items"),
        key: &["fund_code", "nav_date"],
        columns: &[
            FUND_CODE,
            required("nav_date", "date", Kind::Date),
            required("unit_nav", "unitNav", Kind::Decimal(12, 8)),
            optional("accumulated_nav", "accumulatedNav", Kind::Decimal(12, 8)),
        ],
    },
    Shape {
        data_type: "fund_risk",
        table: "t_ai_risk",
        rows: None,
        key: &["fund_code", "alert_date"],
        columns: &[
            FUND_CODE,
            required("alert_date", "alertDate", Kind::Date),
            required("risk_level", "riskLevel", Kind::Int),
            required("risk_score", "riskScore", Kind::Decimal(6, 4)),
            optional("volatility", "volatility", Kind::Decimal(4, 8)),
            optional("message", "message", Kind::Text(500)),
        ],
    },
];

const FUND_CODE: Column = Column {
    name: "fund_code",
    field: None,
    kind: Kind::Text(16),
    optional: false,
};

const fn required(name: &'static str, field: &'static str, kind: Kind) -> Column {
    Column {
        name,
        field: Some(field),
        kind,
        optional: false,
    }
}

const fn optional(name: &'static str, field: &'static str, kind: Kind) -> Column {
    Column {
        name,
        field: Some(field),
        kind,
        optional: true,
    }
}
