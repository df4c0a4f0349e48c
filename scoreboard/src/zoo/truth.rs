//! What is true of a recording of the zoo: `FILE.truth.json`, which `cargo xtask zoo` writes beside it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

const SCHEMA: &str = "leakscope.zoo/1";

/// What is true of a recording.
#[derive(Clone, Debug, Deserialize)]
pub struct Truth {
    schema: String,
    /// How long was recorded.
    pub seconds: f64,
    /// The programs in it.
    pub programs: Vec<Program>,
}

/// A program, known by the process that it was started as.
#[derive(Clone, Debug, Deserialize)]
pub struct Program {
    /// Unlike that of every other program.
    pub name: String,
    /// What it is like.
    pub kind: String,
    /// The process.
    pub pid: u32,
    /// The other half of the process's identity.
    pub start_time_ticks: u64,
    /// Pids of its children, as far as they were seen; none of them leaks.
    pub children: Vec<u32>,
    /// Whether the process leaks; its children never do.
    pub leaking: bool,
    /// What it keeps for good, in bytes a second, by how it is written.
    pub rate_bytes_per_s: Option<f64>,
    /// Why it cannot be told from a leak for longer than a confirmation takes.
    pub ramp: Option<String>,
    /// Its anonymous, shared and swapped memory when the recording began.
    pub first_bytes: Option<u64>,
    /// The same at the end.
    pub last_bytes: Option<u64>,
    /// How it ended while it was recorded, where it did.
    pub ended: Option<String>,
}

impl Truth {
    /// Reads what is true of `recording`.
    ///
    /// # Errors
    /// When the file beside it is missing, or is not what `cargo xtask zoo` writes.
    pub fn beside(recording: &Path) -> Result<Self> {
        let mut name = recording.as_os_str().to_owned();
        name.push(".truth.json");
        let file = Path::new(&name);
        let text = fs::read(file).with_context(|| {
            format!("reading {}, which `cargo xtask zoo` writes beside a recording", file.display())
        })?;
        let truth: Self =
            serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display()))?;
        ensure!(
            truth.schema == SCHEMA,
            "{}: its schema is {:?}, not {SCHEMA}\n  fix: record again with `cargo xtask zoo`",
            file.display(),
            truth.schema
        );
        Ok(truth)
    }
}

impl Program {
    /// How fast its memory grew over the whole recording, in bytes a second: a check of the truth, which for a leak
    /// under a collector or a churn it meets only after many cycles.
    #[expect(clippy::cast_precision_loss, reason = "sizes of processes are far below 2^52 bytes")]
    pub fn measured(&self, seconds: f64) -> Option<f64> {
        Some((self.last_bytes? as f64 - self.first_bytes? as f64) / seconds)
    }
}
