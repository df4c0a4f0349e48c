//! A sample of every form of the incident report, as docs/samples shows them: one run of the lab in a UTS and a cgroup
//! namespace of its own, so that the machine that made them does not show, and what a browser makes of the HTML.
//!
//! Nothing in them is posed. Two things are left out, and it is said where: who built the kernel, and the name of a
//! foreign process whom the OOM killer would have chosen. Start reading at [`run`].

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    build,
    setup::{self, Purpose},
    workspace::{Privilege, Workspace, elevated, output, run as run_command},
};

/// Where the samples go, from the root of the checkout.
const FOLDER: &str = "docs/samples";
const NAME: &str = "incident-report";
const FORMS: [&str; 4] = ["txt", "md", "html", "json"];

/// Runs the binary with the words after it as a host of its own name, with the system's own programs first.
const AS_LAB: &str = "hostname lab && PATH=/usr/bin:/bin:/usr/sbin:$PATH exec \"$0\" \"$@\"";

/// What stands in the place of a foreign process's name.
const MASKED: &str = "name left out of this sample";

/// Browsers that make a picture of a page without a screen.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

pub fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure(workspace, &[Purpose::Lab])?;
    let binary = build::release(workspace)?;
    let printed = output(&mut lab(&binary, &["demo", "--keep", "--json", "--quiet"])?)?;
    let hunt: Value = serde_json::from_str(&printed).context("reading what the demo printed")?;
    let report = PathBuf::from(hunt["report"].as_str().context("the demo wrote no report")?);
    let lab_folder = report.parent().context("the report lies in no folder")?.to_path_buf();
    // The legitimate app was kept; it is ended as anything else is here.
    let pidfile = lab_folder.join("legit-app.pid");
    let ended = lab(&binary, &["kill", "--quiet", "--pidfile", &pidfile.to_string_lossy()])
        .and_then(|mut kill| output(&mut kill));

    let release = hunt["host"]["kernel"].as_str().context("the report names no kernel")?;
    let folder = workspace.root.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for form in FORMS {
        let made = report.with_extension(form);
        let text = fs::read_to_string(&made).with_context(|| format!("reading {}", made.display()))?;
        let text = without_strangers(&text.replace(release, numbers(release)));
        private(&text, workspace).with_context(|| format!("{NAME}.{form} is not kept"))?;
        let place = folder.join(NAME).with_extension(form);
        fs::write(&place, text).with_context(|| format!("writing {}", place.display()))?;
    }
    fs::remove_dir_all(&lab_folder).with_context(|| format!("removing {}", lab_folder.display()))?;
    ended.context("ending the lab's legitimate app")?;
    pictures(&folder)?;
    eprintln!("{FOLDER}: {NAME}.{{{}}} of one run", FORMS.join(","));
    Ok(())
}

/// leakscope in namespaces of its own.
fn lab(binary: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = elevated(Privilege::now(), "the samples", "unshare".as_ref(), &[])?;
    command.args(["--uts", "--cgroup", "sh", "-c", AS_LAB]).arg(binary).args(arguments);
    Ok(command)
}

/// A kernel's release down to its numbers.
fn numbers(release: &str) -> &str {
    release.split('-').next().unwrap_or(release)
}

/// Without the name of whom the OOM killer would have chosen, unless that is one of the lab's own.
fn without_strangers(text: &str) -> String {
    const BEFORE: &str = "the kernel's OOM killer would have chosen process ";
    // In text the sentence is broken into lines, in HTML its apostrophe is written as a character reference.
    let is_text = text.contains("\n-------\n");
    let before = BEFORE.replace('\'', if text.starts_with("<!DOCTYPE") { "&#39;" } else { "'" });
    let whole = if is_text { joined(text, "- Had the host run out") } else { text.to_owned() };
    let Some(begin) = whole.find(&before).map(|at| at + before.len()) else { return text.to_owned() };
    let rest = &whole[begin..];
    let (Some(open), Some(close)) = (rest.find(" ("), rest.find(") first")) else { return text.to_owned() };
    if ["cache_service.py", "legit_app.py"].iter().any(|own| rest[open..close].contains(own)) {
        return text.to_owned();
    }
    let masked = format!("{}{} ({MASKED}{}", &whole[..begin], &rest[..open], &rest[close..]);
    if is_text { wrapped(&masked, "- Had the host run out") } else { masked }
}

