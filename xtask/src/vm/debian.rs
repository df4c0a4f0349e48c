//! What comes from Debian's packages: QEMU, busybox, and kernels from any of its suites.
//!
//! The packages are unpacked under `target/vm`, not installed, and QEMU runs with the C library of its own suite: whatever
//! this system is, the emulator is the same. Packages of kernels that were downloaded stay, because an old suite can vanish
//! any day.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::apt::{Apt, Unavailable, files};
use super::processor::Processor;
use crate::workspace::run;

/// The cloud flavour is a third of the others' size.
const FLAVOUR: &str = "-cloud-";
/// Newest packages of a series that are tried: a list may name what the mirror no longer has.
const TRIES: usize = 3;
/// Where QEMU is from: 10.0. Before 9.1 an arm64 machine has one serial port.
const TOOLS_SUITE: &str = "trixie";
const TOOLS: [&str; 3] = ["qemu-system-x86", "qemu-system-arm", "busybox-static"];
/// Machines of another processor have a busybox of it; it needs nothing else.
const BUSYBOX_ARM: &str = "busybox-static:arm64";

/// The dynamic loader among the unpacked tools.
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// Unpacked tools, and the lists of kernels.
pub struct Debian {
    folder: PathBuf,
    apt: Apt,
}

/// A kernel to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `6.1`, `6.12-arm64`.
    pub series: String,
    pub processor: Processor,
    /// `6.1.0-56-cloud-amd64`.
    pub release: String,
    pub image: PathBuf,
}

impl Debian {
    /// Fetches the lists of packages, and QEMU and busybox where that was not done before.
    ///
    /// # Errors
    /// With [`Unavailable`] without apt, without a Debian mirror among its sources, and without
    /// network where nothing was downloaded before.
    pub fn ready(folder: &Path) -> Result<Self> {
        let debian = Self { folder: folder.to_owned(), apt: Apt::ready(&folder.join("apt"))? };
        if !Processor::ALL.iter().all(|processor| debian.qemu(*processor).is_file()) {
            debian.unpack_tools()?;
        }
        Ok(debian)
    }

    /// Those of these series that are to be had; the others are named and passed over.
    ///
    /// # Errors
    /// With [`Unavailable`] when none is.
    pub fn some_of(&self, series: &[&str]) -> Result<Vec<Kernel>> {
        let names = self.names()?;
        let had = |word: &&str| {
            let kernels = self.named(word, &names);
            kernels.inspect_err(|error| eprintln!("      {word} is left out: {error:#}")).ok()
        };
        let kernels = each_once(series.iter().filter_map(had).flatten());
        if kernels.is_empty() {
            return Err(
                Unavailable(format!("none of Debian's kernels {} is to be had", series.join(", "))).into()
            );
        }
        Ok(kernels)
    }

    /// The kernels of these series.
    ///
    /// # Errors
    /// When a series is not to be had.
    pub fn kernels(&self, series: &[String]) -> Result<Vec<Kernel>> {
        let names = self.names()?;
        let found = series.iter().map(|word| self.named(word, &names)).collect::<Result<Vec<_>>>()?;
        let kernels = each_once(found.into_iter().flatten());
        ensure!(!kernels.is_empty(), "none of the kernels that are listed is to be had");
        Ok(kernels)
    }

