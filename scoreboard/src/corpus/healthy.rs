//! Processes that do not leak, for tuning.

use super::Entry;
use crate::dice::Dice;
use crate::process::{Allocator, Process};
use crate::{GB, HOUR, KB, MB, MINUTE, PAGE};

pub(super) const KINDS: &[Entry] = &[
    ("flat", "never moves", |d| Process::lasting(HOUR).hold(d.scale(3.0, 500.0) * MB)),
    ("jitter", "moves by some pages", |d| Process::lasting(HOUR).hold(8.0 * MB).jitter(d, 20.0)),
    ("white-noise", "megabytes up and down from sample to sample", |d| {
        let sigma = d.scale(1.0, 20.0) * MB;
        Process::lasting(30.0 * MINUTE).hold(300.0 * MB).noise(d, sigma, 0.05)
    }),
    ("slow-noise", "wanders for minutes and returns", |d| {
        let tau = d.scale(120.0, 900.0);
        Process::lasting(2.0 * HOUR).hold(400.0 * MB).noise(d, 20.0 * MB, tau).jitter(d, 20.0)
    }),
    ("pink-noise", "fluctuates at every time-scale", |d| {
        let sigma = d.scale(2.0, 30.0) * MB;
        Process::lasting(2.0 * HOUR).hold(500.0 * MB).pink(d, sigma).jitter(d, 20.0)
    }),
    ("bounded-walk", "a random walk between two bounds", |d| {
        let step = PAGE * d.scale(20.0, 120.0);
        Process::lasting(HOUR).hold(200.0 * MB).walk(d, step, 60.0 * MB).jitter(d, 10.0)
    }),
    ("collector", "a collector that runs several times a minute", |d| {
        let (period, height) = (d.scale(8.0, 50.0), d.scale(50.0, 500.0) * MB);
        Process::lasting(HOUR).hold(200.0 * MB).saw(d, period, height).jitter(d, 20.0)
    }),
    ("irregular-collector", "a collector that runs when it likes and leaves this or that", |d| {
        let (period, height) = (d.scale(10.0, 35.0), d.scale(5.0, 40.0) * MB);
        Process::lasting(HOUR).hold(60.0 * MB).uneven_saw(d, period, height, (0.4, 0.3, 0.1)).jitter(d, 20.0)
    }),
    ("minor-and-major", "two generations, the older collected each half a minute", |d| {
        let (minor, major) = (d.scale(2.0, 5.0), d.scale(25.0, 45.0));
        let old = d.scale(50.0, 200.0) * MB;
        Process::lasting(HOUR).hold(200.0 * MB).saw(d, minor, 40.0 * MB).saw(d, major, old).jitter(d, 20.0)
    }),
    ("pool", "a heap that is kept after peaks and given back in parts", |d| {
        let peaks = ((60.0, 600.0), (5.0, 50.0), (20.0 * MB, 200.0 * MB));
        let process = Process::lasting(HOUR).hold(100.0 * MB).jitter(d, 20.0).jobs(d, peaks, |_| 1.0);
        process.behind(d, Allocator::Trims)
    }),
    ("quick-warm-up", "approaches its size within a minute", |d| {
        let (height, pace) = (d.scale(10.0, 300.0) * MB, d.scale(3.0, 20.0));
        Process::lasting(15.0 * MINUTE)
            .hold(20.0 * MB)
            .shape(|s| height * (1.0 - (-s / pace).exp()))
            .jitter(d, 10.0)
    }),
    ("warm-up", "approaches its size within minutes", |d| {
        let (height, pace) = (d.scale(50.0, 500.0) * MB, d.scale(30.0, 150.0));
        Process::lasting(HOUR).hold(50.0 * MB).shape(|s| height * (1.0 - (-s / pace).exp())).jitter(d, 20.0)
    }),
    ("slow-warm-up", "approaches its size within an hour or two", |d| {
        let (height, pace) = (d.scale(200.0, 2000.0) * MB, d.scale(600.0, 3600.0));
        Process::lasting(5.0 * HOUR)
            .hold(300.0 * MB)
            .shape(|s| height * (1.0 - (-s / pace).exp()))
            .noise(d, 200.0 * KB, 10.0)
            .jitter(d, 10.0)
    }),
    ("logarithm", "grows by as much in each doubling of its age", |d| {
        let (height, pace) = (d.scale(5.0, 40.0) * MB, d.scale(2.0, 20.0));
        Process::lasting(2.0 * HOUR).hold(50.0 * MB).shape(|s| height * (s / pace).ln_1p()).jitter(d, 20.0)
    }),
    ("power-law", "a dictionary of words: ever fewer new ones", |d| {
        let (height, power) = (d.scale(1.0, 10.0) * MB, d.between(0.25, 0.45));
        Process::lasting(2.0 * HOUR).hold(40.0 * MB).shape(|s| height * s.powf(power)).jitter(d, 20.0)
    }),
    ("filling-cache", "a cache that fills with ever fewer misses", |d| {
        let (size, pace, power) = (d.scale(100.0, 800.0) * MB, d.scale(60.0, 900.0), d.scale(0.8, 2.0));
        Process::lasting(2.0 * HOUR)
            .hold(100.0 * MB)
            .shape(|s| size * (1.0 - (1.0 + s / pace).powf(-power)).min(0.85))
            .noise(d, 80.0 * KB, 5.0)
            .jitter(d, 10.0)
    }),
    ("batch-jobs", "jobs of hundreds of megabytes, one after another", |d| {
        let jobs = ((100.0, 500.0), (5.0, 40.0), (100.0 * MB, 800.0 * MB));
        Process::lasting(2.0 * HOUR).hold(200.0 * MB).jobs(d, jobs, |_| 1.0).jitter(d, 20.0)
    }),
    ("fork-storms", "copies of touched pages while children live", |d| {
        let storms = ((20.0, 100.0), (3.0, 15.0), (5.0 * MB, 60.0 * MB));
        Process::lasting(30.0 * MINUTE).hold(200.0 * MB).jobs(d, storms, |share| share).jitter(d, 20.0)
    }),
    ("file-scan", "maps and reads files", |d| {
        let (seconds, height) = (d.scale(30.0, 400.0), d.scale(200.0, 4000.0) * MB);
        let mut process = Process::lasting(15.0 * MINUTE).ramp(20.0, 20.0 + seconds, height);
        process.file = std::mem::replace(&mut process.anon, vec![0.0; process.swap.len()]);
        process.hold(40.0 * MB).jitter(d, 20.0)
    }),
    ("shared-buffers", "touches a segment that was there before", |d| {
        let (size, pace) = (d.scale(200.0, 2000.0) * MB, d.scale(30.0, 600.0));
        let mut process = Process::lasting(30.0 * MINUTE).shape(|s| size * (1.0 - (-s / pace).exp()));
        process.shmem = std::mem::replace(&mut process.anon, vec![0.0; process.swap.len()]);
        process.host_shmem.fill(16.0 * GB);
        process.hold(15.0 * MB).jitter(d, 10.0)
    }),
    ("swap-in", "what was swapped out comes back", swap_in),
    ("few-large-blocks", "takes some large blocks in its first minute and keeps them", |d| {
        let mut blocks: Vec<(f64, f64)> = Vec::new();
        let mut at = d.wait(8.0);
        while at < 60.0 {
            blocks.push((at, d.scale(10.0, 100.0) * MB));
            at += d.wait(15.0);
        }
        let held = |s: f64| blocks.iter().filter(|(at, _)| s >= *at).map(|(_, size)| size).sum();
        Process::lasting(20.0 * MINUTE).hold(50.0 * MB).shape(held).jitter(d, 20.0)
    }),
    (
        "collapse-to-huge-pages",
        "the kernel makes huge pages of a heap with holes, until none are left",
        |d| {
            let (total, pace) = (d.scale(4.0, 40.0) * MB, d.scale(100.0, 600.0));
            let mut left = total;
            let collapse = |_| {
                if d.happens(0.25 / pace * left / total * 20.0) {
                    left -= left * 0.05 * d.factor(0.5).min(4.0);
                }
                total - left
            };
            Process::lasting(HOUR).hold(300.0 * MB).shape(collapse)
        },
    ),
];

fn swap_in(d: &mut Dice) -> Process {
    let (seconds, height) = (d.scale(30.0, 300.0), 300.0 * MB);
    let mut process = Process::lasting(20.0 * MINUTE).ramp(100.0, 100.0 + seconds, height);
    let in_memory = process.anon.clone();
    for (swap, back) in process.swap.iter_mut().zip(&in_memory) {
        // Whole pages move, so the sum does not flicker.
        *swap = height - (back / PAGE).floor() * PAGE;
    }
    process.hold(50.0 * MB).jitter(d, 10.0)
}