/// `text` with the list item that begins with `start` on one line.
fn joined(text: &str, start: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        inside = line.starts_with(start) || inside && line.starts_with("  ");
        match inside && !line.starts_with(start) {
            true => {
                out.truncate(out.trim_end().len());
                out.push(' ');
                out.push_str(line.trim_start());
            }
            false => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// The other way round, at the 80 columns of a report.
fn wrapped(text: &str, start: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if !line.starts_with(start) {
            out.push_str(&format!("{line}\n"));
            continue;
        }
        let mut width = 0;
        for word in line.split(' ') {
            if width > 0 && width + 1 + word.len() > 80 {
                out.push_str("\n  ");
                width = 2;
            } else if width > 0 {
                out.push(' ');
                width += 1;
            }
            out.push_str(word);
            width += word.len();
        }
        out.push('\n');
    }
    out
}

/// An error where a sample shows where it was made.
fn private(text: &str, workspace: &Workspace) -> Result<()> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_word = |c: char| c.is_alphanumeric() || c == '-';
    ensure!(
        host == "lab" || !text.split(|c| !is_word(c)).any(|word| word == host),
        "it names this host, {host}"
    );
    let root = workspace.root.to_string_lossy().into_owned();
    let home = std::env::var("HOME").unwrap_or_default();
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroups = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::to_owned);
    for path in cgroups.chain([root, home]).filter(|path| path.len() > 1) {
        ensure!(!text.contains(&path), "it names {path}");
    }
    Ok(())
}

/// What a browser makes of the HTML, light and dark, where there is one.
fn pictures(folder: &Path) -> Result<()> {
    let Some(browser) = BROWSERS.iter().find_map(|name| which::which(name).ok()) else {
        eprintln!("no browser here ({}): the pictures stay as they are", BROWSERS.join(", "));
        return Ok(());
    };
    let page = folder.join(NAME).with_extension("html");
    for (name, scheme) in [(NAME.to_owned(), "1"), (format!("{NAME}-dark"), "0")] {
        let profile = tempfile::tempdir().context("making a folder for the browser")?;
        let mut command = Command::new(&browser);
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--screenshot={}", folder.join(name).with_extension("png").display()))
            .arg("--window-size=1000,3200")
            .arg(format!("file://{}", page.display()));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        run_command(&mut command)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Impact\n-------\n- Had the host run out of memory, the kernel's OOM killer would have chosen\n  \
                        process 77 (secret-agent --key ab(c)\n  --x) first, and not one that leaked: its oom_score of 678 was \
                        the highest.\n\nTimeline\n";

    #[test]
    fn a_stranger_s_name_is_left_out_of_every_form_and_the_lab_s_own_is_not() {
        let text = without_strangers(TEXT);
        assert_eq!(
            text,
            "Impact\n-------\n- Had the host run out of memory, the kernel's OOM killer would have chosen\n  process 77 \
             (name left out of this sample) first, and not one that leaked: its\n  oom_score of 678 was the \
             highest.\n\nTimeline\n"
        );
        let html = "<!DOCTYPE html><li>the kernel&#39;s OOM killer would have chosen process 77 (<code>secret</code>) first</li>";
        assert_eq!(
            without_strangers(html),
            "<!DOCTYPE html><li>the kernel&#39;s OOM killer would have chosen process 77 (name left out of this sample) \
             first</li>"
        );
        let own = TEXT.replace("secret-agent", "python3 legit_app.py");
        assert_eq!(without_strangers(&own), own);
        assert_eq!(without_strangers("nothing of it"), "nothing of it");
    }

    #[test]
    fn a_sample_that_shows_where_it_was_made_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: root.path().into(), target: root.path().join("target") };
        private("Host  lab, Linux 6.18.44\n", &workspace).unwrap();
        let path = format!("see {}/README.md", root.path().display());
        assert!(private(&path, &workspace).unwrap_err().to_string().contains("it names"));
    }

    #[test]
    fn a_kernel_s_release_is_shown_down_to_its_numbers() {
        assert_eq!(numbers("6.18.44-fc-1"), "6.18.44");
    }
}
