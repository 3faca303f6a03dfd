//! What `information_schema` says about a table, in one form for MySQL and MariaDB.

/// A table, as far as the check looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSnapshot {
    /// Its name in the catalog.
    pub name: String,
    /// `BASE TABLE`, `VIEW`, …
    pub kind: String,
    /// The storage engine; `None` for views.
    pub engine: Option<String>,
    /// Its columns, in their order.
    pub columns: Vec<ColumnSnapshot>,
    /// Its indexes.
    pub indexes: Vec<IndexSnapshot>,
    /// The names of its triggers.
    pub triggers: Vec<String>,
}

impl TableSnapshot {
    /// Finds a column; MySQL ignores case there.
    pub fn column(&self, name: &str) -> Option<&ColumnSnapshot> {
        self.columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Returns the primary key.
    pub fn primary_key(&self) -> Option<&IndexSnapshot> {
        self.indexes.iter().find(|index| index.name == IndexSnapshot::PRIMARY)
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSnapshot {
    /// Its name.
    pub name: String,
    /// The type's name alone, in lower case: `varchar`.
    pub data_type: String,
    /// The type as the server writes it: `varchar(16)`.
    pub full_type: String,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// Its default.
    pub default: ColumnDefault,
    /// Whether the server counts its values up.
    pub auto_increment: bool,
    /// Whether its values are computed.
    pub generated: bool,
    /// The most characters, of character types, or bytes, of binary ones.
    pub length: Option<u64>,
    /// The most bytes, of character and binary types.
    pub octets: Option<u64>,
    /// The most bytes of a character, of character types.
    pub character_octets: Option<u64>,
    /// Digits in all, of numbers.
    pub precision: Option<u64>,
    /// Digits after the point, of numbers.
    pub scale: Option<u64>,
    /// Fractional digits, of times.
    pub time_digits: Option<u64>,
    /// The character set, of character types.
    pub character_set: Option<String>,
    /// The collation, of character types.
    pub collation: Option<String>,
}

impl ColumnSnapshot {
    /// Tells whether the column takes no negative numbers.
    pub fn is_unsigned(&self) -> bool {
        self.full_type.to_ascii_lowercase().contains("unsigned")
    }

    /// Tells whether equal values are equal bytes.
    pub fn is_compared_by_bytes(&self) -> bool {
        self.collation
            .as_deref()
            .is_none_or(|collation| collation.ends_with("_bin") || collation == "binary")
    }

    /// Tells whether an insert may leave the column out.
    pub fn may_be_left_out(&self) -> bool {
        self.nullable || self.auto_increment || self.generated || self.default != ColumnDefault::None
    }
}

/// What a column holds when an insert leaves it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnDefault {
    /// Nothing: NULL where the column takes it, else an error.
    None,
    /// A literal or expression, unquoted, as the server writes it.
    Value(String),
}

impl ColumnDefault {
    /// Reads COLUMN_DEFAULT. MariaDB quotes strings and writes NULL as text; MySQL does neither, and writes the
    /// defaults of binary columns as `0x…`.
    pub fn from_information_schema(text: Option<&str>, is_mariadb: bool) -> Self {
        let Some(text) = text else { return Self::None };
        if !is_mariadb {
            return Self::Value(text.to_owned());
        }
        if text.eq_ignore_ascii_case("NULL") {
            return Self::None;
        }
        match text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
            Some(quoted) => Self::Value(quoted.replace("''", "'")),
            None => Self::Value(text.to_owned()),
        }
    }
}

/// An index of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSnapshot {
    /// Its name.
    pub name: String,
    /// Whether no two rows may have the same values.
    pub unique: bool,
    /// Its parts, in order.
    pub parts: Vec<IndexPart>,
}

/// A part of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPart {
    /// The column; `None` for an expression.
    pub column: Option<String>,
    /// Only this many characters of it are in the index; `None`: all.
    pub prefix: Option<u64>,
}

impl IndexSnapshot {
    /// MySQL's name for the primary key.
    pub const PRIMARY: &str = "PRIMARY";

    /// Tells whether the index is over exactly these columns, whole and in this order.
    pub fn is_over<'a>(&self, columns: impl IntoIterator<Item = &'a str>) -> bool {
        let mut columns = columns.into_iter();
        let parts_agree = self.parts.iter().all(|part| {
            let column = columns.next();
            part.prefix.is_none()
                && matches!((&part.column, column), (Some(one), Some(other)) if one.eq_ignore_ascii_case(other))
        });
        parts_agree && columns.next().is_none()
    }

    /// Writes the parts as in SQL: `fund_code, message(20)`.
    pub fn parts_as_text(&self) -> String {
        let parts = self.parts.iter().map(|part| {
            let column = part.column.as_deref().unwrap_or("an expression");
            part.prefix
                .map_or_else(|| column.to_owned(), |prefix| format!("{column}({prefix})"))
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}
