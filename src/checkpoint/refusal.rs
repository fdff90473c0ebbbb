//! Why a checkpoint is not read.

use std::io;

/// Why a checkpoint is not read: a sentence for the log. None of them loses anything but time.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The system does not give its bytes.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// It does not begin as one.
    #[error("it is not a checkpoint")]
    NotACheckpoint,
    /// It was written by another build.
    #[error("its format has version {found}, and this build reads version {known}")]
    OtherVersion {
        /// The version it says it has.
        found: u32,
        /// The version that this build reads and writes.
        known: u32,
    },
    /// It ends before its end mark.
    #[error("it is cut short: it ends at byte {at}, before its end mark")]
    CutShort {
        /// Where it ends.
        at: u64,
    },
    /// A checksum does not fit.
    #[error("it is damaged: the checksum of its part at byte {at} does not fit")]
    Damaged {
        /// Where the part begins.
        at: u64,
    },
    /// A block that is whole, but was not written to this place of this file.
    #[error("the block at byte {at} belongs to another place or to another file")]
    Misplaced {
        /// Where the block begins.
        at: u64,
    },
    /// Something behind the end mark.
    #[error("it goes on behind its end mark, at byte {at}")]
    Overlong {
        /// Where it should end.
        at: u64,
    },
    /// The checksums fit, the content does not.
    #[error("the part at byte {at} contradicts itself: {what}")]
    Contradictory {
        /// Where the part begins.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// It is in the wrong directory.
    #[error("it is a checkpoint of {topic}-{partition}")]
    OtherPartition {
        /// The topic it is of.
        topic: String,
        /// The partition it is of.
        partition: i32,
    },
}
