//! The scheduler as its users run it: the built binary in a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::child::{BoundChild, Signal};
use super::log::Log;
use super::{PATIENCE, http, port};

/// How a scheduler is to be started: the environment it gets, and nothing else of ours.
#[derive(Clone, Debug)]
pub struct Settings {
    env: BTreeMap<String, String>,
}

impl Settings {
    /// A scheduler of the cluster at `bootstrap`, in the consumer group `group`, without topics yet.
    pub fn new(bootstrap: &str, group: &str) -> Self {
        let settings = Self { env: BTreeMap::new() };
        settings
            .env("KAFKA_BROKERS", bootstrap)
            .env("CONSUMER_GROUP_ID", group)
            .env("KMS_LOGGING_LEVEL", "debug")
            .env("KMS_KAFKA_PROPERTIES", "session.timeout.ms=6000;heartbeat.interval.ms=2000")
    }

    /// The topics with Avro schedules, comma-separated.
    pub fn avro_topics(self, topics: &str) -> Self {
        self.env("SCHEDULE_TOPICS", topics)
    }

    /// The topics with JSON schedules, comma-separated.
    pub fn json_topics(self, topics: &str) -> Self {
        self.env("JSON_SCHEDULE_TOPICS", topics)
    }

    /// `exactly-once` or `at-least-once`.
    pub fn delivery(self, mode: &str) -> Self {
        self.env("KMS_DELIVERY", mode)
    }

    /// Any variable; the last value counts.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }
}

/// A running scheduler. Dropped, it is killed; dropped by a failing test, it shows what it logged.
pub struct Kms {
    process: BoundChild,
    log: Log,
    metrics: SocketAddr,
    admin: SocketAddr,
    settings: Settings,
    _dir: TempDir,
}

impl Kms {
    /// Starts a scheduler on a port of its own, in an empty directory, so that no `kms.toml` is found.
    pub fn start(settings: &Settings) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
        let [metrics, admin] = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, port::free())));
        let mut command = Command::new(env!("CARGO_BIN_EXE_kms"));
        command.current_dir(dir.path()).env_clear();
        // What the process itself needs; LLVM_PROFILE_FILE lets coverage be measured.
        command.envs(
            std::env::vars().filter(|(name, _)| ["PATH", "LLVM_PROFILE_FILE"].contains(&name.as_str())),
        );
        command
            .env("RUST_BACKTRACE", "1")
            .env("OTEL_EXPORTER_PROMETHEUS_PORT", metrics.port().to_string())
            .env("KMS_ADMIN__LISTEN", admin.to_string())
            .envs(&settings.env);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = BoundChild::spawn(command).expect("the binary can be started");
        let log = Log::default();
        let (stdout, stderr) = process.take_output();
        log.capture(stdout.expect("it is piped"));
        log.capture(stderr.expect("it is piped"));
        Self { process, log, metrics, admin, settings: settings.clone(), _dir: dir }
    }

    /// Starts a scheduler and waits until it is ready.
    pub fn start_ready(settings: &Settings) -> Self {
        let mut kms = Self::start(settings);
        kms.wait_ready();
        kms
    }

    /// Waits until every partition it owns is live.
    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.is_ready() {
                return;
            }
            if let Some(status) = self.process.exited() {
                panic!("the scheduler ended before it was ready ({status})");
            }
            assert!(Instant::now() < deadline, "the scheduler was not ready in {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it says it is ready.
    pub fn is_ready(&self) -> bool {
        http::get(self.metrics, "/health/ready").is_ok_and(|response| response.status == 200)
    }

    /// Where its admin API is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What it was started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where metrics and health are served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// The metrics as Prometheus would read them.
    pub fn metrics(&self) -> String {
        let response = http::get(self.metrics, "/metrics").expect("metrics are served");
        assert_eq!(response.status, 200, "{}", response.body);
        response.body
    }

    /// The sum of the metric's series that carry all these `labels`; `None` if there is no such series.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        sum_of(&self.metrics(), name, labels)
    }

    /// The partitions, by number, that it delivers for; of a scheduler of one topic.
    pub fn live_partitions(&self) -> BTreeSet<i32> {
        self.metrics()
            .lines()
            .filter_map(Series::parse)
            .filter(|series| series.name == "kms_partition_phase" && series.value > 0.5)
            .filter(|series| series.label("phase") == Some("live"))
            .filter_map(|series| series.label("partition")?.parse().ok())
            .collect()
    }

    /// What the system says of the process.
    pub fn cost(&self) -> Cost {
        Cost::of(self.process.id())
    }

    /// Waits for a line of the log that contains `text`, one already written too.
    pub fn await_line(&self, text: &str, patience: Duration) -> String {
        self.log
            .await_line(|line| line.contains(text), patience)
            .unwrap_or_else(|| panic!("the scheduler did not log {text:?} in {patience:?}"))
    }

    /// What it logged so far.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Asks it to stop and waits until it has.
    pub fn sigterm_and_wait(&mut self) -> ExitStatus {
        self.process.signal(Signal::Terminate);
        self.wait(PATIENCE).unwrap_or_else(|| panic!("the scheduler did not stop in {PATIENCE:?}"))
    }

    /// Waits for it to end by itself; `None`: still running.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.process.wait(patience)
    }

    /// Ends it at once, as a crash would.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// Freezes it: to the others it looks dead, to itself nothing happens.
    pub fn sigstop(&mut self) {
        self.process.signal(Signal::Stop);
    }

    /// Thaws it.
    pub fn sigcont(&mut self) {
        self.process.signal(Signal::Continue);
    }
}

