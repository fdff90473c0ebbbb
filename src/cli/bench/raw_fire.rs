//! The yardstick of firing: librdkafka alone sends the same messages and tombstones when they are due, a producer a
//! schedule partition, in transactions of the same size, and checks nothing.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;

use super::lab::Lab;
use super::moments::{now_us, sleep_until_us};
use super::timetable::{Even, Timetable as _, WARM_UP};
use super::workload::{ID_BYTES, KEY_BYTES, Workload, id, key};
use crate::config::{Delivery, Settings};
use crate::kafka::client;
use crate::kafka::raw::{RawError, RawProducer, RawTopic};
use crate::schedule::{Headers, HeadersBuf};
use crate::scheduler::TOMBSTONE_OVERHEAD_BYTES;

/// The producers, each on its thread.
pub(super) struct RawFire {
    starts: Vec<Sender<()>>,
    threads: Vec<JoinHandle<Result<u64, RawError>>>,
    /// Whether one of them has ended badly.
    has_failed: Arc<AtomicBool>,
}

/// How long the brokers may take over one batch, without transactions.
const PATIENCE: Duration = Duration::from_mins(1);
/// A sleep is no longer than this, to look whether it is still wanted.
const LONGEST_SLEEP_US: i64 = 100_000;

impl RawFire {
    /// Sets the producers up and has each send one message that is not counted, so that all of them know the cluster as
    /// a scheduler does that has been running for a while.
    pub(super) fn prepare(
        lab: &Lab,
        schedules: &str,
        destination: &str,
        timetable: &Arc<Even>,
    ) -> anyhow::Result<Self> {
        let mut fire = Self { starts: Vec::new(), threads: Vec::new(), has_failed: Arc::default() };
        let (ready, ready_ones) = channel();
        for partition in 0..lab.partitions {
            let mut config = client::producer(&lab.settings)?;
            if lab.is_transactional() {
                let prefix = &lab.settings.transactional_id_prefix;
                config.set("transactional.id", format!("{prefix}:{schedules}:{partition}"));
            } else {
                config.remove("transaction.timeout.ms");
            }
            let job = Job {
                schedules: schedules.to_owned(),
                destination: destination.to_owned(),
                partition,
                partitions: lab.partitions as u64,
                count: timetable.count(),
                limits: Limits::of(&lab.settings, lab.value_bytes),
                is_transactional: lab.settings.delivery == Delivery::ExactlyOnce,
                timetable: Arc::clone(timetable),
                interrupted: Arc::clone(&lab.interrupted),
            };
            let workload = Workload::new(lab.format, destination, lab.value_bytes);
            let (start, started) = channel();
            let (ready, has_failed) = (ready.clone(), Arc::clone(&fire.has_failed));
            let body = move || {
                let prepared = job.prepare(&config, workload);
                // Nobody is left to tell once the preparation was given up.
                let _ = ready.send(prepared.is_ok());
                drop(ready);
                let outcome = prepared.and_then(|outgoing| job.run(outgoing, &started));
                has_failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                outcome
            };
            fire.threads.push(std::thread::Builder::new().name(format!("raw-{partition}")).spawn(body)?);
            fire.starts.push(start);
        }
        drop(ready);
        if ready_ones.iter().all(|is_ready| is_ready) {
            return Ok(fire);
        }
        fire.finish()?;
        anyhow::bail!("a raw producer could not be prepared")
    }

    /// The timetable has begun.
    pub(super) fn start(&mut self) {
        for start in self.starts.drain(..) {
            // One that has ended says why when it is joined.
            let _ = start.send(());
        }
    }

    /// Waits until everything was sent; gives the number of transactions.
    pub(super) fn finish(mut self) -> anyhow::Result<u64> {
        // Who was not started must not wait for it.
        self.starts.clear();
        let (mut transactions, mut interrupted) = (0, None);
        for thread in std::mem::take(&mut self.threads) {
            match thread.join().map_err(|_| anyhow::anyhow!("a raw producer's thread died"))? {
                Ok(sent) => transactions += sent,
                // What made the others give up is what is worth saying.
                Err(RawError::Interrupted) => interrupted = Some(RawError::Interrupted),
                Err(error) => return Err(error.into()),
            }
        }
        interrupted.map_or(Ok(transactions), |interrupted| Err(interrupted.into()))
    }

    /// Whether one of them has ended badly; [`finish`](Self::finish) says why.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }
}

/// How many schedules a transaction takes: as many as the scheduler's would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    count: u64,
}

impl Limits {
    fn of(settings: &Settings, value_bytes: u32) -> Self {
        let batch = &settings.batch;
        let by_own_bytes = batch.max_own_bytes / (ID_BYTES + TOMBSTONE_OVERHEAD_BYTES);
        let by_message_bytes = batch.max_message_bytes / (KEY_BYTES + value_bytes as usize);
        Self { count: batch.max_count.min(by_own_bytes).min(by_message_bytes).max(1) as u64 }
    }
}

/// What one producer is to do: every `partitions`-th number, from `partition` on.
struct Job {
    schedules: String,
    destination: String,
    partition: i32,
    partitions: u64,
    count: u64,
    limits: Limits,
    is_transactional: bool,
    timetable: Arc<Even>,
    interrupted: Arc<AtomicBool>,
}

impl Job {
    /// Sets the producer up, and warms it up.
    fn prepare(&self, config: &ClientConfig, workload: Workload) -> Result<Outgoing, RawError> {
        let mut producer = RawProducer::new(config)?;
        let schedules = producer.topic(&self.schedules)?;
        let destination = producer.topic(&self.destination)?;
        if self.is_transactional {
            producer.init_transactions()?;
        }
        let mut outgoing =
            Outgoing { producer, schedules, destination, workload, headers: HeadersBuf::new() };
        let number = WARM_UP + self.partition as u64;
        outgoing.send(self, number..number + 1)?;
        Ok(outgoing)
    }

