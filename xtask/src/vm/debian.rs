//! What comes from Debian's packages: QEMU and busybox as this distribution has them, kernels from any of its suites.
//!
//! A private configuration of apt under `target/vm/apt` knows the suites with kernels, and the packages are unpacked, not
//! installed: the system's own packages and lists stay as they are, and no root is needed. Packages that were downloaded
//! stay, because an old suite can vanish any day.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace::{output, run, shown};

/// Suites with kernels, and whether they lie on the mirror for security updates.
const SUITES: [(&str, bool); 5] = [
    ("bullseye-security", true),
    ("bookworm-security", true),
    ("trixie-security", true),
    ("trixie-backports", false),
    ("sid", false),
];
/// The cloud flavour is a third of the others' size.
const FLAVOUR: &str = "-cloud-amd64";
/// Newest packages of a series that are tried: a list may name what the mirror no longer has.
const TRIES: usize = 3;
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What this distribution calls what is unpacked beside the kernels.
const TOOLS: [&str; 2] = ["qemu-system-x86", "busybox-static"];

/// Unpacked tools, and the lists of kernels.
pub struct Debian {
    folder: PathBuf,
}

/// A kernel to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `6.1`.
    pub series: String,
    /// `6.1.0-56-cloud-amd64`.
    pub release: String,
    pub image: PathBuf,
}

