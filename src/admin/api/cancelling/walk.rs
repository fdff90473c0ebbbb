//! The walk of a job: page by page over what is pending, or over a list of IDs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::Api;
use super::super::error::ApiError;
use super::super::question::{Place, TopicParameter};
use super::Wanted;
use super::jobs::Job;
use crate::scheduler::command::{Action, Answer, CancelMany, ListCursor, Listing, Page, Version};

/// Schedules cancelled with one command to a shard: one transaction, as a rule.
const TOGETHER: usize = CancelMany::AT_ONCE;
/// A partition that is busy, or is being taken over again, is waited for.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSES: usize = 240;
/// A page whose outcome stays unknown is tried so often.
const REPEATS: usize = 10;

/// Does a job, to its end.
pub(super) async fn work(api: Api, topic: String, job: Arc<Job>, wanted: Wanted) {
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
    /// How many schedules of these partitions are pending.
    pub(super) fn pending_in(&self, topic: &str, partitions: &[i32]) -> u64 {
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
        patiently(|| self.place(&topic, id.to_vec())).await
    }

    async fn ask_patiently(&self, topic: &str, partition: i32, action: &Action) -> Result<Answer, ApiError> {
        patiently(|| self.ask(topic, partition, Vec::new(), action.clone())).await
    }
}

/// Asks until there is an answer; what was written, or may have been, is not asked for again.
async fn patiently<R, F>(ask: impl Fn() -> F) -> Result<R, ApiError>
where
    F: Future<Output = Result<R, ApiError>>,
{
    for _ in 0..PAUSES {
        match ask().await {
            Err(error) if error.may_pass() => pause().await,
            answered => return answered,
        }
    }
    ask().await
}

#[allow(clippy::disallowed_methods, reason = "when to ask again, nothing about schedules")]
async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
