//! A partition's own queue, read in place.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;

use super::{ErrorCode, describe, to_text};
use crate::schedule::HeadersBuf;

/// Items taken from librdkafka at a time; the array lives on the stack of [`NativeQueue::read`].
const BATCH: usize = 512;

/// The queue of one partition, split from its consumer's main queue.
///
/// It keeps the consumer alive: librdkafka's queue must not outlive it.
pub(in crate::kafka) struct NativeQueue {
    queue: Arc<QueueHandle>,
    scratch: HeadersBuf,
    eof_offset: i64,
    started: bool,
}

/// Wakes a thread that waits in [`NativeQueue::read`].
#[derive(Clone)]
pub(in crate::kafka) struct QueueWaker(Arc<QueueHandle>);

struct QueueHandle {
    queue: NonNull<sys::rd_kafka_queue_t>,
    _consumer: Arc<dyn Send + Sync>,
}

// SAFETY: librdkafka's queues are locked inside; yielding and polling from different threads is their documented use.
unsafe impl Send for QueueHandle {}
// SAFETY: as above; all access is through librdkafka's own locks.
unsafe impl Sync for QueueHandle {}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        // SAFETY: the pointer came from rd_kafka_queue_get_partition and is destroyed once, here, before the consumer.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// One item of a queue, borrowed from librdkafka until the sink returns.
pub(in crate::kafka) enum QueueItem<'a> {
    Record {
        offset: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: crate::schedule::Headers<'a>,
    },
    End {
        offset: i64,
    },
    Error {
        code: ErrorCode,
        reason: String,
    },
}

impl NativeQueue {
    /// Splits the partition's queue off. Call it *before* the partition is assigned: a record fetched in between would
    /// land on the main queue. `None`: librdkafka does not know the partition.
    pub(in crate::kafka) fn split<C: ConsumerContext + 'static>(
        consumer: Arc<BaseConsumer<C>>,
        topic: &str,
        partition: i32,
    ) -> Option<Self> {
        let name = std::ffi::CString::new(topic).ok()?;
        // SAFETY: the handle is valid as long as the consumer, which the QueueHandle keeps alive.
        let queue = NonNull::new(unsafe {
            sys::rd_kafka_queue_get_partition(consumer.client().native_ptr(), name.as_ptr(), partition)
        })?;
        // SAFETY: a valid queue; forwarding to null takes it off the consumer's queue, and librdkafka remembers that
        // the application decided so when it starts fetching.
        unsafe { sys::rd_kafka_queue_forward(queue.as_ptr(), std::ptr::null_mut()) };
        let queue = Arc::new(QueueHandle { queue, _consumer: consumer });
        Some(Self { queue, scratch: HeadersBuf::new(), eof_offset: -1, started: false })
    }

    pub(in crate::kafka) fn waker(&self) -> QueueWaker {
        QueueWaker(Arc::clone(&self.queue))
    }

    /// Waits up to `wait` for the first item, then takes what is there without waiting, at most `max`.
    pub(in crate::kafka) fn read(
        &mut self,
        wait: Duration,
        max: usize,
        sink: &mut dyn FnMut(QueueItem<'_>),
    ) -> usize {
        let mut taken = 0;
        let mut messages = [std::ptr::null_mut(); BATCH];
        while taken < max {
            // One array slot while waiting (a batch call waits until its array is full), the whole array after that.
            let first = taken == 0 && !wait.is_zero();
            let room = if first { 1 } else { BATCH.min(max - taken) };
            let wait_ms = if first { i32::try_from(wait.as_millis()).unwrap_or(i32::MAX) } else { 0 };
            // SAFETY: a valid queue, an array of at least `room` slots; each message handed out is destroyed below.
            let count = unsafe {
                sys::rd_kafka_consume_batch_queue(
                    self.queue.queue.as_ptr(),
                    wait_ms,
                    messages.as_mut_ptr(),
                    room,
                )
            };
            let Ok(count) = usize::try_from(count) else { break };
            for &message in &messages[..count] {
                // SAFETY: librdkafka filled the first `count` slots with messages that are ours until destroyed.
                unsafe {
                    self.hand_over(&*message, sink);
                    sys::rd_kafka_message_destroy(message);
                }
            }
            taken += count;
            if count == 0 || (count < room && !first) {
                break;
            }
        }
        taken
    }

    /// # Safety
    /// `message` is a message of librdkafka that is not yet destroyed.
    unsafe fn hand_over(&mut self, message: &sys::rd_kafka_message_t, sink: &mut dyn FnMut(QueueItem<'_>)) {
        match message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                self.started = true;
                self.scratch.clear();
                // SAFETY: pointer and length of key and value describe memory that lives as long as the message.
                let (key, value) = unsafe {
                    read_headers(message, &mut self.scratch);
                    (bytes(message.key, message.key_len), bytes(message.payload, message.len))
                };
                let headers = self.scratch.as_headers();
                sink(QueueItem::Record { offset: message.offset, key, value, headers });
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                self.started = true;
                self.eof_offset = self.eof_offset.max(message.offset);
                sink(QueueItem::End { offset: message.offset });
            }
            err => {
                // SAFETY: the string belongs to the message, which is alive.
                let reason = unsafe { to_text(sys::rd_kafka_message_errstr(message)) };
                let reason = if reason.is_empty() { describe(err) } else { reason };
                sink(QueueItem::Error { code: err.into(), reason });
            }
        }
    }

    /// The highest end of the log that was reported; −1 before the first.
    pub(in crate::kafka) fn eof_offset(&self) -> i64 {
        self.eof_offset
    }

    /// Whether anything of this assignment has arrived. Before, librdkafka may still know the position of an earlier
    /// assignment of the same partition: it forgets that when the earlier fetching has stopped, which is before the
    /// new one starts, but not at once.
    pub(in crate::kafka) fn has_started(&self) -> bool {
        self.started
    }
}

