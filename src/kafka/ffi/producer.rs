//! A producer with its delivery reports served on the caller's thread.
//!
//! `rd_kafka_flush` of a producer with a delivery-report callback serves the reports itself, waits no longer than the
//! last acknowledgement and overrides `linger.ms`; that makes a transaction a matter of milliseconds.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::types::{RDKafkaRespErr, RDKafkaType};

use super::{ErrorCode, describe, to_text};
use crate::kafka::{Kind, TransactionError};
use crate::schedule::Headers;

/// What became of one record.
#[derive(Clone, Debug)]
pub(in crate::kafka) struct Report {
    /// The tag given to [`NativeProducer::produce`].
    pub(in crate::kafka) tag: usize,
    /// The record's offset, or why it was not written.
    pub(in crate::kafka) outcome: Result<i64, ErrorCode>,
}

type Reports = RefCell<Vec<Report>>;

/// A producer of librdkafka; used and dropped on one thread, where its callbacks run.
pub(in crate::kafka) struct NativeProducer {
    client: NonNull<sys::rd_kafka_t>,
    /// Written by the delivery-report callback, which runs inside calls on `client`; outlives it.
    reports: Rc<Reports>,
    one_thread: PhantomData<*const ()>,
}

/// A destination topic known to a producer; must be dropped before it.
pub(in crate::kafka) struct TopicHandle(NonNull<sys::rd_kafka_topic_t>);

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: created by rd_kafka_topic_new and destroyed once, here; librdkafka counts its references itself.
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

impl TopicHandle {
    /// Enqueues a record without headers, copying it, by the shortest way there is. Its [`Report`] has the tag 0.
    pub(in crate::kafka) fn produce(
        &self,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), ErrorCode> {
        let (value_ptr, value_len) =
            value.map_or((null_mut(), 0), |v| (v.as_ptr().cast_mut().cast(), v.len()));
        // SAFETY: a live topic, whose producer outlives it; key and value are valid for the call, which copies them.
        unsafe {
            let outcome = sys::rd_kafka_produce(
                self.0.as_ptr(),
                partition,
                sys::RD_KAFKA_MSG_F_COPY as c_int,
                value_ptr,
                value_len,
                key.as_ptr().cast(),
                key.len(),
                null_mut(),
            );
            if outcome == 0 { Ok(()) } else { Err(sys::rd_kafka_last_error().into()) }
        }
    }
}

