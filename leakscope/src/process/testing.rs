//! A /proc of the tests' own making.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Exe, Identity, Owner, ProcRoot};
use crate::units::{Pid, ProcKey, Ticks};

/// An ordinary service's identity.
pub(crate) fn identity(pid: u32) -> Identity {
    Identity {
        key: ProcKey { pid: Pid(pid), start: Ticks(100_000) },
        boot_id: Some("4508a5f7".into()),
        ppid: Pid(1),
        ns_pid: Pid(pid),
        state: 'S',
        zombie: false,
        comm: "python3".to_owned(),
        cmdline: vec!["python3".to_owned(), "cache_service.py".to_owned()],
        exe: Some(Exe { path: "/usr/bin/python3.11".into(), dev: 1, ino: 2, deleted: false }),
        image: Some(0x7ffc_0000_0000),
        uid: 1000,
        user: Some("alice".to_owned()),
        owner: Owner {
            cgroup: Some("/system.slice/cache.service".to_owned()),
            unit: Some("cache.service".to_owned()),
            ..Owner::default()
        },
        oom_score_adj: 0,
        kernel_thread: false,
    }
}

/// A tree that looks like /proc, with the second 1,000,000,000 of the epoch as the time of boot.
pub(crate) struct FakeProc {
    dir: TempDir,
}

impl FakeProc {
    pub(crate) const BOOT: u64 = 1_000_000_000;

    pub(crate) fn new() -> Self {
        let fake = Self { dir: tempfile::tempdir().unwrap() };
        fake.write("stat", format!("cpu 1 2 3\nbtime {}\n", Self::BOOT));
        fake.write("sys/kernel/random/boot_id", "4508a5f7\n");
        fake.write("sys/kernel/randomize_va_space", "2\n");
        fake
    }

    pub(crate) fn root(&self) -> ProcRoot {
        ProcRoot::new(self.dir.path())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A process with `exe` as its program, started `ticks` after boot.
    pub(crate) fn process(&self, pid: u32, ppid: u32, ticks: u64, exe: &Path) {
        self.stat(pid, 'S', ppid, 1, ticks);
        self.write(&format!("{pid}/status"), status(pid, "", ""));
        self.write(&format!("{pid}/cmdline"), "worker\0--fast\0");
        self.write(&format!("{pid}/cgroup"), "0::/system.slice/worker.service\n");
        self.write(&format!("{pid}/oom_score_adj"), "-500\n");
        self.write(&format!("{pid}/personality"), "00000000\n");
        symlink(exe, self.path(&format!("{pid}/exe"))).unwrap();
    }

    pub(crate) fn stat(&self, pid: u32, state: char, ppid: u32, threads: u32, ticks: u64) {
        let stack = if state == 'Z' { 0 } else { 140_730_315_477_424_u64 };
        let text = format!(
            "{pid} (a ) b) {state} {ppid} 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 {threads} 0 {ticks} 3133440 406 \
             18446744073709551615 1 2 {stack} 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 1 2 3 4 5 6 7 0\n"
        );
        self.write(&format!("{pid}/stat"), text);
    }
}

/// The text of `/proc/PID/status`: only what the parser insists on, and `extra` lines.
pub(crate) fn status(pid: u32, ns: &str, extra: &str) -> String {
    format!(
        "Name:\tworker\nState:\tS (sleeping)\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t1\nTracerPid:\t0\n\
         Uid:\t1000\t1001\t1000\t1000\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t0 \nNSpid:\t{pid}{ns}\n\
         Threads:\t1\nSigQ:\t0/96393\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n\
         CapInh:\t0\nCapPrm:\t0\nCapEff:\t0\n{extra}"
    )
}
