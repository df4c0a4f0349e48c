//! What the README shows of leakscope at work: runs the lab once, draws what it printed as docs/demo.svg, and puts the
//! report of that run and the help texts between the markers of README.md. Nothing in it is posed.
//!
//! What a machine is called, where in its cgroups this was run and what else runs on it is nobody's business: the lab has
//! namespaces of its own for the first two ([`LAB`]). Pids stay the host's, because kernel programs know no others, and so
//! the name of whom the OOM killer would have chosen is left out, and the text says so ([`without_oom_choice`]).

use std::ffi::OsStr;
use std::io::Read as _;

use anyhow::{Context as _, Result, ensure};

use crate::{
    build,
    setup::{self, Purpose},
    workspace::{Privilege, Workspace, elevated, output, shown},
};

/// Where the picture goes, from the root of the checkout.
const PICTURE: &str = "docs/demo.svg";
/// What the reader would have typed.
const PROMPT: &str = "\x1b[1m$ sudo leakscope demo\x1b[0m\n";
/// Runs the rest of its arguments on a host called `lab`, in a cgroup that is the root of all that is mounted: over each
/// cgroup hierarchy the same one is mounted as it is seen from there, so that paths and limits belong together.
const LAB: &str = r#"hostname lab
mounts=$(cat /proc/mounts)
while read -r _ at kind options _; do
    case "$kind" in cgroup|cgroup2) umount -l "$at" && mount -t "$kind" -o "$options" none "$at" || exit 1;; esac
done <<END
$mounts
END
exec "$0" "$@""#;
/// The distribution's Python before any other: paths of a developer's own tell more of the machine than of the lab.
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";
/// How the report of the lab begins; the picture ends there, because the report is shown as text.
const REPORT: &str = "Incident report:";

pub fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure(workspace, &[Purpose::Lab])?;
    let binary = build::release(workspace)?;
    let variables = [("PATH", OsStr::new(PATH))];
    let mut demo = elevated(Privilege::now(), "the demo", OsStr::new("unshare"), &variables)?;
    demo.args(["--uts", "--cgroup", "--mount", "sh", "-c", LAB]);
    demo.arg(&binary).args(["demo", "--color", "always"]);
    let printed = without_oom_choice(&plain_init(&short_release(&printed(&mut demo)?)))?;
    let begin = printed.find(REPORT).context("the demo printed no report")?;
    let (screen, report) = printed.split_at(begin);
    let picture = workspace.root.join(PICTURE);
    let svg = anstyle_svg::Term::new().render_svg(&format!("{PROMPT}{}", screen.trim_end()));
    std::fs::write(&picture, svg).with_context(|| format!("writing {}", picture.display()))?;

    let readme = workspace.root.join("README.md");
    let mut text =
        std::fs::read_to_string(&readme).with_context(|| format!("reading {}", readme.display()))?;
    text = put(&text, "report", report.trim_end())?;
    for (marker, arguments) in [("usage", &["-h"][..]), ("usage-hunt", &["hunt", "-h"])] {
        let mut help = std::process::Command::new(&binary);
        help.args(arguments).env("COLUMNS", "100");
        text = put(&text, marker, output(&mut help)?.trim_end())?;
    }
    std::fs::write(&readme, text).with_context(|| format!("writing {}", readme.display()))?;
    eprintln!("{PICTURE} and README.md: drawn and filled in from one run");
    Ok(())
}

/// Puts `body` as a code block between `<!-- marker -->` and `<!-- /marker -->`.
fn put(text: &str, marker: &str, body: &str) -> Result<String> {
    let (open, close) = (format!("<!-- {marker} -->"), format!("<!-- /{marker} -->"));
    let begin = text.find(&open).with_context(|| format!("README.md has no {open}"))? + open.len();
    let end = text[begin..].find(&close).with_context(|| format!("README.md has no {close}"))? + begin;
    Ok(format!("{}\n```text\n{body}\n```\n{}", &text[..begin], &text[end..]))
}

/// The kernel's release down to its numbers: who built the kernel of the machine that drew this is nobody's business.
fn short_release(text: &str) -> String {
    text.lines()
        .map(|line| match line.split_once(", Linux ") {
            Some((before, after)) => {
                let (release, rest) = after.split_at(after.find(',').unwrap_or(after.len()));
                let numbers = release.split('-').next().unwrap_or(release);
                format!("{before}, Linux {numbers}{rest}\n")
            }
            None => format!("{line}\n"),
        })
        .collect()
}

/// The table's row of pid 1 with the name that it has on most hosts: what runs the machine that drew this does not matter.
fn plain_init(text: &str) -> String {
    text.lines()
        .map(|line| {
            let name = line.trim_start().strip_prefix("1  ").and_then(|rest| {
                let end = rest.find("  ")?;
                Some((&rest[..end], format!("{:<end$}", "init")))
            });
            match name {
                Some((name, plain)) => format!("{}\n", line.replacen(name, &plain, 1)),
                None => format!("{line}\n"),
            }
        })
        .collect()
}

