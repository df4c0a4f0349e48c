//! Where the running kernel keeps what the kernel side reads, from its own description (BTF), and whether its BTF
//! tracepoints have the arguments that the kernel side takes.
//!
//! Rust programs for BPF have no CO-RE relocations: this is what stands in for them, once, when the programs are loaded.

use std::collections::BTreeMap;
use std::path::Path;

use leakscope_common::Offsets;

use super::btf::{Btf, Kind, Step};
use super::error::OpenError;

/// The running kernel's own description.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// What an argument of a BTF tracepoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    /// A pointer to this struct.
    Pointer(&'static str),
    /// A number.
    Number,
}

/// The arguments that the kernel side takes; more may follow.
const SIGNATURES: &[(&str, &[Argument])] = &[
    ("rss_stat", &[Argument::Pointer("mm_struct"), Argument::Number]),
    ("page_fault_user", &[Argument::Number, Argument::Pointer("pt_regs"), Argument::Number]),
    ("sched_process_fork", &[Argument::Pointer("task_struct"), Argument::Pointer("task_struct")]),
    ("sched_process_exec", &[Argument::Pointer("task_struct")]),
    ("sched_process_exit", &[Argument::Pointer("task_struct")]),
];

/// Reads the BTF at `path`.
pub(super) fn read(path: &Path) -> Result<Btf, OpenError> {
    let image = std::fs::read(path).map_err(|error| {
        OpenError::while_doing(&format!("reading the kernel's BTF, {}", path.display()), &error)
    })?;
    Btf::new(image).map_err(unusable)
}

/// Looks everything up.
pub(super) fn look_up(btf: &Btf) -> Result<Offsets, OpenError> {
    let offsets = offsets(btf)?;
    check_contract(&contract(btf))?;
    Ok(offsets)
}

fn unusable(why: &str) -> OpenError {
    OpenError::new(
        format!("the kernel's BTF: {why}"),
        "use a kernel with CONFIG_DEBUG_INFO_BTF=y, or classic tracepoints, or --source procfs",
    )
}

fn offsets(btf: &Btf) -> Result<Offsets, OpenError> {
    let task = Struct::find(btf, "task_struct")?;
    let signal = Struct::find(btf, "signal_struct")?;
    let mm = Struct::find(btf, "mm_struct")?;
    // 5.5 gave the start time its present name.
    let start = task.optional("start_boottime").or_else(|| task.optional("real_start_time"));
    let (first, second) = rss_counters(&mm)?;
    Ok(Offsets {
        task_mm: task.required("mm")?,
        task_pid: task.required("pid")?,
        task_tgid: task.required("tgid")?,
        task_signal: task.required("signal")?,
        task_exit_code: task.required("exit_code")?,
        task_group_leader: task.required("group_leader")?,
        task_start_boottime: start.ok_or_else(|| unusable("task_struct has no start_boottime"))?,
        signal_live: signal.required("live")?,
        signal_flags: signal.required("flags")?,
        signal_group_exit_code: signal.required("group_exit_code")?,
        mm_owner: mm.optional("owner").unwrap_or(Offsets::ABSENT),
        mm_rss: first,
        mm_rss_stride: second - first,
        mm_brk: mm.required("brk")?,
        ..Offsets::NONE
    })
}

/// The first two counters: an array of `percpu_counter` since 6.2 (its `count` lags by what the CPUs hold), a struct
/// with an array of `atomic_long_t` before.
fn rss_counters(mm: &Struct<'_>) -> Result<(u32, u32), OpenError> {
    use Step::{Element, Member};
    let pair = |path: &dyn Fn(u32) -> [Step; 3]| Some((mm.at(&path(0))?, mm.at(&path(1))?));
    pair(&|index| [Member("rss_stat"), Element(index), Member("count")])
        .or_else(|| pair(&|index| [Member("rss_stat"), Member("count"), Element(index)]))
        .filter(|(first, second)| first < second)
        .ok_or_else(|| unusable("mm_struct has no rss_stat counters that are known"))
}

/// A struct of the kernel's.
struct Struct<'a> {
    btf: &'a Btf,
    name: &'static str,
    id: u32,
}

