//! `kms demo`: the scheduler at work on an embedded, in-memory stand-in for Kafka. Nothing else is needed.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::codec;
use crate::config::{Settings, Sources};
use crate::instance::{RunOptions, run_until};
use crate::kafka::clock::SystemClock;
use crate::kafka::embedded::EmbeddedCluster;
use crate::kafka::observer::TopicIds;
use crate::kafka::{Clock, client};
use crate::schedule::{DueTime, Format, HeadersBuf, Schedule};
use crate::scheduler::status::Status;
use crate::telemetry;

const AVRO_TOPIC: &str = "schedules";
const JSON_TOPIC: &str = "json-schedules";
const DESTINATIONS: [&str; 2] = ["orders", "reminders"];
const PARTITIONS: i32 = 2;
/// After the first round of samples, one more this often.
const NEXT_SAMPLE: Duration = Duration::from_secs(4);

/// See the scheduler at work on an embedded, in-memory stand-in for Kafka
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms demo                 watch schedules fire until Ctrl-C
  kms demo --seconds 20    end by itself

Exit codes: 0 ended; 1 failed.")]
pub(super) struct DemoArgs {
    /// End by itself after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Where metrics and health are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9401")]
    metrics: String,
    /// Where the dashboard and the admin API are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9402")]
    admin: String,
}

/// Runs the demo until Ctrl-C, or for `--seconds`.
#[allow(clippy::disallowed_methods, reason = "the demo's own thread, which it joins")]
pub(super) fn execute(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let topics = [AVRO_TOPIC, JSON_TOPIC, DESTINATIONS[0], DESTINATIONS[1]].map(|topic| (topic, PARTITIONS));
    let cluster = EmbeddedCluster::start(&topics)
        .map_err(|e| anyhow::anyhow!("cannot start the embedded cluster: {e}"))?;
    let brokers = cluster.bootstrap_servers();
    let settings = settings(&brokers, &args.metrics, &args.admin)?;
    telemetry::start_log(&settings.logging);
    println!("{}", introduction(&brokers, &args.metrics, &args.admin));

    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    {
        let stop = Arc::clone(&stop);
        runtime.spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.store(true, Ordering::Relaxed);
            }
        });
    }
    let status = Arc::new(Status::new());
    let show = {
        let (settings, stop, status) = (settings.clone(), Arc::clone(&stop), Arc::clone(&status));
        let seconds = args.seconds;
        std::thread::Builder::new().name("show".to_owned()).spawn(move || {
            let outcome = Show::new(&settings).and_then(|show| show.run(&status, &stop, seconds));
            stop.store(true, Ordering::Relaxed);
            outcome
        })?
    };
    let options = RunOptions { topic_ids: TopicIds::None, ..RunOptions::default() };
    let outcome = run_until(settings, options, &status, &runtime, &stop);
    stop.store(true, Ordering::Relaxed);
    let shown = show.join().map_err(|_| anyhow::anyhow!("the demo's view died"))?;
    outcome.and(shown)?;
    Ok(ExitCode::SUCCESS)
}

fn settings(brokers: &str, metrics: &str, admin: &str) -> anyhow::Result<Settings> {
    let flag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let sources = Sources {
        file: None,
        environment: Vec::new(),
        flags: vec![
            flag("kafka.brokers", brokers),
            flag("kafka.group_id", "kms-demo"),
            flag("topics.avro", AVRO_TOPIC),
            flag("topics.json", JSON_TOPIC),
            flag("output.headers", "true"),
            flag("metrics.listen", metrics),
            flag("admin.listen", admin),
            flag("logging.level", "warn"),
        ],
    };
    Ok(Settings::load(&sources)?.settings)
}

