//! What a test does to Kafka as anybody else would: topics, records, foreign transactions, readers, compaction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, ClientContext, Message, Offset};

use super::{PATIENCE, now_ms, poll_until};

/// `name` made unique among the tests and runs that share a broker.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A record to produce: `NewRecord::to("topic").key("k").value("v")`. Key and value are null unless given.
#[derive(Clone, Debug, Default)]
pub struct NewRecord {
    topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp_ms: Option<i64>,
}

impl NewRecord {
    pub fn to(topic: &str) -> Self {
        Self { topic: topic.to_owned(), ..Self::default() }
    }

    /// Without it Java's partitioner decides by the key.
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().to_vec()), ..self }
    }

    pub fn value(self, value: impl AsRef<[u8]>) -> Self {
        Self { value: Some(value.as_ref().to_vec()), ..self }
    }

    /// Appends a header; names may repeat.
    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }

    /// The producer's timestamp, instead of the time it is sent.
    pub fn timestamp_ms(self, timestamp_ms: i64) -> Self {
        Self { timestamp_ms: Some(timestamp_ms), ..self }
    }
}

/// Where a record lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// A record as a consumer saw it.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// The broker's timestamp, or the producer's where the topic keeps that.
    pub timestamp_ms: i64,
    /// When the consumer got it, by this machine's clock.
    pub arrived_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Seen {
    pub fn place(&self) -> Place {
        Place { topic: self.topic.clone(), partition: self.partition, offset: self.offset }
    }

    /// The key as text, lossily; empty for null.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// The value as text, lossily; empty for null.
    pub fn value_text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// The value of the last header of that name; `None` too for one whose value is null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            arrived_ms: now_ms(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map_or("null".to_owned(), |bytes| format!("{:?}", String::from_utf8_lossy(bytes)))
        };
        let Self { topic, partition, offset, timestamp_ms, headers, .. } = self;
        write!(
            f,
            "{topic}-{partition}@{offset} t={timestamp_ms} {} = {}",
            text(&self.key),
            text(&self.value)
        )?;
        for (name, value) in headers {
            write!(f, " [{name}: {}]", text(value))?;
        }
        Ok(())
    }
}

/// What a reader is shown of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Committed records below the first open transaction.
    ReadCommitted,
    /// Everything in the log, aborted records too.
    ReadUncommitted,
}

impl Isolation {
    fn setting(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

/// The ends of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset still there.
    pub low: i64,
    /// The last stable offset: where a `read_committed` reader has to stop.
    pub stable: i64,
    /// One past the last record.
    pub high: i64,
}

/// A connection to one cluster. Everything here waits for its effect and panics with the reason when that fails.
pub struct Client {
    bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
    producer: OnceLock<Sender>,
    /// Ask for the ends of partitions, as readers of either isolation are shown them.
    committed_ends: OnceLock<BaseConsumer>,
    uncommitted_ends: OnceLock<BaseConsumer>,
}

impl Client {
    pub fn new(bootstrap: &str) -> Self {
        let admin = settings(bootstrap).create().expect("the admin client's settings are valid");
        Self {
            bootstrap: bootstrap.to_owned(),
            admin,
            producer: OnceLock::new(),
            committed_ends: OnceLock::new(),
            uncommitted_ends: OnceLock::new(),
        }
    }

    /// Creates a topic and waits until every partition of it has a leader.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        self.create(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), partitions, configs);
    }

    fn create(&self, topic: NewTopic<'_>, partitions: i32, configs: &[(&str, &str)]) {
        let name = topic.name;
        let topic = configs.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let created =
            wait_for(self.admin.create_topics([&topic], &patient())).expect("the controller answers");
        all_done(created);
        self.await_leaders(name, partitions);
    }

    /// Creates a topic of one partition with a replica on each of these brokers; the first of them leads.
    pub fn create_topic_on(&self, brokers: &[i32], name: &str, configs: &[(&str, &str)]) {
        let replicas = [brokers];
        self.create(NewTopic::new(name, 1, TopicReplication::Variable(&replicas)), 1, configs);
    }

