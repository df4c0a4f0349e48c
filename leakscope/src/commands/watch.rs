//! `leakscope watch`: the live ranking, a table or a JSON object each interval.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::Context;

use super::Interrupt;
use crate::monitor::{Monitor, Tick, Tracked};
use crate::process::Directory;
use crate::report::{KernelLine, LossLine, PressureLine, SelfCost, Service, Style, WatchLine, WatchProcess};
use crate::source::{KernelCounts, Source, SourceKind};
use crate::ui::Ui;
use crate::units::{Bytes, Moment, ProcKey};

/// What a watch is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often the ranking is shown.
    pub interval: Duration,
    /// When to stop; `None` is on Ctrl-C.
    pub duration: Option<Duration>,
    /// JSON instead of tables.
    pub json: bool,
    /// How many processes are shown at most.
    pub limit: Option<usize>,
}

/// Rows of a table that goes to no terminal.
const ROWS_WITHOUT_TERMINAL: usize = 20;

/// Lines of the screen that are no rows of the ranking: the status line, the titles, the two of the footer, the cursor's.
const OTHER_LINES: usize = 5;

/// Shows the ranking until the time is up, the reader is gone, or somebody interrupts: `interrupt` is older than the
/// source, so that a Ctrl-C while that was opened counts as well.
///
/// # Errors
/// When the source can no longer observe.
pub async fn run<S: Source, D: Directory>(
    monitor: &mut Monitor<S, D>,
    options: &Options,
    interrupt: &mut Interrupt,
    ui: &mut Ui,
) -> anyhow::Result<()> {
    let mut shown: Option<Moment> = None;
    let mut faults = FaultRates::default();
    let mut own = OwnShare::default();
    loop {
        let tick = tokio::select! {
            biased;
            () = interrupt.received() => return Ok(()),
            tick = monitor.step() => tick?,
        };
        let Some(tick) = tick else { return Ok(()) };
        faults.note(&tick);
        let over = options.duration.is_some_and(|duration| monitor.elapsed() >= duration);
        if over || shown.is_none_or(|last| is_due(tick.at.since(last), options.interval)) {
            let line = line(monitor, &tick, options, ui, &mut faults)?;
            shown = Some(tick.at);
            let share = own.advance(tick.at, line.own.cpu);
            show(&line, share, monitor, options, ui)?;
        }
        if over || ui.out_closed() || monitor.nobody_left() {
            return Ok(());
        }
    }
}

/// A sample that comes a little early is not put off by a whole sample.
fn is_due(since: Duration, interval: Duration) -> bool {
    since + interval / 8 >= interval
}

fn line<S: Source, D: Directory>(
    monitor: &mut Monitor<S, D>,
    tick: &Tick,
    options: &Options,
    ui: &Ui,
    faults: &mut FaultRates,
) -> anyhow::Result<WatchLine> {
    let services: Vec<Service> =
        monitor.groups_by_concern().into_iter().map(super::present::service).collect();
    faults.advance(monitor, tick.at);
    let most = match (options.limit, options.json) {
        (Some(limit), _) => limit,
        (None, true) => usize::MAX,
        (None, false) => {
            let others = OTHER_LINES + WatchLine::lines_of_services(services.len());
            ui.rows().map_or(ROWS_WITHOUT_TERMINAL, |rows| rows.saturating_sub(others).max(1))
        }
    };
    let keys: Vec<ProcKey> = monitor.keys_by_growth().take(most).collect();
    let mut processes = Vec::with_capacity(keys.len());
    for key in keys {
        if monitor.identity(key).is_none() {
            continue; // Gone before it could be identified; its exit comes with the next sample.
        }
        let oom_eta = monitor.time_to_oom(key).map(|oom| oom.eta);
        let Some(tracked) = monitor.process(key) else { continue };
        let Some(identity) = tracked.identity() else { continue };
        let mut process = WatchProcess::new(identity, tracked.verdict(), &tracked.memory());
        process.page_faults_per_s = tracked.kernel().and(faults.rate(key));
        process.oom_eta = oom_eta;
        processes.push(process);
    }
    let mut own = self_cost()?;
    own.syscalls_traced = (monitor.source_kind() == SourceKind::Ebpf).then(|| monitor.inspected_for());
    own.kernel = monitor.kernel_side().map(KernelLine::from);
    let lost = monitor.lost();
    let (lost_events, lost) = (lost.total(), LossLine::of(lost));
    let pressure =
        monitor.now().and_then(|(.., host)| host.pressure).map(|pressure| PressureLine::from(&pressure));
    Ok(WatchLine { at: tick.wall, lost_events, lost, pressure, own, processes, services })
}

