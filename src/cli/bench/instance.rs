//! The scheduler itself, in this process, on one schedule topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lab::Lab;
use super::moments::{processor_seconds, processor_seconds_since};
use crate::instance::{RunOptions, run_until};
use crate::schedule::Format;
use crate::scheduler::status::{Label as _, PartitionStatus, Phase, Status, TransactionOutcome};

/// An instance; told to stop when dropped.
pub(super) struct Instance<'a> {
    lab: &'a Lab,
    topic: String,
    status: Arc<Status>,
    stop: Arc<AtomicBool>,
    started: Instant,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

/// How an instance came to be live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loaded {
    /// From its start to the assignment of partitions.
    pub(super) joining: Duration,
    /// From the assignment until every partition was live.
    pub(super) loading: Duration,
    /// From the first record applied until live, of the partition that took longest for it, as it says itself.
    pub(super) applying: Duration,
    /// Processor time of this process from the assignment until live; `None` where it cannot be known.
    pub(super) processor_seconds: Option<f64>,
    /// Schedules pending then.
    pub(super) pending: u64,
    /// Memory of this process then, and before the instance was started; 0 where it cannot be known.
    pub(super) resident_bytes: u64,
    pub(super) resident_before_bytes: u64,
}

/// How long the consumer group may take to hand out the partitions.
const JOIN_PATIENCE: Duration = Duration::from_mins(2);
/// How long a load may stand still.
const LOAD_PATIENCE: Duration = Duration::from_mins(2);
/// Whether an instance is live is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl<'a> Instance<'a> {
    pub(super) fn start(lab: &'a Lab, topic: &str) -> anyhow::Result<Self> {
        let mut settings = lab.settings.clone();
        match lab.format {
            Format::Avro => settings.topics.avro.push(topic.to_owned()),
            Format::Json => settings.topics.json.push(topic.to_owned()),
        }
        let options = RunOptions { topic_ids: lab.topic_ids(), ..RunOptions::default() };
        let (status, stop) = (Arc::new(Status::new()), Arc::new(AtomicBool::new(false)));
        let body = {
            let (status, stop) = (Arc::clone(&status), Arc::clone(&stop));
            move || {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                let outcome = run_until(settings, options, &status, &runtime, &stop);
                runtime.shutdown_background();
                outcome
            }
        };
        let started = Instant::now();
        let thread = std::thread::Builder::new().name("kms".to_owned()).spawn(body)?;
        Ok(Self { lab, topic: topic.to_owned(), status, stop, started, thread: Some(thread) })
    }

    /// Waits until every partition is live.
    pub(super) fn await_live(&mut self) -> anyhow::Result<Loaded> {
        let resident_before_bytes = resident_bytes();
        while self.partitions().is_empty() {
            self.look()?;
            std::thread::sleep(LOOK_EVERY);
            anyhow::ensure!(
                self.started.elapsed() < JOIN_PATIENCE,
                "the scheduler was given no partitions within {} s: may this client join consumer groups named \
                 kms-bench-…?",
                JOIN_PATIENCE.as_secs()
            );
        }
        let (assigned, processor_before) = (Instant::now(), processor_seconds());
        let (mut position, mut moved) = (-1, assigned);
        loop {
            let partitions = self.partitions();
            let is_live = |figures: &Arc<PartitionStatus>| figures.phase() == Phase::Live;
            if partitions.len() == self.lab.partitions as usize && partitions.iter().all(is_live) {
                break;
            }
            let now_at: i64 = partitions.iter().map(|figures| figures.position.get()).sum();
            if now_at > position {
                (position, moved) = (now_at, Instant::now());
            }
            anyhow::ensure!(moved.elapsed() < LOAD_PATIENCE, "{}", self.why_not_live(&partitions));
            self.look()?;
            std::thread::sleep(LOOK_EVERY);
        }
        let (loading, processor_seconds) = (assigned.elapsed(), processor_seconds_since(processor_before));
        let partitions = self.partitions();
        let applying_ms = partitions.iter().map(|figures| figures.apply_ms.get()).max().unwrap_or(0);
        Ok(Loaded {
            joining: assigned.duration_since(self.started),
            loading,
            applying: Duration::from_millis(applying_ms.max(0) as u64),
            processor_seconds,
            pending: self.pending(),
            resident_bytes: resident_bytes(),
            resident_before_bytes,
        })
    }

    /// How many schedules are pending, as of a moment ago.
    pub(super) fn pending(&self) -> u64 {
        self.partitions().iter().map(|figures| figures.pending.get().max(0) as u64).sum()
    }

    /// Transactions (or batches, without them) so far.
    pub(super) fn batches(&self) -> u64 {
        let counters = self.status.counters(&self.topic);
        if self.lab.is_transactional() {
            counters.transactions.of(TransactionOutcome::Committed).get()
        } else {
            counters.batch_size.cumulative().last().copied().unwrap_or(0)
        }
    }

    /// Fails when the user has had enough, or the instance has ended by itself.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        self.lab.check()?;
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join()?;
            anyhow::bail!("the scheduler ended by itself");
        }
        Ok(())
    }

    /// Stops it in good order, and waits until it and what it held are gone.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow::anyhow!("the scheduler's thread died"))?
    }

    fn partitions(&self) -> Vec<Arc<PartitionStatus>> {
        self.status.partitions().into_iter().map(|(_, _, figures)| figures).collect()
    }

    fn why_not_live(&self, partitions: &[Arc<PartitionStatus>]) -> String {
        let late = partitions.iter().find(|figures| figures.phase() != Phase::Live);
        let (phase, reason) = late.map_or(("none", None), |late| (late.phase().label(), late.reason()));
        format!(
            "{} of {} partitions came, and one stands still while {phase}{}",
            partitions.len(),
            self.lab.partitions,
            reason.map(|reason| format!(": {reason}")).unwrap_or_default()
        )
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(error) = self.join() {
            tracing::debug!("while stopping the scheduler: {error}");
        }
    }
}

/// Memory of this process, where the system says so.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1_024
}
