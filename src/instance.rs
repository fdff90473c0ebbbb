//! An instance from start to stop.

mod extent;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum_server::tls_openssl::OpenSSLConfig;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::admin;
use crate::checkpoint::StateDir;
use crate::config::Settings;
use crate::kafka::Clock as _;
use crate::kafka::client;
use crate::kafka::clock::SystemClock;
use crate::kafka::connection;
use crate::kafka::context::QuietContext;
use crate::kafka::give_back_memory;
use crate::kafka::observer::{Observer, TopicIds};
use crate::kafka::topics::{Severity, TopicAdmin, legal_topics};
use crate::schedule::DueTime;
use crate::scheduler::desk::Desk;
use crate::scheduler::dry_run;
use crate::scheduler::settings::{ShardSettings, TopicFacts};
use crate::scheduler::status::{Crossed, Status};
use crate::scheduler::supervisor::{Blueprint, Supervisor, SupervisorError};
use crate::scheduler::watch::{Watch, Watched};
use crate::telemetry::Metrics;

/// What one run is to do besides its settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Load and report, deliver nothing, write nothing.
    pub dry_run: bool,
    /// Remove schedules due before this instead of delivering them late.
    pub skip_overdue_before: Option<DueTime>,
    /// Whether the cluster's topics have IDs.
    pub topic_ids: TopicIds,
}

/// How long a question about configuration may take.
const ASK: Duration = Duration::from_secs(10);

