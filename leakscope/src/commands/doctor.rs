//! `leakscope doctor`: what this kernel, these privileges and this build can do, and how to get the rest.
//!
//! It tries instead of guessing: the kernel side is really loaded and attached, and watches for a second, so that its
//! programs are named with what each event costs.

use std::path::Path;
use std::time::Duration;

use crate::process::Pressure;
use crate::report::{DoctorLine, Health, PressureLine, Style, doctor_table};
use crate::source::{
    Attached, CallsBy, Counters, KernelOptions, KernelSource, KernelStatus, Lost, Source as _,
};
use crate::ui::Ui;

/// Capabilities by their bit (include/uapi/linux/capability.h), and what needs them.
const CAPABILITIES: [(u8, &str, &str); 5] = [
    (39, "CAP_BPF", "loading the kernel side"),
    (38, "CAP_PERFMON", "attaching it to tracepoints"),
    (19, "CAP_SYS_PTRACE", "reading other users' processes"),
    (5, "CAP_KILL", "killing other users' processes"),
    (21, "CAP_SYS_ADMIN", "mounting tracefs where it is not, and older kernels"),
];

/// What doctor found.
#[derive(Clone, Debug)]
pub struct Findings {
    lines: Vec<DoctorLine>,
    ebpf: bool,
}

impl Findings {
    /// Whether the kernel side works.
    pub fn usable(&self) -> bool {
        self.ebpf
    }
}

/// Looks at everything.
pub async fn examine() -> Findings {
    let mut lines = vec![kernel(), btf(), tracefs(), lockdown()];
    lines.extend(capabilities());
    let (ebpf, side) = kernel_side().await;
    lines.extend(side);
    lines.extend([cgroups(), pressure(), pidfd(), mrelease(), python(), build()]);
    Findings { lines, ebpf }
}

/// The table, or the JSON object, that `leakscope doctor` prints.
///
/// # Errors
/// When the values cannot be serialised.
pub fn show(findings: &Findings, json: bool, ui: &Ui) -> anyhow::Result<String> {
    if json {
        let items: Vec<_> = findings
            .lines
            .iter()
            .map(|line| serde_json::json!({"item": line.item, "state": line.health.name(), "detail": line.detail}))
            .collect();
        let object = serde_json::json!({
            "schema": "leakscope.doctor/1",
            "source": if findings.ebpf { "ebpf" } else { "procfs" },
            "items": items,
        });
        return Ok(format!("{}\n", serde_json::to_string_pretty(&object)?));
    }
    let style = Style { color: ui.color, width: ui.columns() };
    let verdict = if findings.ebpf {
        "The kernel side works: hunt, watch and demo use it.\n"
    } else {
        "The kernel side does not work here: hunt and watch fall back to /proc (--source procfs).\n"
    };
    Ok(format!("{}\n{verdict}", doctor_table(&findings.lines).to_text(style)))
}

fn line(item: impl Into<String>, health: Health, detail: impl Into<String>) -> DoctorLine {
    DoctorLine { item: item.into(), health, detail: detail.into() }
}

fn kernel() -> DoctorLine {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
    let mut parts = release.split(['.', '-']);
    let version = number(parts.next()).zip(number(parts.next()));
    let machine = name.machine().to_string_lossy().into_owned();
    match version {
        Some(version) if version < (5, 10) => line(
            "kernel",
            Health::Missing,
            format!("{release} {machine}: 5.10 is the oldest that leakscope supports"),
        ),
        _ => line("kernel", Health::Works, format!("{release} {machine}")),
    }
}

fn btf() -> DoctorLine {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        line(
            "BTF",
            Health::Works,
            "/sys/kernel/btf/vmlinux: BTF tracepoints, exit status, memory changed by others",
        )
    } else {
        line(
            "BTF",
            Health::Limited,
            "the kernel was built without CONFIG_DEBUG_INFO_BTF: classic tracepoints, no exit status",
        )
    }
}

fn tracefs() -> DoctorLine {
    let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    match places.iter().find(|place| Path::new(place).join("events").exists()) {
        Some(place) => line("tracefs", Health::Works, *place),
        None => line(
            "tracefs",
            Health::Limited,
            "not mounted, or not for this user to see: root mounts it at need (mount -t tracefs tracefs /sys/kernel/tracing)",
        ),
    }
}

