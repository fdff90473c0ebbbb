//! Everything unsafe about librdkafka: partition queues read in place, a producer whose delivery reports are served
//! on the caller's thread, topic IDs, and waits that setting the clock does not prolong. The rest of the crate sees safe
//! types only.
//!
//! Why not the `rdkafka` crate's own types: its producer flushes in steps of 100 ms and hides the offsets of delivery
//! reports, its partition queues allocate per record and cannot be woken, and it has no `DescribeTopics`.
#![allow(
    unsafe_code,
    reason = "the crate's only door to librdkafka's C API; every block says why it is sound"
)]

mod heap;
mod producer;
mod queue;
mod topics;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod wait;

pub(super) use heap::give_back;
pub(super) use producer::{NativeProducer, Report, TopicHandle, producer_is_finished};
pub(super) use queue::{
    Discarded, NativeQueue, QueueItem, QueueWaker, known_end, position, set_leader_epoch,
};
pub(super) use topics::topic_ids;

use std::ffi::{CStr, c_char};

use rdkafka::bindings as sys;
pub(super) use rdkafka::types::RDKafkaErrorCode as ErrorCode;

/// What librdkafka says an error code means.
fn describe(err: sys::rd_kafka_resp_err_t) -> String {
    // SAFETY: rd_kafka_err2str returns a static, NUL-terminated string for every code.
    unsafe { to_text(sys::rd_kafka_err2str(err)) }
}

/// # Safety
/// `text` is null or a NUL-terminated string that outlives the call.
unsafe fn to_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null; NUL-terminated by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
