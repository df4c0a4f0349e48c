//! What a machine is booted with: an initial RAM disk of busybox, leakscope, the test executables and the programs that
//! they start, each at the path that it was compiled with, and a script that runs the tests and says what came of them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Built, Fault, debian::Debian, processor::Processor};
use crate::workspace::{Workspace, output};

/// Longer than any test executable takes on an emulated processor.
const LIMIT_S: u32 = 900;

/// The files of a RAM disk, and what the script in it runs.
pub struct Stage {
    root: PathBuf,
    /// Where images go.
    folder: PathBuf,
    /// The one that runs here.
    busybox: PathBuf,
    processor: Processor,
    /// Each executable's name and path.
    executables: Vec<(String, PathBuf)>,
    leakscope: PathBuf,
    tests: PathBuf,
    filter: Vec<String>,
}

/// A packed RAM disk.
pub struct Image {
    pub path: PathBuf,
    /// What the script's own lines begin with: no test prints it.
    pub mark: String,
}

/// Lays out everything but the script.
pub fn stage(workspace: &Workspace, debian: &Debian, built: &Built, filter: &[String]) -> Result<Stage> {
    let processor = built.processor;
    let folder = workspace.target.join("vm");
    let root = folder.join(format!("root-{}", processor.debian()));
    let _ = fs::remove_dir_all(&root);
    for part in ["bin", "proc", "sys", "dev", "tmp", "run", "etc"] {
        let path = root.join(part);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    }
    let busybox = root.join("bin/busybox");
    fs::copy(debian.busybox(processor), &busybox)
        .with_context(|| format!("copying to {}", busybox.display()))?;
    // Both processors' are of one version: they have the same.
    let here = debian.busybox(Processor::X86);
    for applet in output(Command::new(&here).arg("--list"))?.lines().filter(|name| *name != "busybox") {
        let link = root.join("bin").join(applet);
        symlink("busybox", &link).with_context(|| format!("making {}", link.display()))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    for program in
        built.tests.iter().map(|test| &test.executable).chain(&built.workloads).chain([&built.leakscope])
    {
        let inside = within(&root, program);
        make_folder_of(&inside)?;
        fs::copy(program, &inside).with_context(|| format!("copying to {}", inside.display()))?;
    }
    for file in ["leakscope-ebpf/budget.json", "tests/Cargo.toml"] {
        let inside = within(&root, &workspace.root.join(file));
        make_folder_of(&inside)?;
        fs::copy(workspace.root.join(file), &inside)
            .with_context(|| format!("copying to {}", inside.display()))?;
    }
    Ok(Stage {
        root,
        folder,
        busybox: here,
        processor,
        executables: built.tests.iter().map(|test| (test.name.clone(), test.executable.clone())).collect(),
        leakscope: built.leakscope.clone(),
        tests: workspace.root.join("tests"),
        filter: filter.to_vec(),
    })
}

impl Stage {
    /// Writes the script and packs everything.
    pub fn pack(&self, series: &str, planted: Option<Fault>) -> Result<Image> {
        let image = self.folder.join(format!("{series}.initramfs"));
        let mark = format!("@@{:08x}", std::process::id());
        let init = self.root.join("init");
        fs::write(&init, self.script(&mark, planted))?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        let pack = r#"find . | "$1" cpio -o -H newc -R 0:0 > "$2""#;
        let words = [OsStr::new("-c"), OsStr::new(pack), OsStr::new("sh")];
        let mut command = Command::new("sh");
        command.args(words).arg(&self.busybox).arg(&image).current_dir(&self.root);
        output(&mut command)?;
        Ok(Image { path: image, mark })
    }

    /// What the machine's first process does. Its own lines and the tests' go to the second serial port: the first is the
    /// kernel's, which may write there at any time.
    fn script(&self, mark: &str, planted: Option<Fault>) -> String {
        let (_, port) = self.processor.ports();
        let mut script = format!(
            "#!/bin/sh\nexport PATH=/bin HOME=/\nmount -t proc proc /proc\nmount -t sysfs sysfs /sys\n\
             mount -t devtmpfs devtmpfs /dev\nmount -t cgroup2 cgroup2 /sys/fs/cgroup\nmount -t bpf bpf /sys/fs/bpf\n\
             exec </dev/null >/dev/{port} 2>&1\n",
        );
        script += &format!("echo \"{mark} hello $(uname -r)\"\n");
        let leakscope = quoted(&self.leakscope);
        script += &format!("export LEAKSCOPE_BIN={leakscope} CARGO_MANIFEST_DIR={}\n", quoted(&self.tests));
        // What a test may do here and not to a host.
        script += "export LEAKSCOPE_MACHINE=1 LEAKSCOPE_CONTRACT=/tmp/contract.json\n";
        if let Some(fault) = planted {
            let body = match fault {
                Fault::FailingTest => "echo 'test planted_failure ... FAILED'; exit 101",
                Fault::Panic => "echo 'test planted_panic ... '; echo c >/proc/sysrq-trigger; sleep 100000",
                Fault::Hang => "echo 'test planted_hang ... '; sleep 100000",
            };
            script +=
                &format!("echo '{mark} run planted'\nsh -c \"{body}\"\necho \"{mark} rc planted $?\"\n");
        }
        let filter: String = self.filter.iter().map(|word| format!(" {}", quoted(Path::new(word)))).collect();
        for (name, path) in &self.executables {
            script += &format!("echo '{mark} run {name}'\n");
            script += &format!(
                "timeout -s KILL {LIMIT_S} {} --test-threads=1{filter}\necho \"{mark} rc {name} $?\"\n",
                quoted(path)
            );
        }
        script += &format!("echo \"{mark} contract $(cat /tmp/contract.json 2>/dev/null)\"\n");
        script += &format!("echo \"{mark} doctor $({leakscope} doctor --json | tr -d '\\n')\"\n");
        script += &format!("echo '{mark} done'\nsync\npoweroff -f\n");
        script
    }
}

/// Where a file of this machine lies in the RAM disk.
fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn make_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        Stage {
            root: "/w/target/vm/root".into(),
            folder: "/w/target/vm".into(),
            busybox: "/b".into(),
            processor: Processor::X86,
            executables: vec![("tiers".into(), "/w/it's/tiers-1".into())],
            leakscope: "/w/leakscope".into(),
            tests: "/w/tests".into(),
            filter: vec!["one test".into()],
        }
    }

    #[test]
    fn each_executable_is_announced_run_by_its_path_and_told_of() {
        let script = stage().script("@@1", None);
        let lines: Vec<&str> = script.lines().collect();
        let at = lines.iter().position(|line| *line == "echo '@@1 run tiers'").unwrap();
        assert_eq!(lines[at + 1], r"timeout -s KILL 900 '/w/it'\''s/tiers-1' --test-threads=1 'one test'");
        assert_eq!(lines[at + 2], r#"echo "@@1 rc tiers $?""#);
        assert!(lines.contains(&"echo '@@1 done'"));
        assert!(!script.contains("planted"));
    }

    #[test]
    fn a_planted_fault_comes_before_the_tests() {
        for fault in [Fault::FailingTest, Fault::Panic, Fault::Hang] {
            let script = stage().script("@@1", Some(fault));
            assert!(script.find("run planted").unwrap() < script.find("run tiers").unwrap());
        }
    }

    #[test]
    fn the_script_is_one_that_a_shell_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("init");
        for fault in [None, Some(Fault::FailingTest), Some(Fault::Panic), Some(Fault::Hang)] {
            fs::write(&path, stage().script("@@1", fault)).unwrap();
            assert!(Command::new("sh").arg("-n").arg(&path).status().unwrap().success());
        }
    }
}
