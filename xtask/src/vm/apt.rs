//! A private apt: its own sources, lists and state in a folder, so that the system's packages and lists stay as they are.
//! No root is needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::workspace::{output, shown};

/// Suites with tools and kernels, and whether they lie on the mirror for security updates.
const SUITES: [(&str, bool); 6] = [
    ("bullseye-security", true),
    ("bookworm-security", true),
    ("trixie", false),
    ("trixie-security", true),
    ("trixie-backports", false),
    ("sid", false),
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Why there can be no machines here, which is nobody's fault.
#[derive(Debug)]
pub struct Unavailable(pub String);

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// The lists of [`SUITES`], and what they name.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Writes the configuration and fetches the lists; without network those that were fetched before serve as well.
    ///
    /// # Errors
    /// With [`Unavailable`] without apt, without a Debian mirror among this system's sources, and without any list.
    pub fn ready(folder: &Path) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg", "dpkg-deb"] {
            which::which(program).map_err(|_| {
                Unavailable(format!(
                    "{program} is not here, and QEMU and the kernels come from Debian's packages; run this on Debian or a \
                     distribution made from it"
                ))
            })?;
        }
        let apt = Self { folder: folder.to_owned() };
        for part in ["lists/partial", "cache/archives/partial", "parts"] {
            let folder = folder.join(part);
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write("status", String::new())?;
        write("sources.list", Mirrors::of_this_machine()?.sources())?;
        write("apt.conf", configuration(folder))?;
        apt.update()?;
        Ok(apt)
    }

    /// Fetches the lists of the suites; one that is gone is passed over.
    fn update(&self) -> Result<()> {
        eprintln!("      the lists of Debian's packages");
        let mut update = self.command("apt-get");
        update.args(["update", "-q"]);
        let told = update.output().with_context(|| format!("starting `{}`", shown(&update)))?;
        let stderr = String::from_utf8_lossy(&told.stderr);
        let lists = files(&self.folder.join("lists"))?;
        if !lists.iter().any(|list| list.to_string_lossy().contains("_Packages")) {
            return Err(Unavailable(format!(
                "Debian's lists of packages cannot be fetched: {}",
                stderr.trim()
            ))
            .into());
        }
        for line in stderr.lines().filter(|line| line.starts_with("E:")) {
            eprintln!("      {line}");
        }
        Ok(())
    }

    /// The names of all packages.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(output(self.command("apt-cache").arg("pkgnames"))?.lines().map(str::to_owned).collect())
    }

    /// Downloads a package into a folder, where it appears when it is whole.
    pub fn download(&self, package: &str, into: &Path) -> Result<()> {
        let partial = emptied(&into.join("partial"))?;
        output(self.command("apt-get").args(["download", "-q", package]).current_dir(&partial))?;
        for file in files(&partial)? {
            let name = file.file_name().context("a package without a name")?;
            fs::rename(&file, into.join(name)).with_context(|| format!("moving {}", file.display()))?;
        }
        fs::remove_dir(&partial).with_context(|| format!("removing {}", partial.display()))
    }

    /// Downloads packages of a suite and everything that they need into a folder, as for a system that has nothing yet,
    /// and returns where they are.
    pub fn download_with_dependencies(
        &self,
        suite: &str,
        packages: &[&str],
        into: &Path,
    ) -> Result<Vec<PathBuf>> {
        emptied(into)?;
        emptied(&into.join("partial"))?;
        let mut command = self.command("apt-get");
        command.args(["install", "-q", "--yes", "--download-only", "--no-install-recommends"]);
        command.args(["--target-release", suite, "-o", &format!("Dir::Cache::archives={}", into.display())]);
        output(command.args(packages))?;
        Ok(files(into)?.into_iter().filter(|file| file.extension().is_some_and(|end| end == "deb")).collect())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        // Said last: the system's own settings, of which proxies are needed, are read after that file.
        command.args(["-o", "APT::Default-Release="]);
        command
    }
}

/// A folder that is there and has nothing in it.
fn emptied(folder: &Path) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder.to_owned())
}

/// What is in a folder; nothing where there is none.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()
            .with_context(|| folder.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", folder.display())),
    }
}

fn configuration(apt: &Path) -> String {
    let at = |name: &str| apt.join(name).display().to_string();
    format!(
        "Dir::Etc::sourcelist \"{}\";\nDir::Etc::preferences \"{}\";\nDir::Etc::preferencesparts \"{}\";\nDir::Etc::sourceparts \"{}\";\nDir::State \"{}\";\nDir::State::status \"{}\";\n\
         Dir::State::lists \"{}\";\nDir::Cache \"{}\";\nDir::Cache::archives \"{}\";\nAcquire::Languages \"none\";\n\
         APT::Sandbox::User \"root\";\nAPT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; \"arm64\"; }};\n",
        at("sources.list"),
        at("preferences"),
        at("parts"),
        at("parts"),
        apt.display(),
        at("status"),
        at("lists"),
        at("cache"),
        at("cache/archives"),
    )
}

/// Where this machine gets its packages: the same mirror has the other suites.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    fn of_this_machine() -> Result<Self> {
        let targets = output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        let none =
            "apt's sources name no Debian mirror: add one, or run this on Debian; the kernels are Debian's";
        Ok(Self::among(&targets).ok_or_else(|| Unavailable(none.to_owned()))?)
    }

    fn among(targets: &str) -> Option<Self> {
        let ending = |end: &str| {
            let found = targets.lines().map(|line| line.trim().trim_end_matches('/'));
            found.filter(|uri| uri.ends_with(end)).map(str::to_owned).next()
        };
        let main = ending("/debian")?;
        let security = ending("/debian-security").unwrap_or_else(|| format!("{main}-security"));
        Some(Self { main, security })
    }

    fn sources(&self) -> String {
        let signed =
            if Path::new(KEYRING).is_file() { format!(" [signed-by={KEYRING}]") } else { String::new() };
        let line = |(suite, security): (&str, bool)| {
            let mirror = if security { &self.security } else { &self.main };
            format!("deb{signed} {mirror} {suite} main\n")
        };
        SUITES.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_for_security_updates_lies_beside_the_other_unless_another_is_named() {
        let mirrors =
            Mirrors::among("http://mirror.example/debian/\nhttp://other.example/debian-security/\n").unwrap();
        assert_eq!(mirrors.security, "http://other.example/debian-security");
        let sources = mirrors.sources();
        assert!(sources.contains(" http://mirror.example/debian sid main\n"), "{sources}");
        let alone = Mirrors::among("http://mirror.example/debian\nhttps://node.example/x\n").unwrap();
        assert_eq!(alone.security, "http://mirror.example/debian-security");
        assert_eq!(Mirrors::among("http://mirror.example/ubuntu\n"), None);
    }
}
