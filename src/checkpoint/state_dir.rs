//! The state directory: who may use it, and what in it is ours.
//!
//! ```text
//! <state.dir>/~lock                            who uses the directory holds a lock on this file
//! <state.dir>/<topic>/<partition>/<offset>.ckpt    a checkpoint
//! <state.dir>/<topic>/<partition>/<offset>.tmp     one that is being written
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
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::Store;
use super::disk::{Disk, OsDisk};
use super::lane::{Job, Lane};
use super::names::Name;
use super::partition_files::PartitionFiles;
use super::writer::Writer;

const LOCK: &str = "~lock";

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
/// Dropped, it first writes what it was given.
pub struct StateDir {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    orders: Sender<Order>,
    /// Bytes that wait to be written, of all partitions.
    waiting: Arc<AtomicUsize>,
    lanes: AtomicU64,
    writer: Option<JoinHandle<()>>,
    /// Locked as long as it is open.
    _lock: File,
}

/// What the writer thread is told.
pub(super) enum Order {
    Do(Job),
    End,
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
        reason = "the thread is the directory's own, and joined when it is dropped"
    )]
    fn with(disk: Arc<dyn Disk>, path: &Path, lock: File) -> io::Result<Self> {
        let (orders, received) = channel();
        let writer = Writer::new(Arc::clone(&disk));
        let thread = std::thread::Builder::new().name("checkpoints".to_owned());
        let writer = thread.spawn(move || follow(&received, writer))?;
        Ok(Self {
            path: path.to_owned(),
            disk,
            orders,
            waiting: Arc::default(),
            lanes: AtomicU64::new(0),
            writer: Some(writer),
            _lock: lock,
        })
    }

    /// Where the checkpoints of a partition are kept. Each partition has one at a time.
    #[must_use]
    pub fn store(&self, topic: &str, partition: i32) -> Box<dyn Store> {
        let dir = self.path.join(topic).join(partition.to_string());
        let number = self.lanes.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = channel();
        let lane = Lane::new(number, (topic, partition), dir, &self.waiting, sender);
        Box::new(PartitionFiles::new(lane, &self.disk, &self.orders, replies))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // If there is nobody to tell, or it ended in a panic, nothing is to be done about it here.
        let _ = self.orders.send(Order::End);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// What the writer thread does.
fn follow(orders: &Receiver<Order>, mut writer: Writer) {
    while let Ok(Order::Do(job)) = orders.recv() {
        writer.run(job);
    }
}

/// Removes the files of checkpoints that were never completed. One that cannot be removed only takes room.
pub(super) fn remove_unfinished(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    for topic in disk.list(root)? {
        let topic_dir = root.join(topic);
        // What is no directory has no names in it, and is not ours.
        for partition in disk.list(&topic_dir).unwrap_or_default() {
            let dir = topic_dir.join(partition);
            for name in disk.list(&dir).unwrap_or_default() {
                if matches!(Name::parse(&name), Some(Name::Unfinished(_))) {
                    let path = dir.join(name);
                    if let Err(error) = disk.remove(&path) {
                        tracing::warn!(
                            "an unfinished checkpoint is left behind: cannot remove {}: {error}",
                            path.display()
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

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
        store.open(); // which waits
        store.outcome().unwrap()
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
        let file = partition_dir(&path).join("17.ckpt");
        assert_eq!(fs::metadata(&file).unwrap().len(), written.bytes);
        assert_eq!(found(&mut *first), Some(17));
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
        assert_eq!(found(&mut *store(&dir)), Some(19));
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
        assert_eq!(mode(&partition_dir.join("17.ckpt")), 0o600);
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
        let ours = ["5.tmp", "6.tmp"].map(|name| dir.join(name));
        let others = [
            dir.join("notes.txt"),
            dir.join("5.tmp.old"),
            root.path().join("5.tmp"),
            root.path().join("schedules/5.tmp"),
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
        let good = fs::read(dir.join("17.ckpt")).unwrap();
        let mut damaged = good.clone();
        damaged[60] ^= 1;
        let other = encode_in_pieces(Encoder::new(&Stand { partition: 4, ..stand() }), &[]).concat();
        let bad: [(&str, &[u8]); 4] = [
            ("20.ckpt", b""),
            ("21.ckpt", b"not a checkpoint, but as long as one"),
            ("22.ckpt", &damaged),
            ("23.ckpt", &other),
        ];
        for (name, bytes) in bad {
            fs::write(dir.join(name), bytes).unwrap();
        }
        fs::create_dir(dir.join("24.ckpt")).unwrap(); // which cannot be read, and may be another time
        assert_eq!(found(&mut *store), Some(17));
        assert!(bad.iter().all(|(name, _)| !dir.join(name).exists()));
        assert!(dir.join("24.ckpt").exists());
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
        drop(store);
        let mut next = self::store(&state_dir);
        write(&mut *next, 18).unwrap();
        drop(next); // which abandons nothing that was finished
        assert_eq!(found(&mut *self::store(&state_dir)), Some(18));
    }

    #[test]
    fn a_disk_that_is_held_up_makes_nobody_wait_and_what_waits_for_it_is_bounded() {
        const PIECE: usize = 1 << 20;
        let disk = SimulatedDisk::default();
        disk.create_dir(Path::new("/state")).unwrap();
        let lock = tempfile::tempfile().unwrap();
        let state_dir = StateDir::with(Arc::new(disk.clone()), Path::new("/state"), lock).unwrap();
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
}
