//! What a process consists of at one moment: the evidence that is gone once it is dead.
//!
//! Everything is read once, through one descriptor of the process's directory, bounded in time and size, while the process
//! runs. `smaps` holds the lock of the address space while the kernel walks a mapping, so that the process waits for us
//! where it maps or unmaps: it is read last, in pieces, and given up when it takes too long. Start reading at
//! [`ProcRoot::anatomy`].

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use procfs::FromBufRead;
use procfs::process::{MMapPath, MemoryMap, MemoryMaps};
use rustix::fs::{Dir, Mode, OFlags, openat};

use super::read::{ProcRoot, beginning, open_in, stat};
use crate::units::{Bytes, ProcKey};

/// Longest time that reading the mappings may take, and most text that is read of them: some 40,000 mappings.
const SMAPS_TIME: Duration = Duration::from_secs(1);
const SMAPS_BYTES: usize = 32 << 20;
/// How much is read of them at a time.
const PIECE: usize = 256 << 10;
/// Most bytes of any other file.
const FILE_BYTES: u64 = 256 << 10;
/// Kinds of mapping that are kept, the largest first.
const KINDS: usize = 24;
/// Open files that are counted at most.
const MOST_FILES: usize = 1 << 20;

/// Files of a process that are kept as they are.
const FILES: [&str; 6] = ["status", "limits", "cgroup", "oom_score", "oom_score_adj", "io"];
/// Files of its cgroup, of both versions.
const CGROUP_FILES: [&str; 14] = [
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.high",
    "memory.swap.current",
    "memory.swap.max",
    "memory.events",
    "memory.pressure",
    "memory.stat",
    "cgroup.procs",
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.failcnt",
];

/// Mappings of one name, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// The file, or the kernel's name for it: `[heap]`, `[stack]`, `[anon]` for memory without a name.
    pub name: String,
    /// How many mappings.
    pub count: u64,
    /// What is resident of them.
    pub rss: Bytes,
    /// The anonymous part of that.
    pub anon: Bytes,
    /// What of them is in swap.
    pub swap: Bytes,
}

/// A process's mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    /// By name, those with the most anonymous and swapped memory first.
    pub largest: Vec<Mapped>,
    /// How many mappings were read.
    pub read: u64,
    /// Why the rest was not; `None` where all were.
    pub cut: Option<String>,
}

/// What a process consisted of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anatomy {
    /// Files of the process and of its cgroup as they were, by the name that they get in a bundle.
    pub files: Vec<(String, Vec<u8>)>,
    /// Open files; `None` where they may not be counted.
    pub open_files: Option<usize>,
    /// Threads.
    pub threads: Option<usize>,
    /// Its mappings, or why they could not be read.
    pub mappings: Result<Mappings, String>,
}

impl ProcRoot {
    /// Reads what the process consists of; `cgroup` is the directory of its cgroup, where that is known.
    ///
    /// # Errors
    /// When the process is gone, or is another one by now. A part that may not be read is left out.
    pub fn anatomy(&self, key: ProcKey, cgroup: Option<&Path>) -> io::Result<Anatomy> {
        let dir = self.open(key.pid)?;
        if stat(&dir)?.starttime != key.start.0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut files = Vec::new();
        for name in FILES {
            if let Ok(content) = beginning(&dir, name, FILE_BYTES) {
                files.push((name.to_owned(), content));
            }
        }
        for name in CGROUP_FILES {
            let read = |directory: &Path| {
                let mut content = Vec::new();
                File::open(directory.join(name))?.take(FILE_BYTES).read_to_end(&mut content)?;
                io::Result::Ok(content)
            };
            if let Some(Ok(content)) = cgroup.map(read) {
                files.push((format!("cgroup.{name}"), content));
            }
        }
        Ok(Anatomy {
            files,
            open_files: entries(&dir, "fd"),
            threads: entries(&dir, "task"),
            mappings: mappings(&dir),
        })
    }
}

/// How many entries a directory of the process has, the dots left out.
fn entries(dir: &OwnedFd, name: &str) -> Option<usize> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = Dir::read_from(openat(dir, name, flags, Mode::empty()).ok()?).ok()?;
    let named = listed
        .take(MOST_FILES)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() != c"." && entry.file_name() != c"..");
    Some(named.count())
}

fn mappings(dir: &OwnedFd) -> Result<Mappings, String> {
    let mut file = open_in(dir, "smaps").map_err(|error| format!("smaps: {error}"))?;
    let (text, cut) =
        read_within(&mut file, SMAPS_BYTES, SMAPS_TIME).map_err(|error| format!("smaps: {error}"))?;
    let whole = if cut.is_some() { whole_mappings(&text) } else { &text };
    let maps = MemoryMaps::from_buf_read(whole).map_err(|error| format!("smaps: {error}"))?;
    Ok(summary(&maps, cut))
}

/// Reads until the end, so many bytes, or so long; and why not to the end.
fn read_within(file: &mut impl Read, bytes: usize, time: Duration) -> io::Result<(Vec<u8>, Option<String>)> {
    let began = now();
    let mut text = Vec::new();
    loop {
        let before = text.len();
        file.by_ref().take(PIECE as u64).read_to_end(&mut text)?;
        if text.len() - before < PIECE {
            return Ok((text, None));
        }
        if text.len() >= bytes {
            return Ok((text, Some(format!("there is more than {}", Bytes(bytes as u64)))));
        }
        if began.elapsed() >= time {
            return Ok((text, Some(format!("it took longer than {} s", time.as_secs_f64()))));
        }
    }
}

