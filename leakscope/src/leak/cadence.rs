//! The leak's pulse, read from page faults: how large each entry is, and how often one is made.
//!
//! An allocator that cuts its heap from the front writes the header of what is left behind each new piece; when that
//! header lies on a fresh page, the fault's address is where the piece ends. Differences of such addresses are exact
//! multiples of the piece's size, however few of the pieces fault. Where no size repeats (size classes, bump
//! allocators), the bursts in which faults come still give the period. Only differences are kept: an address would tell
//! where a process's memory lies. Start reading at [`cadence`].

use std::time::Duration;

use super::Rate;

/// From one user page fault on a page that was not present to the next one of the same process.
///
/// Differences only: an absolute address would tell where the process lies in its address space (ASLR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultStep {
    /// Time since the previous fault.
    pub after: Duration,
    /// The faulting address less the previous one, in bytes.
    pub address_delta: i64,
    /// Whether the faulting address is a multiple of the page size: then it is no header, but data that reaches a new page.
    pub page_aligned: bool,
    /// Whether faults between the two were not kept, so that this is no step from one fault to the very next.
    pub after_gap: bool,
}

/// The leak's pulse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cadence {
    /// Bytes of one entry, as the allocator counts them; exact. `None` where no size repeats.
    pub bytes: Option<u64>,
    /// Time from one entry to the next.
    pub period: Duration,
}

/// Differences that are needed before anything is said.
const LEAST: usize = 8;
/// Sizes are multiples of this in every common allocator.
const ALIGNMENT: u64 = 16;
/// A silence longer than this begins a new burst of faults.
const BURST_GAP: Duration = Duration::from_millis(2);
/// A difference larger than this is a jump to another part of the heap, not a piece.
const LARGEST: u64 = 1 << 30;
/// How far period and size may be from the rate that they should explain, as a factor.
const AGREES: f64 = 2.0;

/// Reads the cadence from consecutive faults, oldest first; `rate` is the growth rate, for a cross-check.
///
/// # Errors
/// Says why there is none: too few faults, or no regularity.
pub fn cadence(steps: &[FaultStep], rate: Option<&Rate>) -> Result<Cadence, &'static str> {
    let jumps = header_jumps(steps);
    if jumps.len() < LEAST && steps.len() < LEAST {
        return Err("too few page faults seen");
    }
    if let Some(found) = by_address(&jumps).filter(|found| explains(found, rate)) {
        return Ok(found);
    }
    by_bursts(steps)
}

/// From one header to the next: the distance in bytes, and the time.
#[derive(Clone, Copy, Debug)]
struct Jump {
    bytes: u64,
    after: Duration,
}

/// The distances between faults that are not page-aligned. Aligned faults in between are the pieces' own pages: their
/// way and time count towards the next header.
fn header_jumps(steps: &[FaultStep]) -> Vec<Jump> {
    let mut jumps = Vec::new();
    let (mut way, mut time, mut from_header) = (0_i64, Duration::ZERO, false);
    for step in steps {
        if step.after_gap {
            // Where the heap's edge was in between is not known.
            (way, time, from_header) = (0, Duration::ZERO, !step.page_aligned);
            continue;
        }
        way = way.saturating_add(step.address_delta);
        time += step.after;
        if step.page_aligned {
            continue;
        }
        // Upwards in the heap; large entries are mappings of their own, and each new one lies below the last.
        let bytes = way.unsigned_abs();
        if from_header && bytes > 0 && bytes <= LARGEST {
            jumps.push(Jump { bytes, after: time });
        }
        (way, time, from_header) = (0, Duration::ZERO, true);
    }
    jumps
}

