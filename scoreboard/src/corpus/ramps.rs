//! Processes that do not leak, and rise like a leak for longer than a minute; for tuning.

use std::f64::consts::TAU;

use super::Entry;
use crate::process::Process;
use crate::{HOUR, KB, MB, MINUTE};

pub(super) const KINDS: &[Entry] = &[
    ("bulk-load", "reads its data at tens of megabytes a second", |d| {
        let (begin, seconds) = (d.between(1.0, 60.0), d.scale(15.0, 150.0));
        let height = seconds * d.scale(30.0, 200.0) * MB;
        Process::lasting(15.0 * MINUTE).hold(50.0 * MB).ramp(begin, begin + seconds, height).jitter(d, 20.0)
    }),
    ("import", "reads its data for minutes", |d| {
        let (begin, seconds) = (d.between(1.0, 300.0), d.scale(60.0, 400.0));
        let height = seconds * d.scale(0.5, 8.0) * MB;
        Process::lasting(30.0 * MINUTE).hold(80.0 * MB).ramp(begin, begin + seconds, height).jitter(d, 20.0)
    }),
    ("cache-to-its-cap", "a cache that fills evenly and stops", |d| {
        let (begin, seconds) = (d.between(0.0, 600.0), d.scale(300.0, 2000.0));
        let height = d.scale(100.0, 1000.0) * MB;
        Process::lasting(3.0 * HOUR)
            .hold(150.0 * MB)
            .ramp(begin, begin + seconds, height)
            .noise(d, 80.0 * KB, 5.0)
            .jitter(d, 20.0)
    }),
    ("expanding-heap", "a JVM's heap on its way to its size", |d| {
        let (seconds, height) = (d.scale(120.0, 900.0), d.scale(300.0, 2000.0) * MB);
        let minor = d.scale(5.0, 15.0);
        Process::lasting(HOUR)
            .hold(150.0 * MB)
            .ramp(5.0, 5.0 + seconds, height)
            .saw(d, minor, 5.0 * MB)
            .jitter(d, 20.0)
    }),
    ("filling-ring", "a history of fixed length on its first turn", |d| {
        let (begin, seconds) = (d.between(0.0, 60.0), d.scale(120.0, 1500.0));
        let height = seconds * d.scale(5.0, 60.0) * KB;
        Process::lasting(HOUR).hold(20.0 * MB).ramp(begin, begin + seconds, height).jitter(d, 2.0)
    }),
    ("daily-wave", "follows a load that comes and goes", |d| {
        let (height, phase) = (d.scale(30.0, 150.0) * MB, TAU * d.share());
        Process::lasting(6.0 * HOUR)
            .hold(400.0 * MB)
            .shape(|s| height * (TAU * s / (2.0 * HOUR) + phase).sin())
            .noise(d, 400.0 * KB, 5.0)
            .jitter(d, 20.0)
    }),
    ("slow-collector", "a collector that runs every ten or thirty minutes", |d| {
        let (period, height) = (d.scale(500.0, 1800.0), d.scale(100.0, 400.0) * MB);
        Process::lasting(4.0 * HOUR).hold(300.0 * MB).saw(d, period, height).jitter(d, 20.0)
    }),
];
