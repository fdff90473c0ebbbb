//! `/api/cancel`: cancelling many schedules, by what they have in common or by a list of IDs.
//!
//! That may take a while, so it is a job of its own: it walks over what is pending, partition by partition, and each page
//! that matches is cancelled in verified transactions that take turns with what is due. Jobs are this process' alone: after
//! an end of it, ask for the rest again.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{self, ApiError};
use super::partitions::Coverage;
use super::question::{Parsed, Place, TopicParameter, parameters};
use super::schedule::moment_of;
use super::writing::{Body, read};
use super::{Api, id};
use crate::scheduler::command::{Action, Answer, CancelMany, ListCursor, Listing, Page, Version};

/// Schedules cancelled with one command to a shard: one transaction, as a rule.
const TOGETHER: usize = CancelMany::AT_ONCE;
/// IDs in a list, at most.
const LISTED: usize = 10_000;
/// Jobs at a time.
const RUNNING: usize = 4;
/// Jobs that are remembered.
const REMEMBERED: usize = 100;
/// A partition that is busy, or is being taken over again, is waited for.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSES: usize = 240;
/// A page whose outcome stays unknown is tried so often.
const REPEATS: usize = 10;

/// What is to be cancelled.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Request {
    prefix: Option<String>,
    destination: Option<String>,
    from: Option<Value>,
    to: Option<Value>,
    ids: Option<Vec<String>>,
    dry_run: Option<bool>,
}

enum Wanted {
    Matching { prefix: Vec<u8>, destination: Option<String>, due_ms: RangeInclusive<i64> },
    Listed(Vec<Vec<u8>>),
}

/// The jobs of this instance.
#[derive(Debug)]
pub(super) struct Jobs {
    /// In the names of jobs, so that those of another life of the process are called otherwise.
    born_ms: i64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    jobs: VecDeque<Arc<Job>>,
    started: u64,
}

#[derive(Debug)]
struct Job {
    progress: Mutex<Progress>,
    is_to_stop: AtomicBool,
}

/// How far a job is.
#[derive(Clone, Debug, Serialize)]
struct Progress {
    job: String,
    state: JobState,
    /// Nothing is cancelled, only counted.
    dry_run: bool,
    /// Schedules that were looked at, of so many that were pending when it began.
    looked_at: u64,
    to_look_at: u64,
    /// Of these, what was asked for.
    matched: u64,
    /// Of these, what was pending where its tombstone lies.
    cancelled: u64,
    /// Of what matched, what may or may not have been cancelled: the outcome of a transaction is unknown.
    uncertain: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What it is about, and what it could not look at.
    partitions: Coverage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum JobState {
    Running,
    Done,
    Stopped,
    Failed,
}

/// `POST /api/cancel`
#[allow(
    clippy::disallowed_methods,
    reason = "a job goes on after its request is answered; it ends with the runtime"
)]
pub(super) async fn start(
    State(api): State<Api>,
    topic: Parsed<TopicParameter>,
    body: Body,
) -> Result<Response, ApiError> {
    let (topic, _) = api.topic(&parameters(topic)?)?;
    let request: Request = serde_json::from_slice(&read(body)?).map_err(|error| {
        ApiError::bad_request("invalid_json", format!("the body does not say what to cancel: {error}"))
            .hint(WHAT)
    })?;
    let dry_run = request.dry_run.unwrap_or(true);
    let wanted = request.wanted()?;
    let partitions = api.coverage(&topic).await?;
    let to_look_at = match &wanted {
        Wanted::Listed(ids) => ids.len() as u64,
        Wanted::Matching { .. } => api.pending_in(&topic, partitions.owned()),
    };
    let job = api.jobs.start(|name| Progress {
        job: name,
        state: JobState::Running,
        dry_run,
        looked_at: 0,
        to_look_at,
        matched: 0,
        cancelled: 0,
        uncertain: 0,
        error: None,
        partitions,
    })?;
    let progress = job.look();
    tokio::spawn(work(api, topic, job, wanted));
    let location = format!("/api/cancel/{}", progress.job);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(progress)).into_response())
}

/// `GET /api/cancel/{job}`
pub(super) async fn look(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(api.jobs.find(&name)?.look()).into_response())
}

