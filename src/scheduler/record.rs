//! From a record of the log to a change of the set: decode, apply, count, complain.

use crate::codec::{self, DecodeError, Scratch};
use crate::engine::View;
use crate::engine::shard::{Applied, Change, Phase, Shard};
use crate::kafka::LogRecord;
use crate::schedule::{DueTime, Format, Headers, HeadersBuf, Schedule};

use super::history::{EventKind, Happening, History};
use super::status::{RecordError, TopicCounters};
use super::throttle::Throttle;

/// The header that marks a tombstone of a schedule that was fired.
pub(super) const EXPIRED_HEADER: &str = "schedule:expired";
/// The header that says which version was fired: `{topic id}:{partition}:{offset}`.
pub(super) const FIRED_HEADER: &str = "kms-fired";

/// The header that says which version a record repeats, in the same form.
const REPEATS_HEADER: &str = "kms-repeats";

/// When a record is applied, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) wall_ms: i64,
    pub(super) monotonic_ms: u64,
}

/// Turns records into changes, for one shard.
pub(super) struct Applier {
    topic: String,
    partition: i32,
    format: Format,
    /// `{topic id}:{partition}:`, what a version of this very partition begins with in a header; known after the fence.
    version_prefix: Option<String>,
    topic_id: Option<String>,
    /// Where records that are no schedules are copied to.
    rejections_topic: Option<String>,
    rejection_headers: HeadersBuf,
    scratch: Scratch,
    complaints: Throttle,
    examples: Vec<Rejection>,
    /// What happened lately, which firing adds to.
    pub(super) history: History,
}

/// A record that is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// Where it is.
    pub offset: i64,
    /// What is wrong with it.
    pub reason: String,
}

/// Examples kept for people; the rest is only counted.
const EXAMPLES: usize = 5;

impl Applier {
    /// An empty `rejections_topic` is none.
    pub(super) fn new(topic: &str, partition: i32, format: Format, rejections_topic: Option<&str>) -> Self {
        Self {
            rejections_topic: rejections_topic.filter(|name| !name.is_empty()).map(str::to_owned),
            rejection_headers: HeadersBuf::new(),
            topic: topic.to_owned(),
            partition,
            format,
            version_prefix: None,
            topic_id: None,
            scratch: Scratch::default(),
            complaints: Throttle::default(),
            examples: Vec::new(),
            history: History::default(),
        }
    }

    /// The topic's ID is known. False: it was another one before, so what was applied stands for a log that is gone.
    pub(super) fn identify(&mut self, topic_id: &str) -> bool {
        let same = self.topic_id.as_deref().is_none_or(|known| known == topic_id);
        self.topic_id = Some(topic_id.to_owned());
        self.version_prefix = Some(format!("{topic_id}:{}:", self.partition));
        same
    }

    /// The topic's ID, as last told.
    pub(super) fn topic_id(&self) -> Option<&str> {
        self.topic_id.as_deref()
    }

    /// The headers of the tombstone for the version at `offset`.
    ///
    /// One that was skipped was not fired, so it is no expired one: a cancel, as far as others can tell.
    pub(super) fn tombstone_headers(&self, offset: i64, skipped: bool, out: &mut HeadersBuf) {
        out.clear();
        if !skipped {
            out.push(EXPIRED_HEADER, Some(b"true"));
        }
        self.push_version(FIRED_HEADER, offset, out);
    }

    /// The headers of the record that repeats this version: its own, and which version it repeats.
    pub(super) fn repetition_headers(&self, view: &View<'_>, out: &mut HeadersBuf) {
        Self::new_version_headers(view, out);
        self.push_version(REPEATS_HEADER, view.offset, out);
    }

    /// The headers of a record that says what this version says, and something new: its own, but it repeats nothing.
    pub(super) fn new_version_headers(view: &View<'_>, out: &mut HeadersBuf) {
        out.clear();
        for header in
            view.record_headers.iter().filter(|header| !header.name.eq_ignore_ascii_case(REPEATS_HEADER))
        {
            out.push(header.name, header.value);
        }
    }

    fn push_version(&self, name: &str, offset: i64, out: &mut HeadersBuf) {
        use std::io::Write as _;
        let prefix =
            self.version_prefix.as_deref().expect("a topic is identified before anything is written to it");
        let mut version = [0u8; 96];
        let mut rest = &mut version[..];
        write!(rest, "{prefix}{offset}").expect("a topic ID has 22 characters, the numbers at most 31");
        let unused = rest.len();
        out.push(name, Some(&version[..version.len() - unused]));
    }

    /// The first rejected records.
    pub(super) fn examples(&self) -> &[Rejection] {
        &self.examples
    }

