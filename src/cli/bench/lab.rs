//! Where a benchmark takes place: a cluster, topics that exist only for it, and whether the user has had enough.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::super::UsageError;
use super::CommonArgs;
use super::moments::now_ms;
use crate::config::{Delivery, Level, Loaded, Notice, Settings};
use crate::kafka::client::{self, Isolation};
use crate::kafka::connection::{Quiet, TIMEOUT, connect, reach};
use crate::kafka::embedded::EmbeddedCluster;
use crate::kafka::observer::TopicIds;
use crate::kafka::topics::recommended;
use crate::schedule::Format;
use crate::telemetry;

/// The cluster, and what was created on it.
pub(super) struct Lab {
    /// The user's, with what a benchmark has of its own.
    pub(super) settings: Settings,
    pub(super) format: Format,
    pub(super) partitions: i32,
    pub(super) value_bytes: u32,
    pub(super) interrupted: Arc<AtomicBool>,
    cluster: Cluster,
    keeps_topics: bool,
    /// Makes the names of this run unlike those of any other.
    run: String,
    created: RefCell<Vec<String>>,
    names: Cell<u32>,
    /// Waits for signals.
    _signals: tokio::runtime::Runtime,
}

enum Cluster {
    Named { admin: AdminClient<Quiet>, reader: BaseConsumer<Quiet>, quiet: Quiet },
    Embedded(EmbeddedCluster),
}

const COMPACTION_LAG: &str = "min.compaction.lag.ms";
const A_DAY_MS: &str = "86400000";

/// What the embedded cluster keeps of a partition is 5 MiB; what is written must fit with room to spare.
const EMBEDDED_PARTITION_BYTES: u64 = 4_000_000;
/// What a record has beside the value, at most: ID, key, topic, their base64, and what librdkafka adds.
const RECORD_OVERHEAD_BYTES: u64 = 300;

impl Lab {
    /// Runs a benchmark in a lab that is cleaned up afterwards, however the benchmark ended.
    pub(super) fn run<R>(
        args: &CommonArgs,
        benchmark: impl FnOnce(&Self) -> anyhow::Result<R>,
    ) -> anyhow::Result<R> {
        let lab = Self::open(args)?;
        let outcome = benchmark(&lab);
        lab.clean_up();
        outcome
    }

