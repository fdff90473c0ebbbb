//! How much an instance may come to hold, asked before it joins: its fetch queues are laid out for that, and limits of the
//! system that would be in the way are said at the start, not when they are met.

use std::time::Duration;

use crate::config::Settings;
use crate::kafka::client;
use crate::kafka::observer::Observer;

/// How long the start waits for an answer about one topic.
const ASK: Duration = Duration::from_secs(3);

/// Files and sockets beside those of partitions: the consumer group's, the observer's, HTTP.
const FILES: u64 = 100;
/// Of a partition's producer: pipes of the threads that belong to no broker in particular, and its coordinator's
/// connection.
const FILES_A_PARTITION: u64 = 8;
/// And for each broker: its thread's pipe and the connection.
const FILES_A_PARTITION_AND_BROKER: u64 = 3;

/// How many partitions the schedule topics have, all together: what this instance may own should it be the only one.
/// Says what stands in the way of that; `files` is how many files and sockets this process may open.
pub(super) fn partitions_to_hold(settings: &Settings, observer: &Observer, files: Option<u64>) -> usize {
    let Some(partitions) = count(settings, observer) else {
        tracing::debug!("how many partitions there are is not known yet");
        return client::PARTITIONS_UNLESS_KNOWN;
    };
    let max_owned = settings.partitions.max_owned;
    if max_owned > 0 && partitions > max_owned {
        tracing::info!(
            partitions,
            max_owned,
            "one instance alone would own more partitions than partitions.max_owned: {} are needed",
            partitions.div_ceil(max_owned)
        );
    }
    let needed = files_needed(partitions, observer.brokers());
    if let Some(files) = files.filter(|files| *files < needed) {
        tracing::warn!(
            partitions,
            files,
            needed,
            "this process may open fewer files and sockets than all partitions would take: raise the limit (ulimit -n, \
             LimitNOFILE), or see that no instance owns them all"
        );
    }
    partitions
}

/// `None`: nobody answers. A topic that is not there yet counts as it would be created.
fn count(settings: &Settings, observer: &Observer) -> Option<usize> {
    let mut sum = 0;
    for (topic, _) in settings.topics.iter() {
        match observer.partition_count(topic, ASK) {
            Ok(found) => sum += found.unwrap_or(settings.topics.partitions.unsigned_abs() as usize),
            Err(error) => {
                tracing::debug!("{error}");
                return None;
            }
        }
    }
    Some(sum)
}

fn files_needed(partitions: usize, brokers: usize) -> u64 {
    FILES + partitions as u64 * (FILES_A_PARTITION + brokers as u64 * FILES_A_PARTITION_AND_BROKER)
}

/// Raises the limit of open files as far as this process may, and gives it. The usual soft limit, 1024, is there for programs
/// that use `select`, and is met by some tens of partitions.
#[allow(unsafe_code, reason = "the standard library knows no limits")]
pub(super) fn raise_limit_of_files() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid structure to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: a valid structure; a limit that is raised takes nothing from anyone.
    if limit.rlim_cur < limit.rlim_max
        && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0
    {
        tracing::debug!(from = limit.rlim_cur, to = raised.rlim_cur, "raised the limit of open files");
        limit = raised;
    }
    Some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn more_partitions_and_more_brokers_take_more_files() {
        assert_eq!(files_needed(0, 3), FILES);
        assert!(files_needed(64, 1) > 700 && files_needed(64, 3) > files_needed(64, 1));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_limit_of_open_files_is_the_hard_one_afterwards() {
        let raised = raise_limit_of_files().unwrap();
        assert_eq!(raise_limit_of_files(), Some(raised), "there is nothing left to raise");
        let shown = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = shown.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let limits: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(limits[0], limits[1], "soft and hard: {line}");
    }
}
