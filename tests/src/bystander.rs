//! Living bystanders of a kill, and cgroups to put processes into.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use leakscope::process::{Identity, ProcRoot};
use leakscope::units::Pid;

use crate::command::{Workload, folder, wait_until};

/// Who a process is.
///
/// # Panics
/// When there is no such process.
pub fn identity(pid: u32) -> Identity {
    ProcRoot::default().identify(Pid(pid)).expect("it was started by this test and is alive")
}

/// A process that could be taken for the victim and must live on as the same: the same name, command line and cgroup.
#[derive(Debug)]
pub struct Bystander {
    workload: Workload,
    before: Identity,
}

impl Bystander {
    /// Of a process with the same name, command line and cgroup as the victim: other tests would prove nothing.
    ///
    /// # Panics
    /// When it does not look like the victim.
    pub fn of(victim: u32, workload: Workload) -> Self {
        let (victim, before) = (identity(victim), identity(workload.pid()));
        assert_eq!(
            (&before.comm, &before.cmdline, &before.owner.cgroup),
            (&victim.comm, &victim.cmdline, &victim.owner.cgroup),
            "the bystander does not look like the victim"
        );
        Self { workload, before }
    }

    /// A second process of the program that [`Workload::c`] compiled and started as the victim.
    pub fn of_compiled(victim: &Workload, name: &str) -> Self {
        let mut workload = Workload::start(Command::new(victim.folder().join(name)), folder());
        workload.wait_for_line();
        Self::of(victim.pid(), workload)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.workload.pid()
    }

    /// Fails the test unless it is alive, and in the same run of the same program as before.
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_unhurt(&mut self) {
        assert!(self.workload.lives(), "the bystander {} died", self.before.key);
        let differences = self.before.differences(&identity(self.workload.pid()));
        assert!(differences.is_empty(), "the bystander {}: {differences:?}", self.before.key);
    }

    /// Puts it, and the victim, into a cgroup that this test made.
    pub fn join(&mut self, group: &Group, victim: u32) {
        group.take(victim);
        group.take(self.pid());
        self.before = identity(self.pid());
        assert_eq!(self.before.owner.cgroup, identity(victim).owner.cgroup);
    }
}

/// A cgroup of the test's own; removed when dropped, once its processes are gone.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// One of version 2, whose freezer needs no controller.
    ///
    /// # Panics
    /// When there is none.
    pub fn unified() -> Self {
        let mounted = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].into_iter().map(Path::new);
        let mut mounted = mounted.filter(|path| path.join("cgroup.controllers").exists());
        Self::under(mounted.next().expect("cgroup version 2 is mounted at /sys/fs/cgroup"))
    }

    /// One in the freezer of version 1, where the host has it.
    pub fn old_freezer() -> Option<Self> {
        let mounted = Path::new("/sys/fs/cgroup/freezer");
        mounted.join("cgroup.procs").exists().then(|| Self::under(mounted))
    }

    /// One that limits memory, of version 1 or 2.
    ///
    /// # Panics
    /// When there is none.
    pub fn of_memory() -> Self {
        let (one, two) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        if one.join("memory.limit_in_bytes").exists() {
            return Self::under(one);
        }
        fs::write(two.join("cgroup.subtree_control"), "+memory").expect("a cgroup hierarchy limits memory");
        Self::under(two)
    }

    fn under(parent: &Path) -> Self {
        let mut number = 0;
        loop {
            let path = parent.join(format!("leakscope-test-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Self(path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether it has this file.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Reads one of its files.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Writes one of its files.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, value: &str) {
        fs::write(self.file(name), value).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Puts a process in.
    pub fn take(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// Freezes everybody in it until the answer is dropped.
    pub fn freeze(&self) -> Frozen<'_> {
        let frozen = Frozen(self);
        frozen.set(true);
        let done = || match self.has("freezer.state") {
            true => self.read("freezer.state").trim() == "FROZEN",
            false => self.read("cgroup.events").contains("frozen 1"),
        };
        wait_until("the freezer", done);
        frozen
    }
}

/// A cgroup that is frozen as long as this is kept.
#[derive(Debug)]
pub struct Frozen<'a>(&'a Group);

impl Frozen<'_> {
    fn set(&self, frozen: bool) {
        match self.0.has("freezer.state") {
            true => self.0.write("freezer.state", if frozen { "FROZEN" } else { "THAWED" }),
            false => self.0.write("cgroup.freeze", if frozen { "1" } else { "0" }),
        }
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            crate::command::pause(std::time::Duration::from_millis(20));
        }
    }
}
