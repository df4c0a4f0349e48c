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

use rustix::fs::{Dir, Mode, OFlags, openat};

use super::read::{ProcRoot, beginning, open_in, stat};
use crate::units::{Bytes, ProcKey};

/// Longest time that reading the mappings may take, and most text that is read of them: some 40,000 mappings.
const SMAPS_TIME: Duration = Duration::from_secs(1);
const SMAPS_BYTES: usize = 32 << 20;
/// How much is read of them at a time, the longest line, and the most names that are told apart.
const PIECE: usize = 256 << 10;
const LONGEST_LINE: usize = 8 << 10;
const MOST_NAMES: usize = 4096;
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
    let read = || summed(&mut open_in(dir, "smaps")?, SMAPS_BYTES, SMAPS_TIME);
    read().map_err(|error| format!("smaps: {error}"))
}

/// Adds up what a `smaps` says, in one pass: a process with ten thousands of mappings has megabytes of it, and is read when
/// memory is short. (The procfs crate makes a table of two dozen entries of each mapping.) Ends at the end, after so many
/// bytes, or after so long; what is said of a mapping that was cut counts as far as it was read.
fn summed(file: &mut impl Read, bytes: usize, time: Duration) -> io::Result<Mappings> {
    let began = now();
    let mut sums = Sums::default();
    let (mut piece, mut rest, mut read) = (vec![0; PIECE], Vec::new(), 0);
    let cut = loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            break None;
        }
        read += length;
        for part in piece[..length].split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(part);
            if part.ends_with(b"\n") {
                sums.line(&String::from_utf8_lossy(&rest));
                rest.clear();
            } else if rest.len() > LONGEST_LINE {
                rest.clear();
            }
        }
        if read >= bytes {
            break Some(format!("there is more than {}", Bytes(bytes as u64)));
        }
        if began.elapsed() >= time {
            break Some(format!("it took longer than {} s", time.as_secs_f64()));
        }
    };
    Ok(sums.finish(cut))
}

/// What was added up so far.
#[derive(Default)]
struct Sums {
    by_name: HashMap<String, Mapped>,
    name: String,
    read: u64,
}

impl Sums {
    fn line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { return };
        if let Some(key) = first.strip_suffix(':') {
            let Some(kib) = words.next().and_then(|number| number.parse().ok()) else { return };
            let Some(mapped) = self.by_name.get_mut(&self.name) else { return };
            match key {
                "Rss" => mapped.rss += Bytes::from_kib(kib),
                "Anonymous" => mapped.anon += Bytes::from_kib(kib),
                "Swap" => mapped.swap += Bytes::from_kib(kib),
                _ => {}
            }
            return;
        }
        // `address perms offset dev inode name`; a name may hold blanks.
        let mut rest = line.trim_end();
        for _ in 0..5 {
            rest = rest.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
        }
        let name = if rest.is_empty() { "[anon]" } else { rest };
        self.read += 1;
        if !self.by_name.contains_key(name) && self.by_name.len() >= MOST_NAMES {
            self.name = "(others)".to_owned();
        } else {
            name.clone_into(&mut self.name);
        }
        let name = self.name.clone();
        self.by_name.entry(name.clone()).or_insert_with(|| Mapped { name, ..Mapped::default() }).count += 1;
    }

    fn finish(self, cut: Option<String>) -> Mappings {
        let mut largest: Vec<Mapped> = self.by_name.into_values().collect();
        largest.sort_by(|one, other| {
            (other.anon + other.swap, other.rss, &one.name).cmp(&(one.anon + one.swap, one.rss, &other.name))
        });
        largest.truncate(KINDS);
        Mappings { largest, read: self.read, cut }
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

    /// Says all of it, a few bytes at a time.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(7).min(into.len());
            into[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn mappings_of_one_name_are_one_line_and_the_largest_comes_first() {
        let text =
            [smaps("[heap]", 100), smaps("", 300), smaps("/my lib/libc.so.6 (deleted)", 4), smaps("", 500)]
                .concat();
        let mappings = summed(&mut Dripping(text.as_bytes()), 1 << 20, SMAPS_TIME).unwrap();
        let line = |m: &Mapped| (m.name.clone(), m.count, m.anon.0 / 1024, m.swap.0 / 1024);
        let told = [("[anon]", 2, 800, 16), ("[heap]", 1, 100, 8), ("/my lib/libc.so.6 (deleted)", 1, 4, 8)];
        let told = told.map(|(name, count, anon, swap)| (name.to_owned(), count, anon, swap));
        assert_eq!(mappings.largest.iter().map(line).collect::<Vec<_>>(), told);
        assert_eq!((mappings.read, mappings.cut), (4, None));
    }

    #[test]
    fn reading_ends_after_so_many_bytes_or_so_long_and_says_so() {
        let text = smaps("[heap]", 1).repeat(20_000).into_bytes();
        let cut = summed(&mut text.as_slice(), 2 * PIECE, Duration::from_secs(60)).unwrap();
        assert_eq!(cut.cut.as_deref(), Some("there is more than 524 KB"));
        assert!((1000..3000).contains(&cut.read), "{}", cut.read);
        let cut = summed(&mut text.as_slice(), usize::MAX, Duration::ZERO).unwrap();
        assert_eq!(cut.cut.as_deref(), Some("it took longer than 0 s"));
        let noise = summed(&mut io::repeat(b'x'), 2 * PIECE, Duration::from_secs(60)).unwrap();
        assert_eq!(noise.read, 0, "a line without an end is none");
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
