//! Why a process that was signalled is still alive: its state, and what it waits for in the kernel.

use super::victim::Victim;

/// The state of a victim that did not die, in words, and what would have to come for it to die.
pub(super) fn state(victim: &Victim) -> String {
    let key = victim.identity().key;
    let state = match victim.proc().state(key) {
        Ok(Some(state)) => state,
        _ => return "its state cannot be read".to_owned(),
    };
    let place = std::fs::read_to_string(victim.proc().path().join(format!("{}/wchan", key.pid)));
    words(state, place.as_deref().unwrap_or_default().trim())
}

/// `place` is the kernel function that it sleeps in: empty or `0` where that may not be read, or it does not sleep.
fn words(state: char, place: &str) -> String {
    let within = match place {
        "" | "0" => String::new(),
        place => format!(" in {place}"),
    };
    match (state, place) {
        // Version 2, which most compilers inline into its caller (a stop there has a state of its own), and version 1.
        ('S', "do_freezer_trap" | "get_signal") | (_, "__refrigerator") => {
            format!("state {state}, frozen with its cgroup: it acts on the signal when that is thawed")
        }
        (_, "wait_for_vfork_done" | "kernel_clone") => format!(
            "state {state}, waiting for the child that it vforked: it acts on the signal when that executes a program \
             or ends"
        ),
        ('D', _) => {
            // Version 1 of the freezer also holds processes where they happened to sleep.
            format!(
                "state D, an uninterruptible sleep{within}: it dies when what it waits for has come, or its cgroup is \
                 thawed"
            )
        }
        ('t', _) => "state t, held by a debugger".to_owned(),
        _ => format!("state {state}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_process_from_acting_on_a_signal_is_named() {
        for (state, place, named) in [
            ('S', "do_freezer_trap", "frozen"),
            ('S', "get_signal", "frozen"),
            ('D', "__refrigerator", "frozen"),
            ('D', "kernel_clone", "vforked"),
            ('D', "rpc_wait_bit_killable", "in rpc_wait_bit_killable: it dies when"),
            ('D', "0", "an uninterruptible sleep: it dies when"),
            ('t', "ptrace_stop", "debugger"),
        ] {
            let text = words(state, place);
            assert!(text.starts_with(&format!("state {state}")) && text.contains(named), "{text}");
        }
        assert_eq!(words('S', "hrtimer_nanosleep"), "state S");
        assert_eq!(words('R', "0"), "state R");
    }
}