    /// Creates a topic as is recommended for schedules (docs/operations.md).
    pub fn create_schedule_topic(&self, name: &str, partitions: i32) {
        let configs = [
            ("cleanup.policy", "compact"),
            ("delete.retention.ms", "3600000"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("segment.ms", "86400000"),
            ("segment.bytes", "100000000"),
        ];
        self.create_topic(name, partitions, &configs);
    }

    /// Creates a destination topic: the broker stamps what arrives, so its timestamps can be judged.
    pub fn create_destination_topic(&self, name: &str, partitions: i32) {
        self.create_topic(name, partitions, &[("message.timestamp.type", "LogAppendTime")]);
    }

    /// Deletes a topic and waits until the broker no longer knows it.
    pub fn delete_topic(&self, name: &str) {
        all_done(wait_for(self.admin.delete_topics(&[name], &patient())).expect("the controller answers"));
        poll_until(PATIENCE, || self.leaders(name).is_empty().then_some(())).expect("the topic goes away");
    }

    /// Raises the number of partitions to `total`.
    pub fn add_partitions(&self, topic: &str, total: i32) {
        let more = NewPartitions::new(topic, usize::try_from(total).expect("a count"));
        all_done(
            wait_for(self.admin.create_partitions([&more], &patient())).expect("the controller answers"),
        );
        self.await_leaders(topic, total);
    }

    /// Deletes the records of a partition below `offset`.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut below = TopicPartitionList::new();
        below.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        let deleted = wait_for(self.admin.delete_records(&below, &patient())).expect("the broker answers");
        for partition in deleted.elements() {
            partition.error().expect("records are deleted");
        }
    }

    /// The number of partitions of a topic.
    pub fn partitions(&self, topic: &str) -> i32 {
        i32::try_from(self.leaders(topic).len()).expect("a count")
    }

    /// Produces `records` in order, each exactly once, and waits until the broker has them.
    pub fn produce(&self, records: &[NewRecord]) -> Vec<Place> {
        self.producer
            .get_or_init(|| Sender::new(settings(&self.bootstrap).set("enable.idempotence", "true")))
            .send(records)
            .expect("the records are accepted")
    }

    /// A transactional producer that is not the scheduler. The broker aborts what it leaves open for `timeout`.
    pub fn foreign(&self, transactional_id: &str, timeout: Duration) -> Foreign {
        let producer = Sender::new(
            settings(&self.bootstrap)
                .set("transactional.id", transactional_id)
                .set("transaction.timeout.ms", timeout.as_millis().to_string())
                .set("message.timeout.ms", timeout.as_millis().to_string()),
        );
        producer.inner.init_transactions(PATIENCE).expect("the coordinator answers");
        Foreign { producer }
    }

    /// A `read_committed` reader of all partitions that `topics` have now, from their beginning.
    pub fn reader(&self, topics: &[&str]) -> Reader {
        Reader::start(self.assigned(topics, Isolation::ReadCommitted))
    }

    /// Reads the committed messages of `topics` until `enough` says so, at most for `patience`; returns what it saw,
    /// enough or not.
    pub fn collect(
        &self,
        topics: &[&str],
        patience: Duration,
        enough: impl Fn(&[Seen]) -> bool,
    ) -> Vec<Seen> {
        self.reader(topics).collect(patience, enough)
    }

