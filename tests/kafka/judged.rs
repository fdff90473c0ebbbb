//! What the judge is to know of a record or a message that a reader saw.

use crate::support::client::{Place, Seen};
use crate::support::history::{Message, Record, Write, payload_id};

/// A record of a schedule topic at `place`, of the ID `key`.
pub(crate) fn record(place: &Place, key: &[u8], write: Write) -> Record {
    let Place { topic, partition, offset } = place.clone();
    Record { topic, partition, offset, key: key.to_vec(), write }
}

/// What a null value did: the scheduler's tombstone, or somebody's cancel.
pub(crate) fn null_value(seen: &Seen) -> Write {
    if seen.header("schedule:expired") == Some(b"true") { Write::Expired } else { Write::Delete }
}

/// A message as it arrived at its destination.
pub(crate) fn message(seen: Seen) -> Message {
    Message {
        destination: seen.topic,
        payload_id: payload_id(seen.value.as_deref()),
        key: seen.key.unwrap_or_default(),
        seen_at_ms: seen.timestamp_ms,
    }
}