/// Runs an instance until it is told to stop (SIGTERM, SIGINT).
pub fn run(settings: Settings, options: RunOptions) -> anyhow::Result<()> {
    settings.require_topics()?;
    legal_topics(&settings)?;
    if options.dry_run {
        return dry_run::dry_run(&settings, &mut std::io::stdout().lock());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    {
        let stop = Arc::clone(&stop);
        runtime.spawn(async move {
            match stop_signal().await {
                Ok(signal) => tracing::info!("{signal}: finishing what is open"),
                Err(error) => tracing::error!("no signal can be waited for: {error}"),
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
    let outcome = run_until(settings, options, &Arc::new(Status::new()), &runtime, &stop);
    // Whatever still blocks there is nothing that the end has to wait for.
    runtime.shutdown_background();
    outcome
}

/// Runs an instance until `stop` is set, publishing what it does in `status`.
pub fn run_until(
    settings: Settings,
    options: RunOptions,
    status: &Arc<Status>,
    runtime: &Runtime,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let settings = Arc::new(settings);
    for (topic, _) in settings.topics.iter() {
        status.counters(topic);
    }
    status.set_bounds(
        settings.memory.max_pending_bytes,
        (settings.partitions.max_owned > 0).then_some(settings.partitions.max_owned as u64),
    );
    let listener = runtime.block_on(admin::bind(settings.metrics.listen))?;
    let http = admin::Observed {
        metrics: Arc::new(Metrics::of(status)?),
        status: Arc::clone(status),
        stalled_after: settings.health.stalled_after,
    };
    serve_http(runtime, listener, admin::router(http), None);

    let tls = admin::tls(&settings.admin.tls)?;
    let api_listener = match settings.admin.listen {
        Some(listen) => {
            let scheme = if settings.admin.tls.is_set() { "https" } else { "http" };
            Some(runtime.block_on(admin::bind_api(listen, scheme))?)
        }
        None => None,
    };

    let topic_admin = TopicAdmin::new(&settings, QuietContext, ASK)?;
    if settings.topics.create {
        // Best before the subscription, which then finds them; otherwise the watch tries again.
        create_topics(&topic_admin, &settings);
    }
    let skip_before_ms = options.skip_overdue_before.map(DueTime::epoch_ms);
    if let Some(before_ms) = skip_before_ms {
        tracing::warn!(
            before_ms,
            "schedules that were due before this are removed, not delivered (--skip-overdue-before)"
        );
    }
    let facts: HashMap<String, Arc<TopicFacts>> =
        settings.topics.iter().map(|(topic, _)| (topic.to_owned(), Arc::default())).collect();
    let shard_settings = settings.topics.iter().map(|(topic, format)| {
        let shard = ShardSettings::new(&settings, format, skip_before_ms, &facts[topic]);
        (topic.to_owned(), Arc::new(shard))
    });
    let observer =
        Observer::new(&client::reader(&settings, client::Isolation::ReadUncommitted)?, options.topic_ids)?;
    let desk = Arc::new(Desk::new(Arc::clone(&observer)));
    if let Some(listener) = api_listener {
        let (desk, status, settings) = (Arc::clone(&desk), Arc::clone(status), Arc::clone(&settings));
        let of_writer = Arc::clone(&settings);
        let write = move |topic: &str, id: &[u8], value: Option<&[u8]>| {
            let written = connection::write(&of_writer, topic, id, value);
            written.map(|at| (at.partition, at.offset)).map_err(|error| format!("{error:#}"))
        };
        let api = admin::api::Api::new(desk, status, settings, Arc::new(write));
        runtime.spawn(api.clone().keep_sampling());
        serve_http(runtime, listener, admin::console(api), tls);
    }
    let state_dir = &settings.state.dir;
    let state = (!state_dir.as_os_str().is_empty()).then(|| StateDir::open(state_dir)).transpose()?;
    let blueprint = Blueprint {
        settings: shard_settings.collect(),
        producer: client::producer(&settings)?,
        transactional_id_prefix: settings.transactional_id_prefix.clone(),
        observer: Arc::clone(&observer),
        status: Arc::clone(status),
        desk: Arc::clone(&desk),
        state,
    };
    let files = extent::raise_limit_of_files();
    let partitions = extent::partitions_to_hold(&settings, &observer, files);
    let member = client::consumer(&settings, partitions)?;
    let supervisor = Supervisor::start(&member, blueprint).map_err(|error| {
        anyhow::anyhow!("cannot start the consumer of {}: {error}", settings.kafka.brokers)
    })?;
    let watch = Watch::start(Watched {
        topics: facts.clone(),
        observer,
        reloads: supervisor.reload_sender(),
        check_configuration: configuration_check(&settings, facts, topic_admin),
    })?;
    tracing::info!(
        brokers = settings.kafka.brokers,
        group = settings.kafka.group_id,
        avro = ?settings.topics.avro,
        json = ?settings.topics.json,
        delivery = settings.delivery.name(),
        "started"
    );
    let outcome = serve(&supervisor, status, settings.health.stalled_after, stop);
    match &outcome {
        Ok(()) => {
            supervisor.stop();
            tracing::info!("stopped");
        }
        Err(error) => match error.downcast_ref::<SupervisorError>() {
            Some(failure) => supervisor.give_up(failure),
            // A thread that hangs cannot be joined: the process ends, and its session with it.
            None => std::mem::forget(supervisor),
        },
    }
    drop(watch);
    outcome
}

fn serve(
    supervisor: &Supervisor,
    status: &Status,
    stalled_after: Duration,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let mut was_ready = false;
    while !stop.load(Ordering::Relaxed) {
        supervisor.poll()?;
        for crossed in status.look_at_bounds() {
            match crossed {
                Crossed::Exceeded(why) => tracing::warn!("not ready: {why}"),
                Crossed::Within(why) => tracing::info!("{why}"),
            }
        }
        let ready = status.ready();
        if ready && !was_ready {
            let owned = status.partitions();
            let pending: i64 = owned.iter().map(|(_, _, figures)| figures.pending.get()).sum();
            tracing::info!(partitions = owned.len(), pending, "ready");
            give_back_memory();
        }
        was_ready = ready;
        for (topic, partition, figures) in status.partitions() {
            let age = figures.heartbeat_age();
            // librdkafka's own watchdog watches the process, not one thread of it.
            anyhow::ensure!(
                age < stalled_after,
                "the thread of {topic}-{partition} has shown no sign of life for {age:?}; ending, so that another \
                 instance takes over"
            );
        }
    }
    Ok(())
}

/// Ends with the runtime: health answers until the last partition is given up.
fn serve_http(runtime: &Runtime, listener: TcpListener, router: Router, tls: Option<OpenSSLConfig>) {
    runtime.spawn(async move {
        if let Err(error) = admin::serve(listener, router, tls, std::future::pending()).await {
            tracing::error!("{error}");
        }
    });
}

fn create_topics(topic_admin: &TopicAdmin<QuietContext>, settings: &Settings) {
    match topic_admin.create(settings) {
        Ok(created) if created.is_empty() => {}
        Ok(created) => tracing::info!(topics = ?created, "created schedule topics"),
        Err(error) => tracing::warn!("cannot create schedule topics yet: {error}"),
    }
}

/// Creates what is missing if that is wanted, learns how long the topics keep tombstones and warns, once each, about
/// what is not as recommended.
fn configuration_check(
    settings: &Arc<Settings>,
    facts: HashMap<String, Arc<TopicFacts>>,
    topic_admin: TopicAdmin<QuietContext>,
) -> Box<dyn Fn() + Send> {
    let settings = Arc::clone(settings);
    let said: Mutex<HashSet<String>> = Mutex::default();
    Box::new(move || {
        if settings.topics.create {
            create_topics(&topic_admin, &settings);
        }
        let asked_ms = SystemClock::new().monotonic_ms();
        match topic_admin.tombstone_retention(&settings) {
            Ok(found) => {
                for (topic, retention) in &found {
                    facts[topic].set_tombstone_retention(*retention, asked_ms);
                }
            }
            Err(error) => tracing::debug!("the topics' delete.retention.ms is not known: {error}"),
        }
        match topic_admin.check(&settings) {
            Ok(findings) => {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                for finding in findings.iter().filter(|finding| finding.setting != "topic") {
                    if !said.insert(finding.to_string()) {
                        continue;
                    }
                    match finding.severity {
                        Severity::Critical => tracing::error!("{finding}"),
                        Severity::Warning => tracing::warn!("{finding}"),
                        Severity::Advice => tracing::info!("{finding}"),
                    }
                }
            }
            Err(error) => tracing::debug!("the topics' configuration cannot be checked: {error}"),
        }
    })
}

async fn stop_signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