    /// All records of a topic up to where a reader has to stop now, in order of partition and offset.
    ///
    /// A commit is visible a moment after it succeeded: see [`await_stable`](Self::await_stable).
    pub fn read_topic(&self, topic: &str, isolation: Isolation) -> Vec<Seen> {
        let consumer = self.assigned(&[topic], isolation);
        let mut unfinished = self.partitions(topic);
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while unfinished > 0 {
            assert!(Instant::now() < deadline, "{topic} could not be read to its end; read {seen:#?}");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => seen.push(Seen::of(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => unfinished -= 1,
                // Broken connections mend themselves, or the deadline says so.
                Some(Err(_)) | None => {}
            }
        }
        seen.sort_by_key(|seen| (seen.partition, seen.offset));
        seen
    }

    /// The records of one partition, as [`read_topic`](Self::read_topic) gives them.
    pub fn read_partition(&self, topic: &str, partition: i32, isolation: Isolation) -> Vec<Seen> {
        let mut seen = self.read_topic(topic, isolation);
        seen.retain(|seen| seen.partition == partition);
        seen
    }

    /// The ends of a partition now.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Watermarks {
        let ask = |client: &OnceLock<BaseConsumer>, isolation: Isolation| {
            let client = client.get_or_init(|| {
                settings(&self.bootstrap)
                    .set("isolation.level", isolation.setting())
                    .create()
                    .expect("the consumer's settings are valid")
            });
            let ends = match client.fetch_watermarks(topic, partition, PATIENCE) {
                // It is newer than what this client knows of the topic.
                Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition)) => client
                    .fetch_metadata(Some(topic), PATIENCE)
                    .and_then(|_| client.fetch_watermarks(topic, partition, PATIENCE)),
                ends => ends,
            };
            ends.expect("the broker knows the partition")
        };
        // The stable end first: it can only grow, so it is never reported beyond the high watermark.
        let (_, stable) = ask(&self.committed_ends, Isolation::ReadCommitted);
        let (low, high) = ask(&self.uncommitted_ends, Isolation::ReadUncommitted);
        Watermarks { low, stable, high }
    }

    /// Waits until no transaction is open on any partition of `topics`, so that a `read_committed` reader gets all.
    pub fn await_stable(&self, topics: &[&str], patience: Duration) {
        for topic in topics {
            for partition in 0..self.partitions(topic) {
                let stable = || {
                    let marks = self.watermarks(topic, partition);
                    (marks.stable == marks.high).then_some(())
                };
                assert!(
                    poll_until(patience, stable).is_some(),
                    "a transaction is still open on {topic}-{partition} after {patience:?}"
                );
            }
        }
    }

    /// Makes the broker compact a topic now and waits until it has: afterwards no committed record that was
    /// superseded before the call is left in the log, except behind a transaction that is still open.
    ///
    /// What is younger than the topic's `min.compaction.lag.ms` stays, so this waits for the rest to become that old. To
    /// get records out of the active segment, which is never cleaned, tombstones of the key [`FILLER_KEY`] are appended to
    /// every partition. The topic's settings are as before at the end.
    pub fn force_compaction(&self, topic: &str) {
        let fillers: Vec<_> =
            (0..self.partitions(topic)).map(|p| NewRecord::to(topic).partition(p).key(FILLER_KEY)).collect();
        // Two of each, so that there is always something to watch go: the first is superseded by the second.
        self.produce(&fillers);
        self.produce(&fillers);
        let doomed = superseded(&self.read_topic(topic, Isolation::ReadCommitted));

        let before = self.own_configs(topic);
        let mut eager = before.clone();
        for (name, value) in
            [("cleanup.policy", "compact"), ("segment.ms", "1"), ("min.cleanable.dirty.ratio", "0.0")]
        {
            eager.insert(name.to_owned(), value.to_owned());
        }
        self.set_configs(topic, &eager);
        let compacted = poll_until(PATIENCE, || {
            // Each filler ends the segment before it, once the broker has taken notice of the settings.
            self.produce(&fillers);
            let left = self.read_topic(topic, Isolation::ReadCommitted);
            (!left.iter().any(|seen| doomed.contains(&(seen.partition, seen.offset)))).then_some(())
        });
        self.set_configs(topic, &before);
        assert!(compacted.is_some(), "the broker did not compact {topic} in {PATIENCE:?}");
    }

    /// The settings of a topic that are its own, not the broker's.
    pub fn own_configs(&self, topic: &str) -> BTreeMap<String, String> {
        let described = wait_for(self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &patient()));
        let mut described = described.expect("the broker answers");
        let described = described.pop().expect("one topic was asked for").expect("the topic is known");
        described
            .entries
            .into_iter()
            .filter(|entry| entry.source == ConfigSource::DynamicTopic)
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect()
    }

    /// Changes some settings of a topic; its others stay.
    pub fn change_configs(&self, topic: &str, changes: &[(&str, &str)]) {
        let mut configs = self.own_configs(topic);
        configs.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.set_configs(topic, &configs);
    }

    /// From now on [`delete_records`](Self::delete_records) works on a topic, which the broker refuses if it is only
    /// compacted.
    pub fn allow_deleting_records(&self, topic: &str) {
        self.change_configs(topic, &[("cleanup.policy", "compact,delete"), ("retention.ms", "-1")]);
    }

    /// Replaces the settings of a topic: what is not in `configs` goes back to the broker's default.
    pub fn set_configs(&self, topic: &str, configs: &BTreeMap<String, String>) {
        let alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let alter = configs.iter().fold(alter, |alter, (name, value)| alter.set(name, value));
        let altered = wait_for(self.admin.alter_configs([&alter], &patient())).expect("the broker answers");
        for outcome in altered {
            outcome.unwrap_or_else(|(topic, code)| panic!("the settings of {topic:?} are refused: {code}"));
        }
    }

    fn assigned(&self, topics: &[&str], isolation: Isolation) -> BaseConsumer<Quiet> {
        let consumer: BaseConsumer<Quiet> = settings(&self.bootstrap)
            // An assignment needs a name; nothing is joined and nothing committed under it.
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation.setting())
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "2")
            .create_with_context(Quiet)
            .expect("the consumer's settings are valid");
        let mut all = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..self.partitions(topic) {
                all.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
            }
        }
        consumer.assign(&all).expect("the partitions can be read");
        consumer
    }

    fn await_leaders(&self, topic: &str, partitions: i32) {
        let led = || {
            (self.leaders(topic).iter().filter(|leader| **leader >= 0).count() as i32 == partitions)
                .then_some(())
        };
        poll_until(PATIENCE, led).expect("every partition gets a leader");
    }

    /// The leader of each partition, −1 for none; empty for a topic that does not exist.
    fn leaders(&self, topic: &str) -> Vec<i32> {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
        let topic = metadata.topics().first().expect("one topic was asked for");
        topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::leader).collect()
    }
}