impl NativeProducer {
    /// A producer with the given configuration.
    pub(in crate::kafka) fn new(config: &ClientConfig) -> Result<Self, String> {
        let native = config.create_native_config().map_err(|e| e.to_string())?;
        let reports: Rc<Reports> = Rc::default();
        let mut message = [0 as c_char; 512];
        // SAFETY: the configuration is duplicated because rd_kafka_new takes ownership on success; the opaque pointer
        // stays valid because `reports` is dropped after the client (see Drop).
        let client = unsafe {
            let conf = sys::rd_kafka_conf_dup(native.ptr());
            sys::rd_kafka_conf_set_opaque(conf, Rc::as_ptr(&reports).cast_mut().cast());
            sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(on_report));
            sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            sys::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            let client =
                sys::rd_kafka_new(RDKafkaType::RD_KAFKA_PRODUCER, conf, message.as_mut_ptr(), message.len());
            if client.is_null() {
                sys::rd_kafka_conf_destroy(conf);
            }
            client
        };
        match NonNull::new(client) {
            Some(client) => Ok(Self { client, reports, one_thread: PhantomData }),
            // SAFETY: librdkafka wrote a NUL-terminated message.
            None => Err(unsafe { to_text(message.as_ptr()) }),
        }
    }

    /// Begins to take the transactional ID over. Resumable: call again on [`Kind::Retriable`].
    pub(in crate::kafka) fn init_transactions(&self, wait: Duration) -> Result<(), TransactionError> {
        // SAFETY: a live client.
        let error = unsafe { sys::rd_kafka_init_transactions(self.client.as_ptr(), timeout_ms(wait)) };
        self.check("init_transactions", error)
    }

    pub(in crate::kafka) fn begin(&self) -> Result<(), TransactionError> {
        // SAFETY: a live client.
        let error = unsafe { sys::rd_kafka_begin_transaction(self.client.as_ptr()) };
        self.check("begin_transaction", error)
    }

    /// Why the open transaction can only be aborted, if that is so. To be asked while one is open: another one cannot
    /// begin then, and librdkafka says what became of the first.
    pub(in crate::kafka) fn failed_transaction(&self) -> Option<(ErrorCode, TransactionError)> {
        // SAFETY: a live client.
        let error = unsafe { sys::rd_kafka_begin_transaction(self.client.as_ptr()) };
        debug_assert!(!error.is_null(), "no transaction was open");
        let failure = self.failure("transaction", error)?;
        // "Not in this state" is the answer about a transaction that is in order.
        (failure.0 != ErrorCode::State).then_some(failure)
    }

    pub(in crate::kafka) fn commit(&self, wait: Duration) -> Result<(), TransactionError> {
        // SAFETY: a live client.
        let error = unsafe { sys::rd_kafka_commit_transaction(self.client.as_ptr(), timeout_ms(wait)) };
        self.check("commit_transaction", error)
    }

    pub(in crate::kafka) fn abort(&self, wait: Duration) -> Result<(), TransactionError> {
        // SAFETY: a live client.
        let error = unsafe { sys::rd_kafka_abort_transaction(self.client.as_ptr(), timeout_ms(wait)) };
        self.check("abort_transaction", error)
    }

    /// Sends what is enqueued and waits for all reports; false when `wait` ended first.
    pub(in crate::kafka) fn flush(&self, wait: Duration) -> bool {
        // SAFETY: a live client.
        let err = unsafe { sys::rd_kafka_flush(self.client.as_ptr(), timeout_ms(wait)) };
        err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// Serves callbacks without waiting.
    pub(in crate::kafka) fn poll(&self) {
        self.poll_for(Duration::ZERO);
    }

    /// Serves callbacks, waiting up to `wait` for the first.
    pub(in crate::kafka) fn poll_for(&self, wait: Duration) {
        // SAFETY: a live client.
        unsafe { sys::rd_kafka_poll(self.client.as_ptr(), timeout_ms(wait)) };
    }

    /// The reports that arrived since the last call, in order of arrival.
    pub(in crate::kafka) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.reports.borrow_mut())
    }

    /// The error that ended this producer, if one has.
    pub(in crate::kafka) fn fatal_error(&self) -> Option<TransactionError> {
        let mut message = [0 as c_char; 512];
        // SAFETY: a live client and a buffer of the length given.
        let err =
            unsafe { sys::rd_kafka_fatal_error(self.client.as_ptr(), message.as_mut_ptr(), message.len()) };
        (err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| TransactionError {
            kind: producer_is_finished(err.into()).unwrap_or(Kind::Fatal),
            call: "producer",
            // SAFETY: librdkafka wrote a NUL-terminated message.
            reason: unsafe { to_text(message.as_ptr()) },
        })
    }

    /// A handle to a topic, for [`produce`](Self::produce) without a lookup by name. `None`: not a legal name.
    pub(in crate::kafka) fn topic(&self, name: &str) -> Option<TopicHandle> {
        let name = CString::new(name).ok()?;
        // SAFETY: a live client, a NUL-terminated name; a null configuration means the default one.
        NonNull::new(unsafe { sys::rd_kafka_topic_new(self.client.as_ptr(), name.as_ptr(), null_mut()) })
            .map(TopicHandle)
    }

    /// Asks the cluster about a topic, as a producer does before its first message to it.
    pub(in crate::kafka) fn metadata(&self, topic: &TopicHandle, wait: Duration) -> Result<(), ErrorCode> {
        let mut metadata = std::ptr::null();
        // SAFETY: live client and topic; on success the metadata is ours until destroyed, and names one topic.
        unsafe {
            let err = sys::rd_kafka_metadata(
                self.client.as_ptr(),
                0,
                topic.0.as_ptr(),
                &raw mut metadata,
                timeout_ms(wait),
            );
            if err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(err.into());
            }
            let topics = std::slice::from_raw_parts((*metadata).topics, (*metadata).topic_cnt as usize);
            let err =
                topics.first().map_or(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, |topic| {
                    let partitions =
                        std::slice::from_raw_parts(topic.partitions, topic.partition_cnt.max(0) as usize);
                    let leaderless = partitions.iter().any(|partition| partition.leader < 0);
                    match topic.err {
                        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR if leaderless => {
                            RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
                        }
                        err => err,
                    }
                });
            sys::rd_kafka_metadata_destroy(metadata);
            if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(err.into()) }
        }
    }

    /// Enqueues a record, copying it. `partition` −1 leaves the choice to the partitioner. `tag` comes back in the
    /// record's [`Report`].
    pub(in crate::kafka) fn produce(
        &self,
        topic: &TopicHandle,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        headers: [Headers<'_>; 2],
        tag: usize,
    ) -> Result<(), ErrorCode> {
        let native_headers = pack_headers(headers)?;
        let (value_ptr, value_len) =
            value.map_or((null_mut(), 0), |v| (v.as_ptr().cast_mut().cast(), v.len()));
        let mut arguments = [
            argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT, |u| u.rkt = topic.0.as_ptr()),
            argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION, |u| u.i32_ = partition),
            argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS, |u| {
                u.i = sys::RD_KAFKA_MSG_F_COPY as c_int;
            }),
            argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY, |u| {
                u.mem.ptr = key.as_ptr().cast_mut().cast();
                u.mem.size = key.len();
            }),
            argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE, |u| {
                u.mem.ptr = value_ptr;
                u.mem.size = value_len;
            }),
            argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE, |u| {
                u.ptr = std::ptr::without_provenance_mut(tag);
            }),
            argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS, |u| u.headers = native_headers),
        ];
        let count = arguments.len() - usize::from(native_headers.is_null());
        // SAFETY: live client and topic; every argument's pointer is valid for the call, which copies key and value.
        // The headers belong to librdkafka after success and to us after an error.
        unsafe {
            let error = sys::rd_kafka_produceva(self.client.as_ptr(), arguments.as_mut_ptr(), count);
            if error.is_null() {
                return Ok(());
            }
            let code = sys::rd_kafka_error_code(error);
            sys::rd_kafka_error_destroy(error);
            if !native_headers.is_null() {
                sys::rd_kafka_headers_destroy(native_headers);
            }
            Err(code.into())
        }
    }

    fn check(&self, call: &'static str, error: *mut sys::rd_kafka_error_t) -> Result<(), TransactionError> {
        self.failure(call, error).map_or(Ok(()), |(_, error)| Err(error))
    }

    /// What an error object says, which is destroyed; `None` for none.
    fn failure(
        &self,
        call: &'static str,
        error: *mut sys::rd_kafka_error_t,
    ) -> Option<(ErrorCode, TransactionError)> {
        if error.is_null() {
            return None;
        }
        // SAFETY: a non-null error object is ours until destroyed, at the end of this block.
        let (code, fatal, retriable, abort, reason) = unsafe {
            let facts = (
                sys::rd_kafka_error_code(error),
                sys::rd_kafka_error_is_fatal(error) != 0,
                sys::rd_kafka_error_is_retriable(error) != 0,
                sys::rd_kafka_error_txn_requires_abort(error) != 0,
                to_text(sys::rd_kafka_error_string(error)),
            );
            sys::rd_kafka_error_destroy(error);
            facts
        };
        let code = ErrorCode::from(code);
        let kind = if retriable {
            Kind::Retriable
        } else if let Some(kind) = producer_is_finished(code) {
            kind
        } else if fatal {
            self.fatal_error().map_or(Kind::Fatal, |e| e.kind)
        } else if abort {
            Kind::Abortable
        } else {
            // librdkafka's rule: an error that is none of the three is treated as fatal.
            Kind::Fatal
        };
        Some((code, TransactionError { kind, call, reason }))
    }
}