    /// Applies one record to the shard. Returns what it did, for the caller to act on.
    pub(super) fn apply(
        &mut self,
        record: &LogRecord<'_>,
        shard: &mut Shard,
        counters: &TopicCounters,
        now: Now,
    ) -> Option<Applied> {
        let Some(id) = record.key else {
            counters.errors.of(RecordError::Transformation).increment();
            counters.rejected.increment();
            self.complain(
                &[],
                record.offset,
                "the record has no key, so it has no schedule ID".to_owned(),
                now,
            );
            shard.reached(record.offset + 1);
            return None;
        };
        let Some(value) = record.value else {
            return Some(self.apply_tombstone(record, id, shard, counters, now));
        };
        match codec::decode(self.format, value, &mut self.scratch) {
            Ok(schedule) => {
                counters.updates.increment();
                let change = Change::Schedule {
                    format: self.format,
                    schedule,
                    record_headers: record.headers,
                    repeats: version_in(REPEATS_HEADER, record.headers, self.version_prefix.as_deref()),
                };
                let applied = shard.apply(record.offset, id, &change);
                if matches!(applied, Applied::Inserted | Applied::Replaced) {
                    counters.stored.increment();
                }
                if applied == Applied::Replaced {
                    counters.replaced.increment();
                    // What a load goes through happened long ago.
                    if shard.phase() == Phase::Live {
                        let happening = Happening {
                            at_ms: now.wall_ms,
                            id,
                            offset: record.offset,
                            due_ms: Some(schedule.due.epoch_ms()),
                            topic: schedule.topic,
                            reason: "",
                        };
                        self.history.remember(EventKind::Replaced, &happening);
                    }
                }
                Some(applied)
            }
            Err(error) => {
                counters.errors.of(record_error(&error)).increment();
                counters.rejected.increment();
                let reason = error.to_string();
                let applied = self.apply_rejected(record, id, value, &reason, shard, now.wall_ms);
                self.complain(id, record.offset, reason, now);
                if applied == Applied::Removed {
                    counters.removed.increment();
                }
                Some(applied)
            }
        }
    }

    /// A record that is no schedule takes the place of its predecessor all the same. With a rejections topic it does so
    /// as a schedule, due at once, to deliver itself there: with all that is promised of a schedule, once and durably.
    fn apply_rejected(
        &mut self,
        record: &LogRecord<'_>,
        id: &[u8],
        value: &[u8],
        reason: &str,
        shard: &mut Shard,
        wall_ms: i64,
    ) -> Applied {
        let Some(topic) = &self.rejections_topic else {
            return shard.apply(record.offset, id, &Change::Invalid);
        };
        let headers = &mut self.rejection_headers;
        headers.clear();
        headers.extend(record.headers);
        let source = format!("{}-{}@{}", self.topic, self.partition, record.offset);
        headers.push("kms-rejected-because", Some(reason.as_bytes()));
        headers.push("kms-source", Some(source.as_bytes()));
        let due = DueTime::from_epoch_ms(wall_ms);
        let schedule = Schedule { due, topic, key: id, value: Some(value), headers: headers.as_headers() };
        let (format, record_headers) = (self.format, record.headers);
        shard.apply(record.offset, id, &Change::Schedule { format, schedule, record_headers, repeats: None })
    }

    fn apply_tombstone(
        &mut self,
        record: &LogRecord<'_>,
        id: &[u8],
        shard: &mut Shard,
        counters: &TopicCounters,
        now: Now,
    ) -> Applied {
        let expired = is_expired(record.headers);
        let fired = version_in(FIRED_HEADER, record.headers, self.version_prefix.as_deref());
        let applied = shard.apply(record.offset, id, &Change::Tombstone { fired });
        let deletes = if expired { &counters.deletes_expired } else { &counters.deletes_canceled };
        deletes.increment();
        match applied {
            Applied::Removed => {
                counters.removed.increment();
                counters.delete_hits.increment();
                if !expired {
                    counters.cancelled.increment();
                    if shard.phase() == Phase::Live {
                        let happening = Happening {
                            at_ms: now.wall_ms,
                            id,
                            offset: record.offset,
                            ..Happening::default()
                        };
                        self.history.remember(EventKind::Cancelled, &happening);
                    }
                }
            }
            // The scheduler's own tombstones come back after they were applied: no lookup that missed.
            Applied::Unknown if !expired => counters.delete_misses.increment(),
            Applied::Unknown
            | Applied::Inserted
            | Applied::Replaced
            | Applied::Stale
            | Applied::Overtaken(_) => {}
        }
        applied
    }

    fn complain(&mut self, id: &[u8], offset: i64, reason: String, now: Now) {
        let happening = Happening { at_ms: now.wall_ms, id, offset, reason: &reason, ..Happening::default() };
        self.history.remember(EventKind::Rejected, &happening);
        if let Some(unsaid) = self.complaints.admit(now.monotonic_ms) {
            tracing::warn!(
                topic = self.topic,
                partition = self.partition,
                offset,
                unsaid = (unsaid > 0).then_some(unsaid),
                "rejected a record that is not a schedule: {reason}"
            );
        }
        if self.examples.len() < EXAMPLES {
            self.examples.push(Rejection { offset, reason });
        }
    }
}

/// The offset of the version that this header names, if it is one of the partition with this prefix.
fn version_in(name: &str, headers: Headers<'_>, prefix: Option<&str>) -> Option<i64> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value?).ok()?.strip_prefix(prefix?)?.parse().ok()
}

/// Name and value match without regard to case, as the original reads them.
fn is_expired(headers: Headers<'_>) -> bool {
    headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case(EXPIRED_HEADER)
            && header.value.is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
    })
}

fn record_error(error: &DecodeError) -> RecordError {
    match error {
        DecodeError::InvalidAvro { .. } => RecordError::InvalidAvro,
        DecodeError::NotUtf8 { .. } | DecodeError::NotJson { .. } => RecordError::NotJson,
        DecodeError::NotAnObject | DecodeError::Missing { .. } | DecodeError::InvalidJson { .. } => {
            RecordError::InvalidJson
        }
    }
}
