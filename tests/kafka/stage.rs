//! One test's own corner of the shared broker: schedule topics, a destination, a consumer group, and what was written.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::judged;
use crate::support::broker::Broker;
use crate::support::client::{Client, Isolation, NewRecord, Place, Reader, Seen, unique};
use crate::support::history::{History, Record, Verdict, Write, payload_id};
use crate::support::kms::{Kms, Settings};
use crate::support::{PATIENCE, http, now_ms, poll_until};

/// How a schedule is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Avro,
    Json,
}

/// What a producer wants delivered. The encoders are the tests' own, so that they share no mistake with the product.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) due_ms: i64,
    pub(crate) destination: String,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Plan {
    pub(crate) fn due_ms(self, due_ms: i64) -> Self {
        Self { due_ms, ..self }
    }

    pub(crate) fn due_in(self, ms: i64) -> Self {
        self.due_ms(now_ms() + ms)
    }

    /// Not before any test has ended.
    pub(crate) fn due_much_later(self) -> Self {
        self.due_in(3_600_000)
    }

    pub(crate) fn to(self, destination: &str) -> Self {
        Self { destination: destination.to_owned(), ..self }
    }

    pub(crate) fn value(self, value: &[u8]) -> Self {
        Self { value: Some(value.to_vec()), ..self }
    }

    pub(crate) fn null_value(self) -> Self {
        Self { value: None, ..self }
    }

    pub(crate) fn header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    pub(crate) fn encoded(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Avro => self.avro(),
            Format::Json => self.json(),
        }
    }

    fn json(&self) -> Vec<u8> {
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), json!(STANDARD.encode(value))));
        json!({
            "time": self.due_ms,
            "topic": self.destination,
            "key": STANDARD.encode(&self.key),
            "value": self.value.as_ref().map(|value| STANDARD.encode(value)),
            "headers": Value::Object(headers.collect::<Map<_, _>>()),
        })
        .to_string()
        .into_bytes()
    }

    fn avro(&self) -> Vec<u8> {
        let mut datum = self.avro_without_headers();
        if !self.headers.is_empty() {
            avro_long(&mut datum, self.headers.len() as i64);
            for (name, value) in &self.headers {
                avro_bytes(&mut datum, name.as_bytes());
                avro_bytes(&mut datum, value);
            }
        }
        avro_long(&mut datum, 0);
        datum
    }

    /// As producers of the first version write it.
    pub(crate) fn avro_without_headers(&self) -> Vec<u8> {
        let mut datum = Vec::new();
        avro_long(&mut datum, self.due_ms);
        avro_bytes(&mut datum, self.destination.as_bytes());
        avro_bytes(&mut datum, &self.key);
        avro_long(&mut datum, i64::from(self.value.is_some()));
        if let Some(value) = &self.value {
            avro_bytes(&mut datum, value);
        }
        datum
    }
}

/// Avro's zig-zag varint.
pub(crate) fn avro_long(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn avro_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    avro_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// A schedule topic of the test's own.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) format: Format,
}

impl Topic {
    /// The record that schedules `plan`; its partition is still open.
    pub(crate) fn record(&self, id: impl AsRef<[u8]>, plan: &Plan) -> NewRecord {
        NewRecord::to(&self.name).key(id).value(plan.encoded(self.format))
    }
}

/// See the file's head. Most tests have one schedule topic, which the methods mean unless they take another.
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) topics: Vec<Topic>,
    /// One partition, so that its messages have an order.
    pub(crate) destination: String,
    /// Other destinations whose messages are judged too.
    more_destinations: Mutex<Vec<String>>,
    group: String,
    arrivals: Reader,
    /// What was meant by each record written, by where it lies.
    ledger: Mutex<BTreeMap<Place, Record>>,
    payloads: AtomicU32,
}

/// IDs of the schedules that [`Stage::finish`] writes begin so.
const LAST_PREFIX: &str = "the-last-of-";

impl Stage {
    pub(crate) fn json(partitions: i32) -> Self {
        Self::with(&[Format::Json], partitions)
    }

    pub(crate) fn avro(partitions: i32) -> Self {
        Self::with(&[Format::Avro], partitions)
    }

    /// A schedule topic of each of `formats`.
    pub(crate) fn with(formats: &[Format], partitions: i32) -> Self {
        let stage = Self::without_topics(formats);
        for topic in &stage.topics {
            stage.client.create_schedule_topic(&topic.name, partitions);
        }
        stage
    }

