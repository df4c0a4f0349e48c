//! The limits above a process are replayed as they were told, whoever else was asked.

use super::*;

/// Answers as it is told to, by pid and time in seconds; everybody has the same cgroup.
struct Tells<F>(F);

impl<F: FnMut(u32, u64) -> Option<Vec<Room>>> Directory for Tells<F> {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        Knows.identify(ProcKey { pid: Pid(1), ..key }).map(|identity| Identity { key, ..identity })
    }
    fn rooms(&mut self, identity: &Identity, _: &Host, at: Moment) -> Option<Vec<Room>> {
        (self.0)(identity.key.pid.0, at.0 / 1_000_000_000)
    }
}

const HOST: Host = Host { size: Bytes(100), available: Bytes(60), swap_free: Bytes(5) };

fn under(path: &str, left: u64) -> Room {
    Room { limit: Limit::Cgroup(path.to_owned()), size: Bytes(1 << 30), left: Bytes(left) }
}

/// Asks live and in a replay for the rooms of `asked` after each batch, and of `later` in the replay alone; what the
/// replay says of those.
fn asked(
    batches: Vec<Batch>,
    asked: &[u32],
    later: &[u32],
    tells: impl FnMut(u32, u64) -> Option<Vec<Room>>,
) -> Vec<Vec<Option<Vec<Room>>>> {
    let paper = Paper::default();
    let said = Said(batches.into_iter());
    let (mut source, mut directory, recorder) =
        record(said, Tells(tells), Terms::default(), Box::new(paper.clone())).unwrap();
    let mut live = Vec::new();
    while let Some(batch) = block_on(source.next_batch()).unwrap() {
        for pid in asked {
            let identity = directory.identify(key(*pid)).unwrap();
            live.push(directory.rooms(&identity, &HOST, batch.at));
        }
    }
    recorder.finish().unwrap();
    let file = paper.0.take();
    let (_, mut source, mut directory) = replay(&*file).unwrap();
    let (mut live, mut others) = (live.into_iter(), Vec::new());
    while let Some(batch) = block_on(source.next_batch()).unwrap() {
        let mut ask = |pid: &u32| {
            let identity = directory.identify(key(*pid)).unwrap();
            directory.rooms(&identity, &HOST, batch.at)
        };
        for pid in asked {
            assert_eq!(Some(ask(pid)), live.next(), "pid {pid} at {:?}", batch.at);
        }
        others.push(later.iter().map(ask).collect());
    }
    assert_eq!(live.next(), None);
    others
}

#[test]
fn a_process_that_is_just_gone_does_not_lend_its_answer_to_its_siblings() {
    // The first of a cgroup in each frame cannot be read any more.
    let others =
        asked(minute(), &[1, 2], &[3], |pid, second| (pid > 1).then(|| vec![under("/all", 100 + second)]));
    assert_eq!(others[59], [Some(vec![under("/all", 159)])]);
}

#[test]
fn processes_that_moved_since_they_were_identified_have_the_rooms_of_where_they_are() {
    asked(minute(), &[1, 2, 3], &[], |pid, second| match pid {
        1 => Some(vec![under("/one", 5000 - second), under("/", 60_000 - 100 * second)]),
        2 if second > 20 => Some(Vec::new()),
        3 if second % 7 > 3 => Some(vec![under("/two", second), under("/one", 5000 - second)]),
        _ => Some(vec![under("/two", second)]),
    });
}

