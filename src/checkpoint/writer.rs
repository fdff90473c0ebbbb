//! Writes checkpoints, and in which order it does what.
//!
//! One thread does this for all partitions, in the order in which it is told. Whatever the process or the machine does in the
//! meantime, each partition's directory has the last checkpoint that was finished, whole: a file is on the disk, all of it,
//! before it gets the name of a complete one; that it has the name is on the disk before the one before it is removed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Written;
use super::decoder::Decoder;
use super::disk::{Disk, DiskFile};
use super::lane::{Job, Lane, Reply, Task};
use super::names::Name;
use super::tidying::remove;

/// After so many bytes the file is brought to the disk as far as it is. All at its end would be gigabytes at once, for which
/// everyone else who uses the disk would have to wait.
const SYNC_BYTES: usize = 16 << 20;

/// What is done in the thread that writes.
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    /// By the number of the lane.
    unfinished: BTreeMap<u64, Unfinished>,
}

/// A checkpoint that was begun and neither finished nor abandoned.
struct Unfinished {
    /// The partition's own count.
    number: u64,
    state: State,
}

enum State {
    Begun,
    Writing(Growing),
    /// Its file is gone, and whoever began it knows.
    Failed,
}

/// A file that is being written.
struct Growing {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    name: Name,
    bytes: u64,
    /// Those of them that may not be on the disk yet.
    unsynced: usize,
}

impl Writer {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, unfinished: BTreeMap::new() }
    }

    pub(super) fn run(&mut self, Job { lane, task }: Job) {
        match task {
            Task::Begin { number } => {
                self.abandon(&lane);
                self.unfinished.insert(lane.number, Unfinished { number, state: State::Begun });
            }
            Task::Write(bytes) => {
                self.write(&lane, &bytes);
                lane.give_back(bytes);
            }
            Task::Finish => self.finish(&lane),
            Task::Abandon => self.abandon(&lane),
            Task::Discard => {
                self.abandon(&lane);
                remove_all_but(None, &*self.disk, &lane.dir);
            }
        }
    }

    fn write(&mut self, lane: &Lane, bytes: &[u8]) {
        let Some(Unfinished { number, state }) = self.unfinished.get_mut(&lane.number) else { return };
        let result = match state {
            State::Begun => begin(&*self.disk, lane, bytes).and_then(|mut growing| {
                let result = growing.write(bytes);
                *state = State::Writing(growing);
                result
            }),
            State::Writing(growing) => growing.write(bytes),
            State::Failed => Ok(()),
        };
        if let Err(reason) = result {
            let (number, outcome) = (*number, Err(reason));
            state.drop_file(&*self.disk);
            lane.reply(Reply::Outcome { number, outcome });
        }
    }

    fn finish(&mut self, lane: &Lane) {
        let Some(Unfinished { number, mut state }) = self.unfinished.remove(&lane.number) else { return };
        let outcome = match &mut state {
            State::Begun => Err("nothing was written".to_owned()),
            State::Writing(growing) => growing.complete(&*self.disk, lane),
            State::Failed => return,
        };
        if outcome.is_err() {
            state.drop_file(&*self.disk);
        }
        lane.reply(Reply::Outcome { number, outcome });
    }

    fn abandon(&mut self, lane: &Lane) {
        if let Some(mut unfinished) = self.unfinished.remove(&lane.number) {
            unfinished.state.drop_file(&*self.disk);
        }
    }
}

impl State {
    /// Removes the file, if there is one.
    fn drop_file(&mut self, disk: &dyn Disk) {
        if let Self::Writing(growing) = std::mem::replace(self, Self::Failed) {
            drop(growing.file);
            // If it cannot be removed it is when the directory is opened again.
            let _ = disk.remove(&growing.path);
        }
    }
}