impl Drop for NativeProducer {
    fn drop(&mut self) {
        // SAFETY: queued records are purged first, so that destroying neither waits for them nor sends them late; the
        // callback may still run inside these calls, and `reports` is alive until this returns.
        unsafe {
            let purge = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT;
            sys::rd_kafka_purge(self.client.as_ptr(), purge as c_int);
            sys::rd_kafka_poll(self.client.as_ptr(), 0);
            sys::rd_kafka_destroy(self.client.as_ptr());
        }
    }
}

/// Whether an error, of a call or of a record, says that the producer is of no more use, whatever was asked of it.
pub(in crate::kafka) fn producer_is_finished(code: ErrorCode) -> Option<Kind> {
    match code {
        ErrorCode::Fenced | ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch => Some(Kind::Fenced),
        // The cluster has forgotten it, as it does with one that was idle for `transactional.id.expiration.ms`. An abort
        // would do, too, but an error that asks for one puts the blame on what is in the transaction.
        ErrorCode::UnknownProducerId
        | ErrorCode::InvalidProducerIdMapping
        // The broker's transaction and ours are not the same.
        | ErrorCode::InvalidTransactionalState
        | ErrorCode::OutOfOrderSequenceNumber
        | ErrorCode::TransactionalIdAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed => Some(Kind::Fatal),
        _ => None,
    }
}

fn timeout_ms(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}

