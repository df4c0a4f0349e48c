//! The configuration file: what must not be killed on this host, whoever starts leakscope.
//!
//! ```toml
//! [[protect]]
//! name = "database"                     # told in the report
//! reason = "fail over first"            # told in the report
//! cmd = "postgres.* -D /srv/db"         # a regular expression, anywhere in the whole command line
//! exe = "/usr/lib/postgresql/15/bin/postgres"
//! unit = "postgresql@15-main"           # a systemd unit; without an ending, a service
//! cgroup = "/system.slice"              # this cgroup and those below it
//! user = "postgres"                     # a name or a number
//!
//! [[protect]]
//! pidfile = "/run/legit-app.pid"        # alone: the process that the file names, read anew at each check
//! ```
//!
//! A rule is about whoever matches all that it names; a process is protected when any rule is about it. A key that is not
//! known is an error: a typing mistake must not leave a database unprotected. Start reading at [`load`].

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use regex::Regex;
use serde::Deserialize;
use toml::Spanned;

use crate::action::Rule;
use crate::fault::Remedy;
use crate::process::Selector;

/// Where the file is looked for when none is named.
pub const USUAL: &str = "/etc/leakscope/config.toml";

/// A larger file is none of ours.
const MAX_BYTES: u64 = 1 << 20;

/// What a file says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Its rules, in its order.
    pub rules: Vec<Rule>,
    /// Pid files whose processes are protected, and by which rule.
    pub pidfiles: Vec<(PathBuf, String)>,
    /// The file itself; `None` where there is none.
    pub file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    protect: Vec<Spanned<Protect>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Protect {
    name: Option<String>,
    reason: Option<String>,
    cmd: Option<Spanned<String>>,
    exe: Option<PathBuf>,
    unit: Option<String>,
    cgroup: Option<String>,
    user: Option<Spanned<String>>,
    pidfile: Option<PathBuf>,
}

/// Reads the file that was named, or the usual one where there is one.
///
/// # Errors
/// When the file cannot be read, is not as it should be, or a named one is not there.
pub fn load(named: Option<&Path>) -> anyhow::Result<Config> {
    let path = named.unwrap_or(Path::new(USUAL));
    // A link that leads nowhere is a file that is missing, and not none.
    let none = fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if none && named.is_none() {
        return Ok(Config::default());
    }
    let read = || {
        let mut text = String::new();
        fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(std::io::Error::other(format!("more than {MAX_BYTES} bytes are no configuration")));
        }
        Ok(text)
    };
    let text = read()
        .with_context(|| format!("reading {}", path.display()))
        .fix("make it readable, or name another file with --config")?;
    parse(path, &text)
}

/// What `text`, which stands in the file `path`, says.
///
/// # Errors
/// When it is no TOML, has a key that is not known, or a rule that cannot be used; with the line.
pub fn parse(path: &Path, text: &str) -> anyhow::Result<Config> {
    const HOW: &str = "write [[protect]] with name, reason, cmd, exe, unit, cgroup, user or pidfile (leakscope rules --help)";
    let file: File = toml::from_str(text)
        .map_err(|error| anyhow!("{}: {}", path.display(), error.to_string().trim_end()))
        .fix(HOW)?;
    let place = |offset: usize| {
        let line = text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1;
        format!("{}:{line}", path.display())
    };
    let mut config = Config { file: Some(path.to_owned()), ..Config::default() };
    for protect in file.protect {
        let at = place(protect.span().start);
        protect.into_inner().add_to(&mut config, &at, &place).fix(HOW)?;
    }
    Ok(config)
}

impl Protect {
    fn add_to(self, config: &mut Config, at: &str, place: &dyn Fn(usize) -> String) -> anyhow::Result<()> {
        let others = self.cmd.is_some()
            || self.exe.is_some()
            || self.unit.is_some()
            || self.cgroup.is_some()
            || self.user.is_some();
        if let Some(pidfile) = self.pidfile {
            anyhow::ensure!(!others, "{at}: pidfile stands alone in its [[protect]], and here is more");
            anyhow::ensure!(
                pidfile.is_absolute(),
                "{at}: pidfile {} is not a path from /",
                pidfile.display()
            );
            let reason = self.reason.map_or_else(String::new, |reason| format!(": {reason}"));
            config.pidfiles.push((pidfile, format!("{}{reason}", called(self.name, at))));
            return Ok(());
        }
        anyhow::ensure!(others, "{at}: this [[protect]] names nobody");
        let mut who = Selector::default().units(self.unit).cgroups(self.cgroup);
        if let Some(cmd) = self.cmd {
            let pattern = Regex::new(cmd.get_ref())
                .map_err(|error| anyhow!("{}: cmd {}: {error}", place(cmd.span().start), cmd.get_ref()))?;
            who = who.commands([pattern]);
        }
        if let Some(user) = self.user {
            who =
                who.user(user.get_ref()).map_err(|error| anyhow!("{}: {error}", place(user.span().start)))?;
        }
        let name = called(self.name, at);
        config.rules.push(Rule { name, reason: self.reason, who, exe: self.exe });
        Ok(())
    }
}

