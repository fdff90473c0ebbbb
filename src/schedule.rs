//! The words of the domain: what a schedule is, apart from any wire format and any store.
//!
//! Everything here borrows: a decoder hands out slices of the record it read, and the engine copies each
//! schedule once, into its own packed allocation.

mod headers;
mod partitioner;
mod topic_name;
pub mod varint;

pub use headers::{Header, HeaderSpan, Headers, HeadersBuf};
pub use partitioner::partition_of;
pub use topic_name::is_legal_topic_name;

/// When a schedule is to be delivered: milliseconds since the Unix epoch, any `i64`.
///
/// Times before 1970 are simply in the past, the wheel reaches every later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueTime(i64);

impl DueTime {
    /// The due time `ms` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_epoch_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn epoch_ms(self) -> i64 {
        self.0
    }
}

/// A message and the time to deliver it, borrowed from wherever it was read.
///
/// The schedule's ID is not part of it: the ID is the key of the record that carried the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule<'a> {
    /// When to deliver.
    pub due: DueTime,
    /// The destination topic, as the producer wrote it (not yet checked for legality).
    pub topic: &'a str,
    /// The key of the message to deliver; may be empty, is never null (neither wire format can say null).
    pub key: &'a [u8],
    /// The value of the message to deliver; `None` delivers a null value (a delete to a compacted topic).
    pub value: Option<&'a [u8]>,
    /// The headers of the message to deliver.
    pub headers: Headers<'a>,
}

/// How the record that carried a schedule was written, so that it can be written again the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Format {
    /// Raw Avro binary, schema `AvroSchedule`.
    Avro = 0,
    /// A JSON object with base64 fields.
    Json = 1,
}
