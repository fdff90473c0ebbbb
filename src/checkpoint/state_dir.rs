//! The state directory: who may use it, and what in it is ours.
//!
//! ```text
//! <state.dir>/~lock                                             who uses the directory holds a lock on this file
//! <state.dir>/<topic>/<partition>/<generation>-<offset>.ckpt    a checkpoint
//! <state.dir>/<topic>/<partition>/<generation>-<offset>.tmp     one that is being written
//! ```
//!
//! What Kafka lets be the name of a topic may be that of a directory, and never begins with a tilde. All else that is found is
//! left alone. The directory may be deleted at any time while nobody uses it: that costs a full load.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use super::Store;
use super::disk::{Disk, OsDisk};
use super::lane::Lane;
use super::opening::Opener;
use super::partition_files::PartitionFiles;
use super::queue::{Next, Queue};
use super::tidying::{remove_old, remove_unfinished};
use super::writer::Writer;

const LOCK: &str = "~lock";

/// How long the end of the process may be held up by what is still to be written.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked for what is old.
const TIDY_EVERY: Duration = Duration::from_hours(24);

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// The system does not let us.
    #[error("the state directory {} cannot be used: cannot {what}: {error}", .path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Another process has it.
    #[error(
        "the state directory {} is used by another process: give each instance a directory of its own, or end the other one",
        .path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// A state directory that is ours, with the thread that writes to it.
///
/// Dropped, it first writes what it was given, unless the disk takes too long.
pub struct StateDir {
    path: PathBuf,
    opener: Opener,
    queue: Arc<Queue>,
    /// Bytes that wait to be written, of all partitions.
    waiting: Arc<AtomicUsize>,
    lanes: AtomicU64,
    patience: Duration,
    /// Locked as long as it is open.
    _lock: Arc<File>,
}

impl StateDir {
    /// Takes a directory into use: creates it if needed, locks it, and removes what an earlier process did not finish.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |what| {
            let path = path.to_owned();
            move |error| StateDirError::Unusable { path, what, error }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable("create it"))?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(unusable("write to it"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(unusable("lock it")(error)),
        }
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        remove_unfinished(&*disk, path).map_err(unusable("list it"))?;
        Self::with(disk, path, lock).map_err(unusable("start a thread for it"))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the thread is the directory's own, and awaited when it is dropped"
    )]
    fn with(disk: Arc<dyn Disk>, path: &Path, lock: File) -> io::Result<Self> {
        let (queue, lock) = (Arc::<Queue>::default(), Arc::new(lock));
        let opener = Opener::new(&disk, &queue);
        let body = {
            let (queue, lock, path) = (Arc::clone(&queue), Arc::clone(&lock), path.to_owned());
            move || {
                let _ending = Ending(Arc::clone(&queue));
                // Nobody else may use the directory while it is at work, even if nobody waits for it any more.
                let _lock = lock;
                follow(&queue, Writer::new(Arc::clone(&disk)), &*disk, &path);
            }
        };
        std::thread::Builder::new().name("checkpoints".to_owned()).spawn(body)?;
        let (waiting, lanes, patience) = (Arc::default(), AtomicU64::new(0), PATIENCE);
        Ok(Self { path: path.to_owned(), opener, queue, waiting, lanes, patience, _lock: lock })
    }

    /// Where the checkpoints of a partition are kept. Each partition has one at a time.
    #[must_use]
    pub fn store(&self, topic: &str, partition: i32) -> Box<dyn Store> {
        let dir = self.path.join(topic).join(partition.to_string());
        let number = self.lanes.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = channel();
        let lane = Lane::new(number, (topic, partition), dir, &self.waiting, sender);
        Box::new(PartitionFiles::new(lane, &self.opener, &self.queue, replies))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if !self.queue.close(self.patience) {
            tracing::warn!(
                "the disk of the state directory {} takes too long: what is still to be written to it is given up",
                self.path.display()
            );
        }
    }
}

