//! How large a recording becomes.

use super::*;

/// Bytes of `seconds` at 1 Hz with 300 processes, of which `busy` in a hundred change in a second.
fn bytes_of(seconds: u64, busy: u64) -> usize {
    let mut dice = Dice(1);
    let mut state: Vec<(Memory, KernelCounts)> = vec![(Memory::default(), KernelCounts::default()); 300];
    let mut batches = Vec::new();
    for second in 0..seconds {
        let mut readings = Vec::new();
        for (pid, (memory, counts)) in (1000..).zip(&mut state) {
            if second > 0 && dice.below(100) >= busy {
                continue;
            }
            let (grown, shrunk) = (dice.below(200) * 4096, dice.below(200) * 4096);
            memory.anon = memory.anon + Bytes(grown) - Bytes(shrunk);
            if dice.below(8) == 0 {
                memory.file += Bytes(dice.below(50) * 4096);
            }
            counts.first_touch_faults += grown / 4096 + dice.below(4);
            counts.protection_faults += dice.below(6);
            let flow = counts.rss_anon.get_or_insert_default();
            flow.grown += Bytes(grown);
            flow.shrunk += Bytes(shrunk);
            readings.push(Reading {
                key: key(pid),
                memory: *memory,
                kernel: Some(*counts),
                faults: Vec::new(),
            });
        }
        let mut batch = batch(second * 1_000_000_000 + dice.below(400_000), readings);
        batch.host.available = Bytes((8 << 30) + dice.below(50_000) * 1024);
        batches.push(batch);
    }
    recorded(batches, Terms::default()).len()
}

#[test]
fn a_day_of_300_processes_at_one_sample_a_second_stays_under_50_mb() {
    let minutes = 20;
    for busy in [3, 10, 20] {
        let day = bytes_of(minutes * 60, busy) as u64 * (24 * 60 / minutes);
        println!("{busy} % of 300 processes change each second: {} a day", Bytes(day));
        assert!(day < 50_000_000, "{busy} %: {}", Bytes(day));
    }
}

#[test]
#[ignore = "a measurement: every process changes each second, which no host does"]
fn a_day_in_which_everything_changes_always() {
    println!("{}", Bytes(bytes_of(600, 100) as u64 * 144));
}
