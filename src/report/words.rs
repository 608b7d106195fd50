//! Figures as people read them.

/// Milliseconds with as many digits as matter: `0.4 ms`, `143 ms`, `2.31 s`, `12 min 5 s`.
#[must_use]
pub fn ms(ms: f64) -> String {
    if ms == 0.0 {
        "0 ms".into()
    } else if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else if ms < 59_995.0 {
        let seconds = format!("{:.2}", ms / 1000.0);
        format!("{} s", seconds.trim_end_matches('0').trim_end_matches('.'))
    } else {
        let seconds = (ms / 1000.0).round();
        let (minutes, rest) = ((seconds / 60.0).floor(), seconds % 60.0);
        if rest == 0.0 { format!("{minutes:.0} min") } else { format!("{minutes:.0} min {rest:.0} s") }
    }
}

/// Bytes: `0 B`, `1,024 B`, `3.2 MiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "two digits for people")]
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{} B", thousands(bytes)),
        10_000..=1_048_575 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        1_048_576..=1_073_741_823 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// A number with its thousands apart.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 transaction`, `2 transactions`.
pub(super) fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", thousands(number))
}

/// Breaks a text into lines of at most `width` characters, where it has spaces.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_digits_that_matter() {
        for (value, words) in [
            (0.0, "0 ms"),
            (0.42, "0.4 ms"),
            (9.96, "10 ms"),
            (143.2, "143 ms"),
            (999.7, "1 s"),
            (2_310.0, "2.31 s"),
            (15_000.0, "15 s"),
            (59_999.0, "1 min"),
            (725_000.0, "12 min 5 s"),
        ] {
            assert_eq!(ms(value), words);
        }
    }

    #[test]
    fn sizes_have_the_digits_that_matter() {
        for (value, words) in
            [(0, "0 B"), (1_024, "1,024 B"), (65_536, "64 KiB"), (16 << 20, "16.0 MiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(bytes(value), words);
        }
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(1_234_567, "row"), "1,234,567 rows");
    }

    #[test]
    fn no_line_is_wider_than_asked() {
        let lines = wrap("one two three four five", 9);
        assert_eq!(lines, ["one two", "three", "four five"]);
    }
}