impl QueueWaker {
    pub(in crate::kafka) fn wake(&self) {
        // SAFETY: a valid queue; yielding is allowed from any thread.
        unsafe { sys::rd_kafka_queue_yield(self.0.queue.as_ptr()) }
    }
}

/// # Safety
/// `data` is null or points to `len` readable bytes that live for `'a`.
unsafe fn bytes<'a>(data: *const std::ffi::c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's promise.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
}

/// # Safety
/// `message` is a live message of librdkafka.
unsafe fn read_headers(message: &sys::rd_kafka_message_t, out: &mut HeadersBuf) {
    let mut headers = std::ptr::null_mut();
    // SAFETY: a live message; librdkafka keeps the parsed headers in it, so they live as long as it does.
    if unsafe { sys::rd_kafka_message_headers(message, &raw mut headers) }
        != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
    {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: valid headers and out-pointers; past the last header the call answers an error and ends the loop.
        let err = unsafe {
            sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size)
        };
        if err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        // SAFETY: name is NUL-terminated, value null or `size` bytes, both owned by the message.
        let (name, value) = unsafe { (to_text(name), bytes(value, size)) };
        out.push(&name, value);
    }
}

/// Where librdkafka stands in the partition, commit markers included; `None` before the first record.
///
/// After an end-of-partition event at `e` the batch API sets the position to `e + 1` without having read offset `e`
/// (librdkafka issue 4844), so a position of exactly that is no proof.
pub(in crate::kafka) fn position<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &std::ffi::CStr,
    partition: i32,
) -> Option<i64> {
    // SAFETY: the list is created, used and destroyed here; the topic string outlives it.
    unsafe {
        let list = sys::rd_kafka_topic_partition_list_new(1);
        let element = sys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition);
        let err = sys::rd_kafka_position(consumer.client().native_ptr(), list);
        let offset = (*element).offset;
        sys::rd_kafka_topic_partition_list_destroy(list);
        (err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && offset >= 0).then_some(offset)
    }
}