impl Debian {
    /// Unpacks QEMU and busybox, and fetches the lists of kernels, as far as that was not done before.
    ///
    /// # Errors
    /// Without apt, without a Debian mirror among its sources, without network.
    pub fn ready(folder: &Path) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg", "dpkg-deb"] {
            ensure!(
                which::which(program).is_ok(),
                "{program} is not here, and QEMU and the kernels come from Debian's packages\n  fix: run this on Debian \
                 or a distribution made from it"
            );
        }
        let debian = Self { folder: folder.to_owned() };
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        if !debian.qemu().is_file() || !debian.busybox().is_file() {
            debian.unpack_tools()?;
        }
        Ok(debian)
    }

    /// The kernels of these series.
    ///
    /// # Errors
    /// When a series is not to be had.
    pub fn kernels(&self, series: &[String]) -> Result<Vec<Kernel>> {
        let names = match self.update() {
            Ok(()) => self.names()?,
            // Without network, what was downloaded before serves as well.
            Err(error) => {
                eprintln!("      {error:#}: using what was downloaded before");
                Vec::new()
            }
        };
        let mut wanted = Vec::new();
        for word in series {
            match word.as_str() {
                "all" => wanted.extend(every_series(names.iter().map(String::as_str))),
                "newest" => {
                    let newest = every_series(names.iter().map(String::as_str)).pop();
                    wanted
                        .push(newest.or_else(|| self.newest_kept()).context("there is no list of kernels")?);
                }
                word => wanted.push(word.to_owned()),
            }
        }
        let mut kernels: Vec<Kernel> = Vec::new();
        for series in wanted {
            if kernels.iter().all(|kernel| kernel.series != series) {
                kernels.push(self.kernel(&series, &names)?);
            }
        }
        ensure!(!kernels.is_empty(), "no kernel is named");
        Ok(kernels)
    }

    pub fn qemu(&self) -> PathBuf {
        self.tools().join("usr/bin/qemu-system-x86_64")
    }

    pub fn busybox(&self) -> PathBuf {
        self.tools().join("bin/busybox")
    }

    /// QEMU as it can be run from where it is unpacked.
    pub fn qemu_command(&self) -> Command {
        let tools = self.tools();
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|part| tools.join(part));
        let mut command = Command::new(self.qemu());
        command.env("LD_LIBRARY_PATH", format!("{}:{}", libraries[0].display(), libraries[1].display()));
        command.env("QEMU_MODULE_DIR", libraries[0].join("qemu"));
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(tools.join(data));
        }
        command
    }

    fn tools(&self) -> PathBuf {
        self.folder.join("tools")
    }

    /// The tools and those of their libraries that this system lacks.
    fn unpack_tools(&self) -> Result<()> {
        // What apt would do is only asked: doing it could remove packages that are installed.
        let mut plan = Command::new("apt-get");
        plan.args(["install", "-s", "--no-install-recommends"]).args(TOOLS);
        let planned = match output(&mut plan) {
            Ok(planned) => planned,
            Err(_) => {
                // A fresh machine has no package lists.
                eprintln!("      apt-get update");
                run(Command::new("apt-get").args(["update", "-q"]))?;
                output(&mut plan)?
            }
        };
        let mut names: Vec<&str> = planned
            .lines()
            .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
            .collect();
        // What is installed is needed here all the same: it is run from one folder.
        names.extend(TOOLS.iter().filter(|name| !planned.contains(&format!("Inst {name} "))));
        let packages = self.folder.join("tool-packages");
        let _ = fs::remove_dir_all(&packages);
        fs::create_dir_all(&packages).with_context(|| format!("making {}", packages.display()))?;
        eprintln!("      downloading {} packages of QEMU and busybox", names.len());
        output(Command::new("apt-get").args(["download", "-q"]).args(names).current_dir(&packages))?;
        for package in files(&packages)? {
            run(Command::new("dpkg").arg("-x").arg(package).arg(self.tools()))?;
        }
        fs::remove_dir_all(&packages).with_context(|| format!("removing {}", packages.display()))?;
        ensure!(self.qemu().is_file(), "the packages hold no {}", self.qemu().display());
        ensure!(self.busybox().is_file(), "the packages hold no {}", self.busybox().display());
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt/apt.conf"));
        command
    }

    /// Fetches the lists of the suites; one that is gone is passed over.
    fn update(&self) -> Result<()> {
        let apt = self.folder.join("apt");
        for part in ["lists/partial", "cache/archives/partial", "parts"] {
            let folder = apt.join(part);
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let write = |name: &str, text: String| {
            let path = apt.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write("status", String::new())?;
        let mirrors = Mirrors::of_this_machine()?;
        write("sources.list", mirrors.sources())?;
        write("apt.conf", configuration(&apt))?;
        eprintln!("      the lists of Debian's kernels");
        let mut update = self.apt("apt-get");
        update.args(["update", "-q"]);
        let told = update.output().with_context(|| format!("starting `{}`", shown(&update)))?;
        let any = !files(&apt.join("lists"))?.is_empty();
        ensure!(any, "`{}`: {}", shown(&update), String::from_utf8_lossy(&told.stderr).trim());
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = output(self.apt("apt-cache").arg("pkgnames"))?;
        Ok(names.lines().filter(|name| Package::parse(name).is_some()).map(str::to_owned).collect())
    }

    fn kernel(&self, series: &str, names: &[String]) -> Result<Kernel> {
        let kept = self.folder.join("kernels").join(series);
        fs::create_dir_all(&kept).with_context(|| format!("making {}", kept.display()))?;
        let mut tried = Vec::new();
        for package in newest(names.iter().map(String::as_str), series).take(TRIES) {
            let file = |name: &Path| {
                let name = name.file_name().unwrap_or_default().to_string_lossy();
                // apt writes `%2b` and the like for what a file's name may not have.
                name.split('_').next() == Some(package.name) && name.ends_with(".deb")
            };
            let mut here = files(&kept)?.into_iter().find(|path| file(path));
            if here.is_none() {
                eprintln!("      downloading {}", package.name);
                if let Err(error) =
                    output(self.apt("apt-get").args(["download", "-q", package.name]).current_dir(&kept))
                {
                    tried.push(format!("{error:#}"));
                    continue;
                }
                here = files(&kept)?.into_iter().find(|path| file(path));
            }
            let package_file =
                here.with_context(|| format!("apt-get left no package of {}", package.name))?;
            if let Some(image) = self.unpack_kernel(&package_file, &kept)? {
                let release = package.release().to_owned();
                return Ok(Kernel { series: series.to_owned(), release, image });
            }
            tried.push(format!("{} holds no kernel", package.name));
        }
        if let Some(kernel) = self.kept(series)? {
            return Ok(kernel);
        }
        bail!(
            "there is no kernel {series} among Debian's packages ({})\n  fix: name another; there are: {}",
            if tried.is_empty() { "none is listed".to_owned() } else { tried.join("; ") },
            every_series(names.iter().map(String::as_str)).join(" ")
        )
    }

    /// Takes the kernel out of its package; since 7.2 it lies with its modules, before that in /boot.
    fn unpack_kernel(&self, package: &Path, kept: &Path) -> Result<Option<PathBuf>> {
        let stem = package.file_stem().context("a package without a name")?.to_string_lossy().into_owned();
        let image = kept.join(format!("{stem}.vmlinuz"));
        if image.is_file() {
            return Ok(Some(image));
        }
        let unpacked = kept.join("unpacked");
        let _ = fs::remove_dir_all(&unpacked);
        run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked))?;
        let mut places = files(&unpacked.join("boot"))?;
        for version in files(&unpacked.join("usr/lib/modules"))? {
            places.push(version.join("vmlinuz"));
        }
        let is_kernel = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vmlinuz") && path.is_file()
        };
        let found = places.into_iter().find(is_kernel);
        if let Some(found) = &found {
            fs::rename(found, &image).with_context(|| format!("moving {}", found.display()))?;
        }
        fs::remove_dir_all(&unpacked).with_context(|| format!("removing {}", unpacked.display()))?;
        Ok(found.map(|_| image))
    }

    /// A kernel of the series that was unpacked before.
    fn kept(&self, series: &str) -> Result<Option<Kernel>> {
        let images = files(&self.folder.join("kernels").join(series))?.into_iter();
        let kernels =
            images.filter(|path| path.extension().is_some_and(|end| end == "vmlinuz")).filter_map(|image| {
                let name = image.file_name()?.to_string_lossy().into_owned();
                let release = Package::parse(name.split('_').next()?)?.release().to_owned();
                Some(Kernel { series: series.to_owned(), release, image })
            });
        Ok(kernels.max_by_key(|kernel| version(&kernel.release)))
    }

    /// The newest series of which a kernel was unpacked before.
    fn newest_kept(&self) -> Option<String> {
        let series = |path: PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
        let kept = files(&self.folder.join("kernels")).ok()?.into_iter().filter_map(series);
        kept.filter(|series| self.kept(series).is_ok_and(|kernel| kernel.is_some()))
            .max_by_key(|series| version(series))
    }
}