fn argument(
    vtype: sys::rd_kafka_vtype_t,
    set: impl FnOnce(&mut sys::rd_kafka_vu_s__bindgen_ty_1),
) -> sys::rd_kafka_vu_t {
    let mut argument = sys::rd_kafka_vu_t { vtype, u: sys::rd_kafka_vu_s__bindgen_ty_1 { _pad: [0; 64] } };
    set(&mut argument.u);
    argument
}

/// Null when there is no header.
fn pack_headers(runs: [Headers<'_>; 2]) -> Result<*mut sys::rd_kafka_headers_t, ErrorCode> {
    if runs.iter().all(|headers| headers.is_empty()) {
        return Ok(null_mut());
    }
    // SAFETY: plain constructor.
    let native = unsafe { sys::rd_kafka_headers_new(8) };
    for header in runs.into_iter().flat_map(Headers::iter) {
        let (value, size) = header.value.map_or((std::ptr::null(), 0), |v| (v.as_ptr(), v.len() as isize));
        // SAFETY: valid headers; name and value are copied, with their lengths given.
        let err = unsafe {
            sys::rd_kafka_header_add(
                native,
                header.name.as_ptr().cast(),
                header.name.len() as isize,
                value.cast(),
                size,
            )
        };
        if err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            // SAFETY: ours until handed to produce.
            unsafe { sys::rd_kafka_headers_destroy(native) };
            return Err(err.into());
        }
    }
    Ok(native)
}

/// # Safety
/// Called by librdkafka with the opaque pointer set in `NativeProducer::new`, on the thread that uses the producer.
unsafe extern "C" fn on_report(
    _client: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: `opaque` is the producer's `Reports`, alive as long as the client; the message is valid for this call.
    let (reports, message) = unsafe { (&*opaque.cast::<Reports>(), &*message) };
    let outcome = match message.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(message.offset),
        err => Err(err.into()),
    };
    reports.borrow_mut().push(Report { tag: message._private.addr(), outcome });
}

/// # Safety
/// Called by librdkafka with a NUL-terminated reason.
unsafe extern "C" fn on_error(
    client: *mut sys::rd_kafka_t,
    err: c_int,
    reason: *const c_char,
    _opaque: *mut c_void,
) {
    // SAFETY: both strings are NUL-terminated and valid for this call.
    let (name, reason) = unsafe { (to_text(sys::rd_kafka_name(client)), to_text(reason)) };
    tracing::debug!(client = name, code = err, "librdkafka: {reason}");
}

/// # Safety
/// Called by librdkafka, from any of its threads, with NUL-terminated strings.
unsafe extern "C" fn on_log(
    client: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    // SAFETY: all strings are NUL-terminated and valid for this call; the client's name may be asked for at any time.
    let (name, facility, text) = unsafe {
        let name = if client.is_null() { String::new() } else { to_text(sys::rd_kafka_name(client)) };
        (name, to_text(facility), to_text(text))
    };
    // Fencing and time-outs are routine for a transactional producer and are reported by the shard that meets them.
    match level {
        0..=2 => tracing::error!(client = name, "librdkafka {facility}: {text}"),
        3..=4 => tracing::debug!(client = name, "librdkafka {facility}: {text}"),
        _ => tracing::trace!(client = name, "librdkafka {facility}: {text}"),
    }
}

impl Report {
    /// What librdkafka says a code means.
    pub(in crate::kafka) fn reason(code: ErrorCode) -> String {
        describe(RDKafkaRespErr::try_from(code as i32).unwrap_or(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;
    use std::time::Instant;

    impl NativeProducer {
        /// What was said and not heard yet.
        fn unheard(&self) -> c_int {
            // SAFETY: a live client.
            unsafe { sys::rd_kafka_outq_len(self.client.as_ptr()) }
        }
    }

    /// An outage goes on and on; what is said about it must not pile up in a producer that has nothing to write.
    #[test]
    fn a_poll_hears_all_that_was_said() {
        let producer = NativeProducer::new(
            ClientConfig::new()
                .set("bootstrap.servers", "127.0.0.1:1")
                .set("enable.idempotence", "true")
                .set("reconnect.backoff.ms", "1")
                .set("reconnect.backoff.max.ms", "5"),
        )
        .unwrap();
        let await_that = |what: &str, holds: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !holds() {
                assert!(Instant::now() < deadline, "{what}");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        await_that("nothing is said about a broker that is not there", &|| producer.unheard() > 0);
        await_that("what was said stays unheard", &|| {
            producer.poll();
            producer.unheard() == 0
        });
    }
}
