//! A file system in memory that can be stopped at any step, fill up, be held up, hang or break down.
//!
//! What it keeps when power is lost is the least that a file system has to keep, and by chance more: of a file what was synced,
//! of the names in a directory those that were when the directory was.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::disk::{Disk, DiskFile};

/// How a run of it ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The process is killed: what it did stays.
    Killed,
    /// The machine is: what was not synced is kept by chance, of which this is the seed.
    Off(u64),
}

/// A file system in memory. A clone is the same one.
#[derive(Clone, Default)]
pub(super) struct SimulatedDisk(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Default)]
struct State {
    files: Vec<File>,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    /// As they are if power is lost now…
    synced_names: BTreeMap<PathBuf, usize>,
    /// …and what may have been done to them by chance, in order.
    changes: Vec<Change>,
    /// How many steps are left until nothing works any more.
    steps_left: Option<usize>,
    bytes_left: Option<usize>,
    is_held_up: bool,
    is_hanging: bool,
    is_broken: bool,
}

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    synced_len: usize,
}

#[derive(Clone)]
struct Change {
    dir: PathBuf,
    gone: Option<PathBuf>,
    come: Option<(PathBuf, usize)>,
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((path, file)) = &self.come {
            names.insert(path.clone(), *file);
        }
    }
}

impl SimulatedDisk {
    /// Nothing works any more after so many steps; the step after them is done in part.
    pub(super) fn stop_after(&self, steps: usize) {
        self.state().steps_left = Some(steps);
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.state().steps_left == Some(0)
    }

    /// So many more bytes fit.
    pub(super) fn fill_up_after(&self, bytes: usize) {
        self.state().bytes_left = Some(bytes);
    }

    /// Writing waits until what is returned is dropped.
    pub(super) fn hold_up(&self) -> HeldUp {
        self.state().is_held_up = true;
        HeldUp(self.clone())
    }

    /// Everything waits until it is let on, reading too.
    pub(super) fn hang(&self) {
        self.state().is_hanging = true;
    }

    /// Whatever is asked of it ends in a panic.
    pub(super) fn break_down(&self) {
        self.state().is_broken = true;
    }

    pub(super) fn let_on(&self) {
        self.state().is_hanging = false;
        self.0.changed.notify_all();
    }

    /// What the next process finds.
    pub(super) fn after(&self, end: End) -> Self {
        let mut state = self.state().clone();
        if let End::Off(seed) = end {
            let mut chance = Chance(seed);
            state.names = state.synced_names.clone();
            for change in &state.changes {
                if chance.next().is_multiple_of(2) {
                    change.apply(&mut state.names);
                }
            }
            for file in &mut state.files {
                let unsynced = file.bytes.len() - file.synced_len;
                let kept = chance.next() as usize % (unsynced + 1);
                file.bytes.truncate(file.synced_len + kept);
                if chance.next().is_multiple_of(4) {
                    file.bytes[file.synced_len..].fill(0); // of its size, but not of its content
                }
            }
        }
        state.synced_names.clone_from(&state.names);
        state.files.iter_mut().for_each(|file| file.synced_len = file.bytes.len());
        (state.changes, state.steps_left, state.bytes_left) = (Vec::new(), None, None);
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// The files there are, by name.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for as long as it hangs.
    fn awake(&self) -> MutexGuard<'_, State> {
        let awake = self.0.changed.wait_while(self.state(), |state| state.is_hanging);
        awake.unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.awake();
        assert!(!state.is_broken, "the disk has broken down, as the test wants it");
        match &mut state.steps_left {
            Some(0) => return Err(io::Error::other("nothing works any more")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state)
    }
}

/// A disk that is held up.
#[must_use = "it is held up for as long as this lives"]
pub(super) struct HeldUp(SimulatedDisk);

impl Drop for HeldUp {
    fn drop(&mut self) {
        self.0.state().is_held_up = false;
        self.0.0.changed.notify_all();
    }
}

impl State {
    fn change(&mut self, dir: Option<&Path>, gone: Option<&Path>, come: Option<(&Path, usize)>) {
        let change = Change {
            dir: dir.expect("a file is in a directory").to_owned(),
            gone: gone.map(Path::to_owned),
            come: come.map(|(path, file)| (path.to_owned(), file)),
        };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        Ok(self.step()?.dirs.insert(dir.to_owned()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.step()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().chain(&state.dirs).filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.step()?;
        assert!(
            file.parent().is_some_and(|dir| state.dirs.contains(dir)),
            "{} has no directory",
            file.display()
        );
        let number = state.files.len();
        state.files.push(File::default());
        state.change(file.parent(), None, Some((file, number)));
        Ok(Box::new(Open { disk: self.clone(), number }))
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn Read + Send>> {
        let state = self.step()?;
        let number = state.file(file)?;
        let content = Cursor::new(state.files[number].bytes.clone());
        Ok(Box::new(OpenToRead { disk: self.clone(), content }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let number = state.file(from)?;
        state.change(from.parent(), Some(from), Some((to, number)));
        Ok(())
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        state.file(file)?;
        state.change(file.parent(), Some(file), None);
        Ok(())
    }

    fn modified(&self, _: &Path) -> io::Result<SystemTime> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let State { changes, synced_names, .. } = &mut *state;
        changes.retain(|change| {
            let is_here = change.dir == dir;
            if is_here {
                change.apply(synced_names);
            }
            !is_here
        });
        Ok(())
    }
}

/// A file that is read.
struct OpenToRead {
    disk: SimulatedDisk,
    content: Cursor<Vec<u8>>,
}

impl Read for OpenToRead {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        drop(self.disk.awake());
        self.content.read(room)
    }
}

/// An open file.
struct Open {
    disk: SimulatedDisk,
    number: usize,
}

impl Write for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = self.disk.state();
        let held_up = self.disk.0.changed.wait_while(state, |state| state.is_held_up);
        drop(held_up.unwrap_or_else(PoisonError::into_inner));
        let Ok(mut state) = self.disk.step() else {
            // The step that it stopped at: half of it.
            let mut state = self.disk.state();
            state.files[self.number].bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
            return Err(io::Error::other("nothing works any more"));
        };
        let len = state.bytes_left.unwrap_or(usize::MAX).min(bytes.len());
        if len == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.bytes_left = state.bytes_left.map(|left| left - len);
        state.files[self.number].bytes.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for Open {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.step()?;
        let file = &mut state.files[self.number];
        file.synced_len = file.bytes.len();
        Ok(())
    }
}

/// Plain pseudo-random numbers (`SplitMix64`).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