/// What the writer thread does.
#[allow(
    clippy::disallowed_methods,
    reason = "old files are looked for once a day, and it is the clock that says what is old"
)]
fn follow(queue: &Queue, mut writer: Writer, disk: &dyn Disk, root: &Path) {
    let mut tidied: Option<Instant> = None;
    loop {
        if tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY_EVERY) {
            remove_old(disk, root, SystemTime::now());
            tidied = Some(Instant::now());
        }
        match queue.next(TIDY_EVERY) {
            Next::Job(job) => writer.run(job),
            Next::Idle => {}
            Next::End => return,
        }
    }
}

/// Says that the writer thread has ended, however it does.
struct Ending(Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::disallowed_methods, reason = "threads and times are what is tested here")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::encoder::Encoder;
    use super::super::lane::{LANE_BYTES, TOTAL_BYTES};
    use super::super::samples::{Sample, encode_in_pieces, read_all, stand};
    use super::super::simulated_disk::SimulatedDisk;
    use super::super::{Stand, Written};
    use super::*;

    fn samples(offset: i64) -> Vec<Sample> {
        (0..3_000).map(|n| Sample::small(offset * 10_000 + n)).collect()
    }

    /// Gives a store all of a checkpoint for this offset, and what becomes of it.
    fn write(store: &mut dyn Store, offset: i64) -> Result<Written, String> {
        store.begin();
        for piece in encode_in_pieces(Encoder::new(&Stand { offset, ..stand() }), &samples(offset)) {
            store.write(piece).unwrap();
        }
        assert!(store.finish());
        await_outcome(store)
    }

    /// The offset of the checkpoint that a store has, which is whole.
    fn found(store: &mut dyn Store) -> Option<i64> {
        let mut decoder = store.open()?;
        let offset = decoder.stand().offset;
        let (read, refusal) = read_all(&mut decoder);
        assert!(refusal.is_none() && read == samples(offset), "{refusal:?}");
        Some(offset)
    }

    fn store(dir: &StateDir) -> Box<dyn Store> {
        dir.store(&stand().topic, stand().partition)
    }

    fn partition_dir(root: &Path) -> PathBuf {
        root.join("schedules/3")
    }

    #[test]
    fn what_is_written_is_there_for_the_next_process() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("some/where");
        let dir = StateDir::open(&path).unwrap();
        let mut first = store(&dir);
        assert_eq!(found(&mut *first), None);
        let written = write(&mut *first, 17).unwrap();
        let file = partition_dir(&path).join("1-17.ckpt");
        assert_eq!(fs::metadata(&file).unwrap().len(), written.bytes);
        assert_eq!(found_in_time(&mut *first), Some(17));
        write(&mut *first, 18).unwrap();
        assert!(!file.exists(), "the one before is removed");
        // Given, but not known to be written when the shard and the process end.
        first.begin();
        for piece in encode_in_pieces(Encoder::new(&Stand { offset: 19, ..stand() }), &samples(19)) {
            first.write(piece).unwrap();
        }
        first.finish();
        drop((first, dir));
        let dir = StateDir::open(&path).unwrap();
        assert_eq!(found_in_time(&mut *store(&dir)), Some(19));
        assert_eq!(found(&mut *dir.store("schedules", 4)), None);
    }

    #[test]
    fn only_the_owner_may_look_into_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let dir = StateDir::open(&path).unwrap();
        write(&mut *store(&dir), 17).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let partition_dir = partition_dir(&path);
        for dir in [&path, partition_dir.parent().unwrap(), &partition_dir] {
            assert_eq!(mode(dir), 0o700, "{}", dir.display());
        }
        assert_eq!(mode(&partition_dir.join("1-17.ckpt")), 0o600);
    }

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        let Err(error) = StateDir::open(root.path()) else { panic!("two users") };
        assert!(matches!(error, StateDirError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&root.path().display().to_string()), "{error}");
        drop(dir);
        StateDir::open(root.path()).unwrap();
    }

    #[test]
    fn a_path_that_cannot_be_a_directory_is_refused_with_the_reason() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path().to_owned(), file.path().join("below")] {
            let Err(error) = StateDir::open(&path) else { panic!("a file is no directory") };
            let text = error.to_string();
            assert!(
                text.starts_with(&format!(
                    "the state directory {} cannot be used: cannot create it: ",
                    path.display()
                )),
                "{text}"
            );
        }
    }

    #[test]
    fn what_was_not_finished_is_removed_and_what_is_not_ours_is_left() {
        let root = tempfile::tempdir().unwrap();
        let dir = partition_dir(root.path());
        fs::create_dir_all(&dir).unwrap();
        let ours = ["1-5.tmp", "2-6.tmp"].map(|name| dir.join(name));
        let others = [
            dir.join("notes.txt"),
            dir.join("1-5.tmp.old"),
            root.path().join("1-5.tmp"),
            root.path().join("schedules/1-5.tmp"),
        ];
        ours.iter().chain(&others).for_each(|file| fs::write(file, "x").unwrap());
        let state_dir = StateDir::open(root.path()).unwrap();
        write(&mut *store(&state_dir), 7).unwrap();
        store(&state_dir).discard();
        drop(state_dir);
        assert!(ours.iter().all(|file| !file.exists()));
        assert!(others.iter().all(|file| file.exists()));
    }

    #[test]
    fn one_that_is_refused_is_removed_and_the_one_before_is_used() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(root.path()).unwrap();
        let mut store = store(&state_dir);
        write(&mut *store, 17).unwrap();
        let dir = partition_dir(root.path());
        let good = fs::read(dir.join("1-17.ckpt")).unwrap();
        let mut damaged = good.clone();
        damaged[60] ^= 1;
        let other = encode_in_pieces(Encoder::new(&Stand { partition: 4, ..stand() }), &[]).concat();
        let bad: [(&str, &[u8]); 4] = [
            ("2-1.ckpt", b""),
            ("3-21.ckpt", b"not a checkpoint, but as long as one"),
            ("4-22.ckpt", &damaged),
            ("5-23.ckpt", &other),
        ];
        for (name, bytes) in bad {
            fs::write(dir.join(name), bytes).unwrap();
        }
        fs::create_dir(dir.join("6-24.ckpt")).unwrap(); // which cannot be read, and may be another time
        assert_eq!(found_in_time(&mut *store), Some(17));
        assert!(bad.iter().all(|(name, _)| !dir.join(name).exists()));
        assert!(dir.join("6-24.ckpt").exists());
    }

    #[test]
    fn what_is_not_wanted_any_more_has_no_outcome() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(root.path()).unwrap();
        let mut store = store(&state_dir);
        write(&mut *store, 17).unwrap();
        let forget: [fn(&mut dyn Store); 3] =
            [|store| store.abandon(), |store| store.begin(), |store| store.discard()];
        for forget in forget {
            store.begin();
            store.write(b"no checkpoint".to_vec()).unwrap();
            forget(&mut *store);
            store.open();
            assert_eq!(store.outcome(), None);
        }
        assert_eq!(found(&mut *store), None, "it was discarded");
        // What cannot be removed keeps nothing else there.
        let dir = partition_dir(root.path());
        fs::create_dir(dir.join("0-1.ckpt")).unwrap();
        fs::write(dir.join("1-2.ckpt"), "x").unwrap();
        store.discard();
        store.open();
        assert!(dir.join("0-1.ckpt").exists() && !dir.join("1-2.ckpt").exists());
        drop(store);
        let mut next = self::store(&state_dir);
        write(&mut *next, 18).unwrap();
        drop(next); // which abandons nothing that was finished
        assert_eq!(found_in_time(&mut *self::store(&state_dir)), Some(18));
    }

    #[test]
    fn a_disk_that_is_held_up_makes_nobody_wait_and_what_waits_for_it_is_bounded() {
        const PIECE: usize = 1 << 20;
        let disk = SimulatedDisk::default();
        let state_dir = on(&disk);
        let held_up = disk.hold_up();
        let mut stores: Vec<_> = (0..6).map(|partition| state_dir.store("schedules", partition)).collect();
        let mut taken = Vec::new();
        for (partition, store) in (0..).zip(&mut stores) {
            store.begin();
            let mut pieces = encode_in_pieces(Encoder::new(&Stand { partition, ..stand() }), &[]);
            let mut bytes = 0;
            loop {
                let piece = pieces.pop().unwrap_or_else(|| vec![0; PIECE]);
                let len = piece.len();
                match store.write(piece) {
                    Ok(()) => bytes += len,
                    Err(returned) => {
                        assert_eq!(returned.len(), len, "it comes back whole");
                        break;
                    }
                }
            }
            assert!(store.spare().is_none() && store.outcome().is_none());
            taken.push(bytes);
        }
        assert!(taken.iter().all(|&bytes| bytes < LANE_BYTES + PIECE), "{taken:?}");
        assert!(taken[..4].iter().all(|&bytes| bytes >= LANE_BYTES), "{taken:?}");
        assert_eq!(taken[4..], [0, 0], "all together have as much as may wait");
        assert!(taken.iter().sum::<usize>() < TOTAL_BYTES + 4 * PIECE);

        drop(held_up);
        stores[0].wait(Duration::from_mins(1));
        assert!(stores[0].spare().is_some_and(|buffer| buffer.is_empty() && buffer.capacity() > 0));
        for store in &mut stores[..4] {
            store.finish();
            let outcome = loop {
                match store.outcome() {
                    Some(outcome) => break outcome,
                    None => store.wait(Duration::from_mins(1)),
                }
            };
            assert!(outcome.is_ok(), "{outcome:?}");
            assert!(store.spare().is_none(), "kept for a checkpoint that is far off");
        }
        for store in &mut stores[4..] {
            assert!(store.write(vec![0; PIECE]).is_ok(), "there is room again");
        }
    }

    #[test]
    fn without_its_thread_a_checkpoint_fails() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(root.path()).unwrap();
        let mut store = store(&state_dir);
        drop(state_dir);
        store.begin();
        assert!(store.write(vec![0; 10]).is_ok());
        assert!(store.finish());
        assert!(store.outcome().unwrap().unwrap_err().contains("thread"));
        assert!(store.open().is_none() && store.outcome().is_none());
    }

    fn on(disk: &SimulatedDisk) -> StateDir {
        disk.create_dir(Path::new("/state")).unwrap();
        let lock = tempfile::tempfile().unwrap();
        StateDir::with(Arc::new(disk.clone()), Path::new("/state"), lock).unwrap()
    }

    /// Which checkpoint a store has once the disk answers again.
    fn found_in_time(store: &mut dyn Store) -> Option<i64> {
        let began = Instant::now();
        loop {
            let found = found(store);
            if found.is_some() || began.elapsed() > Duration::from_mins(1) {
                return found;
            }
        }
    }

    fn await_outcome(store: &mut dyn Store) -> Result<Written, String> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_mins(1) {
            if let Some(outcome) = store.outcome() {
                return outcome;
            }
            store.wait(Duration::from_millis(10));
        }
        panic!("no outcome")
    }

    #[test]
    fn a_disk_that_hangs_holds_nobody_up_for_long_and_the_checkpoint_stays() {
        let disk = SimulatedDisk::default();
        let mut state_dir = on(&disk);
        write(&mut *store(&state_dir), 17).unwrap();
        disk.hang();
        let began = Instant::now();
        for _ in 0..100 {
            assert!(store(&state_dir).open().is_none());
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        disk.let_on();
        assert_eq!(found_in_time(&mut *store(&state_dir)), Some(17));

        // Once it is open, it hangs again; and then the process ends.
        let mut opened = store(&state_dir).open().unwrap();
        disk.hang();
        let (read, refusal) = read_all(&mut opened);
        assert!(refusal.is_none() && read == samples(17), "all of it was read when it was opened");
        let mut last = store(&state_dir);
        last.begin();
        last.write(encode_in_pieces(Encoder::new(&stand()), &[]).concat()).unwrap();
        last.finish();
        state_dir.patience = Duration::from_millis(100);
        let began = Instant::now();
        drop(state_dir);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        disk.let_on(); // for the thread, which goes on with what it was given
        assert!(await_outcome(&mut *last).is_ok());
    }

    #[test]
    fn whoever_opens_one_waits_for_its_own_partition_alone() {
        let disk = SimulatedDisk::default();
        let state_dir = on(&disk);
        let [mut mine, mut other] = [3, 4].map(|partition| state_dir.store("schedules", partition));
        write(&mut *mine, 17).unwrap();
        let held_up = disk.hold_up();
        other.begin();
        for piece in encode_in_pieces(Encoder::new(&Stand { partition: 4, ..stand() }), &samples(1)) {
            other.write(piece).unwrap();
        }
        other.finish();
        assert_eq!(found_in_time(&mut *mine), Some(17), "reading does not stand behind the other's writing");
        assert!(other.open().is_none(), "that one cannot be seen yet");
        // What was removed cannot be seen, whether it is removed yet or not.
        mine.discard();
        assert_eq!(found(&mut *mine), None);
        drop(held_up);
        assert_eq!(found(&mut *mine), None);
        assert!(await_outcome(&mut *other).is_ok());
        assert!(other.open().is_some());
    }

    #[test]
    fn what_is_not_wanted_any_more_makes_room_even_if_the_disk_is_held_up() {
        let disk = SimulatedDisk::default();
        let state_dir = on(&disk);
        let held_up = disk.hold_up();
        for _ in 0..10 {
            let mut store = store(&state_dir);
            store.begin();
            let head = encode_in_pieces(Encoder::new(&stand()), &[]).concat();
            assert!(store.write(head).is_ok());
            while store.write(vec![0; 1 << 20]).is_ok() {}
        }
        assert!(state_dir.waiting.load(Ordering::Relaxed) <= LANE_BYTES + (2 << 20));
        drop(held_up);
    }

    #[test]
    fn a_thread_that_died_makes_a_checkpoint_fail_whatever_it_was_doing() {
        for has_finished in [true, false] {
            let disk = SimulatedDisk::default();
            let state_dir = on(&disk);
            let mut store = store(&state_dir);
            let held_up = disk.hold_up();
            store.begin();
            store.write(encode_in_pieces(Encoder::new(&stand()), &[]).concat()).unwrap();
            while !has_finished && store.write(vec![0; 1 << 20]).is_ok() {}
            if has_finished {
                assert!(store.finish());
            }
            assert_eq!(store.outcome(), None);
            disk.break_down();
            drop(held_up);
            let reason = await_outcome(&mut *store).unwrap_err();
            assert!(reason.contains("thread"), "{reason}");
            assert_eq!(store.outcome(), None, "said once");
            store.begin();
            assert!(store.write(vec![0; 9 << 20]).is_ok() && store.write(vec![0; 10]).is_ok());
            assert!(store.outcome().unwrap().is_err());
        }
    }

    #[test]
    fn what_was_not_written_to_for_long_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        let names = [("schedules", 3, "old"), ("schedules", 5, "young"), ("gone", 0, "of the future")];
        let mut files = Vec::new();
        for (topic, partition, _) in names {
            let stand = Stand { topic: topic.to_owned(), partition, ..stand() };
            let mut store = dir.store(topic, partition);
            store.begin();
            store.write(encode_in_pieces(Encoder::new(&stand), &[]).concat()).unwrap();
            store.finish();
            await_outcome(&mut *store).unwrap();
            files.push(root.path().join(topic).join(partition.to_string()).join("1-1234567.ckpt"));
        }
        drop(dir);
        let (now, day) = (SystemTime::now(), Duration::from_hours(24));
        for (file, modified) in files.iter().zip([now - 8 * day, now - 6 * day, now + 30 * day]) {
            OpenOptions::new().write(true).open(file).unwrap().set_modified(modified).unwrap();
        }
        drop(StateDir::open(root.path()).unwrap());
        assert_eq!(files.iter().map(|file| file.exists()).collect::<Vec<_>>(), [false, true, true]);
    }
}