    fn open(args: &CommonArgs) -> anyhow::Result<Self> {
        let Loaded { mut settings, notices } = args.settings.load()?;
        // What an instance says in good order would come between the bars.
        if settings.logging.level == Level::Info {
            settings.logging.level = Level::Warn;
        }
        telemetry::start_log(&settings.logging);
        for notice in notices {
            if let Notice::Warning(warning) = notice {
                tracing::warn!("{warning}");
            }
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        let signals = heed_signals(&interrupted)?;
        let run = format!("{:x}-{}", now_ms(), std::process::id());
        let cluster = if args.embedded {
            let cluster = EmbeddedCluster::start(&[])
                .map_err(|error| anyhow::anyhow!("cannot start the embedded cluster: {error}"))?;
            settings.kafka.brokers = cluster.bootstrap_servers();
            Cluster::Embedded(cluster)
        } else {
            reach(&settings)?;
            let (admin, quiet) = connect(&settings, &client::base(&settings)?)?;
            let (reader, _) = connect(&settings, &client::reader(&settings, Isolation::ReadCommitted)?)?;
            Cluster::Named { admin, reader, quiet }
        };
        // A group, topics and a port of its own; the messages as they are, for the baseline has no other headers.
        settings.kafka.group_id = format!("kms-bench-{run}");
        settings.topics.avro.clear();
        settings.topics.json.clear();
        settings.topics.create = false;
        settings.output.headers = false;
        // Or its writing would be measured, too; and one directory cannot be that of two instances.
        settings.state.dir.clear();
        settings.metrics.listen = ([127, 0, 0, 1], 0).into();
        settings.admin.listen = None;
        Ok(Self {
            settings,
            format: args.format.into(),
            partitions: args.partitions,
            value_bytes: args.value_bytes,
            interrupted,
            cluster,
            keeps_topics: args.keep,
            run,
            created: RefCell::default(),
            names: Cell::default(),
            _signals: signals,
        })
    }

    /// Creates a schedule topic as recommended; but it is not compacted meanwhile, which would take a processor from
    /// whichever side is measured just then.
    pub(super) fn schedule_topic(&self) -> anyhow::Result<String> {
        let mut configs = recommended(self.settings.delivery);
        configs.retain(|(setting, _)| *setting != COMPACTION_LAG);
        configs.push((COMPACTION_LAG, A_DAY_MS.to_owned()));
        self.create_topic("schedules", self.partitions, &configs)
    }

    /// Creates a topic to deliver to.
    pub(super) fn destination(&self, partitions: i32) -> anyhow::Result<String> {
        let topic = self.create_topic("destination", partitions, &[])?;
        if !self.settings.permits_destination(&topic) {
            let refused = format!(
                "the settings destinations.allow and destinations.deny refuse the topic `{topic}`: add --set \
                 'destinations.allow=*'"
            );
            return Err(UsageError(refused).into());
        }
        Ok(topic)
    }

    fn create_topic(
        &self,
        what: &str,
        partitions: i32,
        configs: &[(&str, String)],
    ) -> anyhow::Result<String> {
        self.check()?;
        self.names.set(self.names.get() + 1);
        let name = format!("kms-bench-{}-{}-{what}", self.run, self.names.get());
        match &self.cluster {
            Cluster::Embedded(cluster) => cluster.create_topic(&name, partitions)?,
            Cluster::Named { admin, quiet, .. } => {
                let replication = TopicReplication::Fixed(self.settings.topics.replication_factor);
                let new = NewTopic::new(&name, partitions, replication);
                let new = configs.iter().fold(new, |new, (setting, value)| new.set(setting, value));
                let answers = block_on(admin.create_topics([&new], &options()))
                    .map_err(|error| quiet.explain(&self.settings, &error))?;
                self.created.borrow_mut().push(name.clone());
                for answer in answers {
                    answer.map_err(|(topic, code)| {
                        anyhow::anyhow!("creating the topic `{topic}` failed: {code}")
                    })?;
                }
                self.await_leaders(&name, partitions)?;
            }
        }
        Ok(name)
    }

    fn await_leaders(&self, topic: &str, partitions: i32) -> anyhow::Result<()> {
        let Cluster::Named { reader, quiet, .. } = &self.cluster else { return Ok(()) };
        let deadline = Instant::now() + TIMEOUT;
        loop {
            self.check()?;
            let metadata = reader
                .fetch_metadata(Some(topic), TIMEOUT)
                .map_err(|error| quiet.explain(&self.settings, &error))?;
            let led = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
            if led.filter(|partition| partition.leader() >= 0).count() == partitions as usize {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the partitions of the new topic `{topic}` have no leaders within {} s",
                TIMEOUT.as_secs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes topics that are of no more use.
    pub(super) fn drop_topics(&self, topics: &[&str]) {
        let Cluster::Named { admin, .. } = &self.cluster else { return };
        if self.keeps_topics || topics.is_empty() {
            return;
        }
        let failure = match block_on(admin.delete_topics(topics, &options())) {
            Ok(answers) => answers.into_iter().find_map(Result::err).map(|(_, code)| code.to_string()),
            Err(error) => Some(error.to_string()),
        };
        match failure {
            None => self.created.borrow_mut().retain(|created| !topics.contains(&created.as_str())),
            Some(why) => {
                tracing::warn!("the topics {} are left behind, delete them: {why}", topics.join(", "));
            }
        }
    }

    fn clean_up(&self) {
        let created = self.created.borrow().clone();
        self.drop_topics(&created.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Fails when the user has had enough.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    /// Waits, and fails when the user has had enough.
    pub(super) fn pause(&self, wait: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + wait;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Refuses what the embedded cluster cannot hold.
    pub(super) fn must_hold(&self, records: u64) -> anyhow::Result<()> {
        let record_bytes = RECORD_OVERHEAD_BYTES + u64::from(self.value_bytes) * 4 / 3;
        let most = EMBEDDED_PARTITION_BYTES / record_bytes * self.partitions as u64;
        if matches!(self.cluster, Cluster::Embedded(_)) && records > most {
            let refused = format!(
                "the embedded cluster cannot hold {records} such schedules, only {most}: take fewer, or a real Kafka \
                 (--brokers)"
            );
            return Err(UsageError(refused).into());
        }
        Ok(())
    }

    /// Whether the cluster's topics have IDs.
    pub(super) fn topic_ids(&self) -> TopicIds {
        match self.cluster {
            Cluster::Named { .. } => TopicIds::Known,
            Cluster::Embedded(_) => TopicIds::None,
        }
    }

    pub(super) fn is_embedded(&self) -> bool {
        matches!(self.cluster, Cluster::Embedded(_))
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.settings.delivery == Delivery::ExactlyOnce
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

/// Sets `interrupted` at SIGINT or SIGTERM; a second one ends the process as it is.
fn heed_signals(interrupted: &Arc<AtomicBool>) -> anyhow::Result<tokio::runtime::Runtime> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let interrupted = Arc::clone(interrupted);
    runtime.spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        interrupted.store(true, Ordering::Relaxed);
        eprintln!("kms: stopping, and deleting what was created; once more to leave it");
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        std::process::exit(1);
    });
    Ok(runtime)
}
