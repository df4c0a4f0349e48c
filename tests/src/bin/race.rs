//! Rounds of a race between a kill and what may come in its way, as the first process of a pid namespace of its own
//! (`tests/races.rs` starts it there): in each round a fresh process is identified, told to do something after a random
//! number of microseconds, and ended by `leakscope::action::end` at the same time.
//!
//! | Race | What the victim does | What must live |
//! |---|---|---|
//! | `reuse` | exits, is collected, and a copy of it is forked under its pid | the copy |
//! | `exec` | executes `sleep`, or itself again with the same arguments | whatever it became, unless the signal was first |
//! | `exit` | exits with status 7 | – |
//!
//! Victims, copies and the bystander are forks of this process: same name, program, command line, stack and cgroup.
//! Prints one JSON object. Start reading at [`round`].

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, CString};
use std::future::poll_fn;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use leakscope::action::{KillOptions, Lookalikes, Outcome, OutcomeKind, end};
use leakscope::process::{Identity, ProcRoot};
use leakscope::source::{ExitStatus, now};
use leakscope::units::Pid;
use leakscope_tests::command::pause;
use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// What a victim is called until it executes something.
const BEFORE: &CStr = c"race-before";
/// What it is called from then on: the name of the link that it executes.
const AFTER: &str = "race-after";
/// Set for a victim that executed itself: it only sits there.
const SIT: &str = "LEAKSCOPE_RACE_SIT";
/// So many victims are forked at a time, and so long they rest: a start time counts in hundredths of a second, and whoever
/// is judged is older than one.
const POOL: usize = 32;
const REST: Duration = Duration::from_millis(25);
/// So many kills that sent their signal may still wait for their proofs while the next rounds run.
const IN_FLIGHT: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Race {
    Reuse,
    Exec,
    Exit,
}

/// A process that waits for a number of microseconds to be written, and then does its part.
struct Runner {
    pid: Pid,
    go: OwnedFd,
}

/// What a victim executes.
struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

fn raw(pid: Pid) -> Result<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(pid.0)?).context("a pid")
}

/// Forks; the child does `then`, which never returns.
fn fork(then: impl FnOnce()) -> Result<Pid> {
    // SAFETY: the child calls nothing but system calls before it ends or executes a program, whatever the other thread held.
    let child = unsafe { libc::fork() };
    if child == 0 {
        then();
        // SAFETY: ends the child.
        unsafe { libc::_exit(99) };
    }
    ensure!(child > 0, "fork: {}", std::io::Error::last_os_error());
    Ok(Pid(u32::try_from(child)?))
}

fn name_it_before() {
    // SAFETY: the name is terminated.
    unsafe { libc::prctl(libc::PR_SET_NAME, BEFORE.as_ptr()) };
}

/// A process that does nothing.
fn sitter() -> Result<Pid> {
    fork(|| {
        name_it_before();
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    })
}