/// What is in a folder; nothing where there is none.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
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
        "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"{}\";\nDir::State \"{}\";\nDir::State::status \"{}\";\n\
         Dir::State::lists \"{}\";\nDir::Cache \"{}\";\nDir::Cache::archives \"{}\";\nAcquire::Languages \"none\";\n\
         APT::Sandbox::User \"root\";\n",
        at("sources.list"),
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
        Self::among(&targets).context(
            "apt's sources name no Debian mirror\n  fix: add one, or run this on Debian: the kernels are Debian's",
        )
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

/// A package that may hold a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Package<'a> {
    name: &'a str,
}

impl<'a> Package<'a> {
    /// `linux-image-6.1.0-56-cloud-amd64`, or since 6.19 `linux-binary-…`. A name without the third part of a version is
    /// that of a package that only points to the newest.
    fn parse(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix("linux-image-").or_else(|| name.strip_prefix("linux-binary-"))?;
        let numbers = version(rest.strip_suffix(FLAVOUR)?);
        (numbers.len() >= 3).then_some(Self { name })
    }

    fn release(self) -> &'a str {
        self.name.trim_start_matches("linux-image-").trim_start_matches("linux-binary-")
    }

    /// `6.1`.
    fn series(self) -> String {
        self.release().split('.').take(2).collect::<Vec<_>>().join(".")
    }
}

/// The numbers of a version, for comparison; nothing where it does not begin with one.
fn version(text: &str) -> Vec<u32> {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => numbers.map_while(|part| part.parse().ok()).collect(),
        false => Vec::new(),
    }
}

/// The packages of a series, the newest first; where a kernel has two, that which holds it first.
fn newest<'a>(names: impl Iterator<Item = &'a str>, series: &str) -> impl Iterator<Item = Package<'a>> {
    let mut found: Vec<Package<'_>> =
        names.filter_map(Package::parse).filter(|package| package.series() == series).collect();
    found.sort_by_key(|package| (version(package.release()), package.name.starts_with("linux-binary-")));
    found.into_iter().rev()
}

/// Every series that is listed, oldest first.
fn every_series<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = names.filter_map(Package::parse).map(Package::series).collect();
    found.sort_by_key(|series| version(series));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 9] = [
        "linux-image-6.1-cloud-amd64",
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-56-cloud-amd64",
        "linux-image-6.12.118+deb13-cloud-amd64",
        "linux-image-7.3.4+deb13-cloud-amd64",
        "linux-binary-7.3.4+deb13-cloud-amd64",
        "linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
        "linux-image-5.10.0-46-amd64",
        "linux-headers-6.1.0-56-cloud-amd64",
    ];

    #[test]
    fn the_newest_package_of_a_series_comes_first_by_number_and_not_by_letter() {
        let of = |series| newest(NAMES.into_iter(), series).map(|package| package.name).collect::<Vec<_>>();
        assert_eq!(of("6.1"), ["linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"]);
        assert_eq!(
            of("7.3"),
            ["linux-binary-7.3.4+deb13-cloud-amd64", "linux-image-7.3.4+deb13-cloud-amd64"]
        );
        assert!(of("5.10").is_empty(), "another flavour is larger");
    }

    #[test]
    fn series_are_in_the_order_of_their_numbers() {
        assert_eq!(every_series(NAMES.into_iter()), ["6.1", "6.12", "7.3"]);
    }

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
