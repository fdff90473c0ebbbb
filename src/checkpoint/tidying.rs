//! Removes what nobody needs any more, of all partitions.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::disk::Disk;
use super::names::Name;

/// Checkpoints that were not written to for so long are removed. Those of a partition that is owned are written anew each day
/// at least; one that was given up may come back, but seldom after so long.
pub(super) const KEPT_FOR: Duration = Duration::from_hours(7 * 24);

/// Removes the files of checkpoints that were never completed. One that cannot be removed only takes room.
pub(super) fn remove_unfinished(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    each_file(disk, root, &mut |path, name| {
        if !name.is_complete {
            remove(disk, path, "an unfinished checkpoint");
        }
    })
}

/// Removes complete ones that are too old, as they are of partitions that others own now.
pub(super) fn remove_old(disk: &dyn Disk, root: &Path, now: SystemTime) {
    let result = each_file(disk, root, &mut |path, name| {
        // What seems to be from the future is left: the clock was set.
        let age = disk.modified(path).ok().and_then(|modified| now.duration_since(modified).ok());
        if name.is_complete && age.is_some_and(|age| age > KEPT_FOR) {
            tracing::info!("removing the checkpoint {}, which is old", path.display());
            remove(disk, path, "an old checkpoint");
        }
    });
    if let Err(error) = result {
        tracing::warn!("old checkpoints may be left behind: cannot list {}: {error}", root.display());
    }
}

fn each_file(disk: &dyn Disk, root: &Path, f: &mut dyn FnMut(&Path, Name)) -> io::Result<()> {
    for topic in disk.list(root)? {
        let topic_dir = root.join(topic);
        // What is no directory has no names in it, and is not ours.
        for partition in disk.list(&topic_dir).unwrap_or_default() {
            let dir = topic_dir.join(partition);
            for file in disk.list(&dir).unwrap_or_default() {
                if let Some(name) = Name::parse(&file) {
                    f(&dir.join(file), name);
                }
            }
        }
    }
    Ok(())
}

/// Removes a file; one that cannot be removed is said in the log.
pub(super) fn remove(disk: &dyn Disk, path: &Path, what: &str) {
    if let Err(error) = disk.remove(path) {
        tracing::warn!("{what} is left behind: cannot remove {}: {error}", path.display());
    }
}