impl Growing {
    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.file.write_all(bytes).map_err(cannot("write", &self.path))?;
        self.bytes += bytes.len() as u64;
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_BYTES {
            self.file.sync().map_err(cannot("write", &self.path))?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Makes it the newest, and then the only one.
    fn complete(&mut self, disk: &dyn Disk, lane: &Lane) -> Result<Written, String> {
        self.file.sync().map_err(cannot("write", &self.path))?;
        let name = Name { is_complete: true, ..self.name }.to_string();
        disk.rename(&self.path, &lane.dir.join(&name)).map_err(cannot("rename", &self.path))?;
        disk.sync_dir(&lane.dir).map_err(cannot("write", &lane.dir))?;
        remove_all_but(Some(&name), disk, &lane.dir);
        Ok(Written { bytes: self.bytes })
    }
}

/// Creates the file whose first bytes these are: they say what its name is.
fn begin(disk: &dyn Disk, lane: &Lane, first: &[u8]) -> Result<Growing, String> {
    let is_ours = |decoder: &Decoder<&[u8]>| {
        decoder.stand().topic == lane.topic && decoder.stand().partition == lane.partition
    };
    let Some(decoder) = Decoder::open(first).ok().filter(is_ours) else {
        return Err(format!(
            "what came first is not the head of a checkpoint of {}-{}",
            lane.topic, lane.partition
        ));
    };
    create_dirs(disk, &lane.dir)?;
    let names = disk.list(&lane.dir).map_err(cannot("list", &lane.dir))?;
    let offset = decoder.stand().offset;
    let name = Name { generation: Name::next_generation(&names), offset, is_complete: false };
    let path = lane.dir.join(name.to_string());
    let file = disk.create(&path).map_err(cannot("create", &path))?;
    Ok(Growing { file, path, name, bytes: 0, unsynced: 0 })
}

/// Creates a partition's directory, and its topic's, in the state directory.
fn create_dirs(disk: &dyn Disk, dir: &Path) -> Result<(), String> {
    let dirs: Vec<_> = dir.ancestors().take(3).collect();
    let [dir, topic_dir, root] = dirs[..] else {
        return Err(format!("{} is not in any directory", dir.display()));
    };
    for (dir, parent) in [(topic_dir, root), (dir, topic_dir)] {
        if disk.create_dir(dir).map_err(cannot("create", dir))? {
            disk.sync_dir(parent).map_err(cannot("write", parent))?;
        }
    }
    Ok(())
}

/// Removes all files of ours, but that one. What cannot be removed keeps none of the others.
fn remove_all_but(kept: Option<&str>, disk: &dyn Disk, dir: &Path) {
    let is_old = |name: &String| Name::parse(name).is_some() && Some(name.as_str()) != kept;
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!("old checkpoints are left behind: {}", cannot("list", dir)(error));
        }
        Ok(names) => {
            for name in names.into_iter().filter(is_old) {
                remove(disk, &dir.join(name), "an old checkpoint");
            }
        }
    }
}

