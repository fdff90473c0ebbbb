//! Environment variables: those of the settings, and those that deployments had before there were settings.

use super::layers::Layers;
use super::{ConfigError, LogFormat, Logging, Notice};

/// Names from before, a contract with existing deployments, and the setting each stands for. The `KMS_` name that
/// follows from a setting's path wins over these.
const EARLIER_NAMES: &[(&str, &str)] = &[
    ("KAFKA_BROKERS", "kafka.brokers"),
    ("CONSUMER_GROUP_ID", "kafka.group_id"),
    ("SECURITY_PROTOCOL", "kafka.security_protocol"),
    ("KEYSTORE_LOCATION", "kafka.keystore_location"),
    ("KEYSTORE_PASSWORD", "kafka.keystore_password"),
    ("TRUSTSTORE_LOCATION", "kafka.truststore_location"),
    ("TRUSTSTORE_PASSWORD", "kafka.truststore_password"),
    ("SCHEDULE_TOPICS", "topics.avro"),
    ("JSON_SCHEDULE_TOPICS", "topics.json"),
    ("KMS_KAFKA_PROPERTIES", "kafka.properties"),
    ("KMS_KAFKA_CONSUMER_PROPERTIES", "kafka.consumer.properties"),
    ("KMS_KAFKA_PRODUCER_PROPERTIES", "kafka.producer.properties"),
    ("KMS_LOGGING_LEVEL", "logging.level"),
    ("KMS_ROOT_LOGGING_LEVEL", "logging.root_level"),
];

const METRICS_PORT: &str = "OTEL_EXPORTER_PROMETHEUS_PORT";
/// What commands take for themselves: which instance they ask.
const OF_COMMANDS: [&str; 2] = ["KMS_ADMIN_URL", "KMS_ADMIN_CA"];
const JSON_LOG: &str = "KMS_LOGGING_LOGSTASH";
/// Read where the command line is, for `--config`.
const FILE: &str = "KMS_CONFIG";
const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";
/// System properties of the JVM that were the only way to name several topics.
const JAVA_TOPICS: &[(&str, &str)] =
    &[("scheduler.topics.avro", "topics.avro"), ("scheduler.topics.json", "topics.json")];

/// Merges the variables. One that is set to nothing counts as not set, as container tools leave it.
pub(super) fn merge(layers: &mut Layers, variables: &[(String, String)]) -> Result<Vec<Notice>, ConfigError> {
    let get = |wanted: &str| {
        variables
            .iter()
            .find(|(name, value)| name == wanted && !value.is_empty())
            .map(|(_, value)| value.as_str())
    };
    let keys: Vec<(String, String)> = layers.keys().map(|key| (variable(key), key.to_owned())).collect();
    let mut notices = Vec::new();

    for (topics, key) in JAVA_TOPICS {
        let earlier = EARLIER_NAMES.iter().filter(|(_, of)| of == key).map(|(name, _)| *name);
        let names: Vec<String> = earlier.map(str::to_owned).chain([variable(key)]).collect();
        if names.iter().any(|name| get(name).is_some()) {
            continue;
        }
        let found = get(JAVA_OPTIONS).map(|options| java_list(options, topics)).unwrap_or_default();
        if !found.is_empty() {
            layers.set(key, &found.join(","), JAVA_OPTIONS)?;
            notices.push(Notice::Info(format!(
                "{key} = {found:?} was read from {JAVA_OPTIONS}; {} is the simpler way to say it",
                names[0]
            )));
        }
    }
    for (name, key) in EARLIER_NAMES {
        if let Some(value) = get(name) {
            layers.set(key, value, name)?;
        }
    }
    if let Some(port) = get(METRICS_PORT) {
        let listen = layers.text("metrics.listen").unwrap_or_default();
        let host = listen.rsplit_once(':').map_or("0.0.0.0", |(host, _)| host).to_owned();
        let port: u16 = port.trim().parse().map_err(|_| ConfigError::Invalid {
            origin: METRICS_PORT.into(),
            key: "metrics.listen".into(),
            why: format!("`{port}` is no port; write a number up to 65535"),
        })?;
        layers.set("metrics.listen", &format!("{host}:{port}"), METRICS_PORT)?;
    }
    for (name, key) in &keys {
        if let Some(value) = get(name) {
            layers.set(key, value, name)?;
        }
    }

    let known = |name: &str| {
        [JSON_LOG, FILE].contains(&name)
            || OF_COMMANDS.contains(&name)
            || keys.iter().any(|(of_key, _)| of_key == name)
            || EARLIER_NAMES.iter().any(|(earlier, _)| *earlier == name)
    };
    let mut unknown: Vec<&str> = variables
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("KMS_") && !known(name))
        .collect();
    unknown.sort_unstable();
    for name in unknown {
        let key = name.trim_start_matches("KMS_").to_ascii_lowercase().replace("__", ".");
        let (nearest, likeness) = layers.nearest(&key);
        // Kubernetes sets such variables for a service called kms: only a likely slip deserves a guess.
        let guess = if likeness < 0.9 { String::new() } else { format!("; is {} meant?", variable(nearest)) };
        notices.push(Notice::Warning(format!(
            "the variable {name} stands for no setting and is ignored{guess}"
        )));
    }
    Ok(notices)
}

/// Settles `auto`: JSON if the variable that asks for it is set.
pub(super) fn choose_log_format(logging: &mut Logging, variables: &[(String, String)]) -> Option<Notice> {
    let asked = variables.iter().any(|(name, value)| name == JSON_LOG && !value.is_empty());
    match logging.format {
        LogFormat::Auto => {
            logging.format = if asked { LogFormat::Json } else { LogFormat::Text };
            None
        }
        LogFormat::Text if asked => {
            Some(Notice::Warning(format!("logging.format is text, so {JSON_LOG} has no effect")))
        }
        LogFormat::Text | LogFormat::Json => None,
    }
}

/// The variable of a setting.
fn variable(key: &str) -> String {
    format!("KMS_{}", key.replace('.', "__").to_ascii_uppercase())
}

/// The values of `-D{property}.0=…`, `-D{property}.1=…` in order of their numbers.
fn java_list(options: &str, property: &str) -> Vec<String> {
    let mut found: Vec<(u32, String)> = options
        .split_whitespace()
        .filter_map(|option| {
            let option = option.trim_matches(['"', '\'']);
            let (name, value) = option.strip_prefix("-D")?.split_once('=')?;
            let index = name.strip_prefix(property)?.strip_prefix('.')?.parse().ok()?;
            let value = value.trim_matches(['"', '\'']);
            (!value.is_empty()).then(|| (index, value.to_owned()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, topic)| topic).collect()
}
