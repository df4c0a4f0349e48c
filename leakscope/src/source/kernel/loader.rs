//! A loader that leaves the kernel's BTF alone.
//!
//! aya's loader reads and parses all of it when it is made, before it can be told not to: 18 MB and 30 ms, for
//! relocations that no program here has. So it is made in a thread that cannot see it (docs/decisions/0004). Where the
//! kernel refuses such a thread, the loader reads as it always does, and what it read is dropped at once.

use aya::EbpfLoader;
use rustix::process::chroot;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// A folder that is on every host with BTF, and from which no path leads to it by its usual name.
const WITHOUT_BTF: &str = "/sys/kernel/btf";

/// Makes the loader.
pub(super) fn new() -> EbpfLoader<'static> {
    let thread = std::thread::Builder::new().name("loader".to_owned());
    let made = thread.spawn(|| step_aside().ok().map(|()| EbpfLoader::new()));
    let made = made.ok().and_then(|thread| thread.join().ok()).flatten();
    let mut loader = made.unwrap_or_default();
    loader.btf(None);
    loader
}

/// Gives this thread, and it alone, another root directory.
fn step_aside() -> rustix::io::Result<()> {
    // SAFETY: separates the root and working directories; descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::FS) }?;
    chroot(WITHOUT_BTF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_that_steps_aside_loses_sight_of_the_btf() {
        const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
        let seen = std::thread::spawn(|| step_aside().map(|()| std::fs::metadata(VMLINUX).is_ok()));
        // Without the privilege nothing is gained, and nothing lost.
        assert_ne!(seen.join().unwrap(), Ok(true));
        assert!(std::fs::metadata(VMLINUX).is_ok());
    }
}
