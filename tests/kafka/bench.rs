//! `kms bench` as its users run it: small, for what it says and leaves behind, not for its figures.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::broker::Broker;
use crate::support::child::{BoundChild, Signal};
use crate::support::{PATIENCE, poll_until, port};

#[test]
fn load_compares_with_both_empty_loops() {
    for (format, partitions) in [("avro", 1), ("json", 3)] {
        let arguments = format!("load --count 5000 --rounds 2 --format {format} --partitions {partitions}");
        let document = measure(&arguments, 0);
        assert_eq!(document["benchmark"], "load");
        assert_eq!(document["asked"]["schedules"], 5_000);
        assert_eq!(document["asked"]["format"], *format);
        let rounds = document["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        for way in ["raw_poll", "raw_batch", "kms_assigned_to_live", "kms_first_record_to_live"] {
            for round in rounds {
                assert_eq!(round[way]["records"], 5_000, "{way}: {round}");
            }
            let summary = &document["summary"][way];
            for ratio in ["ratio_to_raw_poll", "ratio_to_raw_batch"] {
                assert_positive(&summary[ratio]);
            }
            assert_spread(&summary["records_per_second"]);
            assert_spread(&summary["megabytes_per_second"]);
        }
        assert_eq!(document["summary"]["raw_poll"]["ratio_to_raw_poll"], 1.0);
        assert_spread(&document["summary"]["kms_joining_seconds"]);
    }
}

#[test]
fn a_burst_is_delivered_once_by_both() {
    let document = measure("fire --count 3000 --partitions 2 --rounds 2 --set batch.max_count=500", 0);
    assert_eq!(document["benchmark"], "fire");
    assert_eq!(document["settings"]["batch"]["max_count"], 500);
    assert_delivered(&document, 3_000);
    for contender in ["kms", "raw"] {
        let figures = &document["summary"][contender]["messages_per_transaction"];
        assert!(figures["most"].as_f64().unwrap() <= 500.0, "{contender}: {figures}");
    }
}

#[test]
fn a_steady_rate_is_delivered_in_its_time() {
    for delivery in ["exactly-once", "at-least-once"] {
        let rate = "fire --rate 200 --seconds 2 --rounds 1 --format json";
        let document = measure(&format!("{rate} --set delivery={delivery}"), 0);
        assert_delivered(&document, 400);
        assert_eq!(document["settings"]["delivery"], *delivery);
        for contender in ["kms", "raw"] {
            let seconds =
                document["summary"][contender]["first_due_to_last_visible_seconds"]["median"].as_f64();
            assert!(seconds.unwrap() >= 1.995, "the last is due 1.995 s after the first: {document}");
        }
    }
}

#[test]
fn what_is_replaced_or_cancelled_meanwhile_is_not_delivered() {
    let document =
        measure("mixed --write-rate 300 --seconds 3 --replace 30 --cancel 20 --rounds 1 --partitions 2", 0);
    let written = &document["written_for_kms"][0];
    let count = |what: &str| written[what].as_u64().unwrap();
    assert_eq!(count("schedules"), 900);
    assert!((170..370).contains(&count("replaced")) && (100..260).contains(&count("cancelled")), "{written}");
    let messages = &document["rounds"][0]["kms"]["messages"];
    assert_eq!(*messages, 900 - count("cancelled"), "{document}");
    assert_delivered(&document, 900 - count("cancelled"));
}

#[test]
fn the_table_is_for_people_and_progress_goes_to_standard_error() {
    let bench = Bench::start("fire --count 200 --rounds 1", Broker::shared());
    let outcome = bench.wait();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for word in
        ["kms / raw", "messages a second", "due to visible, p99, ms", "exactly-once, avro", "one round"]
    {
        assert!(outcome.stdout.contains(word), "{word}: {}", outcome.stdout);
    }
    assert!(outcome.stderr.contains("kms: writing schedules: 200 in"), "{}", outcome.stderr);
}

#[test]
fn without_a_broker_it_says_so() {
    let nobody = format!("127.0.0.1:{}", port::free());
    let outcome = Bench::start("load --count 10", &nobody).wait();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    assert!(
        outcome.stderr.contains("no answer from") && outcome.stderr.contains(&nobody),
        "{}",
        outcome.stderr
    );
}

#[test]
fn interrupted_it_deletes_its_topics_and_kept_they_stay() {
    let mut bench = Bench::start("load --count 100000000", Broker::shared());
    let pid = bench.process.id();
    assert!(
        poll_until(PATIENCE, || (!topics_of(pid).is_empty()).then_some(())).is_some(),
        "it creates a topic"
    );
    bench.process.signal(Signal::Terminate);
    let outcome = bench.wait();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("interrupted"), "{}", outcome.stderr);
    assert_gone(pid);

    let bench = Bench::start("load --count 10 --rounds 1 --keep", Broker::shared());
    let pid = bench.process.id();
    assert_eq!(bench.wait().code, Some(0));
    assert_eq!(topics_of(pid).len(), 1);
}

