//! The last look at a victim, right before a signal: whether its program still runs, read without an allocation.
//!
//! The whole identity and every protection were checked just before; that takes a fraction of a millisecond, or far
//! longer where memory is short and each allocation waits for reclaim. This look is one `pread` of a file that is open
//! already, into the stack, so that nothing but the system call itself lies between it and the signal. Start reading at
//! [`LastLook::at`].

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::{Errno, pread};

use crate::process::{Identity, ProcRoot};

/// The line of `/proc/PID/stat` up to its 28th field is shorter: a name of 64 bytes and 27 numbers of 20 digits.
const LINE: usize = 1024;

/// What the last look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The process, in the same run of the same program.
    Same,
    /// Dead: gone, or a zombie without living threads.
    Dead,
    /// Another process, or it called exec, or it is on its way out and has no program any more.
    Other,
    /// One look cannot tell: the first thread has ended and the others run on, or the kernel draws no addresses and the
    /// program's file was unreadable before.
    Unsure,
}

/// The open files of a process that one look needs.
#[derive(Debug)]
pub(super) struct LastLook {
    dir: OwnedFd,
    stat: OwnedFd,
}

impl LastLook {
    /// Opens them. They stay bound to the process that has the number now; whether that is the victim, a pidfd tells that
    /// was opened before and is alive afterwards.
    pub(super) fn open(proc: &ProcRoot, who: &Identity) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, proc.path().join(who.key.pid.to_string()), flags, Mode::empty())?;
        let stat = openat(&dir, c"stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let look = Self { dir, stat };
        // The kernel takes its own buffer at the first read and keeps it.
        look.at(who);
        Ok(look)
    }

    /// Looks. The address that the last exec drew tells every exec, also one of the same program; only where there is none
    /// the program's file must do.
    pub(super) fn at(&self, who: &Identity) -> Seen {
        let by_file = match (&who.image, &who.exe) {
            (Some(_), _) => Seen::Same,
            (None, None) => Seen::Unsure,
            (None, Some(exe)) => match statat(&self.dir, c"exe", AtFlags::empty()) {
                Ok(now) if (now.st_dev, now.st_ino) == (exe.dev, exe.ino) => Seen::Same,
                Ok(_) => Seen::Other,
                Err(_) => Seen::Unsure,
            },
        };
        let mut line = [0; LINE];
        let length = match pread(&self.stat, &mut line, 0) {
            Ok(length) => length,
            Err(Errno::SRCH) => return Seen::Dead,
            Err(_) => return Seen::Unsure,
        };
        match judge(&line[..length], who) {
            Seen::Same => by_file,
            other => other,
        }
    }
}

fn judge(line: &[u8], who: &Identity) -> Seen {
    // A process may call itself `x) Z 1`: the name ends at the last bracket.
    let Some(end) = line.iter().rposition(|byte| *byte == b')') else { return Seen::Unsure };
    let fields = || line[end + 1..].split(|byte| *byte == b' ').skip(1);
    // As proc(5) counts: the state, which follows the name, is the third.
    let number = |field: usize| {
        let text = std::str::from_utf8(fields().nth(field - 3)?).ok()?;
        text.parse::<u64>().ok()
    };
    let state = fields().next().and_then(|state| state.first());
    let (Some(state), Some(threads), Some(start), Some(stack)) = (state, number(20), number(22), number(28))
    else {
        return Seen::Unsure;
    };
    if start != who.key.start.0 {
        return Seen::Other;
    }
    match (state, threads) {
        (b'Z' | b'X', 0..=1) => return Seen::Dead,
        // Only the living threads still have the program.
        (b'Z' | b'X', _) => return Seen::Unsure,
        _ => {}
    }
    if who.image.is_none_or(|image| image == stack) { Seen::Same } else { Seen::Other }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::process::testing::{FakeProc, identity};
    use crate::units::Pid;

    fn line(name: &str, state: char, threads: u64, start: u64, stack: u64) -> String {
        let zeros = |count| vec!["0"; count].join(" ");
        let (before, between) = (zeros(16), zeros(5));
        format!("42 ({name}) {state} {before} {threads} 0 {start} {between} {stack} {}\n", zeros(24))
    }

    #[test]
    fn the_process_is_the_same_only_with_its_start_and_its_stack() {
        let who = identity(42);
        let (start, image) = (who.key.start.0, who.image.unwrap());
        for (text, seen) in [
            (line("python3", 'S', 1, start, image), Seen::Same),
            (line("a) Z 1 (b", 'R', 3, start, image), Seen::Same),
            (line("python3", 'S', 1, start + 1, image), Seen::Other),
            (line("python3", 'S', 1, start, image + 16), Seen::Other),
            (line("python3", 'R', 1, start, 0), Seen::Other),
            (line("python3", 'Z', 1, start, 0), Seen::Dead),
            (line("python3", 'Z', 2, start, 0), Seen::Unsure),
            (line("python3", 'S', 1, start, image)[..60].to_owned(), Seen::Unsure),
            (String::new(), Seen::Unsure),
        ] {
            assert_eq!(judge(text.as_bytes(), &who), seen, "{text}");
        }
    }

    #[test]
    fn without_a_drawn_address_the_program_s_file_is_looked_at() {
        let fake = FakeProc::new();
        fake.process(42, 1, 1000, std::path::Path::new("/nowhere"));
        let mut who = fake.root().identify(Pid(42)).unwrap();
        (who.image, who.exe) = (None, None);
        let look = LastLook::open(&fake.root(), &who).unwrap();
        assert_eq!(look.at(&who), Seen::Unsure, "nothing tells an exec");
        let file = std::fs::metadata(fake.path("42/stat")).unwrap();
        let exe = crate::process::Exe { dev: file.dev(), ino: file.ino(), ..identity(42).exe.unwrap() };
        who.exe = Some(exe);
        let _ = std::fs::remove_file(fake.path("42/exe"));
        std::os::unix::fs::symlink(fake.path("42/stat"), fake.path("42/exe")).unwrap();
        assert_eq!(look.at(&who), Seen::Same);
        who.exe.as_mut().unwrap().ino += 1;
        assert_eq!(look.at(&who), Seen::Other);
    }

    #[test]
    fn a_look_through_open_files_sees_what_the_kernel_says_now() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let root = ProcRoot::default();
        let who = root.identify(Pid(child.id())).unwrap();
        let look = LastLook::open(&root, &who).unwrap();
        assert_eq!((look.at(&who), look.at(&who)), (Seen::Same, Seen::Same));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(look.at(&who), Seen::Dead);
    }
}
