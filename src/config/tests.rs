#![allow(clippy::unwrap_used)]
use super::*;

fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kms.toml");
    std::fs::write(&path, file).unwrap();
    Settings::load(&Sources { file: Some(path), environment: vars(environment), flags: vars(flags) })
}

fn from_environment(environment: &[(&str, &str)]) -> Settings {
    load("", environment, &[]).unwrap().settings
}

fn refusal(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(file, environment, flags).expect_err("must be refused").to_string()
}

#[test]
fn the_defaults_are_whole_and_typed() {
    let settings = from_environment(&[]);
    assert_eq!(settings.delivery, Delivery::ExactlyOnce);
    assert_eq!(settings.kafka.group_id, "com.sky.kafka.scheduler");
    assert_eq!(settings.kafka.brokers, "localhost:9092");
    assert_eq!(settings.transactional_id_prefix, "kms");
    assert_eq!(settings.transaction.timeout, Duration::from_secs(10));
    assert_eq!(settings.metrics.listen.to_string(), "0.0.0.0:9401");
    assert_eq!(settings.logging.format, LogFormat::Text);
}

#[test]
fn every_default_is_a_setting_and_every_setting_has_a_default() {
    let printed: toml::Table = from_environment(&[]).print_masked().parse().unwrap();
    let mut defaults: toml::Table = DEFAULTS.parse().unwrap();
    // The two values that loading settles or writes in another way.
    defaults["logging"]["format"] = "text".into();
    defaults["batch"]["max_wait"] = "0s".into();
    assert_eq!(printed, defaults);
}

#[test]
fn later_sources_win() {
    let file = "[batch]\nmax_count = 1\n[retry]\ninitial = '2s'\n[output]\nheaders = true";
    let environment = [("KMS_BATCH__MAX_COUNT", "2"), ("KMS_RETRY__INITIAL", "3s")];
    let settings = load(file, &environment, &[("batch.max_count", "4")]).unwrap().settings;
    assert_eq!(settings.batch.max_count, 4, "flag over variable over file");
    assert_eq!(settings.retry.initial, Duration::from_secs(3), "variable over file");
    assert!(settings.output.headers, "file over default");
}

#[test]
fn the_variable_of_a_setting_wins_over_its_earlier_name() {
    let settings = from_environment(&[("KMS_KAFKA__BROKERS", "new:1"), ("KAFKA_BROKERS", "old:1")]);
    assert_eq!(settings.kafka.brokers, "new:1");
}

#[test]
fn every_earlier_name_is_understood() {
    let settings = from_environment(&[
        ("KAFKA_BROKERS", "k1:9092,k2:9092"),
        ("CONSUMER_GROUP_ID", "g"),
        ("SECURITY_PROTOCOL", "ssl"),
        ("KEYSTORE_LOCATION", "/k.p12"),
        ("KEYSTORE_PASSWORD", "kp"),
        ("TRUSTSTORE_LOCATION", "/t.p12"),
        ("TRUSTSTORE_PASSWORD", "tp"),
        ("SCHEDULE_TOPICS", "a, b,,a"),
        ("JSON_SCHEDULE_TOPICS", "c"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "1234"),
        ("KMS_LOGGING_LEVEL", "DEBUG"),
        ("KMS_ROOT_LOGGING_LEVEL", "ALL"),
        ("KMS_LOGGING_LOGSTASH", "true"),
    ]);
    assert_eq!(settings.kafka.brokers, "k1:9092,k2:9092");
    assert_eq!(settings.kafka.group_id, "g");
    assert_eq!(settings.kafka.security_protocol, SecurityProtocol::Ssl);
    assert_eq!(settings.kafka.keystore_location, PathBuf::from("/k.p12"));
    assert_eq!(settings.kafka.keystore_password.reveal(), "kp");
    assert_eq!(settings.kafka.truststore_location, PathBuf::from("/t.p12"));
    assert_eq!(settings.kafka.truststore_password.reveal(), "tp");
    assert_eq!(settings.topics.avro, ["a", "b"]);
    assert_eq!(settings.topics.json, ["c"]);
    assert_eq!(settings.metrics.listen.to_string(), "0.0.0.0:1234");
    assert_eq!(settings.logging.level, Level::Debug);
    assert_eq!(settings.logging.root_level, Level::Trace);
    assert_eq!(settings.logging.format, LogFormat::Json);
}