/// The report's sentence on whom the OOM killer would have chosen, with `name left out` for the name of a process of the
/// machine that drew this, and wrapped anew. A process of the lab keeps its name.
fn without_oom_choice(text: &str) -> Result<String> {
    const BEGINS: &str = "- Had the host run out of memory,";
    const WIDTH: usize = 80;
    let Some(begin) = text.find(BEGINS) else { return Ok(text.to_owned()) };
    let rest = &text[begin..];
    let more = rest.split_inclusive('\n').skip(1).take_while(|line| line.starts_with("  "));
    let first = rest.find('\n').map_or(rest.len(), |end| end + 1);
    let end = first + more.map(str::len).sum::<usize>();
    let sentence = rest[..end].split_whitespace().collect::<Vec<_>>().join(" ");
    let who = sentence.split_once(" would have chosen process ").map(|(_, who)| who);
    let who =
        who.context("the report says whom the OOM killer would have chosen in other words than before")?;
    let open = who.find(" (").context("the report names no process that the OOM killer would have chosen")?;
    let close =
        who.find(") first").context("the name of whom the OOM killer would have chosen has no end")?;
    let name = &who[open + 2..close];
    if ["cache_service.py", "legit_app.py"].iter().any(|program| name.ends_with(program)) {
        return Ok(text.to_owned());
    }
    let mut wrapped = String::new();
    let mut column = 0;
    for word in sentence.replace(&format!(" ({name}) first"), " (name left out) first").split(' ') {
        let indent = if wrapped.is_empty() { "" } else { "  " };
        if column == 0 || column + 1 + word.len() > WIDTH {
            wrapped.push_str(if wrapped.is_empty() { "" } else { "\n" });
            wrapped.push_str(indent);
            column = indent.len() + word.len();
        } else {
            wrapped.push(' ');
            column += 1 + word.len();
        }
        wrapped.push_str(word);
    }
    Ok(format!("{}{wrapped}\n{}", &text[..begin], &rest[end..]))
}

/// What a command prints on both streams, in the order in which it does.
fn printed(command: &mut std::process::Command) -> Result<String> {
    let (mut reader, writer) = std::io::pipe().context("making a pipe")?;
    command.stdout(writer.try_clone().context("doubling a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("starting `{}`", shown(command)))?;
    // The command holds the writing ends; without this the reader would wait for ourselves.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut text = String::new();
    reader.read_to_string(&mut text).context("reading what the demo prints")?;
    let status = child.wait().context("waiting for the demo")?;
    ensure!(status.success(), "`{}` failed: {status}\n{text}", shown(command));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_replaced_between_its_markers_and_nothing_else_is() {
        let text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        assert_eq!(put(text, "x", "new").unwrap(), "a\n<!-- x -->\n```text\nnew\n```\n<!-- /x -->\nb\n");
        assert!(put(text, "y", "new").is_err());
    }

    #[test]
    fn the_first_process_is_shown_as_init_and_keeps_its_column() {
        let row = "    1  some-vm-thing --x...  steady     5.22 MB";
        assert_eq!(plain_init(row), "    1  init                  steady     5.22 MB\n");
        assert_eq!(plain_init("  11  other  steady"), "  11  other  steady\n");
    }

    #[test]
    fn whom_the_oom_killer_would_have_chosen_is_told_without_the_name_of_a_stranger() {
        let report = "- It held 3 MB.\n- Had the host run out of memory, the kernel's OOM killer would have chosen\n  process 4211 \
                      (/opt/some agent (beta)\n  --token) first, and not one that leaked: its oom_score of 671 was\n  the \
                      highest.\n\nTimeline\n";
        let told = without_oom_choice(report).unwrap();
        assert_eq!(
            told,
            "- It held 3 MB.\n- Had the host run out of memory, the kernel's OOM killer would have chosen\n  process 4211 \
             (name left out) first, and not one that leaked: its oom_score of\n  671 was the highest.\n\nTimeline\n"
        );
        assert!(told.lines().all(|line| line.len() <= 80));
        let own = report.replace("/opt/some agent (beta)\n  --token", "python3\n  cache_service.py");
        assert_eq!(without_oom_choice(&own).unwrap(), own);
        assert_eq!(without_oom_choice("nothing of it\n").unwrap(), "nothing of it\n");
        assert!(without_oom_choice("- Had the host run out of memory, who knows.\n").is_err());
    }

    #[test]
    fn a_kernel_release_is_shown_down_to_its_numbers() {
        assert_eq!(short_release("Host  vm, Linux 6.18.44-fc-1, 25 GB"), "Host  vm, Linux 6.18.44, 25 GB\n");
    }
}