/// `DELETE /api/cancel/{job}`: what is cancelled stays so.
pub(super) async fn stop(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let job = api.jobs.find(&name)?;
    job.is_to_stop.store(true, Ordering::Relaxed);
    Ok(Json(job.look()).into_response())
}

const WHAT: &str = "{\"prefix\": …, \"destination\": …, \"from\": …, \"to\": …} or {\"ids\": […]}, and \"dry_run\": false to really cancel; \
                    the prefix \"\" is that of all IDs";

impl Request {
    fn wanted(self) -> Result<Wanted, ApiError> {
        let has_conditions =
            self.prefix.is_some() || self.destination.is_some() || self.from.is_some() || self.to.is_some();
        let invalid = |message: &str| ApiError::bad_request("invalid_request", message).hint(WHAT);
        match self.ids {
            Some(_) if has_conditions => Err(invalid("ids go without any other condition")),
            None if !has_conditions => Err(invalid("nothing is said of what to cancel")),
            Some(ids) if ids.len() > LISTED => {
                Err(invalid(&format!("there are more than {LISTED} ids: send them in several requests")))
            }
            Some(ids) => {
                let ids: Result<BTreeSet<Vec<u8>>, ApiError> =
                    ids.iter().map(|text| id::parse(text)).collect();
                Ok(Wanted::Listed(ids?.into_iter().collect()))
            }
            None => {
                let from = self.from.as_ref().map(moment_of).transpose()?.unwrap_or(i64::MIN);
                let to = self.to.as_ref().map(moment_of).transpose()?.unwrap_or(i64::MAX);
                let prefix = self.prefix.as_deref().map(id::parse).transpose()?.unwrap_or_default();
                Ok(Wanted::Matching { prefix, destination: self.destination, due_ms: from..=to })
            }
        }
    }
}

impl Jobs {
    pub(super) fn new(born_ms: i64) -> Self {
        Self { born_ms, known: Mutex::default() }
    }

