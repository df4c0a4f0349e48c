//! What the machines said, and the table of it: kernel by test.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::debian::{self, Kernel, series_key};
use crate::workspace::Workspace;

/// Where the contract of the tracepoints is kept, by series.
const CONTRACT: &str = "leakscope/src/source/kernel/contract.json";
/// Where the table of supported kernels is kept, between these lines.
const LIMITATIONS: &str = "docs/limitations.md";
const TABLE: (&str, &str) =
    ("<!-- kernels: written by `cargo xtask test --vm --record` -->", "<!-- end of kernels -->");

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Every executable was run, and it was said so.
    Done,
    /// What the kernel said of its panic.
    Panicked(String),
    /// Nothing was heard of it for so long.
    Silent(Duration),
    /// It went away before it was done.
    Stopped,
}

/// What became of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    Ignored,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Ignored => "ignored",
        }
    }
}

/// What became of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// By executable and test, in the order in which they ran.
    pub tests: Vec<(String, Verdict)>,
    pub end: End,
    /// Whether its script said a word: before that, nothing of ours has run in it.
    pub began: bool,
    /// The tracepoints, as a machine that was asked shows them.
    contract: Option<Value>,
    doctor: Option<Value>,
}

impl Outcome {
    /// Whether everything ran and nothing failed.
    pub fn is_good(&self) -> bool {
        self.end == End::Done && self.count(Verdict::Failed) == 0 && self.count(Verdict::Passed) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.tests.iter().filter(|(_, found)| *found == verdict).count()
    }

    /// In words.
    fn told(&self) -> String {
        let (passed, failed) = (self.count(Verdict::Passed), self.count(Verdict::Failed));
        let end = match &self.end {
            End::Done if passed + failed == 0 => "; no test was run".to_owned(),
            End::Done => String::new(),
            End::Panicked(said) => format!("; the kernel panicked: {said}"),
            End::Silent(span) => format!("; it hung: nothing was heard of it for {} s", span.as_secs()),
            End::Stopped => "; it stopped before it was done".to_owned(),
        };
        format!("{passed} passed, {failed} failed{end}")
    }
}

/// Reads what a machine says, as it comes.
pub struct Reader {
    mark: String,
    rest: Vec<u8>,
    /// The executable that runs.
    running: Option<String>,
    /// Tests of it, and what is known of each.
    open: Vec<(String, Option<Verdict>)>,
    outcome: Outcome,
    done: bool,
}

impl Reader {
    /// Of a machine whose script's lines begin with `mark`.
    pub fn new(mark: &str) -> Self {
        let outcome =
            Outcome { tests: Vec::new(), end: End::Stopped, began: false, contract: None, doctor: None };
        Self {
            mark: mark.to_owned(),
            rest: Vec::new(),
            running: None,
            open: Vec::new(),
            outcome,
            done: false,
        }
    }

