//! An incident as the lab makes it, to be changed into the other cases.

use std::time::Duration;

use jiff::Timestamp;

use crate::action::{Bystander, Check, MemoryReturn, Outcome, OutcomeKind, Sent};
use crate::leak::State;
use crate::report::*;
use crate::source::{ExitStatus, HostMemory, Lost, SourceKind};
use crate::units::{Bytes, BytesPerSec, Pid, ProcKey, Ticks};

pub const LEAKER: ProcKey = ProcKey { pid: Pid(4242), start: Ticks(123_456) };

/// So many milliseconds into the hunt.
pub fn at(millis: u64) -> Timestamp {
    let start: Timestamp = "2026-11-23T01:00:00Z".parse().unwrap();
    start + Duration::from_millis(millis)
}

fn entry(millis: u64, text: &str) -> TimelineEntry {
    TimelineEntry { at: at(millis), text: text.to_owned() }
}

/// The lab: a cache that never forgets beside an application that sleeps; the cache was found and killed.
pub fn lab() -> Incident {
    Incident {
        hunt: Hunt {
            started_at: at(0),
            finished_at: at(72_400),
            host: Host {
                hostname: "app-1".to_owned(),
                kernel: "6.18.44".to_owned(),
                memory_total_bytes: Bytes(8_000_000_000),
                memory_available_bytes: Bytes(6_100_000_000),
                pressure: Some(pressure()),
            },
            source: SourceKind::Ebpf,
            lost_events: 0,
            lost: Vec::new(),
            verdict: HostVerdict::Leak,
            suspects: vec![suspect()],
            services: Vec::new(),
            actions: vec![killed()],
            report: Some("/tmp/incident-report.txt".to_owned()),
        },
        version: "0.0.0".to_owned(),
        confirm: Duration::from_secs(60),
        told: Told::Kill,
        host_memory: host_memory(6_090_000_000),
        timeline: vec![
            entry(0, "the hunt began; 143 processes were seen"),
            entry(3_000, "process 4242 became suspect: growing at 51.0 KB/s"),
            entry(66_000, "process 4242 was confirmed as a leak: 1 min of clean growth"),
            entry(67_300, "SIGTERM was sent to process 4242 through its pidfd"),
            entry(67_310, "process 4242 was dead (signal 15)"),
            entry(72_400, "ended after 72.4 s"),
        ],
        timeline_left_out: 0,
        candidates: candidates(),
        considered: Some(143),
        stories: vec![Story {
            key: LEAKER,
            steady: Some(Bytes(11_000_000)),
            given_back: Some(Bytes::ZERO),
            footprint: (0..67).map(|s| (at(s * 1000), Bytes(11_000_000 + s * 51_200))).collect(),
            judged_at: Some(at(66_000)),
            beside: vec![Lookalike {
                pid: Pid(4243),
                name: "python3 legit_app.py".to_owned(),
                verdict: State::Steady,
                footprint: [0, 1_000, 72_000].map(|millis| (at(millis), Bytes(9_100_000))).to_vec(),
            }],
            killed_at: Some(at(67_300)),
        }],
        host_available: (0..72).map(|s| (at(s * 1000), Bytes(6_090_000_000 + s * 100_000))).collect(),
        oom_choice: Some(OomChoice { pid: Pid(4243), name: "python3 legit_app.py".to_owned(), score: 671 }),
        lost: Lost { causes: Vec::new(), vanished: 2 },
        own: Some(SelfCost {
            cpu: Duration::from_millis(210),
            rss_bytes: Bytes(11_800_000),
            syscalls_traced: None,
            kernel: None,
        }),
    }
}

