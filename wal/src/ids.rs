//! The identities that cross the rooms of the server, one newtype each.
//!
//! A bare integer never crosses a module: a position in the log, an ordinal and a transaction number are all
//! 64 bits wide, and mixing two of them up is a bug that the compiler can find. The fields are private;
//! `new` and `get` are the only doors, and arithmetic exists only where it has a meaning.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The number inside.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

identity! {
    /// A position in the log: the byte offset from its beginning, segment headers and padding included.
    ///
    /// The LSN of a commit record is the commit's timestamp, its version number and its place in natural flow.
    Lsn(u64)
}

identity! {
    /// The number of a row version within one store, dense and in commit order, counted from 0.
    Ordinal(u64)
}

identity! {
    /// The number of a transaction, given at its first write. Unique within one node's log.
    TxnId(u64)
}

identity! {
    /// The identity of one table's data. TRUNCATE gives the table a fresh one.
    StoreId(u32)
}

identity! {
    /// The number of a node that originates transactions.
    NodeId(u32)
}

identity! {
    /// The identity under which records go into the log before their transaction has committed.
    TentativeId(u64)
}

identity! {
    /// Wall-clock time in microseconds since 1970-01-01 00:00 UTC. Data, never an ordering.
    Micros(i64)
}

impl Micros {
    /// What the wall clock says.
    pub fn now() -> Micros {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

impl Lsn {
    /// Before everything.
    pub const ZERO: Lsn = Lsn(0);
    /// After everything; the mark of a version that has no place in the log yet.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// The position `bytes` further on.
    ///
    /// # Panics
    /// When the position would pass 2^64, which no log reaches.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Lsn {
        match self.0.checked_add(bytes) {
            Some(sum) => Lsn(sum),
            None => panic!("log position beyond 2^64"),
        }
    }

    /// How many bytes lie between `earlier` and this position; 0 when `earlier` is not earlier.
    pub const fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Two hexadecimal halves divided by a slash, as PostgreSQL prints its `pg_lsn`.
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text was neither `X/X` (hexadecimal halves) nor a decimal number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LsnParseError;

impl fmt::Display for LsnParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log position is written as two hexadecimal numbers divided by a slash, or as one decimal number")
    }
}

impl std::error::Error for LsnParseError {}

impl FromStr for Lsn {
    type Err = LsnParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((high, low)) => {
                let high = u32::from_str_radix(high, 16).map_err(|_| LsnParseError)?;
                let low = u32::from_str_radix(low, 16).map_err(|_| LsnParseError)?;
                Ok(Lsn((u64::from(high) << 32) | u64::from(low)))
            }
            None => text.parse().map(Lsn).map_err(|_| LsnParseError),
        }
    }
}

impl Ordinal {
    /// The ordinal `count` places further on.
    ///
    /// # Panics
    /// When the ordinal would pass 2^64, which no table reaches.
    #[must_use]
    pub const fn plus(self, count: u64) -> Ordinal {
        match self.0.checked_add(count) {
            Some(sum) => Ordinal(sum),
            None => panic!("row ordinal beyond 2^64"),
        }
    }
}

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

display_as_number!(Ordinal, TxnId, StoreId, NodeId, TentativeId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_reads_back_from_what_it_prints() {
        for value in [0, 4096, 0xFFFF_FFFF, 0x1_0000_0000, 0x16_B374_D848, u64::MAX] {
            let lsn = Lsn::new(value);
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
            assert_eq!(value.to_string().parse(), Ok(lsn));
        }
        assert_eq!(Lsn::new(0x16_B374_D848).to_string(), "16/B374D848");
    }

    #[test]
    fn text_that_is_no_lsn_is_refused() {
        for text in ["", "/", "1/", "x", "1/2/3", "-1", "100000000/0"] {
            assert_eq!(text.parse::<Lsn>(), Err(LsnParseError), "{text:?}");
        }
    }
}