    fn start(&self, begin: impl FnOnce(String) -> Progress) -> Result<Arc<Job>, ApiError> {
        let mut known = self.known();
        let running = known.jobs.iter().filter(|job| job.progress().state == JobState::Running).count();
        if running >= RUNNING {
            let message = format!("{running} such jobs are running already");
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error::BUSY, message)
                .hint("wait for one, or stop one: DELETE /api/cancel/{job}"));
        }
        known.started += 1;
        let name = format!("{:x}-{}", self.born_ms, known.started);
        let progress = Mutex::new(begin(name));
        let job = Arc::new(Job { progress, is_to_stop: AtomicBool::new(false) });
        known.jobs.push_back(Arc::clone(&job));
        if known.jobs.len() > REMEMBERED
            && let Some(oldest) = known.jobs.iter().position(|job| job.progress().state != JobState::Running)
        {
            known.jobs.remove(oldest);
        }
        Ok(job)
    }

    fn find(&self, name: &str) -> Result<Arc<Job>, ApiError> {
        self.known().jobs.iter().find(|job| job.progress().job == name).cloned().ok_or_else(|| {
            let message = "this instance knows no such job; it knows the last ones, since its start";
            ApiError::new(StatusCode::NOT_FOUND, "no_such_job", message)
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Progress {
        self.progress().clone()
    }

    fn is_to_stop(&self) -> bool {
        self.is_to_stop.load(Ordering::Relaxed)
    }

    fn is_dry(&self) -> bool {
        self.progress().dry_run
    }

    fn end(&self, outcome: Result<(), ApiError>) {
        let is_to_stop = self.is_to_stop();
        let mut progress = self.progress();
        progress.state = match &outcome {
            Ok(()) if is_to_stop => JobState::Stopped,
            Ok(()) => JobState::Done,
            Err(_) => JobState::Failed,
        };
        progress.error = outcome.err().map(|error| error.to_string());
        let Progress { job, state, dry_run, matched, cancelled, uncertain, error, .. } = &*progress;
        tracing::info!(job, ?state, dry_run, matched, cancelled, uncertain, error, "cancelling many");
    }
}

async fn work(api: Api, topic: String, job: Arc<Job>, wanted: Wanted) {
    let outcome = match wanted {
        Wanted::Listed(ids) => api.cancel_listed(&topic, &job, &ids).await,
        Wanted::Matching { prefix, destination, due_ms } => {
            let only_these_versions = destination.is_some() || due_ms != (i64::MIN..=i64::MAX);
            let from = ListCursor::default();
            let listing = Listing { from, prefix, due_ms, destination, limit: TOGETHER };
            api.cancel_matching(&topic, &job, &listing, only_these_versions).await
        }
    };
    job.end(outcome);
}

impl Api {
    fn pending_in(&self, topic: &str, partitions: &[i32]) -> u64 {
        let figures = partitions.iter().filter_map(|&partition| self.status.partition_of(topic, partition));
        figures.map(|figures| figures.pending.get().max(0) as u64).sum()
    }

    async fn cancel_matching(
        &self,
        topic: &str,
        job: &Job,
        listing: &Listing,
        only_these_versions: bool,
    ) -> Result<(), ApiError> {
        let owned = job.progress().partitions.owned().to_vec();
        for partition in owned {
            let term = self.desk.term(topic, partition);
            let mut next = Some(ListCursor::default());
            // What may have been cancelled: if it is there at the next look, it was not.
            let mut uncertain: HashSet<Version> = HashSet::new();
            let mut repeats = 0;
            while let Some(from) = next {
                if job.is_to_stop() {
                    return Ok(());
                }
                let step = Action::ListVersions(Listing { from, ..listing.clone() });
                let page = match self.ask_patiently(topic, partition, &step).await {
                    Ok(Answer::Versions(page)) => page,
                    Ok(other) => return Err(ApiError::wrong_answer(&other)),
                    Err(error) if error.is_elsewhere() => break,
                    Err(error) => return Err(error),
                };
                if self.desk.term(topic, partition) != term {
                    break;
                }
                // What is still there was not cancelled, and has been counted as a match.
                let not_cancelled =
                    page.found.iter().filter(|version| uncertain.contains(version)).count() as u64;
                {
                    let mut progress = job.progress();
                    progress.uncertain -= not_cancelled;
                    progress.matched += page.found.len() as u64 - not_cancelled;
                }
                uncertain.clear();
                let Page { found: versions, looked_at, next: after } = page;
                if !job.is_dry() && !versions.is_empty() {
                    let many = CancelMany::new(versions.clone(), only_these_versions);
                    match self.ask_patiently(topic, partition, &Action::CancelMany(many)).await {
                        Ok(Answer::Cancelled(cancelled)) => job.progress().cancelled += cancelled as u64,
                        Ok(other) => return Err(ApiError::wrong_answer(&other)),
                        Err(error) if error.is_outcome_unknown() => {
                            job.progress().uncertain += versions.len() as u64;
                            if repeats == REPEATS {
                                return Err(error);
                            }
                            uncertain = versions.into_iter().collect();
                            repeats += 1;
                            pause().await;
                            continue;
                        }
                        Err(error) if error.is_elsewhere() => break,
                        Err(error) => return Err(error),
                    }
                }
                job.progress().looked_at += looked_at as u64;
                repeats = 0;
                next = after;
            }
            if next.is_some() {
                job.progress()
                    .partitions
                    .lose(partition, "given up, or loaded anew, before it was walked over");
            }
        }
        Ok(())
    }

    async fn cancel_listed(&self, topic: &str, job: &Job, ids: &[Vec<u8>]) -> Result<(), ApiError> {
        for ids in ids.chunks(TOGETHER) {
            let mut by_partition: BTreeMap<i32, Vec<Version>> = BTreeMap::new();
            for id in ids {
                if job.is_to_stop() {
                    return Ok(());
                }
                let place = match self.place_patiently(topic, id).await {
                    Ok(place) => Some(place),
                    // Another instance's to cancel: not matched.
                    Err(error) if error.is_elsewhere() => None,
                    Err(error) => return Err(error),
                };
                let mut progress = job.progress();
                progress.looked_at += 1;
                let Some(place) = place else { continue };
                progress.matched += u64::from(place.found.is_some());
                let version = Version { id: place.id, offset: place.found.map_or(-1, |found| found.offset) };
                by_partition.entry(place.partition).or_default().push(version);
            }
            if job.is_dry() {
                continue;
            }
            for (partition, versions) in by_partition {
                let count = versions.iter().filter(|version| version.offset >= 0).count() as u64;
                let action = Action::CancelMany(CancelMany::new(versions, false));
                match self.ask_patiently(topic, partition, &action).await {
                    Ok(Answer::Cancelled(cancelled)) => job.progress().cancelled += cancelled as u64,
                    Ok(other) => return Err(ApiError::wrong_answer(&other)),
                    Err(error) if error.is_outcome_unknown() => job.progress().uncertain += count,
                    Err(error) if error.is_elsewhere() => {
                        job.progress().partitions.lose(partition, "given up before all of it was cancelled");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn place_patiently(&self, topic: &str, id: &[u8]) -> Result<Place, ApiError> {
        let topic = TopicParameter::named(Some(topic.to_owned()));
        for _ in 0..PAUSES {
            match self.place(&topic, id.to_vec()).await {
                Err(error) if error.may_pass() => pause().await,
                answered => return answered,
            }
        }
        self.place(&topic, id.to_vec()).await
    }

    /// Asks a shard until it answers; what was written, or may have been, is not asked for again.
    async fn ask_patiently(&self, topic: &str, partition: i32, action: &Action) -> Result<Answer, ApiError> {
        for _ in 0..PAUSES {
            match self.ask(topic, partition, Vec::new(), action.clone()).await {
                Err(error) if error.may_pass() => pause().await,
                answered => return answered,
            }
        }
        self.ask(topic, partition, Vec::new(), action.clone()).await
    }
}

#[allow(clippy::disallowed_methods, reason = "when to ask again, nothing about schedules")]
async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wanted(body: &str) -> Result<Wanted, ApiError> {
        serde_json::from_str::<Request>(body).unwrap().wanted()
    }

    #[test]
    fn what_is_to_be_cancelled_is_said() {
        for (body, why) in [
            ("{}", "nothing is said"),
            (r#"{"dry_run": false}"#, "nothing is said"),
            (r#"{"ids": ["a"], "prefix": "a"}"#, "without any other"),
            (r#"{"from": "tomorrow"}"#, "no time"),
            (r#"{"prefix": "~*"}"#, "base64"),
        ] {
            let error = wanted(body).err().unwrap_or_else(|| panic!("{body}"));
            assert!(error.to_string().contains(why), "{body}: {error}");
        }
        let Ok(Wanted::Matching { prefix, due_ms, .. }) = wanted(r#"{"prefix": ""}"#) else { panic!() };
        assert_eq!((prefix, due_ms), (Vec::new(), i64::MIN..=i64::MAX));
        let Ok(Wanted::Listed(ids)) = wanted(r#"{"ids": ["b", "a", "b", "~_w"]}"#) else { panic!() };
        assert_eq!(ids, [b"a".to_vec(), b"b".to_vec(), b"\xff".to_vec()], "each once");
    }

    fn progress(job: String) -> Progress {
        Progress {
            job,
            state: JobState::Running,
            dry_run: true,
            looked_at: 0,
            to_look_at: 0,
            matched: 0,
            cancelled: 0,
            uncertain: 0,
            error: None,
            partitions: Coverage::default(),
        }
    }

    #[test]
    fn a_few_jobs_run_and_the_last_ones_are_remembered() {
        let jobs = Jobs::new(255);
        let running: Vec<_> = (0..RUNNING).map(|_| jobs.start(progress).unwrap()).collect();
        assert!(jobs.start(progress).is_err());
        running[1].end(Ok(()));
        for _ in 0..REMEMBERED {
            jobs.start(progress).unwrap().end(Ok(()));
        }
        assert_eq!(jobs.known().jobs.len(), REMEMBERED);
        assert!(jobs.find("ff-1").is_ok(), "it is running");
        assert!(jobs.find("ff-2").is_err(), "it ended long ago");
        running[0].is_to_stop.store(true, Ordering::Relaxed);
        running[0].end(Ok(()));
        assert_eq!(running[0].look().state, JobState::Stopped);
    }
}