impl<'a> Struct<'a> {
    fn find(btf: &'a Btf, name: &'static str) -> Result<Self, OpenError> {
        let id = btf.find(Kind::Struct, name);
        let id = id.ok_or_else(|| unusable(&format!("it has no struct {name}")))?;
        Ok(Self { btf, name, id })
    }

    fn at(&self, path: &[Step]) -> Option<u32> {
        self.btf.offset_of(self.id, path)
    }

    fn optional(&self, member: &'static str) -> Option<u32> {
        self.at(&[Step::Member(member)])
    }

    fn required(&self, member: &'static str) -> Result<u32, OpenError> {
        self.optional(member).ok_or_else(|| unusable(&format!("struct {} has no field {member}", self.name)))
    }
}

impl Argument {
    /// As the contract has it.
    fn word(self) -> String {
        match self {
            Self::Pointer(name) => format!("*{name}"),
            Self::Number => "number".to_owned(),
        }
    }
}

/// Structs that an argument of interest points to.
const POINTED_TO: [&str; 4] = ["mm_struct", "pt_regs", "task_struct", "linux_binprm"];

/// The arguments of every BTF tracepoint that is used, as a kernel describes them: `btf_trace_NAME` is a pointer to a
/// function of a `void *` and the tracepoint's arguments.
pub(super) fn contract(btf: &Btf) -> BTreeMap<String, Vec<String>> {
    let word = |id: &u32| match POINTED_TO.iter().find(|name| btf.points_to(*id, name)) {
        Some(name) => Argument::Pointer(name).word(),
        None if btf.is_number(*id) => Argument::Number.word(),
        None => "other".to_owned(),
    };
    let described =
        |name: &str| Some(btf.parameters(&format!("btf_trace_{name}"))?.iter().skip(1).map(word).collect());
    SIGNATURES.iter().filter_map(|(name, _)| Some(((*name).to_owned(), described(name)?))).collect()
}

/// Compares a kernel's arguments with those that the kernel side takes.
pub(super) fn check_contract(arguments: &BTreeMap<String, Vec<String>>) -> Result<(), OpenError> {
    SIGNATURES.iter().try_for_each(|(tracepoint, wanted)| check_signature(arguments, tracepoint, wanted))
}

/// The same for one tracepoint; more arguments may follow.
fn check_signature(
    arguments: &BTreeMap<String, Vec<String>>,
    tracepoint: &str,
    wanted: &[Argument],
) -> Result<(), OpenError> {
    let found = arguments.get(tracepoint);
    let found =
        found.ok_or_else(|| unusable(&format!("it does not describe the tracepoint {tracepoint}")))?;
    for (index, wanted) in wanted.iter().enumerate() {
        if found.get(index) != Some(&wanted.word()) {
            return Err(unusable(&format!(
                "argument {index} of the tracepoint {tracepoint} is not {wanted:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Btf {
        read(Path::new(VMLINUX)).unwrap()
    }

    #[test]
    fn the_running_kernels_offsets_are_found_and_plausible() {
        let found = look_up(&running()).unwrap();
        // struct pid follows tgid in every kernel: neighbours of four bytes.
        assert_eq!(found.task_tgid, found.task_pid + 4);
        assert!(found.mm_rss_stride >= 8);
        assert_ne!(found.task_start_boottime, Offsets::ABSENT);
        assert_eq!(found.exit_group_dead, Offsets::ABSENT, "that one is tracefs' to say");
    }

    #[test]
    fn a_field_that_the_kernel_does_not_have_is_an_error_that_names_it() {
        let btf = running();
        let error = Struct::find(&btf, "mm_struct").unwrap().required("no_such_field").unwrap_err();
        assert!(error.what.contains("struct mm_struct has no field no_such_field"), "{error}");
        assert!(Struct::find(&btf, "no_such_struct").is_err());
    }

    #[test]
    fn a_tracepoint_with_other_arguments_is_refused() {
        let arguments = contract(&running());
        let wrong = [Argument::Pointer("task_struct")];
        let error = check_signature(&arguments, "rss_stat", &wrong).unwrap_err();
        assert!(error.what.contains("argument 0 of the tracepoint rss_stat"), "{error}");
        assert!(
            check_signature(&arguments, "rss_stat", &[Argument::Pointer("mm_struct"), Argument::Number])
                .is_ok()
        );
    }
}
