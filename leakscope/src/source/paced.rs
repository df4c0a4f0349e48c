//! A source at a slower pace: what another one says in between is put together into one batch.
//!
//! A process is read often and told once: its newest reading, and all that happened to it. What came and went between two
//! batches is not told at all, as nobody will ever ask for it. Of page faults, whose times are most of a recording where
//! many processes are suspects, no more is told than a judge of their rhythm needs. Start reading at [`Paced`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::{Batch, Event, KernelSide, Reading, Source, SourceKind};
use crate::units::{Moment, ProcKey};

/// A source is asked at least this often: what the kernel side has to say must not fill its ring.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// Page faults of a process that are told in each [`FAULTS_PERIOD`]: as many as the monitor looks at.
const FAULTS_KEPT: usize = 256;
/// How old the rhythm may be that is seen in them.
const FAULTS_PERIOD: Duration = Duration::from_secs(300);
/// OOM kills that are kept between two batches.
const OOM_VICTIMS_KEPT: usize = 1024;

/// How often a source is to be asked that is told each `every`: a whole number of times.
pub(super) fn asked_every(every: Duration) -> Duration {
    let times = every.as_secs_f64() / ASKED_EVERY.as_secs_f64();
    every.div_f64(times.ceil().max(1.0))
}

/// A source of which a batch is told each so often.
pub struct Paced<S> {
    source: S,
    every: Duration,
    last: Option<Moment>,
    batch: Option<Batch>,
    /// What has changed since the last batch that was told, in the order of keys.
    readings: BTreeMap<ProcKey, Reading>,
    events: Vec<Event>,
    /// Processes that were told of, so that their end is told as well. As many as the source knows.
    told: HashSet<ProcKey>,
    /// Of which processes page faults were told: since when, how many, and whether some were left out since.
    faults: HashMap<ProcKey, (Moment, usize, bool)>,
}

impl<S: Source> Paced<S> {
    /// Tells what `source` says each `every`.
    pub fn new(source: S, every: Duration) -> Self {
        Self {
            source,
            every,
            last: None,
            batch: None,
            readings: BTreeMap::new(),
            events: Vec::new(),
            told: HashSet::new(),
            faults: HashMap::new(),
        }
    }

    fn take(&mut self, mut batch: Batch) {
        for event in batch.events.drain(..) {
            self.note(event);
        }
        for mut reading in batch.readings.drain(..) {
            self.thin(&mut reading, batch.at);
            if let Some(before) = self.readings.remove(&reading.key) {
                let newer = std::mem::replace(&mut reading.faults, before.faults);
                reading.faults.extend(newer);
            }
            self.readings.insert(reading.key, reading);
        }
        self.batch = Some(batch);
    }

    /// Leaves page faults out that are too many; the first after them says that there is a gap.
    fn thin(&mut self, reading: &mut Reading, at: Moment) {
        if reading.faults.is_empty() {
            return;
        }
        let (since, count, gap) = self.faults.entry(reading.key).or_insert((at, 0, false));
        if at.since(*since) >= FAULTS_PERIOD {
            (*since, *count) = (at, 0);
        }
        let room = FAULTS_KEPT - *count;
        if room > 0
            && let Some(first) = reading.faults.first_mut()
        {
            first.after_gap |= std::mem::take(gap);
        }
        *gap |= reading.faults.len() > room;
        reading.faults.truncate(room);
        *count += reading.faults.len();
    }

    fn note(&mut self, event: Event) {
        let kept = match event {
            // What was read before is another program's, or nobody's.
            Event::Exec { key } => {
                self.readings.remove(&key);
                self.faults.remove(&key);
                self.told.contains(&key) && !self.events.contains(&event)
            }
            Event::Exit { key, .. } => {
                self.readings.remove(&key);
                self.faults.remove(&key);
                self.told.remove(&key)
            }
            Event::OomVictim { .. } => self.events.len() < OOM_VICTIMS_KEPT + self.told.len(),
        };
        if kept {
            self.events.push(event);
        }
    }

    /// What came together, when there is something.
    fn tell(&mut self) -> Option<Batch> {
        let mut batch = self.batch.take()?;
        self.last = Some(batch.at);
        batch.events = std::mem::take(&mut self.events);
        batch.readings = std::mem::take(&mut self.readings).into_values().collect();
        self.told.extend(batch.readings.iter().map(|reading| reading.key));
        Some(batch)
    }
}

impl<S: Source> Source for Paced<S> {
    fn kind(&self) -> SourceKind {
        self.source.kind()
    }

    fn kernel_side(&self) -> Option<KernelSide> {
        self.source.kernel_side()
    }