/// What could not be done, for the log.
fn cannot(what: &str, path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("cannot {what} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Cursor, Read};
    use std::sync::mpsc::{Receiver, channel};

    use super::super::Stand;
    use super::super::encoder::Encoder;
    use super::super::opening::newest;
    use super::super::samples::{Sample, encode_in_pieces, read_all, stand};
    use super::super::simulated_disk::{End, SimulatedDisk};
    use super::super::tidying::remove_unfinished;
    use super::*;

    const ROOT: &str = "/state";

    /// What becomes of a checkpoint.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Finished,
        Abandoned,
        /// The next one begins before it is finished.
        Left,
    }
    use Fate::{Abandoned, Finished, Left};

    /// Checkpoints one after the other: what they stand for, and what becomes of each.
    ///
    /// A topic that is made anew or cut begins again at lower offsets.
    const RUN: [(i64, Fate); 8] = [
        (10, Finished),
        (20, Finished),
        (25, Abandoned),
        (20, Finished),
        (27, Left),
        (30, Finished),
        (5, Finished),
        (40, Left),
    ];

    /// The partition of the samples' stand, whose jobs are done at once.
    struct Partition {
        disk: SimulatedDisk,
        writer: Writer,
        lane: Arc<Lane>,
        replies: Receiver<Reply>,
    }

    impl Partition {
        fn on(disk: &SimulatedDisk) -> Self {
            disk.create_dir(Path::new(ROOT)).unwrap();
            let Stand { topic, partition, .. } = stand();
            let dir = Path::new(ROOT).join(&topic).join(partition.to_string());
            let (sender, replies) = channel();
            let lane = Arc::new(Lane::new(0, (&topic, partition), dir, &Arc::default(), sender));
            let writer = Writer::new(Arc::new(disk.clone()));
            Self { disk: disk.clone(), writer, lane, replies }
        }

        fn run(&mut self, task: Task) {
            if let Task::Write(bytes) = &task {
                assert!(self.lane.admit(bytes.len()));
            }
            self.writer.run(Job { lane: Arc::clone(&self.lane), task });
        }

        /// Writes the checkpoint with this number of a run; whether it is acknowledged.
        fn write(&mut self, number: u64, offset: i64, fate: Fate) -> bool {
            self.run(Task::Begin { number });
            for piece in pieces(number, offset) {
                self.run(Task::Write(piece));
            }
            match fate {
                Finished => self.run(Task::Finish),
                Abandoned => self.run(Task::Abandon),
                Left => {}
            }
            self.outcomes().contains(&(number, true))
        }

        /// What was said about which checkpoint, and whether it was good.
        fn outcomes(&self) -> Vec<(u64, bool)> {
            let outcomes = self.replies.try_iter().filter_map(|reply| match reply {
                Reply::Outcome { number, outcome } => Some((number, outcome.is_ok())),
                Reply::Buffer(buffer) => {
                    assert!(buffer.is_empty() && buffer.capacity() > 0);
                    None
                }
            });
            outcomes.collect()
        }

        /// The number of the checkpoint that the next process reads.
        fn found(&self) -> Option<u64> {
            let (first, rest) = newest(&self.disk, &self.lane)?;
            let mut decoder = Decoder::open(Cursor::new(first).chain(rest)).unwrap();
            let (samples, refusal) = read_all(&mut decoder);
            assert!(refusal.is_none(), "{refusal:?}");
            let number = decoder.stand().schedules;
            assert_eq!(samples, all_samples(number));
            Some(number)
        }
    }

    /// What the checkpoint with this number holds.
    fn all_samples(number: u64) -> Vec<Sample> {
        (0..10).map(|n| Sample::small(number as i64 * 100 + n)).collect()
    }

    fn pieces(number: u64, offset: i64) -> Vec<Vec<u8>> {
        let stand = Stand { offset, schedules: number, ..stand() };
        encode_in_pieces(Encoder::with_blocks_of(400, &stand), &all_samples(number))
    }

    /// Wherever the run stops, and however: the last that was acknowledged is there, or the one that was about to be.
    #[test]
    fn whenever_it_is_stopped_the_last_finished_one_is_there() {
        let (mut steps, mut found_in_all) = (0, Vec::new());
        loop {
            let disk = SimulatedDisk::default();
            let mut partition = Partition::on(&disk);
            disk.stop_after(steps);
            let mut last = None;
            for (number, (offset, fate)) in (1..).zip(RUN) {
                if partition.write(number, offset, fate) {
                    last = Some(number);
                }
            }
            let next = (1..).zip(RUN).find(|&(number, (_, fate))| Some(number) > last && fate == Finished);
            let next = next.map(|(number, _)| number);
            for end in std::iter::once(End::Killed).chain((0..20).map(End::Off)) {
                let mut again = Partition::on(&disk.after(end));
                let case = format!("stopped after {steps} steps, {end:?}");
                remove_unfinished(&again.disk, Path::new(ROOT)).unwrap();
                let found = again.found();
                assert!(found == last || found == next, "{case}: {found:?}, not {last:?} or {next:?}");
                found_in_all.push((last, found));
                assert!(again.write(9, 50, Finished), "{case}: the next one");
                assert_eq!(again.found(), Some(9), "{case}");
                assert_eq!(again.disk.files().len(), 1, "{case}: something is left behind");
            }
            if !disk.has_stopped() {
                assert_eq!(last, Some(7), "or not all of the run was done");
                break;
            }
            steps += 1;
        }
        assert!(steps > 60, "{steps} steps");
        // The very steps at which it matters were met: complete, but not acknowledged yet.
        assert!(found_in_all.iter().any(|(last, found)| last.is_some() && found > last));
        assert!(found_in_all.contains(&(None, None)));
    }

    #[test]
    fn a_disk_that_fills_up_loses_what_was_being_written_and_nothing_else() {
        let size: usize = pieces(2, 20).iter().map(Vec::len).sum();
        for room in 0..=size {
            let disk = SimulatedDisk::default();
            let mut partition = Partition::on(&disk);
            assert!(partition.write(1, 10, Finished));
            disk.fill_up_after(room);
            let is_written = partition.write(2, 20, Finished);
            assert_eq!(is_written, room == size, "room for {room} bytes of {size}");
            assert_eq!(partition.found(), Some(if is_written { 2 } else { 1 }));
            assert_eq!(disk.files().len(), 1, "something is left behind");
            disk.fill_up_after(10 * size);
            assert!(partition.write(3, 30, Finished));
            assert_eq!(partition.found(), Some(3));
        }
    }

    #[test]
    fn a_failure_is_said_once_with_the_reason() {
        let disk = SimulatedDisk::default();
        let mut partition = Partition::on(&disk);
        disk.fill_up_after(500);
        partition.run(Task::Begin { number: 7 });
        for piece in pieces(1, 10) {
            partition.run(Task::Write(piece));
        }
        partition.run(Task::Finish);
        let outcomes = partition.replies.try_iter().filter_map(|reply| match reply {
            Reply::Outcome { number, outcome } => Some((number, outcome.unwrap_err())),
            Reply::Buffer(_) => None,
        });
        let outcomes: Vec<_> = outcomes.collect();
        let [(7, reason)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert!(reason.starts_with("cannot write /state/schedules/3/1-10.tmp: "), "{reason}");
    }

    #[test]
    fn what_is_discarded_is_gone_whatever_it_is() {
        let disk = SimulatedDisk::default();
        let mut partition = Partition::on(&disk);
        partition.run(Task::Discard); // there is no directory yet
        assert!(partition.write(1, 10, Finished));
        partition.write(2, 20, Left);
        partition.run(Task::Discard);
        assert_eq!((partition.found(), disk.files()), (None, vec![]));
        partition.run(Task::Finish);
        assert_eq!((partition.found(), partition.outcomes()), (None, vec![]));
    }

    #[test]
    fn what_is_no_checkpoint_of_the_partition_is_not_written() {
        let disk = SimulatedDisk::default();
        let mut partition = Partition::on(&disk);
        let other = Encoder::new(&Stand { partition: 4, ..stand() }).finish();
        for first in [b"something".to_vec(), other] {
            partition.run(Task::Begin { number: 1 });
            partition.run(Task::Write(first));
            partition.run(Task::Finish);
            assert_eq!((partition.outcomes(), disk.files()), (vec![(1, false)], vec![]));
        }
        partition.run(Task::Begin { number: 2 });
        partition.run(Task::Finish);
        assert_eq!((partition.outcomes(), disk.files()), (vec![(2, false)], vec![]), "nothing at all");
    }
}
