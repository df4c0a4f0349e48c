//! Files that were made to hurt: their checksums are right, and what they hold is not.

use std::process::Command;

use super::super::block::{Happened, LostLine, RoomIs, What};
use super::super::column::Column;
use super::super::file::BlockWriter;
use super::super::who::Who;
use super::*;

/// A recording of these blocks.
pub(super) fn file_of(blocks: &[Block]) -> Vec<u8> {
    let paper = Paper::default();
    let start = Start {
        version: "0".to_owned(),
        hostname: "h".to_owned(),
        kernel: "k".to_owned(),
        ebpf: true,
        redacted: false,
    };
    let mut writer = BlockWriter::new(Box::new(paper.clone()), &start).unwrap();
    for block in blocks {
        writer.write(block).unwrap();
    }
    paper.0.take()
}

/// The head of a file, and what its blocks hold.
fn taken_apart(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (head, mut rest) = file.split_at(MAGIC.len() + 2);
    let mut held = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (packed, next) = after[4..].split_at(u32::from_le_bytes(*length) as usize);
        held.push(miniz_oxide::inflate::decompress_to_vec(packed).unwrap());
        rest = next;
    }
    (head.to_vec(), held)
}

fn put_together(head: &[u8], held: &[Vec<u8>]) -> Vec<u8> {
    let mut file = head.to_vec();
    for held in held {
        let packed = miniz_oxide::deflate::compress_to_vec(held, 1);
        let length = u32::try_from(packed.len()).unwrap().to_le_bytes();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&length);
        hasher.update(&packed);
        file.extend(length);
        file.extend(hasher.finalize().to_le_bytes());
        file.extend(packed);
    }
    file
}

/// A recording with something of everything in it.
fn rich() -> Vec<u8> {
    let mut batches = minute();
    batches[3].events.push(Event::Exit { key: key(3), status: Some(ExitStatus::Signal(9)) });
    batches[4].events.push(Event::Exec { key: key(4) });
    batches[5].events.push(Event::OomVictim { pid: Pid(77) });
    batches[6].lost = Lost { causes: vec![("the ring was full".into(), 3)], vanished: 2 };
    let step = FaultStep {
        after: Duration::from_millis(3),
        address_delta: -4096,
        page_aligned: true,
        after_gap: false,
    };
    for batch in &mut batches[8..30] {
        let flow = Flow { grown: Bytes(40_960), shrunk: Bytes(0) };
        batch.readings[2].faults = vec![step; 5];
        batch.readings[2].kernel = Some(KernelCounts {
            rss_anon: Some(flow),
            syscalls: Some(SyscallCounts::default()),
            ..Default::default()
        });
        batch.readings[3].kernel = Some(KernelCounts { first_touch_faults: 10, ..Default::default() });
    }
    recorded(batches, Terms::default())
}

#[test]
fn any_block_whose_checksum_is_right_is_samples_or_an_error_and_no_panic() {
    let file = rich();
    let (head, held) = taken_apart(&file);
    assert_eq!(replayed(&put_together(&head, &held)).unwrap().0.len(), 60, "unchanged, it is as before");
    let (mut dice, mut read) = (Dice(7), 0);
    for _ in 0..3000 {
        let mut held = held.clone();
        // The first is the start of the recording.
        let block = dice.index(held.len());
        let bytes = &mut held[block];
        for _ in 0..=dice.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = dice.index(bytes.len());
            match dice.below(6) {
                0 => bytes[at] ^= 1 << dice.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.index(5)],
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, [3, 16, 200][dice.index(3)]),
                4 => bytes.truncate(at + 1),
                // The largest numbers: ten bytes each.
                _ => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])),
            }
        }
        read +=
            usize::from(replayed(&put_together(&head, &held)).is_ok_and(|(batches, _)| !batches.is_empty()));
    }
    assert!(read > 300, "most must get as far as the columns: {read}");
}