    async fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        // A source that is a little early for once is not waited for a whole period longer.
        let due = self.every - asked_every(self.every) / 2;
        while let Some(batch) = self.source.next_batch().await? {
            let at = batch.at;
            self.take(batch);
            if self.last.is_none_or(|last| at.since(last) >= due) {
                return Ok(self.tell());
            }
        }
        Ok(self.tell())
    }

    fn inspect(&mut self, suspects: &[ProcKey]) -> anyhow::Result<()> {
        self.source.inspect(suspects)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::leak::{FaultStep, Memory};
    use crate::source::{HostMemory, Lost};
    use crate::units::{Bytes, Pid, Ticks};

    struct Said(std::vec::IntoIter<Batch>);

    impl Source for Said {
        fn kind(&self) -> SourceKind {
            SourceKind::Procfs
        }
        async fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
            Ok(self.0.next())
        }
        fn inspect(&mut self, _: &[ProcKey]) -> anyhow::Result<()> {
            Ok(())
        }
    }

    fn key(pid: u32) -> ProcKey {
        ProcKey { pid: Pid(pid), start: Ticks(1) }
    }

    fn reading(pid: u32, anon: u64) -> Reading {
        let step =
            FaultStep { after: Duration::ZERO, address_delta: 1, page_aligned: true, after_gap: false };
        let memory = Memory { anon: Bytes(anon), ..Memory::default() };
        Reading { key: key(pid), memory, kernel: None, faults: vec![step; 60] }
    }

    fn batch(millis: u64, readings: Vec<Reading>, events: Vec<Event>) -> Batch {
        Batch {
            at: Moment(millis * 1_000_000),
            wall: Timestamp::UNIX_EPOCH,
            host: HostMemory::default(),
            readings,
            events,
            lost: Lost::default(),
        }
    }

    fn paced(batches: Vec<Batch>, every: Duration) -> Vec<Batch> {
        let mut source = Paced::new(Said(batches.into_iter()), every);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut told = Vec::new();
            while let Some(batch) = source.next_batch().await.unwrap() {
                told.push(batch);
            }
            told
        })
    }

    #[test]
    fn a_process_is_told_once_as_it_was_last_read_with_all_its_faults() {
        let batches = (0..9).map(|n| batch(n * 1000, vec![reading(7, n), reading(8, n)], Vec::new()));
        let told = paced(batches.collect(), Duration::from_secs(4));
        assert_eq!(told.iter().map(|batch| batch.at.0 / 1_000_000_000).collect::<Vec<_>>(), [0, 4, 8]);
        for (batch, anon) in told.iter().zip([0, 4, 8]) {
            assert_eq!(batch.readings.len(), 2);
            assert!(batch.readings.iter().all(|reading| reading.memory.anon == Bytes(anon)));
        }
        assert_eq!(told.iter().map(|batch| batch.readings[0].faults.len()).collect::<Vec<_>>(), [60, 196, 0]);
    }

    #[test]
    fn page_faults_are_told_again_after_a_while_and_begin_with_a_gap() {
        let batches = (0..=305).map(|n| batch(n * 1000, vec![reading(7, n)], Vec::new()));
        let told = paced(batches.collect(), Duration::from_secs(1));
        let faults = |second: usize| &told[second].readings[0].faults;
        let counts: Vec<usize> =
            (0..306).map(|second| faults(second).len()).filter(|count| *count > 0).collect();
        assert_eq!(counts, [60, 60, 60, 60, 16, 60, 60, 60, 60, 16]);
        assert!(faults(300)[0].after_gap && !faults(300)[1].after_gap && !faults(301)[0].after_gap);
        assert!(!faults(0)[0].after_gap && !faults(4)[0].after_gap);
    }

    #[test]
    fn what_ended_or_became_another_program_is_not_told_as_it_was_before() {
        let exit = Event::Exit { key: key(7), status: None };
        let exec = Event::Exec { key: key(8) };
        let short = Event::Exit { key: key(9), status: None };
        let batches = vec![
            batch(0, vec![reading(7, 1), reading(8, 1)], Vec::new()),
            batch(1000, vec![reading(7, 2), reading(8, 2), reading(9, 2)], Vec::new()),
            batch(2000, Vec::new(), vec![exit, exec, short]),
            batch(3000, vec![reading(8, 3)], vec![exec]),
            batch(4000, Vec::new(), Vec::new()),
            batch(5000, Vec::new(), vec![Event::Exit { key: key(8), status: None }]),
        ];
        let told = paced(batches, Duration::from_secs(4));
        let [_, second, third] = &*told else { panic!("{told:?}") };
        assert_eq!(second.events, [exit, exec]);
        assert_eq!(
            second.readings.iter().map(|r| (r.key, r.memory.anon)).collect::<Vec<_>>(),
            [(key(8), Bytes(3))]
        );
        assert_eq!(
            third.events,
            [Event::Exit { key: key(8), status: None }],
            "what is left is told at the end"
        );
    }

    #[test]
    fn a_source_is_asked_a_whole_number_of_times_and_at_least_each_second() {
        for (every, asked) in [(250, 250), (1000, 1000), (1500, 750), (60_000, 1000), (100, 100)] {
            assert_eq!(asked_every(Duration::from_millis(every)), Duration::from_millis(asked));
        }
        // A tick that comes early counts.
        let early = (0..5).map(|n| batch(n * 998, vec![reading(7, n)], Vec::new()));
        assert_eq!(paced(early.collect(), Duration::from_secs(1)).len(), 5);
        let early = (0..5).map(|n| batch(n * 998, vec![reading(7, n)], Vec::new()));
        assert_eq!(paced(early.collect(), Duration::from_secs(2)).len(), 3);
    }
}
