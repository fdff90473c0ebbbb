//! What is being cancelled in bulk, and how far that is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use serde::Serialize;

use super::super::error::{self, ApiError};
use super::super::partitions::Coverage;

/// Jobs at a time.
const RUNNING: usize = 4;
/// Jobs that are remembered.
const REMEMBERED: usize = 100;

/// The jobs of this instance.
#[derive(Debug)]
pub(in super::super) struct Jobs {
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
pub(super) struct Job {
    progress: Mutex<Progress>,
    is_to_stop: AtomicBool,
}

/// How far a job is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Progress {
    pub(super) job: String,
    pub(super) state: JobState,
    /// Nothing is cancelled, only counted.
    pub(super) dry_run: bool,
    /// Schedules that were looked at, of so many that were pending when it began.
    pub(super) looked_at: u64,
    pub(super) to_look_at: u64,
    /// Of these, what was asked for.
    pub(super) matched: u64,
    /// Of these, what was pending where its tombstone lies.
    pub(super) cancelled: u64,
    /// Of what matched, what may or may not have been cancelled: the outcome of a transaction is unknown.
    pub(super) uncertain: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// What it is about, and what it could not look at.
    pub(super) partitions: Coverage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum JobState {
    Running,
    Done,
    Stopped,
    Failed,
}

impl Jobs {
    pub(in super::super) fn new(born_ms: i64) -> Self {
        Self { born_ms, known: Mutex::default() }
    }

    pub(super) fn start(
        &self,
        dry_run: bool,
        to_look_at: u64,
        partitions: Coverage,
    ) -> Result<Arc<Job>, ApiError> {
        let mut known = self.known();
        let running = known.jobs.iter().filter(|job| job.progress().state == JobState::Running).count();
        if running >= RUNNING {
            let message = format!("{running} such jobs are running already");
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error::BUSY, message)
                .hint("wait for one, or stop one: DELETE /api/cancel/{job}"));
        }
        known.started += 1;
        let progress = Mutex::new(Progress {
            job: format!("{:x}-{}", self.born_ms, known.started),
            state: JobState::Running,
            dry_run,
            looked_at: 0,
            to_look_at,
            matched: 0,
            cancelled: 0,
            uncertain: 0,
            error: None,
            partitions,
        });
        let job = Arc::new(Job { progress, is_to_stop: AtomicBool::new(false) });
        known.jobs.push_back(Arc::clone(&job));
        if known.jobs.len() > REMEMBERED
            && let Some(oldest) = known.jobs.iter().position(|job| job.progress().state != JobState::Running)
        {
            known.jobs.remove(oldest);
        }
        Ok(job)
    }

    pub(super) fn find(&self, name: &str) -> Result<Arc<Job>, ApiError> {
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
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn look(&self) -> Progress {
        self.progress().clone()
    }

    pub(super) fn is_to_stop(&self) -> bool {
        self.is_to_stop.load(Ordering::Relaxed)
    }

    /// Makes it end in a moment.
    pub(super) fn stop(&self) {
        self.is_to_stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_dry(&self) -> bool {
        self.progress().dry_run
    }

    pub(super) fn end(&self, outcome: Result<(), ApiError>) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_few_jobs_run_and_the_last_ones_are_remembered() {
        let jobs = Jobs::new(255);
        let running: Vec<_> =
            (0..RUNNING).map(|_| jobs.start(true, 0, Coverage::default()).unwrap()).collect();
        assert!(jobs.start(true, 0, Coverage::default()).is_err());
        running[1].end(Ok(()));
        for _ in 0..REMEMBERED {
            jobs.start(true, 0, Coverage::default()).unwrap().end(Ok(()));
        }
        assert_eq!(jobs.known().jobs.len(), REMEMBERED);
        assert!(jobs.find("ff-1").is_ok(), "it is running");
        assert!(jobs.find("ff-2").is_err(), "it ended long ago");
        running[0].stop();
        running[0].end(Ok(()));
        assert_eq!(running[0].look().state, JobState::Stopped);
    }
}