fn lockdown() -> DoctorLine {
    let Ok(text) = std::fs::read_to_string("/sys/kernel/security/lockdown") else {
        return line(
            "lockdown",
            Health::Works,
            "not visible (securityfs is not mounted); loading below tells",
        );
    };
    let mode = text.split(['[', ']']).nth(1).unwrap_or("none").to_owned();
    if mode == "confidentiality" {
        return line(
            "lockdown",
            Health::Missing,
            "confidentiality: BPF programs may not read kernel memory; boot with lockdown=integrity or none",
        );
    }
    line("lockdown", Health::Works, mode)
}

fn capabilities() -> Vec<DoctorLine> {
    let Some(effective) = effective_capabilities() else {
        return vec![line("capabilities", Health::Limited, "/proc/self/status cannot be read")];
    };
    CAPABILITIES
        .iter()
        .map(|(bit, name, purpose)| {
            if effective & (1 << bit) != 0 {
                line(*name, Health::Works, *purpose)
            } else {
                line(*name, Health::Missing, format!("needed for {purpose}: run as root, or grant it"))
            }
        })
        .collect()
}

fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(field.trim(), 16).ok()
}

/// Loads and attaches the kernel side; whether that worked, and what came of it.
async fn kernel_side() -> (bool, Vec<DoctorLine>) {
    let measuring = KernelSource::measure_run_times();
    let missing = |what: String, fix: &str| {
        (false, vec![line("kernel side", Health::Missing, format!("{what} (fix: {fix})"))])
    };
    let mut source = match KernelSource::open(&KernelOptions::default()) {
        Ok(source) => source,
        Err(error) => return missing(error.to_string(), &error.fix),
    };
    match watched(&mut source).await {
        Ok((status, lost)) => {
            let mut lines = status_lines(&status);
            lines.push(lost_line(&lost));
            lines.extend(source.kernel_side().and_then(|side| side.run_time).map(run_time_line));
            lines.extend(source.notes().iter().map(|note| line("  note", Health::Limited, note.clone())));
            if let Err(error) = measuring {
                let why = format!("{error}; or: sysctl kernel.bpf_stats_enabled=1, and doctor again");
                lines.push(line("  cost of an event", Health::Limited, why));
            }
            (true, lines)
        }
        Err(error) => missing(format!("{error:#}"), "report it, with this output"),
    }
}

/// The state of the kernel side after it has watched for a second.
async fn watched(source: &mut KernelSource) -> anyhow::Result<(KernelStatus, Lost)> {
    let mut lost = Lost::default();
    // The first batch comes at once.
    for _ in 0..5 {
        if let Some(batch) = source.next_batch().await? {
            lost = batch.lost;
        }
    }
    Ok((source.status()?, lost))
}

fn lost_line(lost: &Lost) -> DoctorLine {
    let causes: Vec<String> = lost.causes.iter().map(|(cause, count)| format!("{count}: {cause}")).collect();
    match causes.is_empty() {
        true => line("  lost events", Health::Works, "none in a second"),
        false => line("  lost events", Health::Limited, causes.join("; ")),
    }
}

fn run_time_line(time: Duration) -> DoctorLine {
    let share = 100.0 * time.as_secs_f64();
    let said = format!("{share:.3} % of a core, in the time of whoever set the programs off");
    line("  in the kernel, a second", Health::Works, said)
}

fn status_lines(status: &KernelStatus) -> Vec<DoctorLine> {
    let kind = format!("loaded and attached ({} tracepoints)", status.kind.name());
    let mut lines = vec![line("kernel side", Health::Works, kind)];
    lines.extend(status.attached.iter().map(|attached| {
        line(
            format!("  {}", attached.tracepoint),
            Health::Works,
            attached.kind.name().to_owned() + &cost(attached),
        )
    }));
    lines.extend(status.maps.iter().map(|map| {
        line(format!("  map {}", map.name), Health::Works, format!("{} of {} used", map.used, map.capacity))
    }));
    lines.push(line("  in a second", Health::Works, status.summary()));
    lines.extend(status.calls.map(|by| calls_line(by, status.without_functions.as_deref())));
    lines.extend(match status.counters {
        Some(counters) => counter_lines(counters),
        None => vec![
            line(
                "  rss_stat counters",
                Health::Limited,
                "classic tracepoints: memory that others change is nobody's",
            ),
            line(
                "  exit status",
                Health::Limited,
                "classic tracepoints do not tell it: from the pidfd, since 6.15",
            ),
        ],
    });
    lines
}

