//! Holds the arrows between the modules of leakscope, and the purity of `leak`.
//!
//! The source is read as tokens, which sees through groups (`use crate::{leak::Verdict, units}`), `super`, re-exports,
//! and the inside of macros, and does not see comments. Code under `#[cfg(test)]`, and files called
//! `tests`, are free: a test may stand anywhere.
//! The rule for each room is in [`MAY_KNOW`]; a module that is not there stands at the top, beside the monitor.

use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What each room may know of the others. A new room at the bottom is added here, and to those who may know it.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("fault", &[]),
    ("leak", &["units"]),
    ("process", &["units", "fault", "leak"]),
    ("source", &["units", "fault", "leak", "process"]),
    ("action", &["units", "fault", "leak", "process", "source"]),
    ("locate", &["units", "fault", "leak", "process", "source"]),
    ("report", &["units", "fault", "leak", "process", "source", "action", "locate"]),
];
/// Known to those alone.
const CLI: &str = "cli";
const KNOW_CLI: &[&str] = &["cli", "main", "wire", "lib", "demo", "lab"];

/// What a function of its input has no use for.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::sync",
    "std::thread",
    "procfs",
    "aya",
    "tokio",
    "rustix",
    "libc",
    "tempfile",
];
/// Names that mean a clock, in whatever path.
const CLOCKS: &[&str] = &["Instant", "SystemTime", "now"];

/// A path in the source: its segments, and the line it stands on.
type Found = (Vec<String>, usize);

/// Where a file lies in the crate: `["leak", "trend"]` for leak/trend.rs, `["leak"]` for leak/mod.rs, `["main"]`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> = file
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// What is wrong with `source`, which lies at `file` under leakscope/src, given the names of all rooms.
fn violations(file: &Path, source: &str, rooms: &[String]) -> Vec<String> {
    let Ok(tokens) = source.parse::<TokenStream>() else {
        return vec![format!("{}: does not parse", file.display())];
    };
    let module = module_of(file);
    let Some(room) = module.first().cloned() else { return Vec::new() };
    if module.iter().any(|name| name == "tests") {
        return Vec::new();
    }
    let mut found = Vec::new();
    collect(tokens, &module, &mut found);
    let mut violations = Vec::new();
    for (path, line) in found {
        let shown = path.join("::");
        let mut refuse =
            |why: String| violations.push(format!("{}:{line}: `{shown}`: {why}", file.display()));
        if path[0] == "crate" {
            let known = path.get(1).map_or("*", String::as_str);
            if let Some(why) = refused(&room, known, rooms) {
                refuse(why);
            }
        } else if room == "leak"
            && let Some(impure) =
                IMPURE.iter().find(|impure| shown == **impure || shown.starts_with(&format!("{impure}::")))
        {
            refuse(format!("leak is a function of its input and has no use for {impure}"));
        }
        if room == "leak" && path.iter().any(|segment| CLOCKS.contains(&segment.as_str())) {
            refuse("leak has no clock: `Batch::at` is the only present".to_owned());
        }
    }
    violations
}

/// Why `room` may not know `known`; `None` when it may.
fn refused(room: &str, known: &str, rooms: &[String]) -> Option<String> {
    if known == room {
        return None;
    }
    if known == CLI {
        return (!KNOW_CLI.contains(&room)).then(|| format!("{room} must not know the command line"));
    }
    let (_, may) = MAY_KNOW.iter().find(|(name, _)| *name == room)?;
    if may.contains(&known) {
        return None;
    }
    // A name at the root that is no module would hide the arrow.
    Some(match rooms.iter().any(|name| name == known) {
        true => format!("{room} must not know {known}, only {may:?}"),
        false => format!("{known} is no module of its own: name it by the module it is in"),
    })
}