fn runner(program: Option<&Program>) -> Result<Runner> {
    let (ready, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    // Made before the fork: the child may not allocate.
    let exec = program.map(|program| (program, pointers(&program.arguments), pointers(&program.environment)));
    let pid = fork(|| {
        name_it_before();
        let mut number = [0; 8];
        if rustix::io::read(&ready, &mut number) != Ok(8) {
            return;
        }
        let until = now().0.0 + u64::from_ne_bytes(number) * 1000;
        while now().0.0 < until {}
        if let Some((program, arguments, environment)) = &exec {
            // SAFETY: terminated strings, and terminated arrays of them, that live until the exec.
            unsafe { libc::execve(program.path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            return;
        }
        // SAFETY: ends the child.
        unsafe { libc::_exit(7) };
    })?;
    Ok(Runner { pid, go })
}

/// How a victim ended, and who has its pid now.
struct Ended {
    status: ExitStatus,
    comm: String,
    newcomer: Option<Pid>,
}

/// Waits for the end of each process that comes in, collects it, and, for the race for its pid, forks its successor.
fn keep(race: Race, victims: &Receiver<Pid>, ended: &Sender<Result<Ended>>) {
    for victim in victims {
        if ended.send(collect(race, victim)).is_err() {
            return;
        }
    }
}

fn collect(race: Race, victim: Pid) -> Result<Ended> {
    let id = WaitId::Pid(raw(victim)?);
    waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    // A zombie keeps its name, which an exec changes once it can no longer fail.
    let comm = std::fs::read_to_string(format!("/proc/{victim}/comm"))?.trim().to_owned();
    let status = waitid(WaitId::Pid(raw(victim)?), WaitIdOptions::EXITED)?.context("it ended")?;
    let newcomer = match race {
        Race::Reuse => {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (victim.0 - 1).to_string())?;
            Some(sitter()?)
        }
        _ => None,
    };
    let signal = status.terminating_signal().and_then(|signal| u8::try_from(signal).ok());
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
    let status = signal.map(ExitStatus::Signal).or(code.map(ExitStatus::Code)).context("how it ended")?;
    Ok(Ended { status, comm, newcomer })
}

/// Kills and collects a process of ours, which must have been alive until now.
fn must_live(pid: Pid, what: &str) -> Result<()> {
    let alive = waitid(WaitId::Pid(raw(pid)?), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?.is_none();
    ensure!(alive, "WRONG KILL: {what}, pid {pid}, is dead");
    kill_process(raw(pid)?, Signal::KILL)?;
    waitid(WaitId::Pid(raw(pid)?), WaitIdOptions::EXITED)?;
    Ok(())
}

/// What all rounds share.
struct Course {
    race: Race,
    root: ProcRoot,
    how: KillOptions,
    /// The most that a victim waits: about twice as long as a kill takes from its start to its signal.
    span: Duration,
    random: u64,
    victims: Sender<Pid>,
    ended: Receiver<Result<Ended>>,
    programs: Vec<Program>,
    pool: VecDeque<Runner>,
}

impl Course {
    /// Marsaglia's xorshift: any source of different delays will do.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit.max(1)
    }

    /// Aims at as many rounds that the signal wins as it loses.
    fn aim(&mut self, signal_was_first: bool) {
        self.span = self.span.mul_f64(if signal_was_first { 0.97 } else { 1.03 });
    }

    fn next_runner(&mut self) -> Result<Runner> {
        if self.pool.is_empty() {
            for number in 0..POOL {
                let program = (self.race == Race::Exec).then(|| &self.programs[number % 2]);
                self.pool.push_back(runner(program)?);
            }
            pause(REST);
        }
        self.pool.pop_front().context("a runner")
    }
}

type Ending = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What a round came to, once the kill is over.
struct Done {
    outcome: Outcome,
    victim: Identity,
    ended: Option<Ended>,
}

/// One round up to the signal. The kill's checks run in the first poll, while the victim's microseconds pass.
async fn round(course: &mut Course) -> Result<(Option<Outcome>, Ending, Identity, Option<Ended>)> {
    let Runner { pid, go } = course.next_runner()?;
    let victim = course.root.identify(pid)?;
    let span = u64::try_from(course.span.as_micros())?;
    let delay = course.below(span);
    if course.race != Race::Exec {
        course.victims.send(pid)?;
    }
    let (root, how, who) = (course.root.clone(), course.how.clone(), victim.clone());
    let mut ending: Ending = Box::pin(async move { end(&root, &who, &how, std::future::pending()).await });
    rustix::io::write(go.as_fd(), &delay.to_ne_bytes())?;
    let first = poll_fn(|context| {
        Poll::Ready(match ending.as_mut().poll(context) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        })
    })
    .await;
    let ended = match (course.race, &first) {
        // It sits there as what it became, and is looked at.
        (Race::Exec, Some(outcome)) if outcome.signal.is_none() => None,
        (Race::Exec, _) => {
            course.victims.send(pid)?;
            Some(course.ended.recv()??)
        }
        _ => Some(course.ended.recv()??),
    };
    Ok((first, ending, victim, ended))
}

#[derive(Default)]
struct Tally {
    by_kind: BTreeMap<&'static str, u64>,
    refusals: BTreeMap<String, u64>,
    died_after_exec: u64,
}

impl Tally {
    fn note(&mut self, race: Race, done: Done) -> Result<()> {
        let Done { outcome, victim, ended } = done;
        let pid = victim.key.pid;
        *self.by_kind.entry(outcome.kind.name()).or_default() += 1;
        if outcome.kind == OutcomeKind::Refused {
            // What differed, without what it was.
            let parts = outcome.detail.trim_start_matches("not the process that was judged: ").split("; ");
            let parts: Vec<&str> = parts.filter_map(|part| part.split(" was ").next()).collect();
            *self.refusals.entry(parts.join(", ")).or_default() += 1;
        }
        match outcome.kind {
            OutcomeKind::Killed => ensure!(outcome.signal == Some("SIGTERM"), "{outcome:?}"),
            OutcomeKind::Refused | OutcomeKind::AlreadyGone => {
                ensure!(outcome.signal.is_none(), "signalled all the same: {outcome:?}");
            }
            OutcomeKind::Failed | OutcomeKind::Frozen | OutcomeKind::Throttled | OutcomeKind::DryRun => {
                bail!("neither killed nor refused: {outcome:?}")
            }
        }
        for check in outcome.checks.iter().filter(|check| check.check == "bystanders") {
            ensure!(check.passed, "the bystander was hurt: {outcome:?}");
        }
        match (race, ended) {
            (Race::Reuse, Some(Ended { newcomer: Some(newcomer), .. })) => {
                ensure!(newcomer == pid, "pid {pid} was to be used again, and {newcomer} was");
                must_live(newcomer, "the newcomer under the victim's pid")?;
            }
            (Race::Exec, None) => must_live(pid, "the process that was refused")?,
            (Race::Exec, Some(ended)) => {
                ensure!(ended.status == ExitStatus::Signal(15), "pid {pid} ended with {}", ended.status);
                self.died_after_exec += u64::from(ended.comm == AFTER);
            }
            (Race::Exit, Some(ended)) => {
                let told = outcome.exit.filter(|_| outcome.kind == OutcomeKind::Killed);
                ensure!(told.is_none_or(|told| told == ended.status), "{}: {outcome:?}", ended.status);
            }
            _ => bail!("a round without an end"),
        }
        Ok(())
    }
}

/// The signals that the kernel sent, by the name that the receiver had at that moment.
struct SignalTrace(PathBuf);

impl SignalTrace {
    fn start() -> Result<Self> {
        let instances = PathBuf::from("/sys/kernel/tracing/instances");
        let at = instances.join(format!("leakscope-race-{}", now().0.0));
        std::fs::create_dir(&at).with_context(|| format!("{} (mount -t tracefs)", at.display()))?;
        let event = at.join("events/signal/signal_generate");
        std::fs::write(event.join("filter"), "sig == 15")?;
        std::fs::write(event.join("enable"), "1")?;
        Ok(Self(at))
    }

    fn count(&self, name: &str) -> Result<u64> {
        let text = std::fs::read_to_string(self.0.join("trace"))?;
        let name = format!(" comm={name} ");
        Ok(u64::try_from(text.lines().filter(|line| line.contains(&name)).count())?)
    }
}

impl Drop for SignalTrace {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What a victim may become: another program, or itself again.
fn programs(folder: &std::path::Path) -> Result<Vec<Program>> {
    let own = std::env::current_exe()?;
    let other = ["/usr/bin/sleep", "/bin/sleep"].into_iter().map(PathBuf::from).find(|path| path.exists());
    let text = |text: &str| CString::new(text).context("a text without NUL");
    let arguments = std::env::args().map(|argument| text(&argument)).collect::<Result<Vec<_>>>()?;
    let sleep = vec![text("sleep")?, text("1000")?];
    let mut programs = Vec::new();
    for (program, arguments, place) in [(other.context("sleep")?, sleep, "other"), (own, arguments, "same")] {
        let link = folder.join(place).join(AFTER);
        std::fs::create_dir(folder.join(place))?;
        std::os::unix::fs::symlink(program, &link)?;
        let environment = vec![text(&format!("{SIT}=1"))?];
        programs.push(Program { path: text(&link.to_string_lossy())?, arguments, environment });
    }
    Ok(programs)
}

async fn run(race: Race, rounds: usize, seed: u64) -> Result<Value> {
    let (victims, theirs) = channel();
    let (tell, ended) = channel();
    std::thread::spawn(move || keep(race, &theirs, &tell));
    let root = ProcRoot::default();
    let bystander = sitter()?;
    pause(REST);
    let before = root.identify(bystander)?;
    let how = KillOptions {
        bystanders: Lookalikes::from(vec![before.clone()]),
        successor_within: Duration::ZERO,
        ..KillOptions::default()
    };
    let dry = KillOptions { dry_run: true, ..how.clone() };
    let start = now().0;
    end(&root, &before, &dry, std::future::pending()).await;
    let span = now().0.since(start);
    let folder = leakscope_tests::command::folder();
    let programs = programs(folder.path())?;
    let pool = VecDeque::new();
    let mut course = Course { race, root, how, span, random: seed | 1, victims, ended, programs, pool };
    let trace = SignalTrace::start()?;
    let (started, mut tally, mut in_flight) = (now().0, Tally::default(), JoinSet::new());
    for _ in 0..rounds {
        let (first, ending, victim, ended) = round(&mut course).await?;
        course.aim(first.is_none());
        match first {
            Some(outcome) => tally.note(race, Done { outcome, victim, ended })?,
            None => {
                in_flight.spawn(async move { Done { outcome: ending.await, victim, ended } });
            }
        }
        while in_flight.len() >= IN_FLIGHT {
            tally.note(race, in_flight.join_next().await.context("a kill")??)?;
        }
    }
    while let Some(done) = in_flight.join_next().await {
        tally.note(race, done?)?;
    }
    let seconds = now().0.since(started).as_secs_f64();
    let after = course.root.identify(bystander)?;
    ensure!(before.differences(&after).is_empty() && !after.zombie, "the bystander is not who it was");
    must_live(bystander, "the bystander")?;
    let count = |kind: OutcomeKind| tally.by_kind.get(kind.name()).copied().unwrap_or(0);
    Ok(json!({
        "seed": seed,
        "rounds": rounds,
        "seconds": seconds,
        "span_us": u64::try_from(course.span.as_micros())?,
        "killed": count(OutcomeKind::Killed),
        "refused": count(OutcomeKind::Refused),
        "already_gone": count(OutcomeKind::AlreadyGone),
        "refusals": tally.refusals,
        "signalled_before_exec": trace.count(&BEFORE.to_string_lossy())?,
        "signalled_after_exec": trace.count(AFTER)?,
        "died_after_exec": tally.died_after_exec,
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    if std::env::var_os(SIT).is_some() {
        loop {
            pause(Duration::from_secs(1000));
        }
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [race, rounds] = &arguments[..] else { bail!("RACE ROUNDS") };
    let race = match race.as_str() {
        "reuse" => Race::Reuse,
        "exec" => Race::Exec,
        "exit" => Race::Exit,
        other => bail!("`{other}` is no race"),
    };
    ensure!(std::process::id() == 1, "only as the first process of a pid namespace of its own");
    println!("{}", run(race, rounds.parse()?, now().0.0).await?);
    Ok(())
}
