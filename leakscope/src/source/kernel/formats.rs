//! Classic tracepoints are read at fixed offsets: here those are compared with what the running kernel says.
//!
//! A difference is an error that names the field, because the alternative is to count nonsense.

use std::collections::BTreeMap;
use std::path::Path;

use leakscope_common::Offsets;

use super::contract;
use super::error::OpenError;

/// A field that the kernel side reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    name: &'static str,
    offset: u32,
    size: u32,
}

const fn field(name: &'static str, offset: u32, size: u32) -> Field {
    Field { name, offset, size }
}

/// What the kernel side reads of each classic tracepoint.
const EXPECTED: &[(&str, &[Field])] = &[
    ("kmem/rss_stat", &[field("curr", 12, 4), field("member", 16, 4), field("size", 24, 8)]),
    ("exceptions/page_fault_user", &[field("address", 8, 8), field("error_code", 24, 8)]),
    ("sched/sched_process_exec", &[]),
    ("sched/sched_process_exit", &[field("pid", 24, 4)]),
    ("oom/mark_victim", &[field("pid", 8, 4)]),
    ("syscalls/sys_enter_brk", &[]),
    ("syscalls/sys_exit_brk", &[field("ret", 16, 8)]),
    ("syscalls/sys_enter_mmap", &[field("len", 24, 8), field("flags", 40, 8)]),
    ("syscalls/sys_exit_mmap", &[field("ret", 16, 8)]),
    ("syscalls/sys_enter_munmap", &[field("len", 24, 8)]),
    ("syscalls/sys_exit_munmap", &[field("ret", 16, 8)]),
    ("syscalls/sys_enter_mremap", &[field("old_len", 24, 8), field("new_len", 32, 8)]),
    ("syscalls/sys_exit_mremap", &[field("ret", 16, 8)]),
    ("syscalls/sys_enter_madvise", &[field("len_in", 24, 8), field("behavior", 32, 8)]),
    ("syscalls/sys_exit_madvise", &[field("ret", 16, 8)]),
];

/// Compares one tracepoint (`kmem`, `rss_stat`) with the running kernel's.
pub(super) fn check(tracefs: &Path, category: &str, name: &str) -> Result<(), OpenError> {
    let path = format!("{category}/{name}");
    let format = read(tracefs, &path)?;
    let fields = EXPECTED.iter().find(|(event, _)| *event == path).map_or(&[][..], |(_, fields)| fields);
    compare(&path, &format, fields)
}

/// Where the classic `sched_process_exit` says that the last thread exits: since 6.16.
pub(super) fn exit_group_dead(tracefs: &Path) -> Result<u32, OpenError> {
    let format = read(tracefs, "sched/sched_process_exit")?;
    let found = parse(&format).find(|found| found.name == "group_dead" && found.size == 1);
    Ok(found.map_or(Offsets::ABSENT, |found| found.offset))
}

/// The fields of every tracepoint that is read, as the running kernel has them.
pub(super) fn contract(tracefs: &Path) -> BTreeMap<String, Vec<contract::Field>> {
    let fields = |format: String| -> Vec<contract::Field> {
        let own = parse(&format).filter(|found| !found.name.starts_with("common_"));
        own.map(|Found { name, offset, size }| contract::Field { name: name.to_owned(), offset, size })
            .collect()
    };
    let events = EXPECTED.iter().filter_map(|(event, _)| Some((*event, read(tracefs, event).ok()?)));
    events.map(|(event, format)| (event.to_owned(), fields(format))).collect()
}

/// Compares recorded fields with what is read of them; a tracepoint that is not there is one that can be done without, or
/// that is missed when the programs are loaded.
pub(super) fn check_contract(formats: &BTreeMap<String, Vec<contract::Field>>) -> Result<(), OpenError> {
    for (event, expected) in EXPECTED {
        let Some(fields) = formats.get(*event) else { continue };
        let found = |field: &'_ contract::Field| (field.offset, field.size);
        for wanted in *expected {
            let of = fields.iter().find(|field| field.name == wanted.name).map(found);
            same(event, *wanted, of)?;
        }
    }
    Ok(())
}