#[test]
fn the_embedded_cluster_is_for_trying_it_out() {
    let bench = Bench::start_without_brokers("load --embedded --count 500 --rounds 1 --json");
    let outcome = bench.wait();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(document["rounds"][0]["kms_assigned_to_live"]["records"], 500);

    let outcome = Bench::start_without_brokers("fire --embedded --count 1000000").wait();
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("take fewer"), "{}", outcome.stderr);
}

/// Runs a benchmark on the shared broker with `--json`; its document, once its topics are gone.
fn measure(arguments: &str, code: i32) -> Value {
    let bench = Bench::start(&format!("{arguments} --json"), Broker::shared());
    let pid = bench.process.id();
    let outcome = bench.wait();
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    assert_gone(pid);
    serde_json::from_str(&outcome.stdout).expect("one JSON document")
}

/// Each contender delivered so many in every round, nothing was wrong, and every figure is there.
fn assert_delivered(document: &Value, count: u64) {
    for round in document["rounds"].as_array().unwrap() {
        for contender in ["kms", "raw"] {
            let figures = &round[contender];
            if contender == "kms" {
                assert_eq!(figures["messages"], count, "{round}");
            }
            assert!(figures["transactions"].as_u64().unwrap() > 0, "{round}");
            for fault in ["lost", "doubled", "early", "wrong"] {
                assert_eq!(figures["faults"][fault], 0, "{contender}: {round}");
            }
            for latency in ["p50", "p99", "p99_9", "max"] {
                let late_ms = figures[format!("due_to_visible_{latency}_ms")].as_f64();
                assert!(late_ms.is_some_and(|ms| ms >= 0.0 && ms.is_finite()), "{latency}: {round}");
            }
        }
    }
    for figure in
        ["due_to_visible_p50_ms", "due_to_visible_p99_ms", "due_to_visible_p99_9_ms", "due_to_visible_max_ms"]
    {
        for contender in ["kms", "raw"] {
            assert_spread(&document["summary"][contender][figure]);
        }
        assert_positive(&document["summary"]["kms_to_raw"][figure]);
    }
    // Of a mix it has no rates: some of it is due later with kms.
    let is_mix = document["benchmark"] == "mixed";
    for rate in ["first_due_to_last_visible_seconds", "messages_per_second"] {
        assert_eq!(document["summary"]["kms"].get(rate).is_none(), is_mix, "{rate}");
    }
    assert!(document["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(document["version"]["librdkafka"].is_string());
}

#[track_caller]
fn assert_spread(spread: &Value) {
    let [least, median, most] = ["least", "median", "most"].map(|name| spread[name].as_f64().unwrap());
    assert!(0.0 <= least && least <= median && median <= most, "{spread}");
}

#[track_caller]
fn assert_positive(figure: &Value) {
    assert!(figure.as_f64().is_some_and(|figure| figure > 0.0 && figure.is_finite()), "{figure}");
}

/// Topics that the benchmark with this process ID created.
fn topics_of(pid: u32) -> Vec<String> {
    let reader: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", Broker::shared()).create().expect("right settings");
    let metadata = reader.fetch_metadata(None, PATIENCE).expect("the broker answers");
    let of_bench = metadata.topics().iter().map(|topic| topic.name().to_owned());
    of_bench.filter(|name| name.starts_with("kms-bench-") && name.contains(&format!("-{pid}-"))).collect()
}

#[track_caller]
fn assert_gone(pid: u32) {
    let gone = poll_until(PATIENCE, || topics_of(pid).is_empty().then_some(()));
    assert!(gone.is_some(), "left behind: {:?}", topics_of(pid));
}

/// A running benchmark, whose output goes to files.
struct Bench {
    process: BoundChild,
    dir: TempDir,
}

#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn start(arguments: &str, brokers: &str) -> Self {
        Self::start_without_brokers(&format!("{arguments} --brokers {brokers}"))
    }

    fn start_without_brokers(arguments: &str) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
        let file = |name| File::create(dir.path().join(name)).expect("a file can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kms"));
        command.arg("bench").args(arguments.split_whitespace()).current_dir(dir.path()).env_clear();
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        Self { process: BoundChild::spawn(command).expect("the binary can be started"), dir }
    }

    fn wait(mut self) -> Outcome {
        let code = self.process.wait(3 * PATIENCE).map(|status| status.code());
        let read = |name| fs::read_to_string(self.dir.path().join(name)).expect("it was made");
        let outcome = Outcome { code: code.flatten(), stdout: read("stdout"), stderr: read("stderr") };
        assert!(code.is_some(), "it did not end by itself: {outcome:?}");
        outcome
    }
}
