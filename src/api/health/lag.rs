//! Sizes as Patroni's and PostgreSQL's users write them.

/// Reads `1048576`, `64kB`, `16MB`, `1GB`, `1TB`: powers of 1024 (PostgreSQL manual, 20.1.1), and `16MiB` as the
/// same. Letters may be of either case. None: it is no size.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kb" | "kib" => 1,
        "mb" | "mib" => 2,
        "gb" | "gib" => 3,
        "tb" | "tib" => 4,
        _ => return None,
    };
    number.checked_mul(1024_u64.pow(power))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_as_postgresql_reads_them() {
        for (text, size) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("10B", 10),
            ("64kB", 64 << 10),
            ("16MB", 16 << 20),
            ("16 mb", 16 << 20),
            ("16MiB", 16 << 20),
            ("1GB", 1 << 30),
            ("2TB", 2 << 40),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_not_taken_for_one() {
        for text in ["", "MB", "-1", "1.5MB", "16M", "16 MB!", "99999999TB", "99999999999999999999"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
