//! A real Kafka: one node in KRaft mode, started from Apache's jars in a directory of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use super::child::{BoundChild, Signal, at_exit};
use super::log::tail;
use super::{PATIENCE, port};

/// The settings every broker here starts with, beside its ports and directories.
///
/// One node can hold one replica; the rest shortens waits that would only make tests slow, and lets a test force
/// compaction (see `Client::force_compaction`).
const SETTINGS: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("auto.create.topics.enable", "false"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "4"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "200"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    // After a kill the controller admits the same broker again only when its old session has run out.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "300"),
    ("log.cleaner.backoff.ms", "100"),
    ("log.cleaner.dedupe.buffer.size", "16777216"),
    ("log.segment.delete.delay.ms", "1000"),
];

/// A running broker. Dropped, it is killed and its directory removed.
pub struct Broker {
    extra: Vec<(String, String)>,
    /// The port of the controller whose cluster it joins; `None`: it is a cluster by itself.
    joins: Option<u16>,
    ports: Ports,
    bootstrap: String,
    process: Option<BoundChild>,
    dir: TempDir,
}

#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    controller: u16,
}

impl Broker {
    /// The bootstrap address of the broker that all tests of this process share; started at the first call.
    ///
    /// A shared broker is nobody's to stop, and its topics are everybody's: name them by `client::unique`.
    pub fn shared() -> &'static str {
        static SHARED: OnceLock<String> = OnceLock::new();
        static BROKER: Mutex<Option<Broker>> = Mutex::new(None);
        extern "C" fn remove() {
            // Nothing may unwind out of an exit hook, so a poisoned lock is taken as it is.
            drop(BROKER.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        }
        SHARED.get_or_init(|| {
            let broker = Self::private();
            let bootstrap = broker.bootstrap.clone();
            *BROKER.lock().unwrap() = Some(broker);
            at_exit(remove);
            bootstrap
        })
    }

    /// A broker of one's own, to stop, kill and restart.
    pub fn private() -> Self {
        Self::private_with(&[])
    }

