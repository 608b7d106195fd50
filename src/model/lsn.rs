//! Positions in the write-ahead log.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A byte position in the write-ahead log, written `16/B374D848` (PostgreSQL manual, 8.20 `pg_lsn`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes from `earlier` to here; 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A text that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a WAL position; one looks like 16/B374D848")]
pub struct BadLsn(String);

impl FromStr for Lsn {
    type Err = BadLsn;
    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let half = |part: &str| {
            let hex = !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_hexdigit());
            if hex { u64::from_str_radix(part, 16).ok() } else { None }
        };
        let parsed = text.split_once('/').and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)));
        parsed.ok_or_else(|| BadLsn(text.to_owned()))
    }
}

impl TryFrom<String> for Lsn {
    type Error = BadLsn;
    fn try_from(text: String) -> Result<Self, BadLsn> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A timeline number. Two independent promotions can get the same one, so it never identifies a history alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a timeline ended and the next began: one line of a `.history` file (PostgreSQL manual, 26.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Switch {
    /// The timeline that was left.
    pub timeline: Timeline,
    /// Where it was left: the first position that belongs to the next timeline.
    pub at: Lsn,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(raw: u64) {
            prop_assert_eq!(Lsn(raw).to_string().parse(), Ok(Lsn(raw)));
        }
    }

    #[test]
    fn garbage_is_refused() {
        for bad in ["", "/", "0", "0/", "/0", "0/G", "123456789/0", "-1/0", "+1/0", "0/0/0"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad:?}");
        }
    }
}
