//! A partition's own queue, read in place.

use std::ffi::{CStr, c_void};
use std::ops::Range;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::{ErrorCode, describe, to_text};
use crate::kafka::Resume;
use crate::prefetch::prefetch;
use crate::schedule::HeadersBuf;

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
    /// One of the tombstones that the caller knows.
    Known {
        offset: i64,
    },
    /// The keys of the records that follow in this call.
    Ahead {
        keys: &'a [&'a [u8]],
    },
    End {
        offset: i64,
    },
    Error {
        code: ErrorCode,
        reason: String,
    },
}

/// What [`NativeQueue::discard`] took.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Discarded {
    pub(in crate::kafka) records: usize,
    /// Of keys and values.
    pub(in crate::kafka) bytes: usize,
    /// Where the log goes on; 0 when nothing was taken.
    pub(in crate::kafka) next_offset: i64,
    /// The last error among the items.
    pub(in crate::kafka) error: Option<ErrorCode>,
}

/// Items that are taken and given back by one call.
const DISCARDED_TOGETHER: usize = 1_000;

const CACHE_LINE: usize = 64;
/// Of a message; what is longer the processor fetches ahead by itself.
const PREFETCHED_LINES: usize = 4;

/// Messages that are taken from the queue before the first of them is handed over, so that the keys are known ahead.
const GROUP: usize = 32;

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

    /// Waits up to `wait` for the first item, then takes what is there without waiting, at most `max`. Of tombstones at the
    /// offsets `known` nothing is read.
    ///
    /// One message a call, because of librdkafka's ways to read, this alone keeps the position right when a rebalance
    /// pauses every partition and then goes on from it. The batch call counts an end-of-partition event as a record
    /// (librdkafka issue 4844); the callback calls drop outdated records, but move the position past the outdated
    /// commit markers between them. Either way records would be missed.
    pub(in crate::kafka) fn read(
        &mut self,
        wait: Duration,
        max: usize,
        known: &Range<i64>,
        sink: &mut dyn FnMut(QueueItem<'_>),
    ) -> usize {
        let mut wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        let mut taken = 0;
        let mut group: Vec<OwnMessage> = Vec::new();
        while taken < max {
            while group.len() < GROUP.min(max - taken) {
                // SAFETY: a valid queue; the message is ours until dropped.
                let message = unsafe { sys::rd_kafka_consume_queue(self.queue.queue.as_ptr(), wait_ms) };
                let Some(message) = NonNull::new(message) else { break };
                let message = OwnMessage(message);
                if !message.is_tombstone_at(known) {
                    message.prefetch();
                }
                group.push(message);
                wait_ms = 0;
            }
            if group.is_empty() {
                break;
            }
            taken += group.len();
            announce(&group, known, sink);
            for message in group.drain(..) {
                if message.is_tombstone_at(known) {
                    self.started = true;
                    sink(QueueItem::Known { offset: message.get().offset });
                } else {
                    // SAFETY: a live message.
                    unsafe { self.hand_over(message.get(), sink) };
                }
            }
        }
        taken
    }

    /// Takes a batch from the queue, waiting up to `wait` until it is full, and gives it back unread.
    ///
    /// The yardstick of reading, not a way to read: the batch call spoils librdkafka's position (see [`read`](Self::read)).
    pub(in crate::kafka) fn discard(&mut self, wait: Duration) -> Discarded {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        let mut batch = [null_mut::<sys::rd_kafka_message_t>(); DISCARDED_TOGETHER];
        // SAFETY: a valid queue, and room for as many messages as are asked for.
        let taken = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.queue.queue.as_ptr(),
                wait_ms,
                batch.as_mut_ptr(),
                batch.len(),
            )
        };
        let mut discarded = Discarded::default();
        // Below zero: an error of the call, after which there is nothing to take either.
        for message in batch.into_iter().take(usize::try_from(taken).unwrap_or(0)).filter_map(NonNull::new) {
            let message = OwnMessage(message);
            let message = message.get();
            match message.err {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    discarded.records += 1;
                    discarded.bytes += message.key_len + message.len;
                    discarded.next_offset = discarded.next_offset.max(message.offset + 1);
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    discarded.next_offset = discarded.next_offset.max(message.offset);
                }
                err => discarded.error = Some(err.into()),
            }
        }
        discarded
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

    /// Records and events that lie in the queue.
    pub(in crate::kafka) fn len(&self) -> usize {
        // SAFETY: a valid queue, locked inside.
        unsafe { sys::rd_kafka_queue_length(self.queue.queue.as_ptr()) }
    }

    /// Nothing of what was taken counts: reading begins anew somewhere.
    pub(in crate::kafka) fn forget(&mut self) {
        self.eof_offset = -1;
        self.started = false;
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

/// A message taken from a queue; given back when dropped, should the sink panic too.
struct OwnMessage(NonNull<sys::rd_kafka_message_t>);

impl OwnMessage {
    /// The message itself.
    fn get(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: live until dropped.
        unsafe { self.0.as_ref() }
    }

    /// Whether it is a tombstone at one of these offsets.
    fn is_tombstone_at(&self, offsets: &Range<i64>) -> bool {
        let message = self.get();
        offsets.contains(&message.offset)
            && message.payload.is_null()
            && message.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// Asks for its content, which another thread has written: in a group they arrive together, and not one after the other.
    fn prefetch(&self) {
        let message = self.get();
        // SAFETY: pointer and length describe memory that lives as long as the message.
        for content in
            [unsafe { bytes(message.key, message.key_len) }, unsafe { bytes(message.payload, message.len) }]
        {
            let content = content.unwrap_or_default();
            content.chunks(CACHE_LINE).take(PREFETCHED_LINES).for_each(|line| prefetch(&line[0]));
            content.last().into_iter().for_each(prefetch); // behind it are the headers
        }
    }
}

impl Drop for OwnMessage {
    fn drop(&mut self) {
        // SAFETY: taken from a queue and destroyed once, here.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) }
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
unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's promise.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
}

/// Says the keys of a group; one message alone is no news.
fn announce(group: &[OwnMessage], known: &Range<i64>, sink: &mut dyn FnMut(QueueItem<'_>)) {
    if group.len() < 2 {
        return;
    }
    let mut keys = [&[][..]; GROUP];
    let mut count = 0;
    for message in group.iter().filter(|message| !message.is_tombstone_at(known)) {
        // SAFETY: pointer and length describe memory that lives as long as the message.
        let key = unsafe { bytes(message.get().key, message.get().key_len) };
        // An error's message has no key, nor has a record that is no schedule.
        if let Some(key) = key {
            keys[count] = key;
            count += 1;
        }
    }
    if count > 0 {
        sink(QueueItem::Ahead { keys: &keys[..count] });
    }
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
        let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value, size)) };
        out.push(&name.to_string_lossy(), value);
    }
}