/// The entry's size from the distances: the commonest one when it covers most of them; otherwise the greatest common
/// divisor of those that repeat, because several small entries lie between two faults.
fn by_address(jumps: &[Jump]) -> Option<Cadence> {
    if jumps.len() < LEAST {
        return None;
    }
    let mut sizes: Vec<u64> = jumps.iter().map(|jump| jump.bytes).collect();
    sizes.sort_unstable();
    let repeated: Vec<(u64, usize)> =
        sizes.chunk_by(|a, b| a == b).filter(|run| run.len() >= 2).map(|run| (run[0], run.len())).collect();
    let &(mode, count) = repeated.iter().max_by_key(|(_, count)| *count)?;
    let covered: usize = repeated.iter().map(|(_, count)| count).sum();
    // Entries smaller than a page skip pages' worth of their kind: then distances are neighbouring multiples.
    let divisor = repeated.iter().fold(0, |divisor, (size, _)| gcd(divisor, *size));
    let several = repeated.len() > 1 && 2 * covered > jumps.len();
    let bytes = if several && divisor > ALIGNMENT && divisor % ALIGNMENT == 0 {
        divisor
    } else if 2 * count > jumps.len() {
        mode
    } else {
        return None;
    };
    let mut periods: Vec<Duration> =
        jumps.iter().filter(|jump| jump.bytes % bytes == 0).map(|jump| per_entry(jump, bytes)).collect();
    Some(Cadence { bytes: Some(bytes), period: median(&mut periods)? })
}

/// The time that each of a jump's entries took.
fn per_entry(jump: &Jump, bytes: u64) -> Duration {
    let entries = (jump.bytes / bytes).max(1);
    jump.after.div_f64(entries as f64)
}

/// Whether size over period comes near the growth rate; without a rate, anything does.
fn explains(found: &Cadence, rate: Option<&Rate>) -> bool {
    let (Some(rate), Some(bytes)) = (rate, found.bytes) else { return true };
    let share = bytes as f64 / found.period.as_secs_f64().max(1e-9) / rate.mean.0.max(1e-9);
    (1.0 / AGREES..=AGREES).contains(&share)
}

