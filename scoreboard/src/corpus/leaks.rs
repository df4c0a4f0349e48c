//! Leaks that the detector may be tuned on.

use std::f64::consts::TAU;

use super::Entry;
use crate::dice::Dice;
use crate::process::Process;
use crate::{GB, HOUR, KB, MB, MINUTE, PAGE};

pub(super) const KINDS: &[Entry] = &[
    ("trickle", "1 KB/s in a quiet small process, for hours", |d| {
        Process::lasting(d.scale(HOUR, 2.0 * HOUR)).start_up(d, 5.0 * MB).leaks(KB).jitter(d, 2.0)
    }),
    ("small-service", "10 KB/s in a quiet process", |d| {
        let rate = d.scale(7.0, 13.0) * KB;
        Process::lasting(d.scale(20.0 * MINUTE, HOUR)).start_up(d, 10.0 * MB).leaks(rate).jitter(d, 3.0)
    }),
    ("service", "50 KB/s in a quiet process", |d| {
        let rate = d.scale(35.0, 70.0) * KB;
        Process::lasting(10.0 * MINUTE).start_up(d, d_base(rate)).leaks(rate).jitter(d, 3.0)
    }),
    ("entries", "10 KB five times a second", |d| {
        let minutes = d.scale(3.0, 12.0);
        Process::lasting(minutes * MINUTE)
            .start_up(d, 9.0 * MB)
            .leaks_entries(d, 0.2, 10_288.0, false, 0.0)
            .jitter(d, 1.0)
    }),
    ("noisy-heap", "1 MB/s under noise of 5 MB", |d| {
        let tau = d.scale(1.0, 20.0);
        Process::lasting(15.0 * MINUTE).hold(500.0 * MB).leaks(MB).noise(d, 5.0 * MB, tau).jitter(d, 10.0)
    }),
    ("bulk-rate", "10 to 30 MB/s: as fast as a bulk load", |d| {
        let rate = d.scale(10.0, 30.0) * MB;
        Process::lasting(d.scale(4.0, 15.0) * MINUTE).hold(2.0 * GB).leaks(rate).noise(d, 2.0 * MB, 2.0)
    }),
    ("short-run", "50 KB/s for one or two minutes, then the process ends", |d| {
        let rate = d.scale(30.0, 100.0) * KB;
        Process::lasting(d.scale(60.0, 140.0)).start_up(d, 12.0 * MB).leaks(rate).jitter(d, 2.0)
    }),
    ("megabyte-steps", "1 MB every minute", |d| {
        Process::lasting(2.0 * HOUR).hold(100.0 * MB).leaks_entries(d, MINUTE, MB, false, 0.0).jitter(d, 10.0)
    }),
    ("collected-heap", "a leak under a collector that runs every quarter of a minute to a minute", |d| {
        let (period, height) = (d.scale(15.0, 60.0), d.scale(40.0, 120.0) * MB);
        // What a period leaks is a fiftieth to a fifteenth of what it collects.
        let rate = height / period * d.scale(0.02, 0.07);
        Process::lasting(60.0 * period).hold(200.0 * MB).leaks(rate).saw(d, period, height).jitter(d, 10.0)
    }),
    ("slowly-collected-heap", "the same, with minutes between collections", |d| {
        let (period, rate) = (d.scale(120.0, 360.0), d.scale(60.0, 160.0) * KB);
        Process::lasting(6.0 * HOUR).hold(GB).leaks(rate).saw(d, period, 400.0 * MB).jitter(d, 10.0)
    }),
    ("requests", "an entry for each request, of very different sizes", |d| {
        let interval = 1.0 / d.scale(1.0, 8.0);
        Process::lasting(d.scale(20.0, 40.0) * MINUTE)
            .hold(120.0 * MB)
            .leaks_entries(d, interval, 12.0 * KB, true, 1.0)
            .noise(d, 150.0 * KB, 3.0)
            .jitter(d, 5.0)
    }),
    ("threads", "a thread that never ends every five seconds", |d| {
        let stack = d.scale(24.0, 64.0) * KB;
        Process::lasting(30.0 * MINUTE).hold(30.0 * MB).leaks_entries(d, 5.0, stack, true, 0.2).jitter(d, 1.0)
    }),
    ("shared-segments", "shared memory that nobody removes", |d| {
        let rate = d.scale(50.0, 200.0) * KB;
        let mut process = Process::lasting(15.0 * MINUTE).leaks(rate);
        process.shmem = std::mem::replace(&mut process.anon, vec![0.0; process.file.len()]);
        process.host_shmem = process.shmem.iter().map(|bytes| bytes + 300.0 * MB).collect();
        process.hold(30.0 * MB).jitter(d, 1.0)
    }),
    ("swapped-out", "a leak whose old pages go to swap", swapped_out),
    ("huge-pages", "a leak that is counted in huge pages", |d| {
        let rate = d.scale(100.0, 300.0) * KB;
        let process = Process::lasting(40.0 * MINUTE).hold(64.0 * MB).leaks(rate);
        process.counted_in(512.0 * PAGE).jitter(d, 2.0)
    }),
    ("batched-count", "a leak on a kernel that folds its counters 64 pages at a time", |d| {
        let rate = d.scale(20.0, 100.0) * KB;
        Process::lasting(15.0 * MINUTE).hold(20.0 * MB).leaks(rate).jitter(d, 2.0).counted_in(64.0 * PAGE)
    }),
    ("after-hours", "a leak that begins after hours of quiet", |d| {
        let (quiet, rate) = (d.scale(HOUR, 4.0 * HOUR), d.scale(20.0, 300.0) * KB);
        let size = d.scale(10.0, 500.0) * MB;
        Process::lasting(quiet + 30.0 * MINUTE).hold(size).leaks_from(quiet, rate).jitter(d, 5.0)
    }),
    ("accelerating", "a leak that gets faster all the time", |d| {
        let gain = d.scale(0.2, 1.0) * KB;
        Process::lasting(d.scale(20.0, 40.0) * MINUTE)
            .hold(100.0 * MB)
            .leaks_as(0.0, |s| 20.0 * KB * s + gain * s * s / 2.0)
            .unsteadily()
            .jitter(d, 10.0)
    }),
    ("tidal-requests", "a leak per request while the load comes and goes", |d| {
        let (rate, phase) = (d.scale(40.0, 100.0) * KB, TAU * d.share());
        let turn = TAU / (2.0 * HOUR);
        let leaked = |s: f64| rate * (s + 0.8 / turn * (phase.cos() - (turn * s + phase).cos()));
        Process::lasting(6.0 * HOUR)
            .hold(400.0 * MB)
            .leaks_as(0.0, leaked)
            .unsteadily()
            .shape(|s| 20.0 * MB * (1.0 + (turn * s + phase).sin()))
            .jitter(d, 10.0)
    }),
    ("beside-a-big-cache", "a slow leak beside 8 GB that fluctuate", |d| {
        let rate = d.scale(50.0, 100.0) * KB;
        Process::lasting(d.scale(3.0, 5.0) * HOUR)
            .hold(8.0 * GB)
            .leaks(rate)
            .noise(d, 5.0 * MB, 30.0)
            .jitter(d, 10.0)
    }),
    ("warm-up-and-leak", "a leak that hides behind a warm-up at first", |d| {
        let (warm, pace, rate) = (d.scale(50.0, 300.0) * MB, d.scale(10.0, 40.0), d.scale(30.0, 100.0) * KB);
        Process::lasting(40.0 * MINUTE)
            .hold(20.0 * MB)
            .leaks(rate)
            .shape(|s| warm * (1.0 - (-s / pace).exp()))
            .jitter(d, 10.0)
    }),
    ("stops-by-itself", "a leak that ends after some minutes", |d| {
        let stop = d.between(600.0, 1200.0);
        Process::lasting(40.0 * MINUTE)
            .hold(60.0 * MB)
            .leaks_as(0.0, |s| 80.0 * KB * s.min(stop))
            .visible(0.0, Some(stop))
            .jitter(d, 10.0)
    }),
    ("batch-host", "a leak under batch jobs of hundreds of megabytes", |d| {
        let rate = d.scale(60.0, 120.0) * KB;
        Process::lasting(3.0 * HOUR)
            .hold(300.0 * MB)
            .leaks(rate)
            .jobs(d, ((150.0, 350.0), (10.0, 30.0), (200.0 * MB, 600.0 * MB)), |_| 1.0)
            .jitter(d, 10.0)
    }),
    ("swinging-load", "a leak under a load that swings for minutes", |d| {
        let rate = d.scale(60.0, 120.0) * KB;
        Process::lasting(d.scale(2.0, 3.0) * HOUR)
            .hold(500.0 * MB)
            .leaks(rate)
            .noise(d, 8.0 * MB, 60.0)
            .jitter(d, 10.0)
    }),
];

/// A larger service for a faster leak.
fn d_base(rate: f64) -> f64 {
    10.0 * MB + 100.0 * rate
}

fn swapped_out(d: &mut Dice) -> Process {
    let (rate, resident) = (d.scale(150.0, 400.0) * KB, d.between(60.0, 120.0) * MB);
    let mut process = Process::lasting(30.0 * MINUTE).hold(40.0 * MB).leaks(rate).jitter(d, 5.0);
    // Which page goes out when fluctuates by a megabyte; no page is in both places.
    let evicted = Process::lasting(process.seconds()).hold(resident).noise(d, MB, 10.0);
    for ((anon, swap), cap) in process.anon.iter_mut().zip(&mut process.swap).zip(&evicted.anon) {
        *swap = (*anon - cap).max(0.0);
        *anon -= *swap;
    }
    process
}