    /// The schedule topics have names, but do not exist yet.
    pub(crate) fn without_topics(formats: &[Format]) -> Self {
        let client = Client::new(Broker::shared());
        let named = |(format, name)| Topic { name: unique(name), format };
        let topics = formats.iter().map(|format| match format {
            Format::Avro => named((*format, "avro-schedules")),
            Format::Json => named((*format, "json-schedules")),
        });
        let topics = topics.collect();
        let destination = unique("destination");
        client.create_destination_topic(&destination, 1);
        let arrivals = client.reader(&[&destination]);
        Self {
            client,
            topics,
            destination,
            more_destinations: Mutex::default(),
            group: unique("group"),
            arrivals,
            ledger: Mutex::default(),
            payloads: AtomicU32::new(0),
        }
    }

    /// The schedule topic, of the scenes that have one.
    pub(crate) fn topic(&self) -> &Topic {
        &self.topics[0]
    }

    /// Creates another destination, whose messages are judged too.
    pub(crate) fn another_destination(&self) -> String {
        let name = unique("other-destination");
        self.client.create_destination_topic(&name, 1);
        self.judge_too(&name);
        name
    }

    /// Has the messages of an existing destination judged.
    pub(crate) fn judge_too(&self, destination: &str) {
        self.more_destinations.lock().unwrap().push(destination.to_owned());
    }

    /// A scheduler of all the stage's topics.
    pub(crate) fn settings(&self) -> Settings {
        let names = |format| {
            let names: Vec<_> =
                self.topics.iter().filter(|t| t.format == format).map(|t| t.name.as_str()).collect();
            names.join(",")
        };
        let mut settings = Settings::new(Broker::shared(), &self.group);
        for (list, names) in
            [("SCHEDULE_TOPICS", names(Format::Avro)), ("JSON_SCHEDULE_TOPICS", names(Format::Json))]
        {
            if !names.is_empty() {
                settings = settings.env(list, &names);
            }
        }
        settings
    }

    pub(crate) fn start(&self) -> Kms {
        Kms::start_ready(&self.settings())
    }

    /// A plan, due now, with the ID as the message's key and a value that no other plan has.
    pub(crate) fn plan(&self, id: impl AsRef<[u8]>) -> Plan {
        let id = id.as_ref();
        let number = self.payloads.fetch_add(1, Ordering::Relaxed);
        Plan {
            due_ms: now_ms(),
            destination: self.destination.clone(),
            key: id.to_vec(),
            value: Some(format!("{} #{number}", String::from_utf8_lossy(id)).into_bytes()),
            headers: Vec::new(),
        }
    }

    /// Writes the schedule where Java's partitioner would have it.
    pub(crate) fn put(&self, id: impl AsRef<[u8]>, plan: &Plan) -> Place {
        self.put_all(&[(id, plan.clone())]).remove(0)
    }

    /// Writes the schedule to that partition, whatever a partitioner would say.
    pub(crate) fn put_on(&self, topic: &Topic, partition: i32, id: impl AsRef<[u8]>, plan: &Plan) -> Place {
        let record = topic.record(id.as_ref(), plan).partition(partition);
        let place = self.client.produce(&[record]).remove(0);
        self.note(&place, id, plan);
        place
    }

    /// Writes many schedules at once.
    pub(crate) fn put_all<Id: AsRef<[u8]>>(&self, plans: &[(Id, Plan)]) -> Vec<Place> {
        let records: Vec<_> = plans.iter().map(|(id, plan)| self.topic().record(id, plan)).collect();
        let places = self.client.produce(&records);
        for (place, (id, plan)) in places.iter().zip(plans) {
            self.note(place, id, plan);
        }
        places
    }

    /// Notes for the judge what a record says that the test produced itself.
    pub(crate) fn note(&self, place: &Place, id: impl AsRef<[u8]>, plan: &Plan) {
        let write = Write::Schedule {
            due_ms: plan.due_ms,
            destination: plan.destination.clone(),
            payload_id: payload_id(plan.value.as_deref()),
        };
        self.ledger.lock().unwrap().insert(place.clone(), judged::record(place, id.as_ref(), write));
    }

    /// Cancels a schedule: a null value without headers.
    pub(crate) fn cancel(&self, id: impl AsRef<[u8]>) -> Place {
        self.client.produce(&[NewRecord::to(&self.topic().name).key(id)]).remove(0)
    }

    /// Waits for `count` messages at the destination; in the order in which they lie there.
    pub(crate) fn await_messages(&self, count: usize) -> Vec<Seen> {
        let seen = self.arrivals.collect(PATIENCE, |seen| seen.len() >= count);
        assert!(seen.len() >= count, "only {} of {count} messages arrived: {seen:#?}", seen.len());
        seen
    }

    /// What arrived at the destination so far.
    pub(crate) fn messages(&self) -> Vec<Seen> {
        self.arrivals.seen()
    }