    /// Takes some bytes; returns the whole lines that they complete and a reader wants to see.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let mut shown = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().replace('\r', "");
            shown.extend(self.line(&line));
        }
        shown
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What became of the machine that ended so.
    pub fn finish(mut self, end: End) -> Outcome {
        if let Some(running) = self.running.take() {
            self.close(&running, false);
        }
        self.outcome.end = end;
        self.outcome
    }

    fn line(&mut self, line: &str) -> Option<String> {
        // A test's own output may stand before it on the line.
        let Some((_, told)) = line.split_once(&format!("{} ", self.mark)) else {
            self.test_line(line);
            return (!line.trim().is_empty()).then(|| line.to_owned());
        };
        let (what, rest) = told.split_once(' ').unwrap_or((told, ""));
        self.outcome.began = true;
        match what {
            "run" => {
                // One whose end was not told: nobody knows that it was a good one.
                if let Some(before) = self.running.replace(rest.to_owned()) {
                    self.close(&before, false);
                }
            }
            "rc" => {
                let (name, status) = rest.split_once(' ').unwrap_or((rest, ""));
                self.running = None;
                self.close(name, status == "0");
            }
            "contract" => self.outcome.contract = serde_json::from_str(rest).ok(),
            "doctor" => self.outcome.doctor = serde_json::from_str(rest).ok(),
            "done" => self.done = true,
            _ => {}
        }
        None
    }

    /// `test NAME ... ok`; what the test printed may stand between the name and the result, or be the next lines.
    fn test_line(&mut self, line: &str) {
        let verdict = |word: &str| match word {
            "ok" => Some(Verdict::Passed),
            "FAILED" => Some(Verdict::Failed),
            word if word.starts_with("ignored") => Some(Verdict::Ignored),
            _ => None,
        };
        if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ...")) {
            let result = result.trim();
            let last = result.rsplit(' ').next().unwrap_or_default();
            self.open.push((name.to_owned(), verdict(result).or_else(|| verdict(last))));
        } else if let (Some(verdict), Some((_, open @ None))) = (verdict(line.trim()), self.open.last_mut()) {
            *open = Some(verdict);
        }
    }

    /// An executable ended: what is not known of a test by now follows from how it ended.
    fn close(&mut self, executable: &str, succeeded: bool) {
        let unknown = if succeeded { Verdict::Passed } else { Verdict::Failed };
        let mut tests = std::mem::take(&mut self.open);
        let told = tests.iter().any(|(_, verdict)| verdict.unwrap_or(unknown) == Verdict::Failed);
        if !succeeded && !told {
            // It failed and no test of it did: it crashed, or could not be started.
            tests.push(("(the executable itself)".to_owned(), Some(Verdict::Failed)));
        }
        self.outcome.tests.extend(
            tests
                .into_iter()
                .map(|(name, verdict)| (format!("{executable}::{name}"), verdict.unwrap_or(unknown))),
        );
    }
}

/// What became of every machine.
#[derive(Debug, Default)]
pub struct Matrix {
    machines: Vec<(String, String, Outcome)>,
}

impl Matrix {
    pub fn add(&mut self, kernel: &Kernel, outcome: Outcome) {
        self.machines.push((kernel.series.clone(), kernel.release.clone(), outcome));
    }

    /// Tests that passed, and those that failed; a machine that did not come to its end counts as one failure more.
    pub fn counts(&self) -> (usize, usize) {
        let sum =
            |of: fn(&Outcome) -> usize| self.machines.iter().map(|(.., outcome)| of(outcome)).sum::<usize>();
        let broken =
            |outcome: &Outcome| usize::from(!outcome.is_good() && outcome.count(Verdict::Failed) == 0);
        (
            sum(|outcome| outcome.count(Verdict::Passed)),
            sum(|outcome| outcome.count(Verdict::Failed)) + sum(broken),
        )
    }

    fn good(&self) -> impl Iterator<Item = &(String, String, Outcome)> {
        self.machines.iter().filter(|(.., outcome)| outcome.is_good())
    }

    /// The machines on which something went wrong.
    pub fn wrong(&self) -> Vec<&str> {
        let wrong = self.machines.iter().filter(|(.., outcome)| !outcome.is_good());
        wrong.map(|(series, ..)| series.as_str()).collect()
    }

    /// Test by kernel, and a line for each kernel.
    pub fn table(&self) -> String {
        let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (column, (.., outcome)) in self.machines.iter().enumerate() {
            for (name, verdict) in &outcome.tests {
                let row = rows.entry(name).or_insert_with(|| vec!["-"; self.machines.len()]);
                row[column] = verdict.word();
            }
        }
        let widest = rows.keys().map(|name| name.len()).max().unwrap_or(0);
        let line = |name: &str, cells: &[&str]| {
            let cells: String = cells.iter().map(|cell| format!("  {cell:>7}")).collect();
            format!("{name:<widest$}{cells}\n")
        };
        let series: Vec<&str> = self.machines.iter().map(|(series, ..)| series.as_str()).collect();
        let mut table = line("test", &series);
        table.extend(rows.iter().map(|(name, cells)| line(name, cells)));
        for (series, release, outcome) in &self.machines {
            table += &format!("{series:>7}  {release}: {}\n", outcome.told());
        }
        table
    }

