//! The words for a cadence must agree with its numbers, and with the rate.

use std::time::Duration;

use super::fixtures::*;
use crate::report::*;
use crate::units::{Bytes, BytesPerSec};

/// Root Cause of a leak of entries of `bytes` every `millis`, whose rate was measured as `rate`.
fn cause(millis: u64, bytes: u64, rate: f64) -> String {
    let mut incident = lab();
    let suspect = &mut incident.hunt.suspects[0];
    suspect.cadence = Some(Cadence { period: Duration::from_millis(millis), bytes: Some(Bytes(bytes)) });
    suspect.rate = RateLine {
        rate_bytes_per_s: Some(BytesPerSec(rate)),
        rate_low_bytes_per_s: Some(BytesPerSec(rate * 0.98)),
        rate_high_bytes_per_s: Some(BytesPerSec(rate * 1.02)),
    };
    let text = incident.render(ReportFormat::Text).unwrap();
    let begin = text.find("\nRoot Cause\n").unwrap();
    let end = text.find("\nIdentification\n").unwrap();
    text[begin..end].split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_lab_s_cadence_is_five_entries_a_second_and_its_product_is_the_rate() {
    let words = cause(200, 10_304, 51_600.0);
    assert!(words.contains("entries of about 10.3 KB, 5 entries a second (one every 0.2 s)"), "{words}");
    assert!(
        words.contains("That makes 51.5 KB/s beside the 51.6 KB/s that was measured, which agrees."),
        "{words}"
    );
}

#[test]
fn odd_cadences_have_odd_words() {
    for (millis, bytes, rate, often, made) in [
        (
            350,
            7_777,
            22_220.0,
            "entries of about 7.78 KB, 2.9 entries a second (one every 0.35 s)",
            "22.2 KB/s",
        ),
        (1_000, 4_096, 4_096.0, "entries of about 4.10 KB, 1 entry a second (one every 1 s)", "4.10 KB/s"),
        (
            33,
            1_000_000,
            30.3e6,
            "entries of about 1.00 MB, 30.3 entries a second (one every 33 ms)",
            "30.3 MB/s",
        ),
        (90_000, 1_250_000, 13_900.0, "entries of about 1.25 MB, one every 1 min 30 s", "13.9 KB/s"),
    ] {
        let words = cause(millis, bytes, rate);
        assert!(words.contains(often), "{words}");
        assert!(words.contains(&format!("That makes {made} beside the {}", BytesPerSec(rate))), "{words}");
        assert!(words.contains("which agrees."), "{words}");
    }
}

#[test]
fn a_cadence_that_does_not_make_the_rate_is_not_said_to() {
    let half = cause(200, 5_000, 50_000.0);
    assert!(half.contains("so that 50 % of the growth came in them."), "{half}");
    let twice = cause(200, 20_000, 50_000.0);
    assert!(twice.contains("so that a part of them did not stay."), "{twice}");
}
