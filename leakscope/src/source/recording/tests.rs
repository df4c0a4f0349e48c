//! What goes into a recording comes out of it, whatever happens to the file.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::block::Block;
use super::delta::{Decoder, Encoder};
use super::file::{BlockReader, MAX_HELD, VERSION};
use super::*;
use crate::leak::{FaultStep, Limit, Memory};
use crate::process::{Directory, Host};
use crate::source::{
    Calls, Event, ExitStatus, Flow, HostMemory, KernelCounts, Lost, Reading, Source, SourceKind,
    SyscallCounts,
};
use crate::units::{Bytes, Moment, Pid, ProcKey, Ticks};

mod hostile;
mod rooms;
mod size;

fn key(pid: u32) -> ProcKey {
    ProcKey { pid: Pid(pid), start: Ticks(100_000) }
}

fn batch(at: u64, readings: Vec<Reading>) -> Batch {
    let host = HostMemory { total: Bytes(16 << 30), available: Bytes(8 << 30), ..HostMemory::default() };
    Batch {
        at: Moment(at),
        wall: Timestamp::from_nanosecond(1_764_000_000_000_000_000 + i128::from(at)).unwrap(),
        host,
        readings,
        events: Vec::new(),
        lost: Lost::default(),
    }
}

fn reading(pid: u32, anon: u64) -> Reading {
    let memory = Memory { anon: Bytes(anon), ..Memory::default() };
    Reading { key: key(pid), memory, kernel: None, faults: Vec::new() }
}

/// A source that says what it was given.
struct Said(std::vec::IntoIter<Batch>);

impl Source for Said {
    fn kind(&self) -> SourceKind {
        SourceKind::Ebpf
    }
    async fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        Ok(self.0.next())
    }
    fn inspect(&mut self, _: &[ProcKey]) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A directory that knows everybody; half of the pids live under a limit.
struct Knows;

impl Directory for Knows {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        let mut identity = crate::process::testing::identity(key.pid.0);
        identity.key = key;
        identity.cmdline.push("--password=secret".to_owned());
        identity.owner.cgroup = Some(format!("/unit-{}", key.pid.0 % 2));
        Some(identity)
    }
    fn rooms(&mut self, identity: &Identity, _: &Host, at: Moment) -> Option<Vec<Room>> {
        let room = |path: &str, left| Room {
            limit: Limit::Cgroup(path.to_owned()),
            size: Bytes(1 << 30),
            left: Bytes(left),
        };
        Some(match cgroup_of(identity) {
            "/unit-0" => Vec::new(),
            path => vec![room(path, at.0), room("/", u64::MAX - at.0)],
        })
    }
}