pub fn suspect() -> Suspect {
    Suspect {
        anatomy: None,
        pid: LEAKER.pid,
        start_time_ticks: LEAKER.start,
        comm: "python3".to_owned(),
        cmdline: ["python3", "cache_service.py"].map(String::from).to_vec(),
        exe: Some("/usr/bin/python3.11".to_owned()),
        uid: 0,
        user: Some("root".to_owned()),
        owner: OwnerLine {
            cgroup: Some("/system.slice/cron.service".to_owned()),
            pidfile: Some("/tmp/leaky.pid".to_owned()),
            ..OwnerLine::default()
        },
        verdict: State::Leaking,
        confirmed: true,
        confidence: None,
        clean_growth: Duration::from_secs(63),
        reasons: vec![
            "grew in 63 of 63 seconds".to_owned(),
            "the last third grew at 0.99 of the first".to_owned(),
        ],
        memory: MemoryLine {
            rss_bytes: Bytes(19_400_000),
            anon_bytes: Bytes(14_379_200),
            file_bytes: Bytes(5_020_800),
            ..MemoryLine::default()
        },
        rate: RateLine {
            rate_bytes_per_s: Some(BytesPerSec(51_200.0)),
            rate_low_bytes_per_s: Some(BytesPerSec(50_600.0)),
            rate_high_bytes_per_s: Some(BytesPerSec(51_800.0)),
        },
        suspected_after: Some(Duration::from_secs(3)),
        confirmed_after: Some(Duration::from_secs(66)),
        oom: Some(Oom {
            limit: "host".to_owned(),
            limit_bytes: Bytes(8_000_000_000),
            left_bytes: Bytes(6_090_000_000),
            growers: 1,
            growth_bytes_per_s: BytesPerSec(51_200.0),
            runaway: false,
            eta: Duration::from_secs(118_945),
            low: Duration::from_secs(117_567),
            high: Some(Duration::from_secs(120_355)),
        }),
        pressure: None,
        kernel: Some(Kernel {
            page_faults: 838,
            brk_bytes: Some(Bytes(1_351_680)),
            mmap_bytes: Some(Bytes(2_097_152)),
            munmap_bytes: Some(Bytes::ZERO),
            explained: Some(0.97),
            ..Kernel::default()
        }),
        cadence_unknown: None,
        cadence: Some(Cadence { period: Duration::from_millis(200), bytes: Some(Bytes(10_289)) }),
        places: Some(vec![Place {
            share: 0.97,
            bytes: Bytes(3_270_000),
            frames: vec!["remember (cache_service.py:5)".to_owned(), "serve (cache_service.py:9)".to_owned()],
        }]),
    }
}

fn killed() -> Outcome {
    Outcome {
        followed: None,
        via: None,
        pid: LEAKER.pid,
        start_time_ticks: LEAKER.start,
        kind: OutcomeKind::Killed,
        signal: Some("SIGTERM"),
        signals: vec![Sent { signal: "SIGTERM", at: at(67_300) }],
        escalated: false,
        died_after_s: Some(Duration::from_millis(10)),
        died_at: Some(at(67_310)),
        exit: Some(ExitStatus::Signal(15)),
        checks: vec![
            check(
                "identity",
                true,
                "pid 4242 started at tick 123456 runs /usr/bin/python3.11, as when it was judged",
            ),
            check("protected", true, "no protection names it"),
            check("death", true, "the pidfd reported its end"),
        ],
        memory_returned_bytes: Some(Bytes(14_300_000)),
        respawned_as: None,
        bystanders: vec![Bystander { pid: Pid(4243), alive: true, same_process: true }],
        detail: "pid 4242 died of SIGTERM".to_owned(),
        remedy: None,
        reaped: Some(true),
        memory: MemoryReturn {
            footprint_before_bytes: Some(Bytes(14_300_000)),
            anon_before_bytes: Some(Bytes(14_300_000)),
            host_available_before_bytes: Some(Bytes(6_090_000_000)),
            host_available_after_bytes: Some(Bytes(6_103_000_000)),
            measured_after: Some(Duration::from_millis(12)),
            ..MemoryReturn::default()
        },
    }
}

pub fn check(name: &'static str, passed: bool, detail: &str) -> Check {
    Check { check: name, passed, detail: detail.to_owned() }
}

/// Nothing was signalled, and nothing settled afterwards.
pub fn with_action(kind: OutcomeKind, change: impl FnOnce(&mut Outcome)) -> Incident {
    let mut incident = lab();
    let mut action = Outcome {
        kind,
        detail: String::new(),
        signal: None,
        signals: Vec::new(),
        died_after_s: None,
        died_at: None,
        exit: None,
        checks: Vec::new(),
        memory_returned_bytes: None,
        memory: MemoryReturn::default(),
        bystanders: Vec::new(),
        ..killed()
    };
    change(&mut action);
    incident.hunt.actions = vec![action];
    incident.stories[0].killed_at = None;
    incident.timeline.truncate(3);
    incident
}