/// Where librdkafka stands in the partition, commit markers included; `None` before the first record.
pub(in crate::kafka) fn position<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &std::ffi::CStr,
    partition: i32,
) -> Option<Resume> {
    // SAFETY: the list is created, used and destroyed here; the topic string outlives it.
    unsafe {
        let list = sys::rd_kafka_topic_partition_list_new(1);
        let element = sys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition);
        let err = sys::rd_kafka_position(consumer.client().native_ptr(), list);
        let offset = (*element).offset;
        let leader_epoch = sys::rd_kafka_topic_partition_get_leader_epoch(element);
        sys::rd_kafka_topic_partition_list_destroy(list);
        let is_known = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && offset >= 0;
        is_known.then_some(Resume { offset, leader_epoch: (leader_epoch >= 0).then_some(leader_epoch) })
    }
}

/// Sets the leader epoch that a partition of the list is to begin with, so that a log that is not the same any more
/// before its offset is noticed. Nothing happens if the list does not have the partition.
pub(in crate::kafka) fn set_leader_epoch(
    list: &mut TopicPartitionList,
    topic: &std::ffi::CStr,
    partition: i32,
    leader_epoch: i32,
) {
    // SAFETY: the list is alive and borrowed exclusively; the element is its own and used before it changes.
    unsafe {
        let element = sys::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !element.is_null() {
            sys::rd_kafka_topic_partition_set_leader_epoch(element, leader_epoch);
        }
    }
}

/// The partition's high watermark as the last answer to a fetch gave it; `None` before the first.
pub(in crate::kafka) fn known_end<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &std::ffi::CStr,
    partition: i32,
) -> Option<i64> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: a live client, a NUL-terminated topic and two valid out-pointers; nothing is asked of the cluster.
    let err = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}
