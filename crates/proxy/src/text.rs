//! The words of settings: durations and levels, to and from text.

use std::time::Duration;

use highwater_core::{Level, Micros};

/// Reads `10ms`, `1.5s`, `5min`, `2h`, `100us`, `1d`; a bare number counts milliseconds, as in PostgreSQL.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit.trim() {
        "us" => 1e-6,
        "" | "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
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
}
