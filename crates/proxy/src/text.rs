//! The words of settings: durations and levels, to and from text.

use std::time::Duration;

use highwater_core::{Level, Micros};

/// A century: longer than anybody waits, and short enough that every clock can add it.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Reads `10ms`, `1.5s`, `5min`, `2h`, `100us`, `1d`; a bare number counts milliseconds, as in PostgreSQL. At most a
/// century.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "us" => 1,
        "" | "ms" => 1000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000_u64,
        _ => return None,
    };
    // Whole numbers exactly, so that what is shown is read again as the same.
    let duration = match number.parse::<u64>() {
        Ok(whole) => Duration::from_micros(whole.checked_mul(unit)?),
        Err(_) => Duration::try_from_secs_f64(number.parse::<f64>().ok()? * (unit as f64 / 1e6)).ok()?,
    };
    (duration <= DURATION_MAX).then_some(duration)
}

/// A duration in the largest unit that keeps it whole.
pub(crate) fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    for (unit, size) in
        [("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1000)]
    {
        if micros >= size && micros.is_multiple_of(size) {
            return format!("{}{unit}", micros / size);
        }
    }
    format!("{micros}us")
}

/// Microseconds for people: `1.50 s`, `12.3 ms`.
pub(crate) fn show_micros(micros: Micros) -> String {
    match micros.0 {
        large @ 1_000_000.. => format!("{:.2} s", large as f64 / 1e6),
        small => format!("{:.1} ms", small as f64 / 1e3),
    }
}

/// A level by name; `bounded` carries no limit yet.
pub(crate) fn level(name: &str) -> Option<Level> {
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "strong" => Level::Strong,
        "session" => Level::Session,
        "bounded" => Level::Bounded { max_lag: Micros(0) },
        "eventual" => Level::Eventual,
        "primary" => Level::Primary,
        _ => return None,
    })
}

/// A level's name.
pub(crate) fn level_name(level: &Level) -> &'static str {
    match level {
        Level::Strong => "strong",
        Level::Session => "session",
        Level::Bounded { .. } => "bounded",
        Level::Eventual => "eventual",
        Level::Primary => "primary",
    }
}

/// How strict a level is; a larger number promises more.
pub(crate) fn strictness(level: &Level) -> u8 {
    match level {
        Level::Eventual => 0,
        Level::Bounded { .. } => 1,
        Level::Session => 2,
        Level::Strong => 3,
        Level::Primary => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show() {
        for (text, micros, shown) in [
            ("10ms", 10_000, "10ms"),
            ("7", 7000, "7ms"),
            ("1.5s", 1_500_000, "1500ms"),
            ("2 min", 120_000_000, "2min"),
        ] {
            let read = duration(text).expect(text);
            assert_eq!((read.as_micros(), show_duration(read).as_str()), (micros, shown));
        }
        assert_eq!(duration("soon"), None);
        assert_eq!(duration("-1s"), None);
    }

    #[test]
    fn long_durations_are_exact_and_end_at_a_century() {
        let century = "3153600000000000us";
        assert_eq!(duration(century).map(show_duration).as_deref(), Some("36500d"));
        let odd = "3153599999999999us";
        assert_eq!(duration(odd).map(show_duration).as_deref(), Some(odd));
        // Added to a clock, these would overflow.
        for text in ["36501d", "200000000000000d", "3153600001s", "99999999999999999999us", "1e5", "."] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