    /// A broker of one's own with `extra` settings, which win over the usual ones.
    pub fn private_with(extra: &[(&str, &str)]) -> Self {
        let extra: Vec<_> =
            extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // A port can be taken between finding it free and listening on it; then the broker ends at once.
        for _ in 0..2 {
            if let Ok(broker) = Self::create(extra.clone(), None) {
                return broker;
            }
        }
        Self::create(extra, None).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Another broker of the same cluster, with the number 2. It holds what is created on it from here on.
    pub fn second(&self) -> Self {
        Self::create(self.extra.clone(), Some(self.ports.controller))
            .unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Where clients connect: `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Stops the broker in good order; what it holds stays for `restart`.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::Terminate);
            assert!(
                process.wait(PATIENCE).is_some(),
                "the broker did not stop in {PATIENCE:?}\n{}",
                self.log_tail()
            );
        }
    }

    /// Ends the broker at once, as a crash would.
    pub fn kill(&mut self) {
        self.process.take();
    }

    /// Freezes the broker: connections stay, nothing is answered.
    pub fn freeze(&mut self) {
        self.running().signal(Signal::Stop);
    }

    /// Thaws a frozen broker.
    pub fn thaw(&mut self) {
        self.running().signal(Signal::Continue);
    }

    /// Starts the broker again, on the same port and data, after `stop` or `kill` (or stops it first), and waits
    /// until it answers.
    pub fn restart(&mut self) {
        self.stop();
        if let Err(failure) = self.start() {
            panic!("{failure}");
        }
    }

    /// A broker of one's own that minds permissions: what nothing was said about is permitted.
    pub fn with_permissions() -> Self {
        Self::private_with(&[
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            ("allow.everyone.if.no.acl.found", "true"),
        ])
    }

    /// Permits these operations on a topic, and from the first time on only what was permitted.
    pub fn permit(&self, topic: &str, operations: &[&str]) {
        let output = java("256m")
            .args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server", &self.bootstrap])
            .args(["--add", "--allow-principal", "User:*", "--topic", topic])
            .args(operations.iter().flat_map(|operation| ["--operation", operation]))
            .output()
            .expect("java could be started before");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn running(&mut self) -> &mut BoundChild {
        self.process.as_mut().expect("the broker is running")
    }

    fn create(extra: Vec<(String, String)>, joins: Option<u16>) -> Result<Self, String> {
        let dir = working_directory();
        let ports = Ports { clients: port::free(), controller: port::free() };
        let bootstrap = format!("127.0.0.1:{}", ports.clients);
        let mut broker = Self { extra, joins, ports, bootstrap, process: None, dir };
        fs::write(broker.settings_file(), broker.settings()).expect("the broker's settings can be written");
        broker.format()?;
        broker.start()?;
        Ok(broker)
    }

    fn settings(&self) -> String {
        let Ports { clients, controller } = self.ports;
        let mut settings: Vec<(String, String)> =
            SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut own = |name: &str, value: String| settings.push((name.to_owned(), value));
        let for_clients = format!("PLAINTEXT://127.0.0.1:{clients}");
        own("advertised.listeners", for_clients.clone());
        match self.joins {
            None => {
                own("listeners", format!("{for_clients},CONTROLLER://127.0.0.1:{controller}"));
                own("controller.quorum.voters", format!("1@127.0.0.1:{controller}"));
            }
            Some(controller) => {
                own("process.roles", "broker".to_owned());
                own("node.id", "2".to_owned());
                own("listeners", for_clients);
                own("controller.quorum.voters", format!("1@127.0.0.1:{controller}"));
            }
        }
        own("log.dirs", self.dir.path().join("data").display().to_string());
        settings.extend(self.extra.iter().cloned());
        settings.into_iter().fold(String::new(), |file, (name, value)| file + &name + "=" + &value + "\n")
    }

    fn settings_file(&self) -> PathBuf {
        self.dir.path().join("server.properties")
    }

    /// Gives the data directory the cluster ID without which KRaft does not start.
    fn format(&self) -> Result<(), String> {
        const CLUSTER_ID: &str = "a21zLXRlc3QtY2x1c3Rlcg";
        let output = java("256m")
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(self.settings_file())
            .output()
            .map_err(|e| format!("java could not be started: {e}"))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(format!(
                "the broker's directory could not be formatted:\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ))
        }
    }

    fn start(&mut self) -> Result<(), String> {
        let log =
            File::options().create(true).append(true).open(self.log_file()).expect("the log can be written");
        let mut command = java("1g");
        command.arg("kafka.Kafka").arg(self.settings_file()).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be cloned")).stderr(log);
        self.process =
            Some(BoundChild::spawn(command).map_err(|e| format!("java could not be started: {e}"))?);
        self.await_answer()
    }

    /// Ready is a broker that answers a metadata request and knows its controller.
    fn await_answer(&mut self) -> Result<(), String> {
        let probe: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "100")
            .set("log_level", "0")
            .create()
            .expect("the probe's settings are valid");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.running().exited() {
                return Err(format!("the broker ended at its start ({status}):\n{}", self.log_tail()));
            }
            let metadata = probe.fetch_metadata(None, Duration::from_millis(500));
            if metadata.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return Ok(());
            }
        }
        Err(format!("the broker did not answer in {PATIENCE:?}:\n{}", self.log_tail()))
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("broker.log")
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        tail(&log.lines().collect::<Vec<_>>(), 40)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the broker's log ends:\n{}", self.log_tail());
        }
    }
}

/// Java with Kafka's classes and a heap of at most `heap`; the main class is still to be named.
fn java(heap: &str) -> Command {
    let mut java = Command::new("java");
    java.arg(format!("-Xmx{heap}")).args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        "-cp",
    ]);
    java.arg(jars().join("*"));
    java
}

/// Kafka's jars, fetched at the first use.
fn jars() -> &'static Path {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let fetched =
            Command::new(root.join("scripts/fetch-kafka")).status().expect("scripts/fetch-kafka can be run");
        assert!(fetched.success(), "scripts/fetch-kafka failed; it says why above");
        root.join(".kafka/libs")
    })
}

/// A directory under `target/tmp`, named by this process; what a killed test process left there is removed.
fn working_directory() -> TempDir {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(parent).expect("target/tmp can be made");
    for entry in fs::read_dir(parent).expect("target/tmp can be read").flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix("broker-")?.split('-').next()?.parse::<u32>().ok());
        let has_proc = Path::new("/proc/self").exists();
        if owner.is_some_and(|pid| has_proc && !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another test process may be sweeping too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("broker-{}-", std::process::id()))
        .tempdir_in(parent)
        .expect("a directory can be made under target/tmp")
}