    /// The names of all packages that may hold a kernel.
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.apt.names()?.into_iter().filter(|name| Package::parse(name).is_some()).collect())
    }

    /// What a series, `all` or `newest` stands for.
    fn named(&self, word: &str, names: &[String]) -> Result<Vec<Kernel>> {
        let listed = every_series(names.iter().map(String::as_str));
        match word {
            // A list may name what the mirror does not have.
            "all" => Ok(listed.iter().filter_map(|series| self.had(series, names)).collect()),
            "newest" => {
                let x86 = listed.iter().filter(|series| Processor::of_series(series) == Processor::X86);
                let newest = x86.rev().find_map(|series| self.had(series, names));
                let newest = newest.map_or_else(|| self.newest_kept(), |newest| Ok(Some(newest)));
                Ok(vec![newest?.context("no kernel is listed that is to be had")?])
            }
            series => Ok(vec![self.kernel(series, names)?]),
        }
    }

    pub fn busybox(&self, processor: Processor) -> PathBuf {
        let tools = self.tools();
        match processor {
            Processor::X86 => tools,
            Processor::Arm => tools.join(processor.debian()),
        }
        .join("usr/bin/busybox")
    }

    fn qemu(&self, processor: Processor) -> PathBuf {
        self.tools().join("usr/bin").join(processor.qemu())
    }

    /// QEMU as it can be run from where it is unpacked.
    pub fn qemu_command(&self, processor: Processor) -> Command {
        let tools = self.tools();
        let libraries = tools.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(self.loader());
        command.arg("--library-path").arg(&libraries).arg(self.qemu(processor));
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(tools.join(data));
        }
        command
    }

    fn tools(&self) -> PathBuf {
        self.folder.join("tools")
    }

    /// The dynamic loader of the suite that QEMU is from.
    fn loader(&self) -> PathBuf {
        self.tools().join(LOADER)
    }

    /// The tools and all of their libraries.
    fn unpack_tools(&self) -> Result<()> {
        let packages = self.folder.join("tool-packages");
        eprintln!("      downloading QEMU and busybox of Debian {TOOLS_SUITE}");
        // Under another name until it is whole.
        let unpacked = self.folder.join("tools.part");
        let _ = fs::remove_dir_all(&unpacked);
        let wanted: [(&[&str], &Path); 2] =
            [(&TOOLS, &unpacked), (&[BUSYBOX_ARM], &unpacked.join(Processor::Arm.debian()))];
        for (names, into) in wanted {
            for package in self.apt.download_with_dependencies(TOOLS_SUITE, names, &packages)? {
                run(Command::new("dpkg").arg("-x").arg(package).arg(into))?;
            }
        }
        let emulators = Processor::ALL.map(|processor| format!("usr/bin/{}", processor.qemu()));
        for program in [LOADER, "usr/bin/busybox"].into_iter().chain(emulators.iter().map(String::as_str)) {
            ensure!(unpacked.join(program).exists(), "the packages of {TOOLS:?} hold no {program}");
        }
        let tools = self.tools();
        let _ = fs::remove_dir_all(&tools);
        fs::rename(&unpacked, &tools).with_context(|| format!("moving {}", unpacked.display()))?;
        fs::remove_dir_all(&packages).with_context(|| format!("removing {}", packages.display()))?;
        Ok(())
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
                let name = format!("{}:{}", package.name, package.processor.debian());
                match self.apt.download(&name, &kept) {
                    Ok(()) => here = files(&kept)?.into_iter().find(|path| file(path)),
                    Err(error) => {
                        tried.push(format!("{error:#}"));
                        continue;
                    }
                }
            }
            let package_file =
                here.with_context(|| format!("apt-get left no package of {}", package.name))?;
            if let Some(image) = self.unpack_kernel(&package_file, &kept)? {
                let release = package.release().to_owned();
                return Ok(Kernel {
                    series: series.to_owned(),
                    processor: package.processor,
                    release,
                    image,
                });
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

    /// A kernel of the series; one that is not to be had is named and passed over.
    fn had(&self, series: &str, names: &[String]) -> Option<Kernel> {
        let kernel = self.kernel(series, names);
        kernel.inspect_err(|error| eprintln!("      {series} is left out: {error:#}")).ok()
    }

    /// A kernel of the series that was unpacked before.
    fn kept(&self, series: &str) -> Result<Option<Kernel>> {
        let images = files(&self.folder.join("kernels").join(series))?.into_iter();
        let kernels =
            images.filter(|path| path.extension().is_some_and(|end| end == "vmlinuz")).filter_map(|image| {
                let name = image.file_name()?.to_string_lossy().into_owned();
                let package = Package::parse(name.split('_').next()?)?;
                let (release, processor) = (package.release().to_owned(), package.processor);
                Some(Kernel { series: series.to_owned(), processor, release, image })
            });
        Ok(kernels.max_by_key(|kernel| version(&kernel.release)))
    }

    /// The newest kernel that was unpacked before.
    fn newest_kept(&self) -> Result<Option<Kernel>> {
        let mut newest: Option<Kernel> = None;
        for folder in files(&self.folder.join("kernels"))? {
            let series = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let found = self.kept(&series)?.filter(|kernel| kernel.processor == Processor::X86);
            newest = newest.into_iter().chain(found).max_by_key(|kernel| version(&kernel.release));
        }
        Ok(newest)
    }
}

/// A package that may hold a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Package<'a> {
    name: &'a str,
    processor: Processor,
}

impl<'a> Package<'a> {
    /// `linux-image-6.1.0-56-cloud-amd64`, or since 6.19 `linux-binary-…`. A name without the third part of a version is
    /// that of a package that only points to the newest.
    fn parse(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix("linux-image-").or_else(|| name.strip_prefix("linux-binary-"))?;
        let (release, architecture) = rest.split_once(FLAVOUR)?;
        let processor = Processor::ALL.into_iter().find(|one| one.debian() == architecture)?;
        (version(release).len() >= 3).then_some(Self { name, processor })
    }

    fn release(self) -> &'a str {
        self.name.trim_start_matches("linux-image-").trim_start_matches("linux-binary-")
    }

    /// `6.1`, `6.12-arm64`.
    fn series(self) -> String {
        self.release().split('.').take(2).collect::<Vec<_>>().join(".") + self.processor.suffix()
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

/// Without those of a series that was there before.
fn each_once(kernels: impl Iterator<Item = Kernel>) -> Vec<Kernel> {
    let mut seen = BTreeSet::new();
    kernels.filter(|kernel| seen.insert(kernel.series.clone())).collect()
}

/// The series of a kernel, by its release: `6.1` of `6.1.0-56-cloud-amd64`.
pub fn series_of(release: &str) -> Option<String> {
    Package::parse(&format!("linux-image-{release}")).map(Package::series)
}

/// What series are in order by.
pub fn series_key(series: &str) -> (Processor, Vec<u32>) {
    (Processor::of_series(series), version(series))
}

/// Every series that is listed, a processor's from the oldest to the newest.
fn every_series<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = names.filter_map(Package::parse).map(Package::series).collect();
    found.sort_by_key(|series| series_key(series));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 10] = [
        "linux-image-6.12.118+deb13-cloud-arm64",
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
        assert_eq!(every_series(NAMES.into_iter()), ["6.1", "6.12", "7.3", "6.12-arm64"]);
    }
}