fn calls_line(by: CallsBy, without_functions: Option<&str>) -> DoctorLine {
    match by {
        CallsBy::Functions => line(
            "  calls of suspects",
            Health::Works,
            "at the ends of the kernel's functions (fexit), attached only while a process is suspected",
        ),
        CallsBy::Tracepoints => {
            let why = without_functions.unwrap_or("not tried");
            line(
                "  calls of suspects",
                Health::Limited,
                format!(
                    "by syscall tracepoints, attached only while a process is suspected: every system call of the host is \
                     slower then (fexit would spare them: {why})"
                ),
            )
        }
    }
}

fn counter_lines(counters: Counters) -> Vec<DoctorLine> {
    let told = if counters.per_cpu {
        "per CPU (since 6.2): an event for each page; the value lags by a batch of pages for each CPU"
    } else {
        "per thread (before 6.2): an event for each 64 pages; page faults tell of smaller growth"
    };
    let (health, read) = match counters.typed_loads {
        true => (Health::Works, "by typed loads"),
        false => (Health::Limited, "by copies, some 150 ns a fault dearer: this kernel refuses typed loads"),
    };
    let (misses_health, misses) = match counters.misses_are_told {
        true => (Health::Works, "counted by the kernel (since 5.12), and told among the losses"),
        false => (
            Health::Limited,
            "this kernel does not say (since 5.12) how many it passed over; sizes come from /proc all the same",
        ),
    };
    vec![
        line("  rss_stat counters", Health::Works, told),
        line("  kernel memory is read", health, read),
        line("  events during an event", misses_health, misses),
        line("  exit status", Health::Works, "from sched_process_exit"),
    ]
}

/// What one event costs, where it was measured; 75 to 80 ns more are the two looks at the clock that measure it.
fn cost(attached: &Attached) -> String {
    match attached.runs {
        Some((runs, time)) => {
            let each = time.as_nanos() / u128::from(runs.max(1));
            format!(", {each} ns an event ({} in a second, the clock's own time included)", counted(runs))
        }
        None => String::new(),
    }
}

fn counted(runs: u64) -> String {
    super::counted(usize::try_from(runs).unwrap_or(usize::MAX), "event", "events")
}

fn cgroups() -> DoctorLine {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let has = |what: &str| mounts.lines().any(|mount| mount.contains(what));
    let v1_memory = mounts
        .lines()
        .any(|mount| mount.contains(" - cgroup ") && mount.split([' ', ',']).any(|word| word == "memory"));
    match (has(" - cgroup2 "), v1_memory) {
        (_, true) => {
            line("cgroups", Health::Works, "v1 memory hierarchy: limits are read from memory.limit_in_bytes")
        }
        (true, false) => {
            line("cgroups", Health::Works, "v2: limits are read from memory.max and memory.high")
        }
        (false, false) => {
            line("cgroups", Health::Limited, "no memory hierarchy is mounted: only the host's limit counts")
        }
    }
}

fn pressure() -> DoctorLine {
    match Pressure::read(Path::new("/proc/pressure/memory")) {
        Some(pressure) => {
            line("pressure (PSI)", Health::Works, format!("on: {}", PressureLine::from(&pressure).clause()))
        }
        None => line(
            "pressure (PSI)",
            Health::Limited,
            "off: put psi=1 on the kernel command line and boot anew (the kernel needs CONFIG_PSI)",
        ),
    }
}

fn pidfd() -> DoctorLine {
    let own = rustix::process::getpid();
    match rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()) {
        Ok(_) => line("pidfd", Health::Works, "a kill cannot hit a process that took over the pid"),
        Err(error) => {
            line("pidfd", Health::Missing, format!("pidfd_open: {error}: leakscope will not kill here"))
        }
    }
}

fn mrelease() -> DoctorLine {
    if crate::action::takes_memory_back() {
        let use_of = "memory of a process that SIGKILL does not end is taken back all the same";
        line("process_mrelease", Health::Works, use_of)
    } else {
        let instead = "since 5.15: here a killed process that hangs keeps its memory until it ends";
        line("process_mrelease", Health::Limited, instead)
    }
}

fn python() -> DoctorLine {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).map(|folder| folder.join("python3")).find(|file| file.is_file()) {
        Some(python) => {
            line("python3", Health::Works, format!("{}, for the lab (leakscope demo)", python.display()))
        }
        None => line(
            "python3",
            Health::Limited,
            "the lab needs it: apt-get install python3, or dnf install python3",
        ),
    }
}

fn build() -> DoctorLine {
    let libc = if cfg!(target_env = "musl") { "static (musl)" } else { "dynamic (the system's C library)" };
    line(
        "this build",
        Health::Works,
        format!("leakscope {}, {}, {libc}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH),
    )
}