    /// Has a last schedule fire on every partition and judges what happened. A shard fires in order of due time, so
    /// whatever it held that was due before the last one has fired by then too, wanted or not.
    pub(crate) fn finish(&self) -> Verdict {
        let mut wanted = Vec::new();
        let mut due_ms = 0;
        for topic in &self.topics {
            for partition in 0..self.client.partitions(&topic.name) {
                let id = format!("{LAST_PREFIX}{}-{partition}", topic.name);
                let plan = self.plan(&id);
                due_ms = plan.due_ms;
                self.put_on(topic, partition, &id, &plan);
                wanted.push(plan.value.unwrap_or_default());
            }
        }
        let all_there = |seen: &[Seen]| {
            wanted.iter().all(|value| seen.iter().any(|seen| seen.value.as_ref() == Some(value)))
        };
        let seen = self.arrivals.collect(PATIENCE, all_there);
        assert!(all_there(&seen), "a last schedule did not fire; arrived: {seen:#?}");
        self.judge(due_ms)
    }

    /// Judges what is in the topics now; schedules due by `until_ms` must have fired.
    pub(crate) fn judge(&self, until_ms: i64) -> Verdict {
        for topic in &self.topics {
            self.client.await_stable(&[&topic.name], PATIENCE);
            let seen = self.client.read_topic(&topic.name, Isolation::ReadCommitted);
            let mut ledger = self.ledger.lock().unwrap();
            // Noted for good: compaction may take it before the next judgement.
            for seen in seen.iter().filter(|seen| seen.key.is_some()) {
                ledger.entry(seen.place()).or_insert_with(|| unscheduled(seen));
            }
        }
        let records = self.ledger.lock().unwrap().values().cloned().collect();
        let more = self.more_destinations.lock().unwrap().clone();
        let destinations = more.iter().chain([&self.destination]);
        let messages = destinations.flat_map(|destination| {
            self.client.await_stable(&[destination], PATIENCE);
            self.client.read_topic(destination, Isolation::ReadCommitted)
        });
        History { records, messages: messages.map(judged::message).collect(), until_ms }.judge()
    }

    /// The committed records of the schedule topic whose ID is `id`, in order of partition and offset.
    pub(crate) fn records_of(&self, topic: &Topic, id: impl AsRef<[u8]>) -> Vec<Seen> {
        self.client.await_stable(&[&topic.name], PATIENCE);
        let mut seen = self.client.read_topic(&topic.name, Isolation::ReadCommitted);
        seen.retain(|seen| seen.key.as_deref() == Some(id.as_ref()));
        seen
    }
}

/// A record that is no schedule of the test's: a delete, the scheduler's tombstone, or something invalid.
fn unscheduled(seen: &Seen) -> Record {
    let write = if seen.value.is_some() { Write::Invalid } else { judged::null_value(seen) };
    judged::record(&seen.place(), seen.key.as_deref().unwrap_or_default(), write)
}

/// Runs a test in both deliveries at once: most of its time it waits.
pub(crate) fn in_both_deliveries(test: fn(&str)) {
    thread::scope(|threads| {
        threads.spawn(|| test("at-least-once"));
        test("exactly-once");
    });
}

/// Looks for new topics and partitions more often than by default.
pub(crate) fn curious(settings: Settings) -> Settings {
    settings.env(
        "KMS_KAFKA_PROPERTIES",
        "session.timeout.ms=6000;heartbeat.interval.ms=2000;topic.metadata.refresh.interval.ms=500",
    )
}

/// Waits until a metric has the value.
#[track_caller]
pub(crate) fn await_metric(kms: &Kms, name: &str, labels: &[(&str, &str)], wanted: f64) {
    let mut last = None;
    let reached = poll_until(PATIENCE, || {
        last = kms.metric(name, labels);
        (last == Some(wanted)).then_some(())
    });
    assert!(reached.is_some(), "{name}{labels:?} is {last:?}, not {wanted}");
}

/// Waits until it says that it is not ready, with all of `parts`; returns what it says.
#[track_caller]
pub(crate) fn await_not_ready(kms: &Kms, parts: &[&str]) -> String {
    let said = || {
        let health = http::get(kms.metrics_address(), "/health/ready").ok()?;
        (health.status == 503 && parts.iter().all(|part| health.body.contains(part))).then_some(health.body)
    };
    poll_until(PATIENCE, said).unwrap_or_else(|| panic!("its health never says {parts:?}"))
}

/// Waits for a line of the log that has all of `parts`. A part may end in a space, where a number must end: so does
/// the line.
#[track_caller]
pub(crate) fn await_log(kms: &Kms, parts: &[&str]) -> String {
    let has_all = |line: &String| parts.iter().all(|part| format!("{line} ").contains(part));
    let found = || kms.log_lines().into_iter().find(has_all);
    poll_until(PATIENCE, found).unwrap_or_else(|| panic!("no line of the log has {parts:?}"))
}
