//! The reader at the other end: a read-committed consumer of the destination, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::delivery::Seen;
use super::lab::Lab;
use super::moments::now_us;
use super::timetable::Timetable;
use super::workload::read_key;
use crate::kafka::client::{self, Isolation};
use crate::kafka::connection::{Quiet, connect};
use crate::kafka::troubles::is_unreachable;

/// Reads until told that nothing more is coming.
pub(super) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<Seen>>>,
}

/// What others may know of it.
#[derive(Default)]
struct Shared {
    right: AtomicU64,
    warm_ups: AtomicU64,
    /// Nobody writes any more.
    is_over: AtomicBool,
}

/// Once nobody writes any more, the topic has been read when nothing came for so long.
const QUIET: Duration = Duration::from_secs(1);

impl Reader {
    /// Reads the destination from its beginning.
    pub(super) fn start(
        lab: &Lab,
        destination: &str,
        partitions: i32,
        timetable: Arc<dyn Timetable>,
    ) -> anyhow::Result<Self> {
        let mut config = client::reader(&lab.settings, Isolation::ReadCommitted)?;
        config.set("group.id", "kms-bench-reader").set("enable.partition.eof", "false");
        let (consumer, _): (BaseConsumer<Quiet>, _) = connect(&lab.settings, &config)?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(destination, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let shared = Arc::new(Shared::default());
        let body = {
            let shared = Arc::clone(&shared);
            move || read(&consumer, &*timetable, &shared)
        };
        let thread = std::thread::Builder::new().name("reader".to_owned()).spawn(body)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How many were delivered as they should be.
    pub(super) fn right(&self) -> u64 {
        self.shared.right.load(Relaxed)
    }

    pub(super) fn warm_ups(&self) -> u64 {
        self.shared.warm_ups.load(Relaxed)
    }

    /// Fails if the reader has ended by itself.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join()?;
        }
        Ok(())
    }

    /// Nobody writes any more: reads what is left.
    pub(super) fn finish(mut self) -> anyhow::Result<Seen> {
        self.shared.is_over.store(true, Relaxed);
        self.join()
    }

    fn join(&mut self) -> anyhow::Result<Seen> {
        let thread = self.thread.take().ok_or_else(|| anyhow::anyhow!("the reader has ended"))?;
        thread.join().map_err(|_| anyhow::anyhow!("the reader's thread died"))?
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
    }
}

fn read(consumer: &BaseConsumer<Quiet>, timetable: &dyn Timetable, shared: &Shared) -> anyhow::Result<Seen> {
    let mut seen = Seen::new(timetable.count());
    let mut last = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                let now_us = now_us();
                match message.key().and_then(read_key) {
                    Some((number, version)) => seen.judge(timetable, number, version, now_us),
                    None => seen.faults.wrong += 1,
                }
                shared.right.store(seen.right, Relaxed);
                shared.warm_ups.store(seen.warm_ups, Relaxed);
                last = Instant::now();
            }
            None if shared.is_over.load(Relaxed) && last.elapsed() > QUIET => return Ok(seen),
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            // Connections that come and go are for librdkafka to mend.
            Some(Err(error)) if is_unreachable(&error) => {}
            Some(Err(error)) => return Err(anyhow::anyhow!("reading the destination failed: {error}")),
        }
    }
}