#[derive(Clone, Default)]
struct Paper(Rc<RefCell<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Store for Paper {
    fn make_sure(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn recorded(batches: Vec<Batch>, terms: Terms) -> Vec<u8> {
    let paper = Paper::default();
    let (mut source, _directory, recorder) =
        record(Said(batches.into_iter()), Knows, terms, Box::new(paper.clone())).unwrap();
    while block_on(source.next_batch()).unwrap().is_some() {}
    recorder.finish().unwrap();
    paper.0.take()
}

/// What a recording says before it ends, and whether it says that it is torn.
fn replayed(file: &[u8]) -> Result<(Vec<Batch>, Option<Torn>), FileError> {
    let (_, mut source, directory) = replay(file)?;
    let mut batches = Vec::new();
    while let Ok(Some(batch)) = block_on(source.next_batch()) {
        batches.push(batch);
    }
    Ok((batches, directory.torn()))
}

fn same(one: &[Batch], other: &[Batch]) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

/// A minute, in several blocks.
fn minute() -> Vec<Batch> {
    (0..60)
        .map(|second| {
            let readings = (1..10).map(|pid| reading(pid, u64::from(pid) * 1_000_000 + second * 40_960));
            batch(second * 1_000_000_000 + second * second * 1_237, readings.collect())
        })
        .collect()
}

#[test]
fn a_recording_says_what_was_said() {
    let mut batches = minute();
    batches[3].events.push(Event::Exit { key: key(3), status: Some(ExitStatus::Signal(9)) });
    batches[4].events.push(Event::Exec { key: key(4) });
    batches[5].events.push(Event::OomVictim { pid: Pid(77) });
    batches[6].lost = Lost { causes: vec![("the ring was full".into(), 3)], vanished: 2 };
    let file = recorded(batches.clone(), Terms::default());
    // What was lost stays counted until the count changes.
    let (again, torn) = replayed(&file).unwrap();
    assert!(same(&again, &batches), "{again:#?}");
    assert_eq!(torn, None);
}

#[test]
fn a_file_cut_at_any_byte_says_what_it_held_whole_and_that_it_was_cut() {
    let batches = minute();
    let file = recorded(batches.clone(), Terms::default());
    let mut whole = 0;
    for cut in 0..file.len() {
        match replayed(&file[..cut]) {
            Ok((again, torn)) => {
                assert!(same(&again, &batches[..again.len()]), "cut at {cut}");
                assert!(again.len() >= whole, "cut at {cut}: fewer than before");
                whole = again.len();
                assert!(torn.is_none_or(|torn| torn.cut && torn.at < cut as u64), "cut at {cut}: {torn:?}");
            }
            Err(FileError::Cut) => assert_eq!(whole, 0, "cut at {cut}"),
            Err(FileError::Foreign) => assert_eq!(cut, 0),
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
    assert!(whole > 50, "only the last block is lost: {whole}");
}

#[test]
fn a_damaged_byte_anywhere_never_makes_up_a_sample() {
    let batches = minute();
    let file = recorded(batches.clone(), Terms::default());
    for at in 0..file.len() {
        let mut file = file.clone();
        file[at] ^= 0x10;
        if let Ok((again, torn)) = replayed(&file) {
            assert!(same(&again, &batches[..again.len()]), "damaged at {at}");
            assert!(torn.is_some(), "damaged at {at}");
        }
    }
}

#[test]
fn a_newer_format_and_a_foreign_file_are_told_apart() {
    let mut file = recorded(minute(), Terms::default());
    file[MAGIC.len()..MAGIC.len() + 2].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let newer = replayed(&file).unwrap_err();
    assert!(matches!(newer, FileError::Newer(version) if version == VERSION + 1));
    assert!(newer.to_string().contains("newer leakscope (format 4"), "{newer}");
    for foreign in [&b""[..], b"at_s,pid,comm,anon_bytes\n", b"\x89PNG\r\n\x1a\n____________"] {
        assert!(matches!(replayed(foreign), Err(FileError::Foreign)), "{foreign:?}");
    }
}

#[test]
fn a_replay_knows_who_was_who_and_how_much_room_there_was() {
    let paper = Paper::default();
    let batches = minute();
    let (mut source, mut directory, recorder) =
        record(Said(batches.into_iter()), Knows, Terms::default(), Box::new(paper.clone())).unwrap();
    let host = Host { size: Bytes(10), available: Bytes(9), swap_free: Bytes(0) };
    let mut asked = Vec::new();
    while let Some(batch) = block_on(source.next_batch()).unwrap() {
        let identity = directory.identify(key(3)).unwrap();
        asked.push(directory.rooms(&identity, &host, batch.at));
    }
    recorder.finish().unwrap();
    let file = paper.0.take();
    let (_, mut source, mut directory) = replay(&*file).unwrap();
    for rooms in asked {
        assert_eq!(rooms.as_ref().map(Vec::len), Some(2));
        let batch = block_on(source.next_batch()).unwrap().unwrap();
        let identity = directory.identify(key(3)).unwrap();
        assert_eq!(identity.cmdline[2], "--password=secret");
        assert_eq!(directory.rooms(&identity, &host, batch.at), rooms);
        let free = directory.identify(key(2)).unwrap();
        assert_eq!(directory.rooms(&free, &host, batch.at), Some(Vec::new()));
    }
    assert!(directory.identify(key(99)).is_none());
}

#[test]
fn who_has_ended_is_known_while_that_is_told_and_forgotten_after() {
    let mut batches = minute();
    batches[3].events.push(Event::Exit { key: key(3), status: None });
    batches.iter_mut().skip(3).for_each(|batch| batch.readings.retain(|reading| reading.key != key(3)));
    let file = recorded(batches, Terms::default());
    let (_, mut source, mut directory) = replay(&*file).unwrap();
    for (number, known) in [true, true, true, true, false, false].into_iter().enumerate() {
        block_on(source.next_batch()).unwrap().unwrap();
        assert_eq!(directory.identify(key(3)).is_some(), known, "batch {number}");
        assert!(directory.identify(key(4)).is_some());
    }
}

#[test]
fn a_first_frame_with_more_identities_than_a_block_holds_is_written_in_several() {
    let mut directory = Knows;
    let long: Vec<Identity> = (1..4000)
        .map(|pid| {
            let mut identity = directory.identify(key(pid)).unwrap();
            identity.cmdline =
                (0..40).map(|n| format!("--option-{n}={}", pid.wrapping_mul(2_654_435_761))).collect();
            identity.cmdline.push("x".repeat(20_000));
            identity
        })
        .collect();
    struct Many(Vec<Identity>);
    impl Directory for Many {
        fn identify(&mut self, key: ProcKey) -> Option<Identity> {
            self.0.get(key.pid.0 as usize - 1).cloned()
        }
        fn rooms(&mut self, _: &Identity, _: &Host, _: Moment) -> Option<Vec<Room>> {
            Some(Vec::new())
        }
    }
    let first = batch(0, (1..4000).map(|pid| reading(pid, 4096)).collect());
    let batches = vec![first, batch(1_000_000_000, Vec::new())];
    let paper = Paper::default();
    let said = Said(batches.clone().into_iter());
    let (mut source, _, recorder) =
        record(said, Many(long.clone()), Terms::default(), Box::new(paper.clone())).unwrap();
    while block_on(source.next_batch()).unwrap().is_some() {}
    assert_eq!(recorder.finish().unwrap().processes, 3999);
    let file = paper.0.take();
    let (_, mut source, mut directory) = replay(&*file).unwrap();
    assert!(same(&[block_on(source.next_batch()).unwrap().unwrap()], &batches[..1]));
    for identity in long {
        let again = directory.identify(identity.key).unwrap();
        assert_eq!(again.cmdline[..40], identity.cmdline[..40]);
        assert_eq!(again.cmdline.last().unwrap(), "…", "what is too long is cut, and says so");
        assert!(again.cmdline.iter().map(String::len).sum::<usize>() <= 4096 + 3);
    }
}

#[test]
fn more_processes_than_a_recording_holds_are_left_out_and_counted() {
    let all = u32::try_from(MAX_PROCESSES).unwrap() + 10;
    let (mut encoder, mut blocks) = (Encoder::new(), Vec::new());
    let half = all / 2;
    for (at, pids) in [(0, 1..half), (1, half..all)] {
        let batch = batch(at * 1_000_000_000, pids.map(|pid| reading(pid, 4096)).collect());
        encoder.push(&batch, Vec::new(), &[]);
        blocks.push(encoder.take());
    }
    let file = hostile::file_of(&blocks);
    let (again, torn) = replayed(&file).unwrap();
    assert_eq!((again.len(), torn), (2, None));
    assert_eq!(again.iter().map(|batch| batch.readings.len()).sum::<usize>(), MAX_PROCESSES);
    assert_eq!(again[1].lost.total(), 9);
    // The recorder leaves out the same.
    let batches = vec![batch(0, (1..all).map(|pid| reading(pid, 4096)).collect())];
    let (again, _) = replayed(&recorded(batches, Terms::default())).unwrap();
    assert_eq!((again[0].readings.len(), again[0].lost.total()), (MAX_PROCESSES, 9));
}

#[test]
fn a_redacted_recording_holds_no_argument() {
    let file = recorded(minute(), Terms { redact: true, ..Terms::default() });
    let (start, mut source, mut directory) = replay(&*file).unwrap();
    assert!(start.redacted);
    block_on(source.next_batch()).unwrap().unwrap();
    assert_eq!(directory.identify(key(3)).unwrap().cmdline, ["python3", "…"]);
}

#[test]
fn only_what_is_selected_is_kept_and_never_leakscope_itself() {
    let selector = crate::process::Selector::default().cgroups(["/unit-1".to_owned()]);
    let terms = Terms { selector, leave_out: Some(Pid(5)), redact: false };
    let (batches, _) = replayed(&recorded(minute(), terms)).unwrap();
    let mut pids: Vec<u32> = batches.iter().flat_map(|b| &b.readings).map(|r| r.key.pid.0).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids, [1, 3, 7, 9]);
}

prop_compose! {
    fn any_kernel()(ft: u64, prot: u64, flow: Option<(u64, u64)>, calls: Option<[u64; 12]>) -> KernelCounts {
        let flow_of = |grown, shrunk| Flow { grown: Bytes(grown), shrunk: Bytes(shrunk) };
        KernelCounts {
            first_touch_faults: ft,
            protection_faults: prot,
            rss_anon: flow.map(|(grown, shrunk)| flow_of(grown, shrunk)),
            syscalls: calls.map(|c| SyscallCounts {
                brk: flow_of(c[0], c[1]),
                mmap_anon: Calls { count: c[2], bytes: Bytes(c[3]) },
                mmap_file: Calls { count: c[4], bytes: Bytes(c[5]) },
                munmap: Calls { count: c[6], bytes: Bytes(c[7]) },
                mremap: flow_of(c[8], c[9]),
                mremap_calls: None,
                madvise_free: Calls { count: c[10], bytes: Bytes(c[11]) },
            }),
            ..KernelCounts::default()
        }
    }
}

prop_compose! {
    fn any_reading()(
        pid in 1_u32..6, start in 1_u64..3, memory: [u64; 4], kernel in proptest::option::of(any_kernel()),
        faults: Vec<(u64, i64, bool, bool)>,
    ) -> Reading {
        let [anon, file, shmem, swap] = memory.map(Bytes);
        let step = |(after, address_delta, page_aligned, after_gap)| FaultStep {
            after: Duration::from_nanos(after), address_delta, page_aligned, after_gap,
        };
        let key = ProcKey { pid: Pid(pid), start: Ticks(start) };
        let memory = Memory { anon, file, shmem, swap };
        Reading { key, memory, kernel, faults: faults.into_iter().map(step).collect() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_frames_come_back_exactly(
        frames in prop::collection::vec((any::<u32>(), prop::collection::vec(any_reading(), 0..8)), 0..20),
        cut in 1_usize..5,
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::default());
        let mut at = 0;
        for some in frames.chunks(cut) {
            let mut batches = Vec::new();
            for (step, readings) in some {
                at += u64::from(*step);
                let batch = batch(at, readings.clone());
                encoder.push(&batch, Vec::new(), &[]);
                batches.push(batch);
            }
            let bytes = postcard::to_stdvec(&encoder.take()).unwrap();
            let block: Block = postcard::from_bytes(&bytes).unwrap();
            decoder.begin(block).unwrap();
            let mut again = Vec::new();
            while let Some(frame) = decoder.next().unwrap() {
                again.push(frame.batch);
            }
            prop_assert!(same(&again, &batches));
        }
    }

    #[test]
    fn any_bytes_after_the_magic_are_an_error_and_no_panic(bytes: Vec<u8>) {
        let mut file = MAGIC.to_vec();
        file.extend(VERSION.to_le_bytes());
        file.extend(bytes);
        prop_assert!(replayed(&file).is_err());
    }

    #[test]
    fn any_bytes_as_a_whole_file_are_no_recording(bytes: Vec<u8>) {
        prop_assert!(BlockReader::open(&*bytes).is_err());
    }
}