/// The key of the tombstones [`Client::force_compaction`] appends.
pub const FILLER_KEY: &str = "compaction-filler";

/// A producer of transactions that is not the scheduler. Dropped with a transaction open, it leaves it open.
pub struct Foreign {
    producer: Sender,
}

impl Foreign {
    pub fn begin(&self) {
        self.producer.inner.begin_transaction().expect("no transaction is open");
    }

    /// Produces `records` into the open transaction and waits until the broker has them.
    pub fn produce(&self, records: &[NewRecord]) -> KafkaResult<Vec<Place>> {
        self.producer.send(records)
    }

    pub fn commit(&self) -> KafkaResult<()> {
        self.producer.inner.commit_transaction(PATIENCE)
    }

    pub fn abort(&self) -> KafkaResult<()> {
        self.producer.inner.abort_transaction(PATIENCE)
    }

    /// Goes away without ending the transaction: the broker aborts it when its timeout has passed.
    pub fn leave_open(self) {
        drop(self);
    }
}

/// A reader on its own thread, so that each message is stamped when it arrives.
pub struct Reader {
    shared: Arc<ReaderShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct ReaderShared {
    seen: Mutex<Vec<Seen>>,
    more: Condvar,
    stop: AtomicBool,
}

impl Reader {
    fn start(consumer: BaseConsumer<Quiet>) -> Self {
        let shared = Arc::new(ReaderShared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    // An end of partition is no news here, and broken connections mend themselves.
                    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                        shared.seen.lock().unwrap().push(Seen::of(&message));
                        shared.more.notify_all();
                    }
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits until `enough` says so of all seen since the start, at most for `patience`; returns them, enough or not.
    pub fn collect(&self, patience: Duration, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let seen = self.shared.seen.lock().unwrap();
        let (seen, _) = self.shared.more.wait_timeout_while(seen, patience, |seen| !enough(seen)).unwrap();
        seen.clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed there.
            let _ = thread.join();
        }
    }
}

/// A producer that gives the place of each record it sent.
struct Sender {
    inner: ThreadedProducer<Receipts>,
}

/// The index of a record in its call, and where it lies.
type Receipt = (usize, KafkaResult<Place>);

/// What travels with a record: its index and the way back for its receipt.
type Opaque = Box<(usize, mpsc::Sender<Receipt>)>;

struct Receipts;

impl ClientContext for Receipts {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Opaque;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let (index, receipts) = *opaque;
        let place = match result {
            Ok(m) => Ok(Place { topic: m.topic().to_owned(), partition: m.partition(), offset: m.offset() }),
            Err((error, _)) => Err(error.clone()),
        };
        // Whoever sent it may have given up at an earlier record's error.
        let _ = receipts.send((index, place));
    }
}