fn read(tracefs: &Path, event: &str) -> Result<String, OpenError> {
    let path = tracefs.join("events").join(event).join("format");
    std::fs::read_to_string(&path)
        .map_err(|error| OpenError::while_doing(&format!("reading {}", path.display()), &error))
}

fn compare(event: &str, format: &str, expected: &[Field]) -> Result<(), OpenError> {
    for wanted in expected {
        let found = parse(format).find(|found| found.name == wanted.name);
        same(event, *wanted, found.map(|found| (found.offset, found.size)))?;
    }
    Ok(())
}

/// Whether a field is where it is read, and as long; `found` is its offset and size.
fn same(event: &str, wanted: Field, found: Option<(u32, u32)>) -> Result<(), OpenError> {
    let Field { name, offset: wanted_at, size: wanted_size } = wanted;
    let differs = match found {
        None => format!("it has no field {name}"),
        Some((offset, size)) if (offset, size) != (wanted_at, wanted_size) => {
            format!(
                "its field {name} is {size} bytes at {offset}, expected {wanted_size} bytes at {wanted_at}"
            )
        }
        Some(_) => return Ok(()),
    };
    Err(OpenError::new(
        format!("tracepoint {}: {differs}", event.replace('/', ":")),
        "this kernel is not known yet: please report it; --source procfs works meanwhile",
    ))
}

#[derive(Debug, PartialEq, Eq)]
struct Found<'a> {
    name: &'a str,
    offset: u32,
    size: u32,
}

/// The fields of a `format` file: `field:unsigned int curr; offset:12; size:4; signed:0;`, with tabs between.
fn parse(format: &str) -> impl Iterator<Item = Found<'_>> {
    format.lines().filter_map(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let declaration = parts.next()?.strip_prefix("field:")?;
        let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
        let size = parts.next()?.strip_prefix("size:")?.parse().ok()?;
        // `char comm[16]` declares comm; `__data_loc char[] filename` declares filename.
        let name = declaration.rsplit([' ', '*']).next()?;
        Some(Found { name: name.split('[').next()?, offset, size })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT_6_16: &str = "name: sched_process_exit\nID: 369\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
        \tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;\n\
        \tfield:int prio;\toffset:28;\tsize:4;\tsigned:1;\n\
        \tfield:bool group_dead;\toffset:32;\tsize:1;\tsigned:0;\n\n\
        print fmt: \"comm=%s pid=%d\", REC->comm, REC->pid\n";

    #[test]
    fn fields_are_found_with_their_offsets_and_sizes() {
        let found: Vec<_> = parse(EXIT_6_16).collect();
        assert_eq!(found.len(), 6);
        assert_eq!(found[2], Found { name: "comm", offset: 8, size: 16 });
        assert_eq!(found[5], Found { name: "group_dead", offset: 32, size: 1 });
    }

    #[test]
    fn a_format_that_agrees_is_accepted() {
        assert_eq!(compare("sched/sched_process_exit", EXIT_6_16, &[field("pid", 24, 4)]), Ok(()));
    }

    #[test]
    fn a_field_that_moved_is_named_with_both_places() {
        let error = compare("sched/sched_process_exit", EXIT_6_16, &[field("prio", 24, 4)]).unwrap_err();
        assert_eq!(
            error.what,
            "tracepoint sched:sched_process_exit: its field prio is 4 bytes at 28, expected 4 bytes at 24"
        );
    }

    #[test]
    fn a_field_that_is_gone_is_named() {
        let error = compare("kmem/rss_stat", EXIT_6_16, &[field("curr", 12, 4)]).unwrap_err();
        assert_eq!(error.what, "tracepoint kmem:rss_stat: it has no field curr");
    }
}