    /// Keeps the tracepoints of the kernels on which all went well, and their lines in the table of supported kernels; what
    /// is kept of others stays.
    pub fn write_record(&self, workspace: &Workspace) -> Result<()> {
        let path = workspace.root.join(CONTRACT);
        let text = fs::read_to_string(&path).unwrap_or_else(|_| "{}".to_owned());
        let mut contract: BTreeMap<String, Value> =
            serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        for (series, _, outcome) in self.good() {
            contract.extend(outcome.contract.clone().map(|found| (series.clone(), found)));
        }
        let text = format!("{}\n", serde_json::to_string_pretty(&contract)?);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        self.write_supported(workspace)
    }

    fn write_supported(&self, workspace: &Workspace) -> Result<()> {
        let path = workspace.root.join(LIMITATIONS);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let found =
            text.split_once(TABLE.0).and_then(|(before, rest)| Some((before, rest.split_once(TABLE.1)?)));
        let (before, (kept, after)) = found.with_context(|| {
            format!(
                "{}: the lines between which the table of kernels stands are gone: {}",
                path.display(),
                TABLE.0
            )
        })?;
        let text = format!("{before}{}\n{}{}{after}", TABLE.0, self.supported(kept), TABLE.1);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// The supported kernels, as Markdown. The lines of kernels that were not booted this time are kept.
    fn supported(&self, kept: &str) -> String {
        const HEADER: &str = "| Kernel | live tests | kernel side | counters are read | calls of suspects | process_mrelease |\n\
                              |---|---|---|---|---|---|\n";
        let mut rows = BTreeMap::new();
        for line in kept.lines() {
            let release = line.trim_start_matches('|').split('|').next().unwrap_or_default().trim();
            rows.extend(debian::series_of(release).map(|series| (series_key(&series), format!("{line}\n"))));
        }
        for (series, release, outcome) in self.good() {
            let line = |item: &str| {
                let items = outcome.doctor.as_ref()?["items"].as_array()?;
                items.iter().find(|line| line["item"].as_str().map(str::trim) == Some(item))
            };
            let told = |item: &str, field: &str| {
                let said = line(item).and_then(|line| line[field].as_str());
                said.unwrap_or("not told").split(':').next().unwrap_or_default().to_owned()
            };
            let said = |item| told(item, "detail");
            let said_state = |item| told(item, "state");
            let row = format!(
                "| {release} | {} | {} | {} | {} | {} |\n",
                outcome.told(),
                said("kernel side"),
                said("kernel memory is read").split(',').next().unwrap_or_default(),
                said("calls of suspects").split(',').next().unwrap_or_default(),
                said_state("process_mrelease")
            );
            rows.insert(series_key(series), row);
        }
        rows.into_values().fold(HEADER.to_owned(), |table, row| table + &row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::processor::Processor;

    fn read(said: &str, end: End) -> Outcome {
        let mut reader = Reader::new("@@7");
        // As it may come: in pieces that end anywhere.
        for piece in said.as_bytes().chunks(5) {
            reader.take(piece);
        }
        reader.finish(end)
    }

    const GOOD: &str = "@@7 hello 6.1.0\r\n@@7 run kill\r\n\r\nrunning 3 tests\r\ntest one ... ok\r\n\
                        test two ... something printed\r\nok\r\ntest three ... ignored, a measurement\r\n\r\n\
                        test result: ok. 2 passed\r\n@@7 rc kill 0\r\n@@7 done\r\n";

    #[test]
    fn tests_are_read_with_their_results_whatever_stands_between() {
        let outcome = read(GOOD, End::Done);
        let expected = [("one", Verdict::Passed), ("two", Verdict::Passed), ("three", Verdict::Ignored)];
        assert_eq!(outcome.tests, expected.map(|(name, verdict)| (format!("kill::{name}"), verdict)));
        assert!(outcome.is_good() && outcome.began);
        assert!(!read("Booting the kernel.\n", End::Panicked("Kernel panic".into())).began);
    }

    #[test]
    fn a_failing_test_a_panic_a_hang_and_a_crash_are_each_a_failure() {
        let failing = read(
            "@@7 run kill\ntest one ... ok\ntest two ... FAILED\n@@7 rc kill 101\n@@7 done\n",
            End::Done,
        );
        assert!(!failing.is_good());
        assert_eq!(failing.tests[1], ("kill::two".to_owned(), Verdict::Failed));
        let panicked =
            read("@@7 run kill\ntest one ... ok\ntest two ... ", End::Panicked("Kernel panic".into()));
        assert!(
            !panicked.is_good() && panicked.told().contains("the kernel panicked"),
            "{}",
            panicked.told()
        );
        let hung =
            read("@@7 run kill\ntest one ... ok\ntest two ... \n", End::Silent(Duration::from_secs(9)));
        assert!(!hung.is_good() && hung.told().contains("it hung"), "{}", hung.told());
        assert_eq!(hung.tests[1], ("kill::two".to_owned(), Verdict::Failed), "it was running");
        let untold = read(
            "@@7 run kill\ntest one ... \n@@7 run tiers\ntest two ... ok\n@@7 rc tiers 0\n@@7 done\n",
            End::Done,
        );
        assert_eq!(untold.tests[0], ("kill::one".to_owned(), Verdict::Failed), "its end was not told");
        let crashed = read("@@7 run kill\ntest one ... ok\n@@7 rc kill 139\n@@7 done\n", End::Done);
        assert_eq!(crashed.tests[1], ("kill::(the executable itself)".to_owned(), Verdict::Failed));
        let nothing = read("@@7 run kill\n@@7 rc kill 0\n@@7 done\n", End::Done);
        assert!(!nothing.is_good(), "no test is no success");
    }

    fn kernel(series: &str) -> Kernel {
        Kernel {
            processor: Processor::X86,
            series: series.to_owned(),
            release: format!("{series}.0-1-cloud-amd64"),
            image: std::path::PathBuf::new(),
        }
    }

    #[test]
    fn the_lines_of_kernels_that_were_not_booted_or_went_wrong_are_kept() {
        let kept = "\n| Kernel | live tests |\n|---|---|\n| 6.1.0-7-cloud-amd64 | old |\n| 7.3.1-cloud-amd64 | kept |\n\
                    | 5.10.0-2-cloud-amd64 | kept |\n| 6.12.1-cloud-arm64 | kept |\n";
        let mut matrix = Matrix::default();
        matrix.add(&kernel("6.1"), read(GOOD, End::Done));
        matrix.add(&kernel("7.3"), read("", End::Stopped));
        let lines: Vec<String> = matrix.supported(kept).lines().skip(2).map(str::to_owned).collect();
        let begins =
            ["5.10.0-2-cloud-amd64 | kept", "6.1.0-1-cloud-amd64 | 2 passed", "7.3.1-cloud-amd64 | kept"];
        assert_eq!(lines.len(), 4, "{lines:?}");
        for (line, begin) in lines.iter().zip(begins) {
            assert!(line.starts_with(&format!("| {begin}")), "{line}");
        }
        assert!(lines[3].contains("arm64"), "another processor's come last");
    }

    #[test]
    fn the_table_names_the_kernel_on_which_something_went_wrong() {
        let mut matrix = Matrix::default();
        matrix.add(&kernel("5.10"), read(GOOD, End::Done));
        matrix.add(
            &kernel("6.1"),
            read("@@7 run kill\ntest one ... ok\n", End::Panicked("Kernel panic - x".into())),
        );
        assert_eq!(matrix.wrong(), ["6.1"]);
        // The executable that did not come to its end is the failure.
        assert_eq!(matrix.counts(), (3, 1));
        let table = matrix.table();
        assert!(table.contains("kill::one"), "{table}");
        assert!(
            table.contains("6.1.0-1-cloud-amd64: 1 passed, 1 failed; the kernel panicked: Kernel panic - x"),
            "{table}"
        );
    }
}