fn introduction(brokers: &str, metrics: &str, admin: &str) -> String {
    // As this process was called: kms may not be on the path.
    let program = std::env::args().next().unwrap_or_else(|| "kms".to_owned());
    format!(
        "\
Kafka Message Scheduler demo.

An embedded stand-in for Kafka runs inside this process, at {brokers}. It is in memory only: everything is gone
when the demo ends, and its transactions are not real ones. Against a real cluster, `kms run` delivers exactly once.

  schedule topics      {AVRO_TOPIC} (Avro), {JSON_TOPIC} (JSON)
  destination topics   {}
  dashboard            http://{admin}/
  admin API            http://{admin}/api/schedules  /api/stats
  metrics and health   http://{metrics}/metrics  /health/ready

Try, in another terminal:
  {program} schedule hello --in 5s --topic reminders --key you --value hi --schedule-topic {JSON_TOPIC} --format json --brokers {brokers}

Ctrl-C ends it.
",
        DESTINATIONS.join(", ")
    )
}

/// Writes sample schedules and shows what becomes of them.
struct Show {
    producer: BaseProducer,
    consumer: BaseConsumer,
    clock: SystemClock,
    terminal: bool,
}

/// A schedule to write.
struct Sample<'a> {
    id: &'a str,
    format: Format,
    delay_ms: i64,
    topic: &'a str,
    value: Option<&'a str>,
    note: &'a str,
}

