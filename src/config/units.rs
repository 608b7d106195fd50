//! Sizes in words: `16MiB`. Durations are humantime's.

/// Units, greatest first; decimal ones are read but never written.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `16MiB`, `16 MB`, `4096`.
///
/// # Errors
/// What is wrong, in words that follow the key.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    let scale = match UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        Some((_, scale)) => *scale,
        None if unit.is_empty() => 1,
        None => return Err(format!("is {text:?}, which is no size; one looks like \"16MiB\"")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("is {text:?}, which is no size; one looks like \"16MiB\""))?;
    number.checked_mul(scale).ok_or_else(|| format!("is {text:?}, which is too great a size"))
}

/// Writes a size in the greatest binary unit that expresses it exactly.
#[must_use]
pub fn bytes(size: u64) -> String {
    let whole = |(_, scale): &&(&str, u64)| size >= *scale && size.is_multiple_of(*scale);
    match UNITS[..4].iter().find(whole) {
        Some((name, scale)) => format!("{}{name}", size / scale),
        None => format!("{size}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for size in [0, 1, 1023, 1024, 1536, 16 << 20, 3 << 30, u64::MAX] {
            assert_eq!(parse_bytes(&bytes(size)), Ok(size), "{}", bytes(size));
        }
    }

    #[test]
    fn people_write_sizes_in_many_ways() {
        for text in ["16MiB", "16 mib", " 16777216", "16384KiB", "16777216B"] {
            assert_eq!(parse_bytes(text), Ok(16 << 20), "{text}");
        }
        for text in ["", "MiB", "16 parsecs", "-1", "1.5MiB", "99999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