impl Drop for Kms {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the log of the scheduler with process ID {} ends:\n{}",
                self.process.id(),
                self.log.tail(200)
            );
        }
    }
}

/// What a process takes of the system.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub threads: u64,
    pub resident_bytes: u64,
    pub open_files: u64,
    /// Time on a processor since the start.
    pub cpu: Duration,
}

impl Cost {
    fn of(process: u32) -> Self {
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).expect("it is running");
        let status = read("status");
        let figure = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
            line.split_whitespace().next().and_then(|figure| figure.parse().ok()).expect("a number")
        };
        // The name of the program, in brackets, may hold spaces.
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let ticks = |at: usize| -> u64 { fields[at].parse().expect("a number") };
        Self {
            threads: figure("Threads:"),
            resident_bytes: figure("VmRSS:") * 1_024,
            open_files: std::fs::read_dir(format!("/proc/{process}/fd")).expect("it is running").count()
                as u64,
            // In user and system mode, a hundred to the second.
            cpu: Duration::from_millis(10 * (ticks(11) + ticks(12))),
        }
    }
}

/// Sums the series of a metric in Prometheus' text format that carry all `wanted` labels.
fn sum_of(text: &str, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
    text.lines()
        .filter_map(|line| Series::parse(line).filter(|series| series.name == name))
        .filter(|series| wanted.iter().all(|(k, v)| series.labels.iter().any(|(l, w)| l == k && w == v)))
        .map(|series| series.value)
        .reduce(|sum, value| sum + value)
}

struct Series<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl<'a> Series<'a> {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
    }

    /// `name{label="value",…} 1.5 [timestamp]`; `None` for comments and blank lines.
    fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let (label, after) = rest.split_once("=\"")?;
                let (value, after) = take_quoted(after)?;
                labels.push((label, value));
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            rest = &rest[1..];
        }
        let value = rest.split_whitespace().next()?.parse().ok()?;
        (!name.is_empty()).then_some(Self { name, labels, value })
    }
}

/// The unescaped text up to the closing quote, and what follows it.
fn take_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[i + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP fired_total Fired.\n# TYPE fired_total counter\n\
        fired_total{topic=\"a\",partition=\"0\"} 3\nfired_total{topic=\"a\",partition=\"1\"} 4 1700000000000\n\
        fired_total{topic=\"b \\\"x\\\" \\\\\",partition=\"0\"} 5e1\n\nfired_total_other 9\nup 1\n";

    #[test]
    fn series_with_the_wanted_labels_are_summed() {
        assert_eq!(sum_of(TEXT, "fired_total", &[("topic", "a")]), Some(7.0));
        assert_eq!(sum_of(TEXT, "fired_total", &[("topic", "a"), ("partition", "1")]), Some(4.0));
        assert_eq!(sum_of(TEXT, "fired_total", &[("topic", "b \"x\" \\")]), Some(50.0));
        assert_eq!(sum_of(TEXT, "fired_total", &[]), Some(57.0));
        assert_eq!(sum_of(TEXT, "up", &[]), Some(1.0));
    }

    #[test]
    fn a_series_that_is_not_there_is_not_zero() {
        assert_eq!(sum_of(TEXT, "fired", &[]), None);
        assert_eq!(sum_of(TEXT, "fired_total", &[("topic", "c")]), None);
    }
}
