//! Where things lie, and how a child process is run.
//!
//! Errors of a child name the command as one could type it. A program that needs root is run as it is by root and through
//! sudo by anybody else, never silently: see [`elevated`].

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The checkout that xtask was started in.
pub struct Workspace {
    /// The folder of the root Cargo.toml.
    pub root: PathBuf,
    /// Where cargo puts what it builds: `target`, or what the user's configuration says.
    pub target: PathBuf,
}

/// One thing that cargo says it built.
pub struct Artifact {
    pub name: String,
    pub executable: PathBuf,
    pub is_test: bool,
}

impl Workspace {
    pub fn find() -> Result<Self> {
        // The variable is where cargo found the package now, the constant where it was compiled.
        let package =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&package).parent().context("xtask lies in no workspace")?.to_path_buf();
        let mut metadata = Command::new("cargo");
        metadata.args(["metadata", "--no-deps", "--format-version=1"]).current_dir(&root);
        let metadata: Value =
            serde_json::from_str(&output(&mut metadata)?).context("reading cargo metadata")?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
        Ok(Self { root, target: target.into() })
    }

    /// Where the tools of this project are installed: in the checkout even if cargo's target directory is elsewhere,
    /// because that is where leakscope/build.rs looks for the linker.
    pub fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new("cargo");
        command.arg(subcommand).current_dir(&self.root);
        command
    }

    /// A program of the nightly toolchain, which the kernel side is compiled with.
    pub fn nightly(&self, program: &str) -> Command {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", program]).current_dir(&self.root);
        command
    }
}

/// `command` as it could be typed, with the variables it sets.
pub fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy().replace('\u{1f}', " ");
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value)))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    variables.chain(words.map(|word| quoted(&word.to_string_lossy()))).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Runs `command` with this terminal as its own; an error when it does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting `{}`", shown(command)))?;
    ensure!(status.success(), "`{}` failed: {status}", shown(command));
    Ok(())
}

/// What `command` prints on its standard output; its errors are kept for the message.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting `{}`", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", shown(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a cargo command that compiles, with its progress on this terminal, and returns the executables it made.
pub fn artifacts(command: &mut Command) -> Result<Vec<Artifact>> {
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting `{}`", shown(command)))?;
    let stdout = child.stdout.take().context("cargo's output was not piped")?;
    let mut artifacts = Vec::new();
    for line in BufReader::new(stdout).lines() {
        artifacts.extend(artifact(&line.context("reading cargo's messages")?));
    }
    let status = child.wait().context("waiting for cargo")?;
    ensure!(status.success(), "`{}` failed: {status}", shown(command));
    Ok(artifacts)
}

fn artifact(line: &str) -> Option<Artifact> {
    let message: Value = serde_json::from_str(line).ok()?;
    Some(Artifact {
        name: message["target"]["name"].as_str()?.to_owned(),
        executable: message["executable"].as_str()?.into(),
        is_test: message["profile"]["test"].as_bool()?,
    })
}

/// How root is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    Root,
    Sudo,
    None,
}

impl Privilege {
    pub fn now() -> Self {
        if rustix::process::geteuid().is_root() {
            Self::Root
        } else if which::which("sudo").is_ok() {
            Self::Sudo
        } else {
            Self::None
        }
    }
}

/// `program` with root's rights and with `variables` set; sudo would drop them from its own environment.
///
/// # Errors
/// When this user is not root and there is no sudo.
pub fn elevated(
    privilege: Privilege,
    what: &str,
    program: &OsStr,
    variables: &[(&str, &OsStr)],
) -> Result<Command> {
    match privilege {
        Privilege::Root => {
            let mut command = Command::new(program);
            command.envs(variables.iter().copied());
            Ok(command)
        }
        Privilege::Sudo => {
            let mut command = Command::new("sudo");
            if !variables.is_empty() {
                command.arg("env");
            }
            for (name, value) in variables {
                let mut assignment = std::ffi::OsString::from(name);
                assignment.push("=");
                assignment.push(value);
                command.arg(assignment);
            }
            command.arg(program);
            Ok(command)
        }
        Privilege::None => bail!(
            "{what}: this needs root, and there is no sudo\n  fix: run `cargo xtask` again as root, or install sudo"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_executable_is_told_from_a_binary_and_from_a_library() {
        let test = r#"{"reason":"compiler-artifact","target":{"name":"live"},"profile":{"test":true},"executable":"/t/live-1"}"#;
        let library = r#"{"reason":"compiler-artifact","target":{"name":"lib"},"profile":{"test":false},"executable":null}"#;
        let test = artifact(test).unwrap();
        assert_eq!(
            (test.name.as_str(), test.executable.as_path(), test.is_test),
            ("live", Path::new("/t/live-1"), true)
        );
        assert!(artifact(library).is_none());
        assert!(artifact("not json").is_none());
    }

    #[test]
    fn sudo_is_told_the_variables_and_root_inherits_them() {
        let variables = [("LEAKSCOPE_BIN", OsStr::new("/t/leakscope"))];
        let sudo = elevated(Privilege::Sudo, "the live tests", OsStr::new("/t/live"), &variables).unwrap();
        assert_eq!(shown(&sudo), "sudo env LEAKSCOPE_BIN=/t/leakscope /t/live");
        let root = elevated(Privilege::Root, "the live tests", OsStr::new("/t/live"), &variables).unwrap();
        assert_eq!(shown(&root), "LEAKSCOPE_BIN=/t/leakscope /t/live");
    }

    #[test]
    fn without_root_and_sudo_the_error_names_the_remedy() {
        let error =
            elevated(Privilege::None, "the live tests", OsStr::new("/t/live"), &[]).unwrap_err().to_string();
        assert!(
            error.contains("the live tests") && error.contains("fix: run `cargo xtask` again as root"),
            "{error}"
        );
    }

    #[test]
    fn a_word_with_a_space_is_quoted_when_shown() {
        let mut command = Command::new("cargo");
        command.args(["test", "a b"]);
        assert_eq!(shown(&command), "cargo test 'a b'");
    }
}
