//! What only the distribution's package manager can install: a C linker, Python and Node, and what a benchmark compares
//! with.

use std::{ffi::OsStr, process::Command};

use anyhow::{Result, bail};

use crate::workspace::{Privilege, elevated, run, shown};

/// What this project may need from the distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    CLinker,
    Python,
    Node,
    /// The peers of the benchmark `costs`.
    Procps,
    Sysstat,
    Atop,
    Bpftrace,
    Bpfcc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Apt,
    Dnf,
    Pacman,
    Zypper,
}

impl Manager {
    const ALL: [(Self, &str); 4] =
        [(Self::Apt, "apt-get"), (Self::Dnf, "dnf"), (Self::Pacman, "pacman"), (Self::Zypper, "zypper")];

    fn find() -> Option<Self> {
        Self::ALL.into_iter().find(|(_, program)| which::which(program).is_ok()).map(|(manager, _)| manager)
    }

    /// The commands that install `package`, each a program and its arguments.
    fn commands(self, package: Package) -> Vec<Vec<&'static str>> {
        let names: &[&str] = match (self, package) {
            (Self::Apt, Package::CLinker) => &["gcc", "libc6-dev"],
            (_, Package::CLinker) => &["gcc"],
            (Self::Pacman, Package::Python) => &["python"],
            (_, Package::Python) => &["python3"],
            (_, Package::Node) => &["nodejs"],
            (Self::Dnf | Self::Pacman, Package::Procps) => &["procps-ng"],
            (_, Package::Procps) => &["procps"],
            (_, Package::Sysstat) => &["sysstat"],
            (_, Package::Atop) => &["atop"],
            (_, Package::Bpftrace) => &["bpftrace"],
            (Self::Apt, Package::Bpfcc) => &["bpfcc-tools"],
            (_, Package::Bpfcc) => &["bcc-tools"],
        };
        let mut commands: Vec<Vec<&str>> = match self {
            // A fresh machine has no package lists, and an old one has lists of packages that are gone.
            Self::Apt => vec![
                vec!["apt-get", "update", "-q"],
                // Nothing that is here is given up for it.
                vec!["apt-get", "install", "-q", "-y", "--no-install-recommends", "--no-remove"],
            ],
            Self::Dnf => vec![vec!["dnf", "install", "-y"]],
            Self::Pacman => vec![vec!["pacman", "-S", "--noconfirm"]],
            Self::Zypper => vec![vec!["zypper", "--non-interactive", "install"]],
        };
        if let Some(install) = commands.last_mut() {
            install.extend(names);
        }
        commands
    }
}

fn prepared(manager: Manager, package: Package, privilege: Privilege) -> Result<Vec<Command>> {
    let one = |words: &Vec<&str>| {
        let mut command = elevated(privilege, "installing a package", OsStr::new(words[0]), &[])?;
        command.args(&words[1..]);
        Ok(command)
    };
    manager.commands(package).iter().map(one).collect()
}

/// The command line that installs `package`, for the user to type.
pub fn remedy(package: Package) -> String {
    let Some(manager) = Manager::find() else {
        return match package {
            Package::CLinker => {
                "install gcc (or another C compiler as `cc`) with this distribution's package manager"
            }
            Package::Python => "install python3 with this distribution's package manager",
            Package::Node => "install nodejs with this distribution's package manager",
            Package::Procps | Package::Sysstat | Package::Atop | Package::Bpftrace | Package::Bpfcc => {
                "install it with this distribution's package manager"
            }
        }
        .to_owned();
    };
    typed(manager, package, Privilege::now())
}

fn typed(manager: Manager, package: Package, privilege: Privilege) -> String {
    // Somebody without sudo has to become root some other way; the command is the same.
    let privilege = if privilege == Privilege::None { Privilege::Root } else { privilege };
    let commands = prepared(manager, package, privilege).unwrap_or_default();
    commands.iter().map(shown).collect::<Vec<_>>().join(" && ")
}

/// Installs `package` as root or through sudo, with the package manager's output on this terminal.
pub fn install(package: Package) -> Result<()> {
    let Some(manager) = Manager::find() else {
        bail!("none of apt-get, dnf, pacman and zypper is here");
    };
    for mut command in prepared(manager, package, Privilege::now())? {
        eprintln!("      {}", shown(&command));
        run(&mut command)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_updates_its_lists_before_it_installs() {
        assert_eq!(
            typed(Manager::Apt, Package::CLinker, Privilege::Sudo),
            "sudo apt-get update -q && sudo apt-get install -q -y --no-install-recommends --no-remove gcc libc6-dev"
        );
    }

    #[test]
    fn fedora_installs_python_with_dnf() {
        assert_eq!(typed(Manager::Dnf, Package::Python, Privilege::Root), "dnf install -y python3");
    }

    #[test]
    fn debian_and_fedora_call_node_nodejs() {
        let typed = |manager| typed(manager, Package::Node, Privilege::Root);
        assert!(
            typed(Manager::Apt).ends_with("apt-get install -q -y --no-install-recommends --no-remove nodejs")
        );
        assert_eq!(typed(Manager::Dnf), "dnf install -y nodejs");
    }

    #[test]
    fn without_sudo_the_remedy_is_what_root_would_type_and_nothing_is_run() {
        assert_eq!(typed(Manager::Dnf, Package::CLinker, Privilege::None), "dnf install -y gcc");
        assert!(prepared(Manager::Dnf, Package::CLinker, Privilege::None).is_err());
    }
}
