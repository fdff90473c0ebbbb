//! Writes schedules and cancels to the schedule topic, as fast as librdkafka takes them and with bounded memory.

use std::time::Duration;

use super::lab::Lab;
use super::workload::{Workload, id};
use crate::kafka::client;
use crate::kafka::raw::{RawProducer, RawTopic};
use crate::schedule::Headers;

/// Of a schedule topic.
pub(super) struct Writer<'a> {
    lab: &'a Lab,
    producer: RawProducer,
    topic: RawTopic,
    partitions: u64,
    workload: Workload,
}

/// How long the brokers may take over what was written last.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a flush waits before it is looked whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);

impl<'a> Writer<'a> {
    pub(super) fn new(
        lab: &'a Lab,
        topic: &str,
        partitions: i32,
        workload: Workload,
    ) -> anyhow::Result<Self> {
        let mut config = client::producer(&lab.settings)?;
        config
            .remove("transaction.timeout.ms")
            .set("linger.ms", "5")
            .set("retry.backoff.ms", "100")
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            // Enough to keep the brokers busy, and little beside what is measured.
            .set("queue.buffering.max.kbytes", "65536");
        let mut producer = RawProducer::new(&config)?;
        let topic = producer.topic(topic)?;
        Ok(Self { lab, producer, topic, partitions: partitions as u64, workload })
    }

    /// Schedules, or replaces what was scheduled with the same number.
    pub(super) fn schedule(&mut self, number: u64, version: u8, due_ms: i64) -> anyhow::Result<()> {
        let partition = (number % self.partitions) as i32;
        let record = self.workload.record(number, version, due_ms);
        self.producer.send(self.topic, partition, &id(number), Some(record), Headers::default())?;
        Ok(())
    }

    /// Cancels.
    pub(super) fn cancel(&mut self, number: u64) -> anyhow::Result<()> {
        let partition = (number % self.partitions) as i32;
        self.producer.send(self.topic, partition, &id(number), None, Headers::default())?;
        Ok(())
    }

    /// Looks at what became of what was written, for up to `wait`.
    pub(super) fn pause(&mut self, wait: Duration) -> anyhow::Result<()> {
        Ok(self.producer.poll(wait)?)
    }

    /// Waits until the brokers have it all.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        while !self.producer.flush(LOOK_UP)? {
            self.lab.check()?;
        }
        Ok(())
    }
}
