//! From arguments to a running command: opens the source that was asked for, hands everything over, prints what comes
//! back and turns it into an exit status.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use leakscope::action::{Check, Outcome};
use leakscope::commands::analyze::Analyst;
use leakscope::commands::present::{self, Destination, Terms};
use leakscope::commands::{Interrupt, bundle, demo, doctor, hunt, kill, lab, record, rules, undo, watch};
use leakscope::fault::Remedy;
use leakscope::leak::Thresholds;
use leakscope::monitor::{Config, Monitor};
use leakscope::process::{LiveDirectory, ProcRoot, Selector};
use leakscope::report::{Analysis, HostVerdict, ReportFormat, Told, check_report_place};
use leakscope::source::{Live, OpenOptions, Paced, Wanted, recording};
use leakscope::ui::{Ui, Verbosity};
use leakscope::units::Pid;

use crate::cli::{
    AnalyzeArgs, Command, DemoArgs, DoctorArgs, HuntArgs, KillArgs, ObserveArgs, Output, RecordArgs,
    ReplayArgs, RulesArgs, SourceChoice, Tracepoints, USUAL_QUERY, UndoArgs, WatchArgs, restraints,
};

/// Nothing is leaking now, or the death is verified.
const DONE: u8 = 0;
/// A leak is still there, or the target was not killed.
const REMAINS: u8 = 1;
/// The job could not be done.
const FAILED: u8 = 2;

/// Runs a command and says with which status to exit.
pub async fn run(command: Command, ui: &mut Ui) -> anyhow::Result<u8> {
    let status = match command {
        Command::Hunt(args) => hunt(args, ui).await,
        Command::Watch(args) => watch(args, ui).await,
        Command::Kill(args) => kill(args, ui).await,
        Command::Record(args) => record(args, ui).await,
        Command::Replay(args) => replay(args, ui).await,
        Command::Analyze(args) => analyze(args, ui).await,
        Command::Undo(args) => undo(&args, ui).await,
        Command::Rules(args) => rules(&args, ui),
        Command::Doctor(args) => doctor(&args, ui).await,
        Command::Demo(args) => demo(args, ui).await,
    }?;
    ui.out_failure().fix("free some space, or send standard output elsewhere")?;
    Ok(status)
}

async fn hunt(args: HuntArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    let json = args.format.format == Output::Json;
    let options = args.options()?;
    let destination = args.destination();
    if let Some(destination) = &destination {
        check_report_place(&destination.path)?;
    }
    if let Some(directory) = &options.evidence {
        bundle::prepare(directory)?;
    }
    let mut monitor = monitor(&args.observe, options.confirm, ui)?;
    let hunted = hunt::run(&mut monitor, &options, ui, &mut |_, _| Ok(())).await?;
    tell_kernel_side(monitor.source(), monitor.inspected_for(), ui)?;
    let mut incident = present::incident(&hunted, args.terms());
    // What was found is shown even where its report cannot be written.
    let written = match &destination {
        Some(destination) if hunted.leak_confirmed() => present::write(&mut incident, destination, ui),
        _ => Ok(()),
    };
    ui.out(&present::result(&incident.hunt, &hunted, json, ui)?);
    written?;
    if hunted.interrupted {
        ui.say("interrupted: what is shown is what was seen until then");
        return Ok(FAILED);
    }
    Ok(if hunted.leak_remains() { REMAINS } else { DONE })
}

async fn watch(args: WatchArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    let options = watch::Options {
        interval: args.observe.interval,
        duration: args.observe.duration,
        json: args.format.format == Output::Json,
        limit: args.limit.and_then(|limit| usize::try_from(limit).ok()),
    };
    // Loading the kernel side takes a moment, in which Ctrl-C is to end a watch as it does later.
    let mut interrupt = Interrupt::new()?;
    let mut monitor = monitor(&args.observe, Thresholds::default().confirm, ui)?;
    watch::run(&mut monitor, &options, &mut interrupt, ui).await?;
    tell_kernel_side(monitor.source(), monitor.inspected_for(), ui)?;
    Ok(DONE)
}