#[test]
fn a_variable_set_to_nothing_counts_as_not_set() {
    let settings = from_environment(&[("KAFKA_BROKERS", ""), ("KMS_LOGGING_LOGSTASH", "")]);
    assert_eq!(settings.kafka.brokers, "localhost:9092");
    assert_eq!(settings.logging.format, LogFormat::Text);
}

#[test]
fn topics_of_java_options_are_read_when_the_variables_are_absent() {
    let java = "-Xmx1g -Dscheduler.topics.avro.1=two -Dscheduler.topics.avro.0=one \"-Dscheduler.topics.json.0=three\"";
    let loaded = load("", &[("JAVA_TOOL_OPTIONS", java)], &[]).unwrap();
    assert_eq!(loaded.settings.topics.avro, ["one", "two"]);
    assert_eq!(loaded.settings.topics.json, ["three"]);
    assert_eq!(loaded.notices.len(), 2, "one line for each list: {:?}", loaded.notices);

    let both = [("JAVA_TOOL_OPTIONS", java), ("SCHEDULE_TOPICS", "mine"), ("KMS_TOPICS__JSON", "ours")];
    let loaded = load("", &both, &[]).unwrap();
    assert_eq!(loaded.settings.topics.avro, ["mine"]);
    assert_eq!(loaded.settings.topics.json, ["ours"]);
    assert_eq!(loaded.notices, []);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    for (file, nearest) in [
        ("[batch]\nmax_cuont = 1", "batch.max_count"),
        ("brokers = 'x'", "kafka.brokers"),
        ("[bacth]\nmax_count = 1", "batch.max_count"),
        ("[topics]\n[topics.avro]\nx = 1", "topics.avro"),
    ] {
        let message = refusal(file, &[], &[]);
        assert!(message.contains(nearest), "{file:?}: {message}");
        assert!(message.contains("kms.toml"), "{message}");
    }
    assert!(refusal("", &[], &[("batch.max_cont", "1")]).contains("batch.max_count"));
}

#[test]
fn an_unknown_variable_only_warns() {
    let variables =
        [("KMS_SERVICE_HOST", "10.0.0.1"), ("KMS_BATCH__MAX_COUT", "1"), ("KMS_CONFIG", "x"), ("HOME", "/")];
    let notices = load("", &variables, &[]).unwrap().notices;
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(
        matches!(&notices[0], Notice::Warning(text) if text.contains("is KMS_BATCH__MAX_COUNT meant?")),
        "{notices:?}"
    );
    assert!(matches!(&notices[1], Notice::Warning(text) if text.ends_with("is ignored")), "{notices:?}");
}

#[test]
fn properties_merge_one_by_one() {
    let file = "[kafka.properties]\nsession.timeout.ms = 1\n'client.id' = 'file'\n[kafka.consumer.properties]\n\
                fetch.min.bytes = 5";
    let properties = r"client.id=environment; sasl.password=a\;b\\c=d\n;";
    let settings = load(file, &[("KMS_KAFKA_PROPERTIES", properties)], &[]).unwrap().settings;
    let all: Vec<_> = settings.kafka.properties.iter().collect();
    assert_eq!(
        all,
        [("client.id", "environment"), ("sasl.password", r"a;b\c=d\n"), ("session.timeout.ms", "1")]
    );
    let consumer: Vec<_> = settings.kafka.consumer.properties.iter().collect();
    assert_eq!(consumer, [("fetch.min.bytes", "5")]);
}

#[test]
fn what_correctness_needs_cannot_be_overridden() {
    for property in [
        "isolation.level",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "transactional.id",
        "acks",
        "request.required.acks",
        "auto.offset.reset",
        "enable.partition.eof",
        "partition.assignment.strategy",
    ] {
        for table in ["kafka.properties", "kafka.consumer.properties", "kafka.producer.properties"] {
            let message = refusal(&format!("[{table}]\n{property} = 'x'"), &[], &[]);
            assert!(message.contains(&format!("{table} may not set `{property}`")), "{message}");
        }
    }
    let message = refusal("", &[("KMS_KAFKA_PROPERTIES", "client.id=a;acks=1")], &[]);
    assert!(message.starts_with("KMS_KAFKA_PROPERTIES: "), "the origin is named: {message}");
}

