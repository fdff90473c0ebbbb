//! Schedules as the benches on a real Kafka write them.

use kafka_message_scheduler::codec;
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};

use crate::support::client::NewRecord;

const PAYLOAD: [u8; 64] = [b'x'; 64];

/// A schedule with a message of about 100 bytes; its key is the ID.
pub fn schedule(topic: &str, id: &str, due_ms: i64, destination: &str) -> NewRecord {
    let schedule = Schedule {
        due: DueTime::from_epoch_ms(due_ms),
        topic: destination,
        key: id.as_bytes(),
        value: Some(&PAYLOAD),
        headers: Headers::default(),
    };
    let mut value = Vec::new();
    codec::encode(Format::Json, &schedule, &mut value);
    NewRecord::to(topic).key(id).value(value)
}
