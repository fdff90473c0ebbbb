//! `GET /api/events`: the figures and what happens, as it happens (server-sent events).

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event as ServerEvent, Sse};
use futures_util::future::join_all;
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::Api;
use super::error::{self, ApiError};
use super::history::{EventJson, sort};
use super::partitions::Stats;
use super::question::{Parsed, TopicParameter, parameters};
use crate::scheduler::command::Recall;

const EVERY: Duration = Duration::from_secs(1);
/// A partition that takes longer than this to tell what happened is asked again the next time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of what happened in a second, the newest.
const EVENTS: usize = 50;

/// Somebody who watches.
struct Watcher {
    api: Api,
    topic: String,
    ticks: Interval,
    /// What is to be sent before the next tick.
    ready: VecDeque<ServerEvent>,
    /// Whether what happened is to be asked for, after the figures were sent.
    is_to_ask: bool,
    /// By partition, in which term of owning it, and the last event that was sent.
    sent: HashMap<i32, (u64, u64)>,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn events(
    State(api): State<Api>,
    topic: Parsed<TopicParameter>,
) -> Result<Sse<impl Stream<Item = Result<ServerEvent, Infallible>>>, ApiError> {
    let (topic, _) = api.topic(&parameters(topic)?)?;
    let Ok(permit) = api.watchers.clone().try_acquire_owned() else {
        let message = "as many watch this instance as it serves";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error::BUSY, message)
            .hint("close some of them, or ask for /api/stats now and then"));
    };
    #[allow(clippy::disallowed_methods, reason = "how often somebody is told, nothing about schedules")]
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher = Watcher {
        api,
        topic,
        ticks,
        ready: VecDeque::new(),
        is_to_ask: false,
        sent: HashMap::new(),
        _permit: permit,
    };
    Ok(Sse::new(stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await;
        Some((Ok(event), watcher))
    })))
}

impl Watcher {
    async fn next(&mut self) -> ServerEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if !self.is_to_ask {
                self.ticks.tick().await;
                self.is_to_ask = true;
                let stats = json!(Stats::of(&self.api));
                return ServerEvent::default().event("stats").data(stats.to_string());
            }
            self.is_to_ask = false;
            let events = self.news().await;
            if !events.is_empty() {
                let data = json!({ "events": events }).to_string();
                self.ready.push_back(ServerEvent::default().event("history").data(data));
            }
        }
    }

    /// What happened since the last time. A partition that does not answer just now is asked again the next time.
    async fn news(&mut self) -> Vec<EventJson> {
        let Self { api, topic, sent, .. } = self;
        let owned = api.desk.owned(topic).into_iter().filter(|&partition| api.is_live(topic, partition));
        let asked = owned.filter_map(|partition| {
            let term = api.desk.term(topic, partition)?;
            let known = sent.get(&partition).filter(|(known_term, _)| *known_term == term);
            let after = known.map_or(0, |(_, number)| *number);
            let recall = Recall { kind: None, prefix: Vec::new(), after, limit: EVENTS };
            let recalled = api.recall(topic, partition, recall);
            Some(async move { (partition, term, timeout(PATIENCE, recalled).await) })
        });
        let mut news = Vec::new();
        for (partition, term, recalled) in join_all(asked).await {
            let Ok(Ok(events)) = recalled else { continue };
            if let Some(newest) = events.first() {
                sent.insert(partition, (term, newest.number));
            }
            news.extend(events.into_iter().map(|event| EventJson::of(event, partition)));
        }
        sort(&mut news);
        news.truncate(EVENTS);
        news
    }
}