/// The text up to the last mapping that is there from its first line to its last, `VmFlags`.
fn whole_mappings(text: &[u8]) -> &[u8] {
    const LAST: &[u8] = b"\nVmFlags:";
    let line_end = |text: &[u8]| text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = &text[..line_end(text)];
    let last = lines.windows(LAST.len()).rposition(|window| window == LAST);
    last.map_or(&[], |at| {
        let rest = &lines[at + 1..];
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        &lines[..at + 1 + end]
    })
}

fn summary(maps: &MemoryMaps, cut: Option<String>) -> Mappings {
    let mut by_name: HashMap<String, Mapped> = HashMap::new();
    for map in &maps.0 {
        let size = |key: &str| Bytes(map.extension.map.get(key).copied().unwrap_or(0));
        let name = name(map);
        let mapped = by_name.entry(name.clone()).or_insert_with(|| Mapped { name, ..Mapped::default() });
        mapped.count += 1;
        mapped.rss += size("Rss");
        mapped.anon += size("Anonymous");
        mapped.swap += size("Swap");
    }
    let mut largest: Vec<Mapped> = by_name.into_values().collect();
    largest.sort_by(|one, other| {
        (other.anon + other.swap, other.rss, &one.name).cmp(&(one.anon + one.swap, one.rss, &other.name))
    });
    largest.truncate(KINDS);
    Mappings { largest, read: maps.0.len() as u64, cut }
}

fn name(map: &MemoryMap) -> String {
    match &map.pathname {
        MMapPath::Path(path) => path.to_string_lossy().into_owned(),
        MMapPath::Heap => "[heap]".to_owned(),
        MMapPath::Stack => "[stack]".to_owned(),
        MMapPath::TStack(_) => "[stack of a thread]".to_owned(),
        MMapPath::Vdso | MMapPath::Vvar | MMapPath::Vsyscall => "[vdso]".to_owned(),
        MMapPath::Rollup => "[rollup]".to_owned(),
        MMapPath::Anonymous => "[anon]".to_owned(),
        MMapPath::Vsys(key) => format!("SysV segment {key:#x}"),
        MMapPath::Other(name) => format!("[{name}]"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a bound on how long a process is disturbed, not an observation"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Pid, Ticks};

    fn smaps(name: &str, anon: u64) -> String {
        format!(
            "55d4c0000000-55d4c0400000 rw-p 00000000 00:00 0                          {name}\n\
             Size:               4096 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n\
             Rss:                {anon} kB\nPss:                {anon} kB\nAnonymous:          {anon} kB\n\
             Swap:                  8 kB\nVmFlags: rd wr mr mw me ac sd \n"
        )
    }

    #[test]
    fn mappings_of_one_name_are_one_line_and_the_largest_comes_first() {
        let text =
            [smaps("[heap]", 100), smaps("", 300), smaps("/lib/libc.so.6", 4), smaps("", 500)].concat();
        let mappings = summary(&MemoryMaps::from_buf_read(text.as_bytes()).unwrap(), None);
        let lines: Vec<_> = mappings
            .largest
            .iter()
            .map(|m| (m.name.as_str(), m.count, m.anon.0 / 1024, m.swap.0 / 1024))
            .collect();
        assert_eq!(lines, [("[anon]", 2, 800, 16), ("[heap]", 1, 100, 8), ("/lib/libc.so.6", 1, 4, 8)]);
        assert_eq!((mappings.read, mappings.cut), (4, None));
    }

    #[test]
    fn what_was_cut_ends_with_a_whole_mapping() {
        let text = [smaps("[heap]", 100), smaps("", 300)].concat();
        let first = smaps("[heap]", 100);
        for cut in first.len()..text.len() {
            assert_eq!(whole_mappings(&text.as_bytes()[..cut]).len(), first.len(), "cut at {cut}");
        }
        assert!(whole_mappings(&text.as_bytes()[..first.len() - 30]).is_empty());
    }

    #[test]
    fn reading_ends_after_so_many_bytes_and_says_so() {
        let (text, cut) = read_within(&mut io::repeat(b'x'), 2 * PIECE, Duration::from_secs(60)).unwrap();
        assert_eq!(text.len(), 2 * PIECE);
        assert_eq!(cut.as_deref(), Some("there is more than 524 KB"));
        let (text, cut) = read_within(&mut io::repeat(b'x'), usize::MAX, Duration::ZERO).unwrap();
        assert_eq!((text.len(), cut.as_deref()), (PIECE, Some("it took longer than 0 s")));
    }

    #[test]
    fn this_process_has_a_heap_threads_and_files() {
        let root = ProcRoot::default();
        let own = root.identify(Pid(std::process::id())).unwrap();
        let anatomy = root.anatomy(own.key, None).unwrap();
        assert!(anatomy.open_files.unwrap() >= 3 && anatomy.threads.unwrap() >= 1);
        let mappings = anatomy.mappings.unwrap();
        assert!(mappings.largest.iter().any(|mapped| mapped.anon > Bytes::ZERO) && mappings.cut.is_none());
        assert!(anatomy.files.iter().any(|(name, text)| name == "status" && !text.is_empty()));
        let other = ProcKey { start: Ticks(own.key.start.0 + 1), ..own.key };
        assert!(root.anatomy(other, None).is_err());
    }
}
