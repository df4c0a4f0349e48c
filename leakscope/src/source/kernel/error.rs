//! Why the kernel side cannot be used, in words that name the object, the cause and the remedy.

use std::error::Error;
use std::fmt;
use std::io;

/// The kernel side could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// What failed and why: `attaching kmem:rss_stat: operation not permitted`.
    pub what: String,
    /// What to do about it.
    pub fix: String,
    /// Whether privilege is what is missing.
    pub denied: bool,
}

impl OpenError {
    pub(super) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into(), denied: false }
    }

    /// From an error of the loader, while `doing` something to an object.
    pub(super) fn while_doing(doing: &str, error: &(dyn Error + 'static)) -> Self {
        let os = os_error(error);
        // The verifier says EACCES of what it does not understand: no privilege would help.
        let verifier = verifier_reason(error);
        let denied = verifier.is_none() && os.is_some_and(|os| os.kind() == io::ErrorKind::PermissionDenied);
        let cause = match os {
            Some(os) => plain(os),
            None => innermost(error).to_string(),
        };
        let fix = if denied {
            Privilege::of_this_process().remedy()
        } else if verifier.is_some() {
            "this kernel's verifier refuses the program: please report it; --source procfs works meanwhile"
                .to_owned()
        } else {
            "leakscope doctor shows what this kernel offers; --source procfs needs none of it".to_owned()
        };
        // The verifier's reason is what a bug report needs.
        let verifier = verifier.map(|line| format!(" (verifier: {line})")).unwrap_or_default();
        Self { what: format!("{doing}: {cause}{verifier}"), fix, denied }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for OpenError {}

/// What this process may do, as far as it decides whether the kernel side loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Privilege {
    root: bool,
    /// `CapEff`, by bit.
    capabilities: u64,
    /// Whether a seccomp filter is at work, as container runtimes install one.
    filtered: bool,
    /// The mode in brackets in /sys/kernel/security/lockdown, where that can be read.
    lockdown: Option<String>,
}

impl Privilege {
    /// By their bits in include/uapi/linux/capability.h.
    const NEEDED: [(u8, &str); 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];
    /// Stands for both.
    const SYS_ADMIN: u8 = 21;

    pub(super) fn of_this_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").ok();
        Self::from(rustix::process::geteuid().is_root(), &status, lockdown.as_deref())
    }

    fn from(root: bool, status: &str, lockdown: Option<&str>) -> Self {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Self {
            root,
            capabilities: field("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
            filtered: field("Seccomp:").is_some_and(|mode| mode != "0"),
            lockdown: lockdown.and_then(|text| text.split(['[', ']']).nth(1)).map(str::to_owned),
        }
    }

    /// What to do about a refusal. Root is not told to become root.
    pub(super) fn remedy(&self) -> String {
        if !self.root {
            return "run as root, or grant CAP_BPF and CAP_PERFMON (leakscope doctor)".to_owned();
        }
        let has = |bit: u8| self.capabilities & (1 << bit) != 0;
        let missing: Vec<&str> = Self::NEEDED
            .into_iter()
            .filter(|(bit, _)| !has(*bit) && !has(Self::SYS_ADMIN))
            .map(|(_, name)| name)
            .collect();
        if !missing.is_empty() {
            return format!(
                "this is root without {}: grant them (docker run --cap-add, AmbientCapabilities=)",
                missing.join(" and ")
            );
        }
        match self.lockdown.as_deref() {
            Some("confidentiality") => "the kernel is locked down (confidentiality), which forbids what BPF reads: \
                                        boot with lockdown=integrity or none, or use --source procfs"
                .to_owned(),
            _ if self.filtered => "root, and the capabilities are there, but a seccomp filter is at work, as in \
                                   containers: allow bpf and perf_event_open in its profile, or use --source procfs"
                .to_owned(),
            mode => format!(
                "root, the capabilities are there, and no seccomp filter is at work: lockdown ({}) or a security \
                 module refuses (dmesg says which); --source procfs needs none of it",
                mode.unwrap_or("not visible")
            ),
        }
    }
}

/// The operating system's words in lower case and without the number: `operation not permitted`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

fn os_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(os) = current.downcast_ref::<io::Error>()
            && os.raw_os_error().is_some()
        {
            return Some(os);
        }
        error = current.source();
    }
    None
}

fn verifier_reason(error: &(dyn Error + 'static)) -> Option<String> {
    match error.downcast_ref::<aya::programs::ProgramError>()? {
        aya::programs::ProgramError::LoadError { verifier_log, .. } => {
            let log = verifier_log.to_string();
            // Statistics follow the reason.
            let is_reason = |line: &&str| {
                let after = ["processed ", "stack depth ", "verification time "];
                !line.is_empty() && !after.iter().any(|start| line.starts_with(start))
            };
            log.lines().rev().find(is_reason).map(str::to_owned)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_object_and_the_capabilities() {
        let error = OpenError::while_doing("attaching kmem:rss_stat", &io::Error::from_raw_os_error(1));
        assert_eq!(error.what, "attaching kmem:rss_stat: operation not permitted");
        assert!(error.denied);
        assert_eq!(error.fix, Privilege::of_this_process().remedy());
    }

    #[test]
    fn only_who_is_not_root_is_told_to_become_root() {
        const ALL: &str = "CapEff:\t000001ffffffffff\nSeccomp:\t0\n";
        let remedy = |root, status: &str, lockdown| Privilege::from(root, status, lockdown).remedy();
        assert!(remedy(false, "CapEff:\t0000000000000000\nSeccomp:\t0\n", None).contains("run as root"));
        for (status, lockdown, named) in [
            ("CapEff:\t00000000a80425fb\nSeccomp:\t2\n", None, "without CAP_BPF and CAP_PERFMON"),
            ("CapEff:\t0000004000000000\nSeccomp:\t0\n", None, "without CAP_BPF:"),
            ("CapEff:\t0000000000200000\nSeccomp:\t2\n", None, "seccomp"),
            (ALL, Some("none integrity [confidentiality]\n"), "confidentiality"),
            (ALL, Some("none [integrity] confidentiality\n"), "lockdown (integrity)"),
            (ALL, None, "lockdown (not visible)"),
        ] {
            let told = remedy(true, status, lockdown);
            assert!(told.contains(named), "{told}");
            assert!(!told.contains("run as root"), "{told}");
        }
    }
}