async fn kill(args: KillArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    let how = args.grace.options(&args.protect)?;
    let victim = kill::identify(&ProcRoot::default(), &args.target()?)?;
    let judged = match args.confirm {
        Some(confirm) => {
            // Nobody but the victim, as it was identified.
            let mut selector = Selector::default().pids([victim.key.pid]);
            selector.meet(victim.key);
            let observed = Observed {
                source: open(SourceChoice::Auto, Tracepoints::Auto, None, ui),
                selector,
                pidfiles: args.pidfile.iter().cloned().collect(),
                confirm,
            };
            let mut monitor = observed.monitor(ui)?;
            let check = kill::judge(&mut monitor, victim.key, confirm, ui).await?;
            Some((monitor, check))
        }
        None => None,
    };
    // The kernel side tells how the victim ended, where it works; a kill needs it not.
    let source = if how.dry_run {
        Err("a dry run".to_owned())
    } else {
        let wanted = OpenOptions { wanted: Wanted::Ebpf, ..OpenOptions::default() };
        Live::open(&wanted).map(|opened| opened.source).map_err(|error| format!("{error:#}"))
    };
    let verdict = match judged {
        // Loading it took its time.
        Some((mut monitor, check)) if check.passed => {
            Some(kill::still(&mut monitor, victim.key, check).await?)
        }
        judged => judged.map(|(_, check)| check),
    };
    if let Some(verdict) = verdict.as_ref().filter(|verdict| !verdict.passed && !args.force) {
        let outcome = Outcome::refused(victim.key, verdict.check, verdict.detail.clone());
        ui.out(&present::kill(&victim, &outcome, args.format.format == Output::Json, ui)?);
        return Ok(REMAINS);
    }
    let mut outcome = kill::run(&victim, &how, source).await?;
    if let Some(verdict) = verdict {
        let forced = if verdict.passed { "" } else { " (--force)" };
        let detail = format!("{}{forced}", verdict.detail);
        outcome.checks.insert(0, Check { passed: true, detail, ..verdict });
    }
    ui.out(&present::kill(&victim, &outcome, args.format.format == Output::Json, ui)?);
    Ok(match &outcome.remedy {
        _ if outcome.is_dead() => DONE,
        // It could not be done here: a privilege, or the kernel.
        Some(_) => FAILED,
        None => REMAINS,
    })
}

async fn record(args: RecordArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    let selector = args.observe.selection.selector(&ProcRoot::default())?;
    let mut interrupt = Interrupt::new()?;
    let interval = args.observe.interval;
    let options = open(args.observe.source, args.observe.tracepoints, None, ui);
    let opened = opened(&OpenOptions { paced: Some(interval), ..options }, ui)?;
    // After the source: one that cannot be opened leaves no empty file behind.
    let file = recording::create(&args.output)?;
    let leave_out = Some(Pid(std::process::id()));
    let directory = LiveDirectory::new(ProcRoot::default(), args.observe.selection.pidfiles.clone());
    let terms = recording::Terms { selector: selector.clone(), leave_out, redact: args.redact };
    let (source, directory, recorder) =
        recording::record(Paced::new(opened, interval), directory, terms, Box::new(file))
            .with_context(|| format!("recording to {}", args.output.display()))?;
    let mut monitor =
        Monitor::new(source, directory, Config { thresholds: Thresholds::default(), selector, leave_out });
    let recorded =
        record::run(&mut monitor, &recorder, args.options(), &mut interrupt, ui, &mut |_, _| ()).await;
    let written = recorded.with_context(|| format!("recording to {}", args.output.display()))?;
    ui.say(&format!("{}: {}", args.output.display(), record::line(&written, monitor.elapsed())));
    Ok(DONE)
}

async fn replay(args: ReplayArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    let mut analyst = Analyst::new(args.confirm);
    analyst.recording(&args.file, ui).await?;
    tell(&analyst.finish(), args.format.format, ui)
}

async fn analyze(args: AnalyzeArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    let mut analyst = Analyst::new(args.confirm);
    let mut failed = None;
    for file in &args.files {
        let judged = analyst.file(file, ui).await;
        note(judged, &mut failed, ui);
    }
    if let Some(query) = args.query() {
        if args.query.is_none() {
            ui.say(&format!("asking for {USUAL_QUERY}; --query asks for something else"));
        }
        let judged = analyst.prometheus(&query, jiff::Timestamp::now(), ui);
        note(judged, &mut failed, ui);
    }
    let analysis = analyst.finish();
    let Some(error) = failed else { return tell(&analysis, args.format.format, ui) };
    // What could be judged is told, and the job was not done.
    if !analysis.series.is_empty() {
        tell(&analysis, args.format.format, ui)?;
    }
    Err(error)
}

/// Keeps the last failure, to end with; those before it are told at once.
fn note(judged: anyhow::Result<()>, failed: &mut Option<anyhow::Error>, ui: &mut Ui) {
    if let Err(error) = judged
        && let Some(before) = failed.replace(error)
    {
        ui.error(&leakscope::fault::render(&before));
    }
}

fn tell(analysis: &Analysis, format: Output, ui: &mut Ui) -> anyhow::Result<u8> {
    let text = if format == Output::Json { analysis.to_json()? } else { analysis.to_text() };
    ui.out(&text);
    Ok(if analysis.verdict == HostVerdict::Leak { REMAINS } else { DONE })
}

async fn undo(args: &UndoArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    let options = undo::Options { pids: args.pids.iter().copied().map(Pid).collect(), list: args.list };
    let done =
        undo::run(&restraints(), &options, ui).await.fix("leakscope undo --list shows what there is")?;
    ui.out(&undo::show(&done, args.format.format == Output::Json)?);
    Ok(if done.all_undone() { DONE } else { REMAINS })
}

fn rules(args: &RulesArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    let (protections, config) = args.protect.protections()?;
    let config = config.map(|file| file.display().to_string());
    let caught = rules::examine(&ProcRoot::default(), &protections, config)
        .fix("mount /proc, or run leakscope where it is")?;
    ui.out(&rules::show(&caught, args.format.format == Output::Json, ui)?);
    Ok(DONE)
}