    /// Sends what is due when it is due, until all is sent; gives the number of transactions.
    fn run(&self, mut outgoing: Outgoing, started: &Receiver<()>) -> Result<u64, RawError> {
        if started.recv().is_err() {
            return Err(RawError::Interrupted);
        }
        let (mut next, mut transactions) = (self.partition as u64, 0);
        while next < self.count {
            let end = self.due_by(next, now_us());
            if end == next {
                let due_us = self.timetable.at(next).saturating_mul(1_000);
                sleep_until_us(due_us.min(now_us() + LONGEST_SLEEP_US));
            } else {
                outgoing.send(self, next..end)?;
                transactions += 1;
                next = end;
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(RawError::Interrupted);
            }
        }
        Ok(transactions)
    }

    /// Where those from `next` on end that are due and fit a transaction.
    fn due_by(&self, next: u64, now_us: i64) -> u64 {
        let most = self.count.min(next + self.limits.count * self.partitions);
        let numbers = (next..most).step_by(self.partitions as usize);
        let due = numbers.take_while(|number| self.timetable.at(*number).saturating_mul(1_000) <= now_us);
        next + due.count() as u64 * self.partitions
    }
}

/// A producer and what it sends.
struct Outgoing {
    producer: RawProducer,
    schedules: RawTopic,
    destination: RawTopic,
    workload: Workload,
    headers: HeadersBuf,
}

impl Outgoing {
    /// One transaction; without transactions, the messages, and when they are acknowledged their tombstones.
    fn send(&mut self, job: &Job, numbers: Range<u64>) -> Result<(), RawError> {
        if job.is_transactional {
            self.producer.begin()?;
            self.send_tombstones(job, numbers.clone())?;
            self.send_messages(job, numbers)?;
            self.producer.commit()
        } else {
            self.send_messages(job, numbers.clone())?;
            self.acknowledged()?;
            self.send_tombstones(job, numbers)?;
            self.acknowledged()
        }
    }

    fn send_messages(&mut self, job: &Job, numbers: Range<u64>) -> Result<(), RawError> {
        for number in numbers.step_by(job.partitions as usize) {
            let value = self.workload.value(number);
            self.producer.send(self.destination, -1, &key(number, 0), Some(value), Headers::default())?;
        }
        Ok(())
    }

    fn send_tombstones(&mut self, job: &Job, numbers: Range<u64>) -> Result<(), RawError> {
        for number in numbers.step_by(job.partitions as usize) {
            self.headers.clear();
            self.headers.push("schedule:expired", Some(b"true"));
            // As long as the scheduler's: the topic's ID in 22 letters, the partition, the offset.
            let version = Version::of(job.partition, number / job.partitions);
            self.headers.push("kms-fired", Some(version.as_bytes()));
            let headers = self.headers.as_headers();
            self.producer.send(self.schedules, job.partition, &id(number), None, headers)?;
        }
        Ok(())
    }

    fn acknowledged(&mut self) -> Result<(), RawError> {
        if self.producer.flush(PATIENCE)? {
            Ok(())
        } else {
            Err(RawError::Write(format!("no acknowledgement within {} s", PATIENCE.as_secs())))
        }
    }
}

/// What a tombstone says of the version that was fired.
struct Version {
    text: [u8; 64],
    len: usize,
}

impl Version {
    fn of(partition: i32, offset: u64) -> Self {
        use std::io::Write as _;
        let mut text = [0; 64];
        let mut rest = &mut text[..];
        write!(rest, "AAAAAAAAAAAAAAAAAAAAAA:{partition}:{offset}")
            .expect("the numbers have at most 31 digits");
        let unused = rest.len();
        Self { text, len: text.len() - unused }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Sources;

    fn limits(flags: &[(&str, &str)], value_bytes: u32) -> u64 {
        let flags = flags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let settings = Settings::load(&Sources { flags, ..Sources::default() }).unwrap().settings;
        Limits::of(&settings, value_bytes).count
    }

    #[test]
    fn a_transaction_takes_what_the_schedulers_would() {
        assert_eq!(limits(&[], 100), 6_250, "900,000 bytes of tombstones, 144 each");
        assert_eq!(limits(&[("batch.max_count", "500")], 100), 500);
        assert_eq!(limits(&[], 16_777_199), 1);
    }

    #[test]
    fn a_producer_sends_every_number_of_its_partition_when_it_is_due() {
        let timetable = Arc::new(Even::new(10, Some(1_000)));
        timetable.begin(1_000);
        let job = Job {
            schedules: String::new(),
            destination: String::new(),
            partition: 1,
            partitions: 3,
            count: 10,
            limits: Limits { count: 2 },
            is_transactional: true,
            timetable,
            interrupted: Arc::default(),
        };
        assert_eq!(job.due_by(1, 1_000_999), 1, "the number 1 is due a millisecond later");
        assert_eq!(job.due_by(1, 1_001_000), 4);
        assert_eq!(job.due_by(1, 2_000_000), 7, "1 and 4 fill a transaction");
        assert_eq!(job.due_by(7, 2_000_000), 10, "there is no 10");
    }

    #[test]
    fn a_tombstones_version_has_the_length_of_a_real_one() {
        let version = Version::of(3, 12_345);
        assert_eq!(version.as_bytes().len(), "Za_VMptsQmWGP702I-v9hg:3:12345".len());
    }
}