impl Sender {
    fn new(settings: &mut ClientConfig) -> Self {
        settings
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "1")
            .set("queue.buffering.max.messages", "4000000")
            .set("queue.buffering.max.kbytes", "2000000");
        Self { inner: settings.create_with_context(Receipts).expect("the producer's settings are valid") }
    }

    /// The places of `records`, in their order, or the first error.
    fn send(&self, records: &[NewRecord]) -> KafkaResult<Vec<Place>> {
        let (receipts, outcomes) = mpsc::channel();
        for (index, record) in records.iter().enumerate() {
            let mut raw: BaseRecord<'_, [u8], [u8], _> =
                BaseRecord::with_opaque_to(&record.topic, Box::new((index, receipts.clone())));
            raw.partition = record.partition;
            raw.key = record.key.as_deref();
            raw.payload = record.value.as_deref();
            raw.timestamp = record.timestamp_ms;
            raw.headers = owned_headers(&record.headers);
            self.enqueue(raw)?;
        }
        drop(receipts);
        let mut places: HashMap<usize, Place> = HashMap::with_capacity(records.len());
        for (index, outcome) in outcomes {
            places.insert(index, outcome?);
        }
        Ok((0..records.len())
            .map(|index| places.remove(&index).expect("each record gets its receipt"))
            .collect())
    }

    /// Hands one record over; for a partition that is newer than what the producer knows, asks the broker first.
    fn enqueue(&self, record: BaseRecord<'_, [u8], [u8], Opaque>) -> KafkaResult<()> {
        match self.inner.send(record) {
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition), record)) => {
                self.inner.client().fetch_metadata(Some(record.topic), PATIENCE)?;
                self.inner.send(record).map_err(|(error, _)| error)
            }
            sent => sent.map_err(|(error, _)| error),
        }
    }
}

/// Errors come back from the calls; what librdkafka says beside them (an end of partition among it) is noise.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

fn owned_headers(headers: &[(String, Option<Vec<u8>>)]) -> Option<OwnedHeaders> {
    (!headers.is_empty()).then(|| {
        headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: value.as_ref() }))
    })
}

/// The places of records that a later record of the same key and partition supersedes.
fn superseded(records: &[Seen]) -> HashSet<(i32, i64)> {
    let mut newest: HashMap<(i32, &[u8]), i64> = HashMap::new();
    let mut doomed = HashSet::new();
    for seen in records {
        let Some(key) = &seen.key else { continue };
        if let Some(older) = newest.insert((seen.partition, key), seen.offset) {
            doomed.insert((seen.partition, older));
        }
    }
    doomed
}

fn settings(bootstrap: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("message.timeout.ms", "120000")
        .set("log_level", "0");
    settings
}

fn patient() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

fn all_done(outcomes: Vec<rdkafka::admin::TopicResult>) {
    for outcome in outcomes {
        outcome.unwrap_or_else(|(topic, code)| panic!("refused for {topic}: {code}"));
    }
}

fn wait_for<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made").block_on(answer)
}