impl Show {
    fn new(settings: &Settings) -> anyhow::Result<Self> {
        let producer: BaseProducer = client::producer(settings)?.remove("transaction.timeout.ms").create()?;
        let mut reader: ClientConfig = client::reader(settings, client::Isolation::ReadCommitted)?;
        let consumer: BaseConsumer =
            reader.set("group.id", "kms-demo-view").set("enable.partition.eof", "false").create()?;
        let mut partitions = rdkafka::TopicPartitionList::new();
        for topic in DESTINATIONS {
            for partition in 0..PARTITIONS {
                partitions.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)?;
            }
        }
        consumer.assign(&partitions)?;
        Ok(Self { producer, consumer, clock: SystemClock::new(), terminal: std::io::stdout().is_terminal() })
    }

    #[allow(clippy::disallowed_methods, reason = "paces samples and view, no schedule")]
    fn run(self, status: &Status, stop: &AtomicBool, seconds: Option<u64>) -> anyhow::Result<()> {
        self.first_samples()?;
        let started = Instant::now();
        let (mut next_sample, mut next_status) = (Duration::from_secs(8), Duration::ZERO);
        let mut number = 1;
        while !stop.load(Ordering::Relaxed) {
            let elapsed = started.elapsed();
            if seconds.is_some_and(|seconds| elapsed.as_secs() >= seconds) {
                break;
            }
            if elapsed >= next_sample {
                next_sample += NEXT_SAMPLE;
                self.another_sample(number)?;
                number += 1;
            }
            if elapsed >= next_status {
                next_status += Duration::from_secs(if self.terminal { 1 } else { 5 });
                self.show_status(status);
            }
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(50)) {
                self.show_fired(&message);
            }
        }
        self.line("ended; nothing of it is left");
        Ok(())
    }

    fn first_samples(&self) -> anyhow::Result<()> {
        use Format::{Avro, Json};
        let samples = [
            ("late-1", Avro, -10_000, "orders", Some("overdue"), "overdue by 10 s: fires at once"),
            ("order-1", Avro, 6_000, "orders", Some("ship it"), "due in 6 s"),
            ("reminder-1", Json, 7_000, "reminders", Some("call back"), "due in 7 s"),
            ("delete-1", Json, 8_000, "orders", None, "due in 8 s, with a null value (a delete downstream)"),
            ("order-2", Avro, 9_000, "orders", Some("first version"), "due in 9 s"),
            (
                "order-2",
                Avro,
                10_000,
                "orders",
                Some("second version"),
                "the same ID again: replaces it, due in 10 s",
            ),
            ("order-3", Avro, 9_000, "orders", Some("never seen"), "due in 9 s"),
            ("far-1", Json, 86_400_000, "reminders", Some("tomorrow"), "due in a day: stays pending"),
        ];
        for (id, format, delay_ms, topic, value, note) in samples {
            self.write(&Sample { id, format, delay_ms, topic, value, note })?;
        }
        self.cancel("order-3")?;
        self.producer.flush(Duration::from_secs(5))?;
        Ok(())
    }

    fn another_sample(&self, number: u32) -> anyhow::Result<()> {
        let id = format!("tick-{number}");
        let format = if number.is_multiple_of(2) { Format::Avro } else { Format::Json };
        let value = format!("tick {number}");
        let delay_ms = 3_000 + i64::from(number % 3) * 1_500;
        let note = format!("due in {} s", delay_ms as f64 / 1_000.0);
        self.write(&Sample {
            id: &id,
            format,
            delay_ms,
            topic: "reminders",
            value: Some(&value),
            note: &note,
        })?;
        self.producer.flush(Duration::from_secs(5))?;
        Ok(())
    }

    fn write(&self, sample: &Sample<'_>) -> anyhow::Result<()> {
        let headers: HeadersBuf = [("source", "kms-demo")].into_iter().collect();
        let schedule = Schedule {
            due: DueTime::from_epoch_ms(self.clock.now_ms() + sample.delay_ms),
            topic: sample.topic,
            key: sample.id.as_bytes(),
            value: sample.value.map(str::as_bytes),
            headers: headers.as_headers(),
        };
        let mut value = Vec::new();
        codec::encode(sample.format, &schedule, &mut value);
        let topic = topic_of(sample.format);
        self.producer
            .send(BaseRecord::to(topic).key(sample.id).payload(&value))
            .map_err(|(error, _)| anyhow::anyhow!("cannot write a sample: {error}"))?;
        self.line(&format!("scheduled  {:<12} on {topic}: {}", sample.id, sample.note));
        Ok(())
    }

    fn cancel(&self, id: &str) -> anyhow::Result<()> {
        let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(AVRO_TOPIC).key(id);
        self.producer.send(record).map_err(|(error, _)| anyhow::anyhow!("cannot write a cancel: {error}"))?;
        self.line(&format!("cancelled  {id:<12} (a null value for its ID): never fires"));
        Ok(())
    }

    fn show_fired(&self, message: &impl Message) {
        let headers: HashMap<&str, String> = message.headers().map_or_else(HashMap::new, |headers| {
            headers
                .iter()
                .map(|h| (h.key, String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned()))
                .collect()
        });
        let id = headers.get("kms-schedule-id").map_or("?", String::as_str);
        let due_ms: Option<i64> = headers.get("kms-due").and_then(|due| due.parse().ok());
        // When the message was written, not when this view got to see it.
        let written_ms = message.timestamp().to_millis();
        let lateness = due_ms
            .zip(written_ms)
            .map_or_else(String::new, |(due, written)| format!(", {} ms after its time", written - due));
        let value = message.payload().map_or("null".into(), String::from_utf8_lossy);
        self.line(&format!("FIRED      {id:<12} to {}: {value}{lateness}", message.topic()));
    }

    fn show_status(&self, status: &Status) {
        let partitions = status.partitions();
        let sum = |gauge: fn(&crate::scheduler::status::PartitionStatus) -> i64| -> i64 {
            partitions.iter().map(|(_, _, figures)| gauge(figures)).sum()
        };
        let fired: u64 = status.topics().iter().map(|(_, counters)| counters.fired.get()).sum();
        let state = if status.ready() { "live" } else { "starting" };
        let text = format!(
            "{state}: {} pending, {} due within a minute, {fired} fired",
            sum(|figures| figures.pending.get()),
            sum(|figures| figures.due_within[0].get()),
        );
        if self.terminal {
            use std::io::Write as _;
            print!("\r\x1b[K{text}");
            // A view that cannot be shown has nobody to tell.
            let _ = std::io::stdout().flush();
        } else {
            println!("{text}");
        }
    }

    /// One event; on a terminal the status below it is drawn anew.
    fn line(&self, text: &str) {
        let now = jiff::ZonedDateTime::now().strftime("%H:%M:%S%.3f").to_string();
        if self.terminal {
            println!("\r\x1b[K{now}  {text}");
        } else {
            println!("{now}  {text}");
        }
    }
}

fn topic_of(format: Format) -> &'static str {
    match format {
        Format::Avro => AVRO_TOPIC,
        Format::Json => JSON_TOPIC,
    }
}
