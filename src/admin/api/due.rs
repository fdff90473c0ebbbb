//! `GET /api/due`: how much is due when.

use axum::extract::State;
use axum::response::Json;
use futures_util::future::join_all;
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::partitions::{Coverage, NO_ANSWER};
use super::question::{Parsed, TopicParameter, parameters};
use crate::scheduler::command::{Action, Answer};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Where buckets end, from now on: wider the further off, as what is known of the far future is rougher, too.
const EDGES_MS: [i64; 19] = [
    MINUTE_MS,
    2 * MINUTE_MS,
    5 * MINUTE_MS,
    10 * MINUTE_MS,
    20 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    3 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
    2 * DAY_MS,
    3 * DAY_MS,
    7 * DAY_MS,
    14 * DAY_MS,
    30 * DAY_MS,
    90 * DAY_MS,
    365 * DAY_MS,
];

#[derive(Debug, Serialize)]
pub(super) struct Outlook {
    now: i64,
    buckets: Vec<Bucket>,
    partitions: Coverage,
}

/// About how many schedules are due in a span of time; in the first, overdue ones, too.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Bucket {
    /// Epoch milliseconds.
    from: i64,
    /// Epoch milliseconds; null: without end.
    to: Option<i64>,
    count: u64,
}

pub(super) async fn due(
    State(api): State<Api>,
    topic: Parsed<TopicParameter>,
) -> Result<Json<Outlook>, ApiError> {
    let (topic, _) = api.topic(&parameters(topic)?)?;
    let mut partitions = api.coverage(&topic).await?;
    // The last one holds all there is.
    let edges: Vec<i64> = EDGES_MS.into_iter().chain([i64::MAX]).collect();
    let asked: Vec<_> = partitions
        .owned()
        .iter()
        .map(|&partition| api.ask(&topic, partition, Vec::new(), Action::CountDue(edges.clone())))
        .collect();
    let mut within = vec![0; edges.len()];
    for (answer, partition) in join_all(asked).await.into_iter().zip(partitions.owned().to_vec()) {
        match answer {
            Ok(Answer::Due(counts)) => within.iter_mut().zip(counts).for_each(|(all, count)| *all += count),
            Ok(other) => return Err(ApiError::wrong_answer(&other)),
            Err(_) => partitions.lose(partition, NO_ANSWER),
        }
    }
    let now = api.now_ms();
    Ok(Json(Outlook { now, buckets: buckets(now, &within), partitions }))
}

/// From how many are due within each edge to how many between two.
fn buckets(now_ms: i64, within: &[u64]) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let (mut from, mut before) = (now_ms, 0);
    for (at, &count) in within.iter().enumerate() {
        let to = EDGES_MS.get(at).map(|edge_ms| now_ms + edge_ms);
        buckets.push(Bucket { from, to, count: count.saturating_sub(before) });
        before = before.max(count);
        from = to.unwrap_or(from);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_lie_side_by_side_and_hold_all() {
        let within: Vec<u64> = (1..=20).map(|n| n * n).collect();
        let buckets = buckets(1_000, &within);
        assert_eq!(buckets[0], Bucket { from: 1_000, to: Some(61_000), count: 1 });
        assert_eq!(buckets[1], Bucket { from: 61_000, to: Some(121_000), count: 3 });
        assert!(buckets.windows(2).all(|pair| pair[0].to == Some(pair[1].from)));
        assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 400);
        assert_eq!(buckets.last().and_then(|bucket| bucket.to), None);
    }
}