/// Blocks of which each byte stands for as much memory as can be.
fn large() -> Vec<(&'static str, Block)> {
    let zeros = |count: usize| {
        let mut column = Column::default();
        (0..count).for_each(|_| column.push_raw(0));
        column
    };
    let many: usize = 130_000;
    let frames = |count: usize| Block {
        reset: true,
        at: zeros(count),
        wall: zeros(count),
        host: std::array::from_fn(|_| zeros(count)),
        readings: vec![0; count],
        ..Block::default()
    };
    let empty = Identity { cmdline: vec![String::new(); 50_000], ..crate::process::testing::identity(1) };
    let mut who = Who::from(&empty);
    let happened = Happened { frame: 0, pid: 1, what: What::OomVictim };
    let lost = LostLine { frame: 0, vanished: 0, causes: vec![(String::new(), 0); 30] };
    let mut readings = frames(1);
    readings.readings = vec![65_000];
    readings.pids = {
        let mut column = Column::default();
        (0..65_000).for_each(|_| column.push_raw(1));
        column
    };
    readings.flags = vec![1 | 32 | 64 | 128; 65_000];
    readings.starts = vec![1; 65_000];
    readings.counts = std::array::from_fn(|_| zeros(65_000));
    readings.unusual = vec![(false, Some(Box::new([0; 12]))); 65_000];
    readings.fault_counts = vec![30; 65_000];
    readings.fault_after = vec![0; 65_000 * 30];
    readings.fault_delta = zeros(65_000 * 30);
    readings.fault_bits = vec![0; 65_000 * 30];
    let path = "p".repeat(60_000);
    let mut rooms = vec![(0, 0, RoomIs::Limit(path, 1, 1))];
    rooms.extend((1..many).map(|_| (0, 0, RoomIs::LimitLeft)));
    vec![
        ("frames", frames(900_000)),
        ("identities", Block { identities: (0..25_000).map(|_| (0, who.clone())).collect(), ..frames(1) }),
        ("identities of no frame", {
            who = Who::from(&Identity { cmdline: Vec::new(), ..crate::process::testing::identity(1) });
            Block { identities: (0..50_000).map(|_| (9, who.clone())).collect(), ..frames(0) }
        }),
        ("events", Block { events: vec![happened; many], ..frames(1) }),
        ("losses", Block { lost: vec![lost; 100_000], ..frames(1) }),
        ("readings", readings),
        ("rooms", Block { rooms, left: zeros(many), ..frames(1) }),
        ("places", {
            let below = RoomIs::UnderAll(vec![0; crate::process::MAX_LEVELS]);
            let pids = 0..u32::try_from(many).unwrap();
            Block { rooms: pids.map(|pid| (0, pid, below.clone())).collect(), ..frames(1) }
        }),
        ("a place below more limits than there are", {
            let below = RoomIs::UnderAll(vec![0; bounded::MAX_LISTED]);
            Block { rooms: vec![(0, 1, below); 60], ..frames(1) }
        }),
        ("cgroups", Block { cgroups: vec!["c".repeat(60); many], ..frames(1) }),
    ]
}

#[test]
fn a_small_file_takes_no_more_than_some_hundred_megabytes_whatever_it_says() {
    const CHILD: &str = "LEAKSCOPE_TEST_HOSTILE";
    const NAME: &str = "source::recording::tests::hostile::a_small_file_takes_no_more_than_some_hundred_megabytes_whatever_it_says";
    if let Some(file) = std::env::var_os(CHILD) {
        // Nine tenths of a gigabyte of address space: half of it is the test program's own before it begins.
        let limit = Some(900 << 20);
        let limits = rustix::process::Rlimit { current: limit, maximum: limit };
        rustix::process::setrlimit(rustix::process::Resource::As, limits).unwrap();
        let input = std::fs::File::open(file).unwrap();
        let (_, mut source, _directory) = replay(std::io::BufReader::new(input)).unwrap();
        while let Ok(Some(_)) = block_on(source.next_batch()) {}
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, block) in large() {
        // Again and again the same: what is kept from block to block has its limits too.
        let alone = file_of(std::slice::from_ref(&block));
        let mut file = file_of(&[block.clone(), Block { reset: false, ..block }]);
        let again = file[alone.len()..].to_vec();
        file.extend(again);
        assert!(file.len() < 10 << 20, "{name}: {} bytes", file.len());
        let path = folder.path().join(name);
        std::fs::write(&path, file).unwrap();
        let ran = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(CHILD, &path)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
        assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed"), "{name}: the child ran no test");
    }
    // What would be inflated to more is no block at all.
    let (head, mut held) = taken_apart(&file_of(&[]));
    held.push(vec![0; 8 * MAX_HELD]);
    let bomb = put_together(&head, &held);
    assert!(bomb.len() < 1 << 20);
    let (_, mut source, _) = replay(&*bomb).unwrap();
    assert!(block_on(source.next_batch()).unwrap_err().to_string().contains("makes no sense"));
}
