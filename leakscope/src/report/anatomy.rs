//! What a suspect consisted of when its leak was confirmed, as `hunt --json` and the report name it.

use serde::Serialize;

use crate::process::{Anatomy, Mapped};
use crate::units::Bytes;

/// Mappings that the JSON object names.
const NAMED: usize = 8;

/// Mappings of one name, taken together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MappingLine {
    /// The file, or the kernel's name: `[heap]`, `[stack]`, `[anon]` for memory without a name.
    pub name: String,
    /// How many mappings.
    pub count: u64,
    /// What is resident of them.
    pub rss_bytes: Bytes,
    /// The anonymous part of that.
    pub anon_bytes: Bytes,
    /// What of them is in swap.
    pub swap_bytes: Bytes,
}

/// What a process consisted of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AnatomyLine {
    /// Open files; `None` where they could not be counted.
    pub open_files: Option<usize>,
    /// Threads.
    pub threads: Option<usize>,
    /// The largest mappings by name; `None` where they could not be read.
    pub mappings: Option<Vec<MappingLine>>,
    /// Why there are none, or not all were read.
    pub mappings_incomplete: Option<String>,
    /// The folder in which the evidence was kept, where that was asked for.
    pub evidence: Option<String>,
}

impl From<&Anatomy> for AnatomyLine {
    fn from(anatomy: &Anatomy) -> Self {
        let line = |mapped: &Mapped| MappingLine {
            name: mapped.name.clone(),
            count: mapped.count,
            rss_bytes: mapped.rss,
            anon_bytes: mapped.anon,
            swap_bytes: mapped.swap,
        };
        let read = anatomy.mappings.as_ref();
        Self {
            open_files: anatomy.open_files,
            threads: anatomy.threads,
            mappings: read.ok().map(|mappings| mappings.largest.iter().take(NAMED).map(line).collect()),
            mappings_incomplete: read.map_or_else(|why| Some(why.clone()), |mappings| mappings.cut.clone()),
            evidence: None,
        }
    }
}
