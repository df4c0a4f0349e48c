//! Spans of time as a person writes them: `10 ms`, `12 s`, `3 h 20 min`.

use std::time::Duration;

/// Longer than this nobody plans; an estimate beyond it is shown as "more than".
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A span with its two weightiest units: `0.25 s`, `12 s`, `3 min 20 s`, `3 h 20 min`, `2 d 4 h`.
pub fn span(duration: Duration) -> String {
    let millis = (duration.as_micros() + 500) / 1000;
    if duration >= FAR {
        return "more than 10 years".to_owned();
    }
    if duration.is_zero() {
        return "0 s".to_owned();
    }
    if millis == 0 {
        return "less than 1 ms".to_owned();
    }
    if millis < 100 {
        return format!("{millis} ms");
    }
    if millis < 9950 {
        let text = format!("{:.2}", duration.as_secs_f64());
        return format!("{} s", text.trim_end_matches('0').trim_end_matches('.'));
    }
    // Rounded to the smaller unit first, so that 59.7 s is "1 min" and not "60 s".
    let seconds = (duration.as_millis() + 500) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => {
            let minutes = (seconds + 30) / 60;
            if minutes >= 1440 { "1 d".to_owned() } else { two(minutes / 60, "h", minutes % 60, "min") }
        }
        _ => {
            let hours = (seconds + 1800) / 3600;
            two(hours / 24, "d", hours % 24, "h")
        }
    }
}

fn two(large: u128, large_unit: &str, small: u128, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_carry_two_units_and_never_sixty_of_one() {
        for (millis, text) in [
            (0, "0 s"),
            (10, "10 ms"),
            (250, "0.25 s"),
            (1_000, "1 s"),
            (1_500, "1.5 s"),
            (12_000, "12 s"),
            (59_700, "1 min"),
            (200_000, "3 min 20 s"),
            (3_599_900, "1 h"),
            (12_000_000, "3 h 20 min"),
            (86_399_000, "1 d"),
            (187_200_000, "2 d 4 h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        assert_eq!(span(Duration::from_micros(300)), "less than 1 ms");
        assert_eq!(span(Duration::MAX), "more than 10 years");
    }
}