/// The leak was reported and left alone, and /proc was all there was to see it by.
pub fn procfs_observed() -> Incident {
    let mut incident = with_action(OutcomeKind::Refused, |_| ());
    incident.hunt.actions.clear();
    incident.hunt.source = SourceKind::Procfs;
    incident.told = Told::Observe;
    incident.oom_choice = None;
    let suspect = &mut incident.hunt.suspects[0];
    suspect.kernel = None;
    suspect.cadence = None;
    suspect.places = None;
    incident
}

/// A little of it, as when reclaim has begun.
pub fn pressure() -> PressureLine {
    let stalls = |avg10, avg60, millis| StallLine { avg10, avg60, total: Duration::from_millis(millis) };
    PressureLine { some: stalls(3.25, 0.8, 9331), full: stalls(0.5, 0.12, 664) }
}

fn host_memory(available: u64) -> HostMemory {
    HostMemory { total: Bytes(8_000_000_000), available: Bytes(available), ..HostMemory::default() }
}

fn candidates() -> Vec<Candidate> {
    let candidate = |pid, name: &str, verdict, footprint, growth, why: &str| Candidate {
        pid: Pid(pid),
        name: name.to_owned(),
        verdict,
        confirmed: verdict == State::Leaking,
        footprint: Bytes(footprint),
        growth: Some(Bytes(growth)),
        why: why.to_owned(),
    };
    vec![
        candidate(
            4242,
            "python3 cache_service.py",
            State::Leaking,
            14_379_200,
            3_379_200,
            "grew in 63 of 63 seconds",
        ),
        candidate(980, "node server.js", State::Sawtooth, 88_000_000, 2_100_000, "falls back every 9 s"),
        candidate(4243, "python3 legit_app.py", State::Steady, 9_100_000, 0, "did not move"),
    ]
}

/// What the live ranking of the lab looks like.
pub fn watch() -> WatchLine {
    let suspect = suspect();
    let leaker = WatchProcess {
        pid: suspect.pid,
        start_time_ticks: suspect.start_time_ticks,
        comm: suspect.comm,
        cmdline: suspect.cmdline,
        verdict: suspect.verdict,
        confirmed: true,
        confidence: None,
        memory: suspect.memory,
        rate: suspect.rate,
        page_faults_per_s: Some(12.5),
        oom_eta: Some(Duration::from_secs(118_945)),
    };
    let steady = WatchProcess {
        pid: Pid(4_194_304),
        cmdline: vec!["python3".to_owned(), "legit_app.py".to_owned(), "--a-long-option=".repeat(30)],
        verdict: State::SharedGrowth,
        confirmed: false,
        rate: RateLine::default(),
        page_faults_per_s: None,
        oom_eta: None,
        ..leaker.clone()
    };
    WatchLine {
        at: at(12_250),
        lost_events: 0,
        lost: Vec::new(),
        pressure: Some(pressure()),
        own: SelfCost {
            cpu: Duration::from_millis(40),
            rss_bytes: Bytes(11_800_000),
            syscalls_traced: Some(Duration::from_millis(6_250)),
            kernel: Some(KernelLine {
                run: Some(Duration::from_millis(12)),
                processes: FillLine { used: 75, capacity: 32_768 },
                suspects: FillLine { used: 1, capacity: 256 },
            }),
        },
        processes: vec![leaker, steady],
        services: Vec::new(),
    }
}

/// Forty workers none of which leaks fast enough to be told alone.
pub fn service() -> Service {
    Service {
        cmdline: ["gunicorn: worker [shop]", "--reload"].map(String::from).to_vec(),
        comm: "gunicorn".to_owned(),
        exe: Some("/usr/bin/python3.11".to_owned()),
        parent_pid: Pid(500),
        owner: OwnerLine { unit: Some("shop.service".to_owned()), ..OwnerLine::default() },
        processes: 40,
        pids: (1000..1003).map(Pid).collect(),
        verdict: State::Leaking,
        confirmed: true,
        clean_growth: Duration::from_secs(320),
        reasons: vec!["grew in 16 of 16 seconds".to_owned()],
        footprint_bytes: Bytes(2_010_000_000),
        rate: RateLine {
            rate_bytes_per_s: Some(BytesPerSec(80_000.0)),
            rate_low_bytes_per_s: Some(BytesPerSec(76_000.0)),
            rate_high_bytes_per_s: Some(BytesPerSec(84_000.0)),
        },
    }
}
