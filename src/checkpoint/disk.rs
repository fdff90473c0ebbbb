//! What is asked of a file system.
//!
//! It is asked through a trait, so that a test can let it fail, fill up or lose power at any point.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

/// A file system.
pub(super) trait Disk: Send + Sync {
    /// Creates a directory that only its owner may enter, in one that is there; false if it was there before.
    fn create_dir(&self, dir: &Path) -> io::Result<bool>;

    /// The names in a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// A new file that only its owner may read, in place of one of that name.
    fn create(&self, file: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// A file, to be read from its beginning.
    fn open(&self, file: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// Gives a file another name, in the same directory, and takes that name from the one that had it, at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, file: &Path) -> io::Result<()>;

    /// When a file was written to last.
    fn modified(&self, file: &Path) -> io::Result<SystemTime>;

    /// Makes sure that what a directory has and does not have stays so, even if power is lost.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub(super) trait DiskFile: Write + Send {
    /// Makes sure that what was written stays, even if power is lost.
    fn sync(&mut self) -> io::Result<()>;
}

/// The system's.
pub(super) struct OsDisk;

impl Disk for OsDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // What is not UTF-8 is not ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?))
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(file)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn modified(&self, file: &Path) -> io::Result<SystemTime> {
        fs::metadata(file)?.modified()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
