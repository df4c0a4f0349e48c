//! What the kernel's verifier says of the kernel side: the instructions that it walked through for each program, against
//! the budget in leakscope-ebpf/budget.json. A program whose paths multiply costs each event more, and is refused one day
//! by an older verifier; here it is seen when it happens. The budget is a quarter above what was measured on 6.18: compilers
//! differ by less. Other kernels' verifiers walk up to half as much again, and are allowed twice as much. Needs root.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use leakscope::source::{KernelOptions, KernelSource, TracepointKind};
use leakscope::units::Pid;
use leakscope_tests::command::require_root;
use leakscope_tests::programs_held;

/// Where the budget comes from.
const MEASURED_ON: &str = "6.18";

/// The verified instructions of every program that this process holds, by name. `None` before 5.16, where the kernel does
/// not say.
fn verified(kind: TracepointKind) -> Result<BTreeMap<String, Option<u32>>> {
    let options = KernelOptions { tracepoints: kind, ..KernelOptions::default() };
    let source =
        KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}; fix: {}", error.fix))?;
    let held = programs_held(Pid(std::process::id()))?;
    let mut programs = BTreeMap::new();
    for info in aya::programs::loaded_programs().flatten().filter(|info| held.contains(&info.id())) {
        let name = info.name_as_str().context("a program without a name")?.to_owned();
        programs.insert(name, info.verified_instruction_count());
    }
    drop(source);
    Ok(programs)
}

#[test]
fn no_program_takes_the_verifier_more_than_its_budget() -> Result<()> {
    require_root();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../leakscope-ebpf/budget.json");
    let budget: BTreeMap<String, u32> = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let mut measured = verified(TracepointKind::Btf)?;
    measured.extend(verified(TracepointKind::Classic)?);
    ensure!(measured.len() >= 20, "these are not all programs: {measured:?}");
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let allowed = if release.starts_with(MEASURED_ON) { 1 } else { 2 };
    let mut wrong = Vec::new();
    for (name, instructions) in &measured {
        match (budget.get(name), instructions) {
            (None, _) => wrong.push(format!("{name} has no budget: it takes {instructions:?}")),
            (Some(most), Some(taken)) if *taken > allowed * most => {
                wrong.push(format!(
                    "{name} takes {taken} instructions, {allowed} times {most} are its budget"
                ));
            }
            _ => {}
        }
    }
    // Programs at functions are loaded where the kernel takes them: all or none.
    let at_functions = |name: &String| name.starts_with("fentry_") || name.starts_with("fexit_");
    let taken = measured.keys().any(at_functions);
    let gone = budget.keys().filter(|name| !measured.contains_key(*name) && (taken || !at_functions(name)));
    wrong.extend(gone.map(|name| format!("{name} has a budget and is no program any more")));
    ensure!(
        wrong.is_empty(),
        "{}\nfix: make the program's paths fewer; or, where it is meant, write the new number and a quarter more into \
         leakscope-ebpf/budget.json, and why into the commit\nmeasured: {measured:?}",
        wrong.join("\n")
    );
    Ok(())
}
