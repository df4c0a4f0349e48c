//! The room above a process is replayed as it was told, whoever else was asked.

use super::*;

/// Answers as it is told to, by pid and time in seconds; everybody has the same cgroup.
struct Tells<F>(F);

impl<F: FnMut(u32, u64) -> Option<Room>> Directory for Tells<F> {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        Knows.identify(ProcKey { pid: Pid(1), ..key }).map(|identity| Identity { key, ..identity })
    }
    fn room(&mut self, identity: &Identity, host: &Host, at: Moment) -> Room {
        self.room_if_known(identity, host, at).unwrap_or_else(|| host.room())
    }
    fn room_if_known(&mut self, identity: &Identity, _: &Host, at: Moment) -> Option<Room> {
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
    tells: impl FnMut(u32, u64) -> Option<Room>,
) -> Vec<Vec<Room>> {
    let paper = Paper::default();
    let said = Said(batches.into_iter());
    let (mut source, mut directory, recorder) =
        record(said, Tells(tells), Terms::default(), Box::new(paper.clone())).unwrap();
    let mut live = Vec::new();
    while let Some(batch) = block_on(source.next_batch()).unwrap() {
        for pid in asked {
            let identity = directory.identify(key(*pid)).unwrap();
            live.push(directory.room(&identity, &HOST, batch.at));
        }
    }
    recorder.finish().unwrap();
    let file = paper.0.take();
    let (_, mut source, mut directory) = replay(&*file).unwrap();
    let (mut live, mut others) = (live.into_iter(), Vec::new());
    while let Some(batch) = block_on(source.next_batch()).unwrap() {
        let mut ask = |pid: &u32| {
            let identity = directory.identify(key(*pid)).unwrap();
            directory.room(&identity, &HOST, batch.at)
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
        asked(minute(), &[1, 2], &[3], |pid, second| (pid > 1).then(|| under("/all", 1000 + second)));
    assert_eq!(others[59], [under("/all", 1059)]);
}

#[test]
fn processes_that_moved_since_they_were_identified_have_the_rooms_of_where_they_are() {
    asked(minute(), &[1, 2, 3], &[], |pid, second| match pid {
        1 => Some(under("/one", 5000 - second)),
        2 if second > 20 => Some(HOST.room()),
        _ => Some(under("/two", second)),
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
    let others =
        asked(batches, &[1], &[2], |_, second| (second < 40).then(|| under("/all", 7)).or(Some(HOST.room())));
    assert_eq!(others[8], [HOST.room()], "nobody asked for its room since the beginning");
}
