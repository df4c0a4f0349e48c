//! What is in the zoo: `tests/zoo/manifest.json`, and what it becomes beside a recording, `FILE.truth.json`.
//!
//! The truth of a leaking program is what it is written to keep, counted in what the allocator takes for it, not what was
//! measured. What its memory grew by in the run is kept beside it, as a check.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The programs, and how to get what they need.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The command that brings each need.
    pub get: BTreeMap<String, String>,
    pub programs: Vec<Program>,
}

/// One program.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub name: String,
    /// What it is like; figures are given by kind as well.
    pub kind: String,
    pub leaking: bool,
    /// What it keeps for good, in bytes a second. Absent of a healthy program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bytes_per_s: Option<f64>,
    /// How the rate comes about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<String>,
    /// Why a healthy program cannot be told from a leak for longer than a confirmation takes. It is scored apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<String>,
    /// The command and its arguments, in a folder whose `zoo` holds the files of tests/zoo and the C programs, built.
    pub command: Vec<String>,
    /// Commands on the PATH, or paths, that it needs.
    pub needs: Vec<String>,
}

impl Manifest {
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// The programs that can run here, and for each need that is not here, how to get it and who goes without.
    pub fn runnable(self) -> (Vec<Program>, Vec<String>) {
        let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut here = Vec::new();
        for program in self.programs {
            match program.needs.iter().find(|need| !is_here(need)) {
                None => here.push(program),
                Some(need) => missing.entry(need.clone()).or_default().push(program.name),
            }
        }
        let told = missing.into_iter().map(|(need, programs)| {
            let get = self.get.get(&need).map_or("see the program's source", String::as_str);
            format!("{need} is not here: {} stay out\n  fix: {get}", programs.join(", "))
        });
        (here, told.collect())
    }
}

fn is_here(need: &str) -> bool {
    if need.starts_with('/') { Path::new(need).exists() } else { which::which(need).is_ok() }
}

/// What is known of a recording of the zoo.
#[derive(Serialize, Deserialize)]
pub struct Truth {
    pub schema: String,
    /// How long was recorded.
    pub seconds: f64,
    pub programs: Vec<Watched>,
}

/// A program that was recorded.
#[derive(Serialize, Deserialize)]
pub struct Watched {
    pub pid: u32,
    /// The other half of its identity.
    pub start_time_ticks: u64,
    /// Its children whenever they were looked for, of the same truth: pids.
    pub children: Vec<u32>,
    /// Anonymous, shared and swapped memory when the recording began, as /proc shows it.
    pub first_bytes: Option<u64>,
    /// The same when it ended.
    pub last_bytes: Option<u64>,
    /// How it ended while it was recorded, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    #[serde(flatten)]
    pub program: Program,
}

pub const TRUTH_SCHEMA: &str = "leakscope.zoo/1";

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/zoo/manifest.json");
        Manifest::read(&root).unwrap()
    }

    #[test]
    fn a_program_leaks_at_a_rate_that_is_told_or_does_not_leak() {
        for program in manifest().programs {
            assert_eq!(program.leaking, program.rate_bytes_per_s.is_some(), "{}", program.name);
            assert_eq!(program.leaking, program.truth.is_some(), "{}", program.name);
            assert!(!(program.leaking && program.ramp.is_some()), "{}", program.name);
        }
    }

    #[test]
    fn names_are_told_apart_and_every_need_can_be_got() {
        let manifest = manifest();
        let mut names: Vec<_> = manifest.programs.iter().map(|program| &program.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), manifest.programs.len());
        for need in manifest.programs.iter().flat_map(|program| &program.needs) {
            assert!(manifest.get.contains_key(need), "{need}");
        }
    }

    #[test]
    fn a_program_whose_need_is_missing_stays_out_and_the_remedy_is_told() {
        let mut manifest = manifest();
        manifest.programs.truncate(1);
        manifest.programs[0].needs = vec!["/no/such/thing".to_owned()];
        manifest.get.insert("/no/such/thing".to_owned(), "apt-get install thing".to_owned());
        let name = manifest.programs[0].name.clone();
        let (here, told) = manifest.runnable();
        assert!(here.is_empty());
        assert!(told[0].contains(&name) && told[0].contains("fix: apt-get install thing"), "{told:?}");
    }
}
