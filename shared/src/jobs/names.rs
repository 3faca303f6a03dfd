//! The names of enums, as columns hold them and people read them.

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

/// An enum whose values have names.
pub(super) trait Named: Sized {
    /// Finds a value by its name.
    fn named(name: &str) -> Option<Self>;
}

/// Gives each value of an enum its one name.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name as it is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            /// Finds one by its name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name)
            }
        }

        impl $crate::jobs::names::Named for $type {
            fn named(name: &str) -> Option<Self> {
                Self::parse(name)
            }
        }
    };
}
pub(super) use names;

/// Reads a column that holds such a name.
pub(super) fn named<T: Named>(row: &MySqlRow, column: &str) -> sqlx::Result<T> {
    let name: String = row.try_get(column)?;
    T::named(&name)
        .ok_or_else(|| sqlx::Error::Decode(format!("{name:?} is no {column} that this version knows").into()))
}

#[cfg(test)]
mod tests {
    use crate::jobs::{Event, JobState, Kind, MismatchKind, MissingReason, Mode, Phase, TaskState};

    #[test]
    fn every_name_is_read_back_and_no_other() {
        macro_rules! check {
            ($($type:ident),+) => {$(
                for value in $type::ALL {
                    assert_eq!($type::parse(value.as_str()), Some(*value));
                    assert_eq!($type::parse(&value.as_str().to_lowercase()), None);
                    // The narrowest column that holds such a name.
                    assert!(value.as_str().len() <= 16);
                }
                assert_eq!($type::parse(""), None);
            )+};
        }
        check!(
            Event,
            JobState,
            Kind,
            MismatchKind,
            MissingReason,
            Mode,
            Phase,
            TaskState
        );
    }
}
