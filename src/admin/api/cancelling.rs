//! `/api/cancel`: cancelling many schedules, by what they have in common or by a list of IDs.
//!
//! That may take a while, so it is a job of its own: it walks over what is pending, partition by partition, and each page
//! that matches is cancelled in verified transactions that take turns with what is due. Jobs are this process' alone: after
//! an end of it, ask for the rest again.

mod jobs;
mod walk;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde_json::Value;

use super::error::ApiError;
use super::question::{Parsed, TopicParameter, parameters};
use super::schedule::moment_of;
use super::writing::{Body, read};
use super::{Api, id};
pub(super) use jobs::Jobs;
use walk::work;

/// IDs in a list, at most.
const LISTED: usize = 10_000;

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
    let job = api.jobs.start(dry_run, to_look_at, partitions)?;
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
    job.stop();
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
}