fn show<S: Source, D: Directory>(
    line: &WatchLine,
    share: Option<f64>,
    monitor: &Monitor<S, D>,
    options: &Options,
    ui: &mut Ui,
) -> anyhow::Result<()> {
    if options.json {
        ui.out(&line.to_json_line()?);
        return Ok(());
    }
    let growing = monitor.growing().count();
    let style = Style { color: ui.color, width: ui.columns() };
    let status = format!(
        "{:.0}  {}, {growing} growing; source {}",
        line.at,
        super::counted(monitor.watched(), "process", "processes"),
        monitor.source_kind().name()
    );
    let footer = footer(line, share);
    let pressure = line.pressure.map_or_else(
        || "memory pressure: not counted by this kernel (leakscope doctor says how to turn it on)".to_owned(),
        |PressureLine { some, full }| {
            format!("memory pressure, last 10 s: {:.2} % some, {:.2} % full", some.avg10, full.avg10)
        },
    );
    let clear = if ui.rows().is_some() { "\x1b[H\x1b[2J" } else { "" };
    let gap = if ui.rows().is_some() { "" } else { "\n" };
    ui.out(&format!(
        "{clear}{}\n{}{}{}\n{}\n{gap}",
        crate::report::cut(&status, style.width),
        line.to_table().to_text(style),
        line.services_text(style),
        crate::report::cut(&pressure, style.width),
        crate::report::cut(&footer, style.width),
    ));
    Ok(())
}

/// What was lost, and what leakscope itself takes, the kernel side in it.
fn footer(line: &WatchLine, share: Option<f64>) -> String {
    let share = share.map_or_else(String::new, |share| format!("{:.1} % of a core, ", 100.0 * share));
    let kernel = line.own.kernel.map_or_else(String::new, |KernelLine { run, processes, .. }| {
        let run = run.map_or_else(String::new, |run| format!(", {:.3} s in the kernel", run.as_secs_f64()));
        format!(", map {} of {}{run}", processes.used, processes.capacity)
    });
    format!("lost events {}; leakscope itself: {share}{} RSS{kernel}", line.lost_events, line.own.rss_bytes)
}

/// Page faults per second between two shows. Whoever does not change costs nothing.
#[derive(Debug, Default)]
struct FaultRates {
    at: Option<Moment>,
    /// How long ago the show before was; `None` at the first.
    seconds: Option<f64>,
    /// As of the last show, of everybody who ever faulted.
    counted: HashMap<ProcKey, u64>,
    /// Of whom there were readings since.
    changed: BTreeSet<ProcKey>,
    /// Faults between the last show and the one before.
    between: HashMap<ProcKey, u64>,
}

impl FaultRates {
    /// Takes in who changed and who ended.
    fn note(&mut self, tick: &Tick) {
        for (gone, _) in &tick.ended {
            self.counted.remove(gone);
            self.changed.remove(gone);
        }
        self.changed.extend(&tick.read);
    }

    /// Begins a new show.
    fn advance<S: Source, D: Directory>(&mut self, monitor: &Monitor<S, D>, at: Moment) {
        self.seconds = self.at.map(|last| at.since(last).as_secs_f64()).filter(|seconds| *seconds > 0.0);
        self.at = Some(at);
        self.between.clear();
        for key in std::mem::take(&mut self.changed) {
            let counts = monitor.process(key).and_then(Tracked::kernel);
            let now = counts.as_ref().map_or(0, all_faults);
            if now > 0 {
                let before = self.counted.insert(key, now).unwrap_or(0);
                self.between.insert(key, now.saturating_sub(before));
            }
        }
    }

    /// The rate since the show before.
    fn rate(&self, key: ProcKey) -> Option<f64> {
        let faults = self.between.get(&key).copied().unwrap_or(0);
        self.seconds.map(|seconds| faults as f64 / seconds)
    }
}

fn all_faults(counts: &KernelCounts) -> u64 {
    counts.first_touch_faults.saturating_add(counts.protection_faults)
}

/// leakscope's own share of a core between two shows.
#[derive(Debug, Default)]
struct OwnShare {
    last: Option<(Moment, Duration)>,
}

impl OwnShare {
    fn advance(&mut self, at: Moment, cpu: Duration) -> Option<f64> {
        let (then, before) = self.last.replace((at, cpu))?;
        let span = at.since(then).as_secs_f64();
        (span > 0.0).then(|| cpu.saturating_sub(before).as_secs_f64() / span)
    }
}

/// What leakscope itself took so far.
pub(super) fn self_cost() -> anyhow::Result<SelfCost> {
    let stat = procfs::process::Process::myself()
        .and_then(|process| process.stat())
        .context("reading leakscope's own /proc/self/stat")?;
    Ok(SelfCost {
        cpu: Duration::from_secs_f64((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64),
        rss_bytes: Bytes(stat.rss.saturating_mul(rustix::param::page_size() as u64)),
        syscalls_traced: None,
        kernel: None,
    })
}