async fn doctor(args: &DoctorArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    let findings = doctor::examine().await;
    ui.out(&doctor::show(&findings, args.format.format == Output::Json, ui)?);
    Ok(if findings.usable() { DONE } else { REMAINS })
}

async fn demo(args: DemoArgs, ui: &mut Ui) -> anyhow::Result<u8> {
    // From here on Ctrl-C no longer ends the program before the lab's files are gone.
    let mut early = Interrupt::new()?;
    let mut lab = lab::Lab::start(args.keep, args.walkthrough_paths)?;
    let shown = demo_in(&mut lab, &args, &mut early, ui).await;
    if args.keep {
        let (folder, legit) = (lab.paths.folder.display(), lab.legit);
        ui.say(&format!("kept: {folder}, and the legitimate app (to end it: kill {legit})"));
    }
    lab.finish().await;
    shown
}

async fn demo_in(
    lab: &mut lab::Lab,
    args: &DemoArgs,
    early: &mut Interrupt,
    ui: &mut Ui,
) -> anyhow::Result<u8> {
    let json = args.format.format == Output::Json;
    let observed = Observed {
        source: open(args.source, args.tracepoints, None, ui),
        selector: Selector::default(),
        pidfiles: vec![lab.paths.leaky_pid.clone(), lab.paths.legit_pid.clone()],
        confirm: args.confirm,
    };
    let mut monitor = observed.monitor(ui)?;
    // Loading the kernel side takes a moment in which no signal is looked at.
    tokio::task::yield_now().await;
    tokio::select! {
        biased;
        () = early.received() => anyhow::bail!("interrupted before the lab was through"),
        () = std::future::ready(()) => {}
    }
    let shown = demo::run(&mut monitor, lab, &demo::Options { confirm: args.confirm }, ui).await?;
    let text = Destination { path: lab.paths.report.clone(), format: ReportFormat::Text };
    let terms = Terms { confirm: args.confirm, told: Told::Kill };
    let mut incident = present::incident(&shown.hunted, terms);
    let leak = shown.hunted.leak_confirmed();
    let mut written = Ok(());
    if leak {
        // The text last: it is the one that the result names.
        let others = if args.keep { text.in_other_forms() } else { Vec::new() };
        for destination in others.iter().chain([&text]) {
            written = written.and_then(|()| present::write(&mut incident, destination, ui));
        }
    }
    ui.out(&present::result(&incident.hunt, &shown.hunted, json, ui)?);
    if leak && !json {
        ui.out(&format!("\n{}", incident.render(ReportFormat::Text)?));
    }
    written?;
    Ok(if shown.right { DONE } else { REMAINS })
}

fn open(source: SourceChoice, tracepoints: Tracepoints, interval: Option<Duration>, ui: &Ui) -> OpenOptions {
    OpenOptions {
        wanted: source.into(),
        tracepoints: tracepoints.into(),
        at_least_every: interval,
        paced: None,
        debug: ui.verbosity() == Verbosity::Debug,
    }
}

/// What the kernel side did behind the scenes, for whoever asked with -v.
fn tell_kernel_side(source: &Live, inspected_for: Duration, ui: &mut Ui) -> anyhow::Result<()> {
    if ui.verbosity() >= Verbosity::Verbose
        && let Some(status) = source.kernel_status()?
    {
        let traced = inspected_for.as_secs_f64();
        ui.say_verbose(&format!("kernel side: {}; system calls traced for {traced:.0} s", status.summary()));
    }
    Ok(())
}

/// The source, with its notes said.
fn opened(options: &OpenOptions, ui: &mut Ui) -> anyhow::Result<Live> {
    let opened = Live::open(options)?;
    for note in &opened.notes {
        ui.say(note);
    }
    Ok(opened.source)
}

/// What is observed, and by what.
struct Observed {
    source: OpenOptions,
    selector: Selector,
    /// Pid files that were named, besides those that are found.
    pidfiles: Vec<PathBuf>,
    confirm: Duration,
}

impl Observed {
    fn monitor(self, ui: &mut Ui) -> anyhow::Result<Monitor<Live, LiveDirectory>> {
        let source = opened(&self.source, ui)?;
        let config = Config {
            thresholds: Thresholds { confirm: self.confirm },
            selector: self.selector,
            leave_out: Some(Pid(std::process::id())),
        };
        let directory = LiveDirectory::new(ProcRoot::default(), self.pidfiles);
        Ok(Monitor::new(source, directory, config))
    }
}

fn monitor(
    args: &ObserveArgs,
    confirm: Duration,
    ui: &mut Ui,
) -> anyhow::Result<Monitor<Live, LiveDirectory>> {
    let observed = Observed {
        source: open(args.source, args.tracepoints, Some(args.interval), ui),
        selector: args.selection.selector(&ProcRoot::default())?,
        pidfiles: args.selection.pidfiles.clone(),
        confirm,
    };
    observed.monitor(ui)
}