/// What a rule is called where it is told.
fn called(name: Option<String>, at: &str) -> String {
    name.map_or_else(|| format!("the rule at {at}"), |name| format!("\"{name}\" ({at})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing::identity;

    fn read(text: &str) -> anyhow::Result<Config> {
        parse(Path::new("/etc/leakscope/config.toml"), text)
    }

    fn refused(text: &str) -> String {
        crate::fault::render(&read(text).unwrap_err())
    }

    #[test]
    fn a_rule_is_about_whoever_matches_all_of_it() {
        for (text, caught) in [
            ("cmd = 'cache_service'", true),
            ("cmd = 'other'", false),
            ("exe = '/usr/bin/python3.11'", true),
            ("exe = '/usr/bin/python3'", false),
            ("unit = 'cache'", true),
            ("cgroup = '/system.slice'", true),
            ("user = '1000'", true),
            ("user = 'root'", false),
            ("cmd = 'cache_service'\nuser = 'root'", false),
            ("cmd = 'cache_service'\nuser = '1000'\nexe = '/usr/bin/python3.11'", true),
        ] {
            let config = read(&format!("[[protect]]\n{text}")).unwrap();
            assert_eq!(config.rules[0].catches(&identity(42)), caught, "{text}");
        }
    }

    #[test]
    fn a_rule_is_told_by_its_name_its_place_and_its_reason() {
        let config =
            read("\n[[protect]]\nname = 'cache'\nreason = 'fail over first'\nuser = '1000'\n").unwrap();
        let check = config.rules[0].check(&identity(42));
        assert!(!check.passed);
        assert_eq!(check.detail, "protected by \"cache\" (/etc/leakscope/config.toml:2): fail over first");
    }

    #[test]
    fn a_pid_file_is_kept_to_be_read_at_each_check() {
        let config = read("[[protect]]\nname = 'app'\nreason = 'legit'\npidfile = '/run/app.pid'").unwrap();
        let told = "\"app\" (/etc/leakscope/config.toml:1): legit".to_owned();
        assert_eq!(config.pidfiles, [(PathBuf::from("/run/app.pid"), told)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, words) in [
            ("[[protect]]\ncmdline = 'x'", "line 2", "unknown field `cmdline`"),
            ("[protected]\ncmd = 'x'", "line 1", "unknown field `protected`"),
            ("[[protect]]\ncmd = 3", "line 2", "invalid type"),
            ("[[protect]]\ncmd = 'x", "line 2", "invalid"),
            ("[[protect]]\n\ncmd = '('", "config.toml:3", "cmd ("),
            ("[[protect]]\nuser = 'nobody-of-this-name'", "config.toml:2", "no such user"),
            ("# nothing\n[[protect]]\nname = 'x'", "config.toml:2", "names nobody"),
            ("[[protect]]\npidfile = '/x'\ncmd = 'x'", "config.toml:1", "pidfile stands alone"),
            ("[[protect]]\npidfile = 'x.pid'", "config.toml:1", "not a path from /"),
        ] {
            let error = refused(text);
            assert!(
                error.contains(line) && error.contains(words) && error.contains("fix: "),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn only_a_file_that_was_named_must_be_there() {
        let named = load(Some(Path::new("/nowhere/config.toml"))).unwrap_err();
        assert!(crate::fault::render(&named).contains("/nowhere/config.toml"), "{named}");
        if !Path::new(USUAL).exists() {
            assert!(load(None).unwrap().rules.is_empty());
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(load(Some(folder.path())).is_err());
        assert!(load(Some(Path::new("/dev/zero"))).is_err(), "a file without an end is not read to it");
    }
}