/// The period from bursts: the commonest time between beginnings of bursts, in eighths of an octave.
fn by_bursts(steps: &[FaultStep]) -> Result<Cadence, &'static str> {
    let mut periods = Vec::new();
    let mut time: Option<Duration> = None;
    for step in steps {
        if step.after_gap {
            time = None;
            continue;
        }
        let since = time.map(|time| time + step.after);
        time = if step.after > BURST_GAP {
            periods.extend(since);
            Some(Duration::ZERO)
        } else {
            since
        };
    }
    if periods.len() < LEAST {
        return Err("page faults come in too few bursts to show a period");
    }
    let octave = |period: &Duration| (period.as_secs_f64().log2() * 8.0).round();
    let votes = |bin: f64| periods.iter().filter(|p| (octave(p) - bin).abs() < 0.5).count();
    let mode = periods.iter().map(octave).max_by_key(|bin| votes(*bin)).unwrap_or_default();
    let centre = (mode / 8.0).exp2();
    let near = |period: &&Duration| (period.as_secs_f64() / centre - 1.0).abs() <= 0.18;
    let mut near: Vec<Duration> = periods.iter().filter(near).copied().collect();
    if 2 * near.len() <= periods.len() {
        return Err("page faults come at no regular interval");
    }
    median(&mut near)
        .map(|period| Cadence { bytes: None, period })
        .ok_or("page faults come at no regular interval")
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The middle value; reorders.
fn median(values: &mut [Duration]) -> Option<Duration> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::BytesPerSec;

    /// The faults of a program that cuts pieces of `size` bytes from a heap that begins at `first`, each `period`.
    fn heap(size: u64, period: Duration, pieces: u64) -> Vec<FaultStep> {
        let first = 0x5555_0000_02a0_u64;
        let mut faults: Vec<(Duration, u64)> = Vec::new();
        let mut touched = first / 4096;
        for piece in 0..pieces {
            let begin = first + piece * size;
            let header = begin + size;
            let at = period * u32::try_from(piece).unwrap();
            // The header of what is left is written before the piece is filled.
            let mut fault = |address: u64, at: Duration| {
                faults.push((at, address));
            };
            if header / 4096 > touched {
                fault(header, at);
            }
            for page in touched + 1..header / 4096 {
                fault(page * 4096, at + Duration::from_micros(3 * (page - touched)));
            }
            touched = touched.max(header / 4096);
        }
        steps(&faults)
    }

    fn steps(faults: &[(Duration, u64)]) -> Vec<FaultStep> {
        let step = |pair: &[(Duration, u64)]| FaultStep {
            after: pair[1].0 - pair[0].0,
            address_delta: pair[1].1.cast_signed() - pair[0].1.cast_signed(),
            page_aligned: pair[1].1.is_multiple_of(4096),
            after_gap: false,
        };
        faults.windows(2).map(step).collect()
    }

    #[test]
    fn the_labs_entries_are_found_to_the_byte() {
        let period = Duration::from_millis(200);
        let found = cadence(&heap(10_288, period, 40), None).unwrap();
        assert_eq!(found, Cadence { bytes: Some(10_288), period });
    }

    #[test]
    fn entries_smaller_than_a_page_are_found_between_the_faults() {
        for (size, millis) in [(112, 1), (1008, 20), (3008, 50)] {
            let period = Duration::from_millis(millis);
            let found = cadence(&heap(size, period, 64 * 4096 / size), None).unwrap();
            assert_eq!(found, Cadence { bytes: Some(size), period });
        }
    }

    #[test]
    fn entries_that_are_mappings_of_their_own_are_found_going_down() {
        // 200 KB: the header at the mapping's start, then its pages, and the next mapping below.
        let (length, period) = (200_704_u64, Duration::from_secs(1));
        let mut faults = Vec::new();
        for entry in 0..12_u32 {
            let begin = 0x7fff_0000_0000 - u64::from(entry) * length;
            faults.push((period * entry, begin + 8));
            for page in 1..49 {
                faults.push((period * entry + Duration::from_micros(3 * page), begin + page * 4096));
            }
        }
        let found = cadence(&steps(&faults), None).unwrap();
        assert_eq!(found, Cadence { bytes: Some(length), period });
    }

    #[test]
    fn a_size_that_does_not_explain_the_growth_is_not_reported() {
        let rate = |mean| Rate { mean: BytesPerSec(mean), low: BytesPerSec(mean), high: BytesPerSec(mean) };
        let faults = heap(10_288, Duration::from_millis(200), 40);
        assert_eq!(cadence(&faults, Some(&rate(51_200.0))).unwrap().bytes, Some(10_288));
        assert_eq!(cadence(&faults, Some(&rate(5_000_000.0))).unwrap().bytes, None);
    }

    #[test]
    fn faults_that_were_not_kept_are_not_bridged() {
        let period = Duration::from_millis(200);
        let mut faults = heap(10_288, period, 40);
        faults[20].after_gap = true;
        faults[20].address_delta += 1_000_000;
        faults[20].after += Duration::from_secs(9);
        assert_eq!(cadence(&faults, None).unwrap(), Cadence { bytes: Some(10_288), period });
    }

    #[test]
    fn an_allocator_that_never_shows_a_header_still_shows_its_period() {
        let mut faults = Vec::new();
        for burst in 0..20 {
            for page in 0..3 {
                let at = Duration::from_micros(200_300 * burst + 5 * page);
                faults.push((at, 0x7000_0000_0000 + (burst * 3 + page) * 4096));
            }
        }
        let found = cadence(&steps(&faults), None).unwrap();
        assert_eq!(found.bytes, None);
        assert!((found.period.as_secs_f64() - 0.2003).abs() < 0.001, "{found:?}");
    }

    #[test]
    fn irregular_faults_have_no_cadence() {
        // Intervals that grow by half each time fall into no common bin.
        let mut at = Duration::from_millis(5);
        let mut faults = Vec::new();
        for i in 0..16 {
            at = at.mul_f64(1.5);
            faults.push((at, 0x7000_0000_0000 + i * i * 4096));
        }
        assert!(cadence(&steps(&faults), None).is_err());
        assert_eq!(cadence(&[], None), Err("too few page faults seen"));
    }
}