#[test]
fn the_instance_id_has_one_place() {
    assert_eq!(from_environment(&[("KMS_KAFKA__INSTANCE_ID", "kms-0")]).kafka.instance_id, "kms-0");
    let message = refusal("", &[("KMS_KAFKA_PROPERTIES", "group.instance.id=kms-0")], &[]);
    assert!(message.contains("set kafka.instance_id"), "{message}");
}

#[test]
fn nothing_printed_or_debugged_holds_a_secret() {
    let loaded = load(
        "[kafka.properties]\nsasl.password = 'hush'\nsasl.username = 'ann'\n[kafka.producer.properties]\n\
         ssl.key.pem = 'hush'",
        &[("KEYSTORE_PASSWORD", "hush"), ("TRUSTSTORE_PASSWORD", "hush")],
        &[],
    )
    .unwrap();
    let printed = loaded.settings.print_masked();
    assert!(printed.contains("ann"), "{printed}");
    assert!(!printed.contains("hush"), "{printed}");
    assert!(!format!("{loaded:?}").contains("hush"));
}

#[test]
fn errors_quote_no_secret() {
    for (file, properties) in [
        ("[kafka]\nkeystore_password = 'hush", ""),
        ("[kafka]\nkeystore_password = 0xhush", ""),
        ("", "sasl.password=half;hush"),
        ("[kafka.properties]\nsasl.password = ['hush']", ""),
    ] {
        let message = refusal(file, &[("KMS_KAFKA_PROPERTIES", properties)], &[]);
        assert!(!message.contains("hush"), "{message}");
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let settings = from_environment(&[("SCHEDULE_TOPICS", "a"), ("KMS_KAFKA_PROPERTIES", "client.id=x")]);
    assert_eq!(load(&settings.print_masked(), &[], &[]).unwrap().settings, settings);
}

#[test]
fn a_topic_has_one_format() {
    let message = refusal("", &[("SCHEDULE_TOPICS", "a,b"), ("JSON_SCHEDULE_TOPICS", "b")], &[]);
    assert!(message.contains("`b` is in both"), "{message}");
}

#[test]
fn brokers_are_named_in_any_of_librdkafkas_ways() {
    for brokers in
        ["k", "k:9092", "a:1, b:2", "127.0.0.1:9092", "[::1]:9092", "[::1]", "SSL://k:9093,PLAINTEXT://k"]
    {
        assert_eq!(from_environment(&[("KAFKA_BROKERS", brokers)]).kafka.brokers, brokers);
    }
}

#[test]
fn the_admin_api_is_this_machines_alone_or_has_a_token() {
    let refused = refusal("", &[("KMS_ADMIN__LISTEN", "0.0.0.0:9402")], &[]);
    for part in ["admin.token", "must be set", "127.0.0.1"] {
        assert!(refused.contains(part), "{refused}");
    }
    let guarded = from_environment(&[("KMS_ADMIN__LISTEN", "0.0.0.0:9402"), ("KMS_ADMIN__TOKEN", "hidden")]);
    assert_eq!(guarded.admin.token.reveal(), "hidden");
    assert!(!guarded.print_masked().contains("hidden"));
    assert_eq!(from_environment(&[("KMS_ADMIN__LISTEN", "none")]).admin.listen, None);
    from_environment(&[("KMS_ADMIN__LISTEN", "[::1]:0")]);
}

#[test]
fn without_topics_it_says_what_to_set() {
    let message = from_environment(&[]).require_topics().unwrap_err().to_string();
    assert!(message.contains("SCHEDULE_TOPICS") && message.contains("topics.avro"), "{message}");
    from_environment(&[("JSON_SCHEDULE_TOPICS", "a")]).require_topics().unwrap();
}

#[test]
fn wrong_values_name_source_setting_and_remedy() {
    for (file, environment, parts) in [
        ("[batch]\nmax_count = 'many'", ("", ""), ["kms.toml", "batch.max_count", "whole number"]),
        ("[batch]\nmax_count = 0", ("", ""), ["kms.toml", "batch.max_count", "1 to 50000"]),
        ("[batch]\nmax_count = -1", ("", ""), ["kms.toml", "batch.max_count", "-1"]),
        ("", ("KMS_TRANSACTION__TIMEOUT", "10"), ["KMS_TRANSACTION__TIMEOUT", "transaction.timeout", "10s"]),
        ("", ("KMS_DELIVERY", "twice"), ["KMS_DELIVERY", "delivery", "at-least-once"]),
        ("", ("KMS_OUTPUT__HEADERS", "maybe"), ["KMS_OUTPUT__HEADERS", "output.headers", "true"]),
        ("", ("KMS_METRICS__LISTEN", "localhost"), ["KMS_METRICS__LISTEN", "metrics.listen", "0.0.0.0:9401"]),
        (
            "",
            ("OTEL_EXPORTER_PROMETHEUS_PORT", "x"),
            ["OTEL_EXPORTER_PROMETHEUS_PORT", "metrics.listen", "number"],
        ),
        ("", ("SECURITY_PROTOCOL", "TLS"), ["SECURITY_PROTOCOL", "kafka.security_protocol", "SASL_SSL"]),
        (
            "",
            ("KMS_HEALTH__STALLED_AFTER", "1s"),
            ["KMS_HEALTH__STALLED_AFTER", "health.stalled_after", "twice"],
        ),
        (
            "",
            ("KMS_MEMORY__MAX_PENDING_BYTES", "lots"),
            ["KMS_MEMORY__MAX_PENDING_BYTES", "memory.max_pending_bytes", "12GiB"],
        ),
        (
            "",
            ("KMS_MEMORY__MAX_PENDING_BYTES", "1000"),
            ["KMS_MEMORY__MAX_PENDING_BYTES", "memory.max_pending_bytes", "1MiB"],
        ),
        (
            "",
            ("KMS_PARTITIONS__MAX_OWNED", "-1"),
            ["KMS_PARTITIONS__MAX_OWNED", "partitions.max_owned", "-1"],
        ),
        ("", ("KMS_KAFKA__INSTANCE_ID", "a b"), ["KMS_KAFKA__INSTANCE_ID", "kafka.instance_id", "a-z"]),
        ("", ("KAFKA_BROKERS", "localhost:port"), ["KAFKA_BROKERS", "kafka.brokers", "host:port"]),
        ("", ("KAFKA_BROKERS", "a:1,,b:2"), ["KAFKA_BROKERS", "kafka.brokers", "host:port"]),
        ("", ("KMS_ADMIN__LISTEN", "localhost"), ["KMS_ADMIN__LISTEN", "admin.listen", "127.0.0.1:9402"]),
        ("", ("KMS_DESTINATIONS__DENY", "a["), ["KMS_DESTINATIONS__DENY", "destinations.deny", "a["]),
        ("delivery = 'exactly-once", ("", ""), ["kms.toml", "line 1", "TOML"]),
    ] {
        let message = refusal(file, &[environment], &[]);
        for part in parts {
            assert!(message.contains(part), "`{part}` is missing in: {message}");
        }
    }
}

#[test]
fn a_named_file_must_exist() {
    let sources = Sources { file: Some("/nonexistent/kms.toml".into()), ..Sources::default() };
    let message = Settings::load(&sources).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/kms.toml"), "{message}");
}

#[test]
fn schedules_do_not_go_to_internal_or_schedule_topics() {
    let settings = from_environment(&[("SCHEDULE_TOPICS", "s")]);
    for (topic, permitted) in [("orders", true), ("__consumer_offsets", false), ("s", false)] {
        assert_eq!(settings.permits_destination(topic), permitted, "{topic}");
    }
    let settings = from_environment(&[
        ("SCHEDULE_TOPICS", "s"),
        ("KMS_DESTINATIONS__ALLOW", "s,orders.*"),
        ("KMS_DESTINATIONS__DENY", "*.secret"),
        ("KMS_DESTINATIONS__SCHEDULE_TOPICS", "yes"),
    ]);
    for (topic, permitted) in [("s", true), ("orders.eu", true), ("orders.secret", false), ("other", false)] {
        assert_eq!(settings.permits_destination(topic), permitted, "{topic}");
    }
}

#[test]
fn formats_follow_the_lists() {
    let settings = from_environment(&[("SCHEDULE_TOPICS", "a"), ("JSON_SCHEDULE_TOPICS", "j")]);
    assert_eq!(settings.topics.iter().collect::<Vec<_>>(), [("a", Format::Avro), ("j", Format::Json)]);
    assert_eq!(settings.topics.format_of("x"), None);
}