#[test]
fn an_outer_limit_that_hardly_changes_is_told_once_and_the_replay_says_the_same() {
    let size = |step: u64| {
        let paper = Paper::default();
        let tells = move |_: u32, second: u64| {
            Some(vec![under("/a", 5 << 20), under("/", (50 << 30) - second * step)])
        };
        let (mut source, mut directory, recorder) =
            record(Said(minute().into_iter()), Tells(tells), Terms::default(), Box::new(paper.clone()))
                .unwrap();
        while let Some(batch) = block_on(source.next_batch()).unwrap() {
            for pid in 1..10 {
                let identity = directory.identify(key(pid)).unwrap();
                let rooms = directory.rooms(&identity, &HOST, batch.at).unwrap();
                let real = (50 << 30) - batch.at.0 / 1_000_000_000 * step;
                let off = rooms[1].left.0.abs_diff(real) as f64 / real as f64;
                assert!(off < 1.0 / 256.0, "{rooms:?}");
            }
        }
        recorder.finish().unwrap();
        let file = paper.0.take();
        file.len()
    };
    assert_eq!(size(1 << 20), size(0), "50 GB of which 60 MB go");
    asked(minute(), &[1, 2, 3], &[], |_, second| {
        Some(vec![under("/a", (5 << 20) - second * 4096), under("/", (50 << 30) - (second << 25))])
    });
}

#[test]
fn a_limit_that_is_gone_after_everything_began_anew_is_gone_in_the_replay() {
    // More processes than are remembered have come and gone by the second in which the limit is lifted.
    let mut batches = Vec::new();
    for second in 0..9 {
        let short =
            |second: u64| (0..10_000_u32).map(move |n| 1000 + u32::try_from(second).unwrap() * 10_000 + n);
        let mut batch = batch(second * 6_000_000_000, short(second).map(|pid| reading(pid, 4096)).collect());
        batch.readings.push(reading(1, 4096 * second));
        batch.readings.push(reading(2, 4096 * second));
        if second > 0 {
            batch.events.extend(short(second - 1).map(|pid| Event::Exit { key: key(pid), status: None }));
        }
        batches.push(batch);
    }
    let others = asked(batches, &[1], &[2], |_, second| {
        Some(if second < 40 { vec![under("/all", 7), under("/", 70)] } else { Vec::new() })
    });
    assert_eq!(others[8], [Some(Vec::new())], "nobody asked for its limits since the beginning");
}

#[test]
fn formats_1_and_2_say_the_tightest_limit_alone() {
    use super::super::block::{Happened, RoomIs};
    let identities = |pids: [u32; 2]| {
        pids.map(|pid| (0, Who::from(&Tells(|_, _| None).identify(key(pid)).unwrap()))).to_vec()
    };
    let block = |cgroups: Vec<String>, rooms| {
        let (mut encoder, batch) = (Encoder::new(), batch(0, vec![reading(1, 4096), reading(2, 4096)]));
        encoder.push(&batch, Vec::new(), &[]);
        Block {
            identities: identities([1, 2]),
            cgroups,
            rooms,
            events: Vec::<Happened>::new(),
            ..encoder.take()
        }
    };
    let limit = || ("/a".to_owned(), 1 << 30, 70);
    let first = |(path, size, left)| vec![(0, 0, RoomIs::Cgroup(path, size, left))];
    let second = |(path, size, left)| {
        vec![(0, 0, RoomIs::Limit(path, size, left)), (0, 1, RoomIs::Under(0)), (0, 2, RoomIs::UnderHost)]
    };
    let below = Some(vec![under("/a", 70)]);
    for (format, block, expected) in [
        (1_u16, block(vec!["/unit-1".to_owned()], first(limit())), [below.clone(), below.clone()]),
        (2, block(Vec::new(), second(limit())), [below, Some(Vec::new())]),
    ] {
        let mut file = super::hostile::file_of(&[block]);
        file[MAGIC.len()..MAGIC.len() + 2].copy_from_slice(&format.to_le_bytes());
        let (_, mut source, mut directory) = replay(&*file).unwrap();
        let batch = block_on(source.next_batch()).unwrap().unwrap();
        let rooms = [1, 2].map(|pid| {
            let identity = directory.identify(key(pid)).unwrap();
            directory.rooms(&identity, &HOST, batch.at)
        });
        assert_eq!(rooms, expected, "format {format}");
    }
}