/// Every path of two segments or more in `tokens`, with `super` and `self` resolved to `crate::…`.
fn collect(tokens: TokenStream, module: &[String], found: &mut Vec<Found>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens, at) {
            at = end_of_item(&tokens, at + 2);
            continue;
        }
        match &tokens[at] {
            TokenTree::Ident(word) if word == "mod" => {
                // An inline module is one level deeper for `super`.
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    let inner: Vec<String> = module.iter().cloned().chain([name.to_string()]).collect();
                    collect(body.stream(), &inner, found);
                    at += 3;
                    continue;
                }
                at += 1;
            }
            TokenTree::Ident(_) => {
                let mut paths = Vec::new();
                let end = path_at(&tokens, at, &[], &mut paths);
                let paths = paths.into_iter().filter(|(path, _)| path.len() > 1);
                found.extend(paths.map(|(path, line)| (resolved(path, module), line)));
                at = end.max(at + 1);
            }
            TokenTree::Group(group) => {
                collect(group.stream(), module, found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

fn is_test_attribute(tokens: &[TokenTree], at: usize) -> bool {
    matches!(&tokens[at], TokenTree::Punct(hash) if hash.as_char() == '#')
        && matches!(tokens.get(at + 1), Some(TokenTree::Group(group))
            if group.delimiter() == Delimiter::Bracket && group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// The index after the item that starts at `at`: after its braces or its semicolon.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    // `use crate::{a, b};` has braces before its end.
    let is_use = matches!(tokens.get(at), Some(TokenTree::Ident(word)) if word == "use");
    let ends = |token: &TokenTree| {
        if is_use { matches!(token, TokenTree::Punct(p) if p.as_char() == ';') } else { ends(token) }
    };
    tokens.iter().skip(at).position(ends).map_or(tokens.len(), |offset| at + offset + 1)
}

/// Reads the path at `at` with all that its groups hold, and returns the index after it.
fn path_at(tokens: &[TokenTree], at: usize, prefix: &[String], paths: &mut Vec<Found>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = at;
    let mut line = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => {
                line = word.span().start().line;
                path.push(word.to_string());
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                line = star.span().start().line;
                path.push("*".to_owned());
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace && !path.is_empty() => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut next = 0;
                while next < inner.len() {
                    let starts = matches!(&inner[next], TokenTree::Ident(_) | TokenTree::Group(_))
                        || matches!(&inner[next], TokenTree::Punct(p) if p.as_char() == '*');
                    next = if starts { path_at(&inner, next, &path, paths).max(next + 1) } else { next + 1 };
                    // `a as b`: b is no path.
                    if matches!(inner.get(next), Some(TokenTree::Ident(word)) if word == "as") {
                        next += 2;
                    }
                }
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        let colon = |offset: usize| matches!(tokens.get(at + offset), Some(TokenTree::Punct(p)) if p.as_char() == ':');
        if !(colon(0) && colon(1)) {
            break;
        }
        at += 2;
    }
    paths.push((path, line));
    at
}

/// `crate::leak::Series` for `super::Series` in leak/trend.rs; other paths as they are.
fn resolved(path: Vec<String>, module: &[String]) -> Vec<String> {
    let ups =
        path.iter().skip(usize::from(path[0] == "self")).take_while(|segment| *segment == "super").count();
    if path[0] != "super" && path[0] != "self" {
        return path;
    }
    let skipped = ups + usize::from(path[0] == "self");
    let base = &module[..module.len().saturating_sub(ups)];
    std::iter::once("crate".to_owned())
        .chain(base.iter().cloned())
        .chain(path.into_iter().skip(skipped))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::lint::sources;

    fn judged(file: &str, source: &str) -> Vec<String> {
        let rooms = ["units", "leak", "process", "source", "action", "locate", "report", "monitor", "cli"];
        violations(Path::new(file), source, &rooms.map(str::to_owned))
    }

    #[test]
    fn the_arrows_between_the_modules_of_leakscope_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../leakscope/src");
        let mut files: Vec<PathBuf> = Vec::new();
        sources(&root, &mut files).unwrap();
        let files: Vec<PathBuf> =
            files.iter().map(|file| file.strip_prefix(&root).unwrap().to_path_buf()).collect();
        let rooms: Vec<String> = files.iter().filter_map(|file| module_of(file).first().cloned()).collect();
        for (room, _) in MAY_KNOW.iter().filter(|(room, _)| *room != "locate") {
            assert!(
                rooms.iter().any(|name| name == room),
                "leakscope/src has no {room}: is this test looking there?"
            );
        }
        let judge = |file: &PathBuf| violations(file, &fs::read_to_string(root.join(file)).unwrap(), &rooms);
        let violations: Vec<String> = files.iter().flat_map(judge).collect();
        assert!(violations.is_empty(), "\n{}", violations.join("\n"));
    }

    #[test]
    fn an_arrow_upwards_is_refused_in_every_way_it_can_be_written() {
        for source in [
            "use crate::report::Incident;",
            "use crate::{units::Bytes, report::{self, Incident}};",
            "use super::super::report;",
            "use super::super::{units, report::Incident};",
            "fn f() { crate::report::write() }",
            "fn f() { println!(\"{}\", crate::report::NAME) }",
            "pub use crate::report as leak;",
            "mod inner { use super::super::super::report::Incident; }",
            "impl crate::report::Render for X {}",
            "use crate::*;",
            "use crate::Incident;",
        ] {
            assert!(!judged("leak/trend.rs", source).is_empty(), "{source}");
        }
        let [refused] = &judged("leak/trend.rs", "\n\nuse crate::report::Incident;")[..] else {
            panic!("not one")
        };
        assert!(
            refused.starts_with("leak/trend.rs:3: `crate::report::Incident`: leak must not know report"),
            "{refused}"
        );
    }

    #[test]
    fn an_arrow_downwards_or_within_the_room_is_allowed() {
        let own = "use super::{Series, verdict::Verdict}; use crate::units::{Bytes, Pid}; mod a { use super::super::x; }";
        assert_eq!(judged("leak/trend.rs", own), Vec::<String>::new());
        assert_eq!(
            judged("leak/mod.rs", "pub use self::trend::Trend; use super::units;"),
            Vec::<String>::new()
        );
        assert_eq!(judged("report/text.rs", "use crate::action::Outcome;"), Vec::<String>::new());
        assert_eq!(judged("monitor.rs", "use crate::{report, action, source};"), Vec::<String>::new());
    }

    #[test]
    fn only_main_knows_the_command_line() {
        assert_eq!(judged("main.rs", "use leakscope::cli; use crate::cli::Config;"), Vec::<String>::new());
        assert_eq!(judged("monitor.rs", "use crate::cli::Config;").len(), 1);
        assert_eq!(judged("report/text.rs", "use crate::cli::Config;").len(), 1);
        assert_eq!(judged("serve.rs", "use crate::cli::Config;").len(), 1);
    }

    #[test]
    fn leak_touches_no_file_no_clock_and_no_kernel() {
        for source in [
            "use std::fs;",
            "use std::{fmt, fs::File};",
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "fn f() { std::time::Instant::now(); }",
            "use std::time; fn f() -> time::Instant { x }",
            "fn f() { std::process::exit(1) }",
            "use procfs::process::Process;",
            "use tokio::time::sleep;",
            "fn f() { jiff::Timestamp::now(); }",
        ] {
            assert!(!judged("leak/trend.rs", source).is_empty(), "{source}");
            let elsewhere = judged("source/mod.rs", source);
            assert!(elsewhere.is_empty(), "{elsewhere:?}");
        }
        let pure = "use std::{collections::VecDeque, fmt, time::Duration};";
        assert_eq!(judged("leak/trend.rs", pure), Vec::<String>::new());
    }

    #[test]
    fn tests_and_comments_are_free() {
        let source = "//! See [`crate::report`].\n#[cfg(test)]\nuse crate::{report, action};\n#[cfg(test)]\n#[path = \"x\"]\n\
            mod tests { use std::fs; use crate::report::Incident; }\n/// crate::report\nfn f() { \"crate::report::X\"; }";
        assert_eq!(judged("leak/trend.rs", source), Vec::<String>::new());
        let after = format!("{source}\nuse crate::report::Incident;");
        assert_eq!(judged("leak/trend.rs", &after).len(), 1, "what follows a test is looked at again");
        assert_eq!(judged("leak/tests.rs", &after), Vec::<String>::new());
    }
}
