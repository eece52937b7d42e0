//! Figures as people read them: `443 k/s`, `3.5 µs`, `172 MiB`, `2.61`.

/// Operations a second.
pub fn rate(per_second: f64) -> String {
    scaled(per_second, 1000.0, &["/s", "k/s", "M/s", "G/s"])
}

pub fn time(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1000.0, &["ns", "µs", "ms", "s"])
}

pub fn seconds(seconds: f64) -> String {
    time(seconds * 1e9)
}

pub fn bytes(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Two decimals where they mean something.
pub fn ratio(ratio: f64) -> String {
    match ratio {
        r if r < 0.0995 => format!("{r:.3}"),
        r if r < 9.995 => format!("{r:.2}"),
        r if r < 99.95 => format!("{r:.1}"),
        r => format!("{r:.0}"),
    }
}

/// As [`ratio`], with so many more digits as it takes to tell it from `other`.
pub fn apart(value: f64, other: f64) -> String {
    let text = ratio(value);
    if value == other || text != ratio(other) {
        return text;
    }
    let digits = (3..9).map(|digits| (format!("{value:.digits$}"), format!("{other:.digits$}")));
    digits.into_iter().find(|(value, other)| value != other).map_or(text, |(value, _)| value)
}

/// `2,000,000`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// In the greatest unit of which it is at least one, once rounded.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter();
    let mut unit = units.next();
    for greater in units {
        if value < step - 0.5 {
            break;
        }
        value /= step;
        unit = Some(greater);
    }
    format!("{} {}", plain(value), unit.copied().unwrap_or_default())
}

/// One decimal below 100, where it says something more than the digits before it.
fn plain(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value >= 99.95 {
        return format!("{value:.0}");
    }
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some(whole) if value >= 9.95 => whole.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (value, text) in [
            (0.0, "0 /s"),
            (7.04, "7.0 /s"),
            (999.4, "999 /s"),
            (999.6, "1.0 k/s"),
            (7_000.0, "7.0 k/s"),
            (24_900.0, "24.9 k/s"),
            (60_040.0, "60 k/s"),
            (99_960.0, "100 k/s"),
            (443_210.0, "443 k/s"),
            (999_700.0, "1.0 M/s"),
            (8_340_000.0, "8.3 M/s"),
            (2e13, "20000 G/s"),
        ] {
            assert_eq!(rate(value), text, "{value}");
        }
    }

    #[test]
    fn times() {
        for (nanoseconds, text) in
            [(90.0, "90 ns"), (3_500.0, "3.5 µs"), (17_000_000.0, "17 ms"), (10_040_000_000.0, "10 s"), (0.0, "0 ns")]
        {
            assert_eq!(time(nanoseconds), text, "{nanoseconds}");
        }
        assert_eq!(seconds(1.14), "1.1 s");
    }

    #[test]
    fn sizes() {
        for (size, text) in [
            (0.0, "0 B"),
            (1_023.0, "1023 B"),
            (1_023.7, "1.0 KiB"),
            (172.2 * 1_048_576.0, "172 MiB"),
            (1.5e9, "1.4 GiB"),
        ] {
            assert_eq!(bytes(size), text, "{size}");
        }
    }

    #[test]
    fn ratios_that_round_to_the_same_are_told_apart() {
        for (value, other, text) in [
            (2.4962, 2.5, "2.496"),
            (2.49996, 2.5, "2.49996"),
            (2.5, 2.5, "2.50"),
            (2.4, 2.5, "2.40"),
            (12.02, 12.04, "12.020"),
        ] {
            assert_eq!(apart(value, other), text, "{value} {other}");
        }
    }

    #[test]
    fn counts() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (2_000_000, "2,000,000")] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn ratios() {
        for (value, text) in [
            (0.012, "0.012"),
            (0.0996, "0.10"),
            (0.94, "0.94"),
            (2.614, "2.61"),
            (9.996, "10.0"),
            (15.04, "15.0"),
            (120.4, "120"),
        ] {
            assert_eq!(ratio(value), text, "{value}");
        }
    }
}
