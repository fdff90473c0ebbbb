//! `--from-kafka`: what is pending, read from the schedule topic itself, whether an instance runs or not.

use std::ops::ControlFlow;

use clap::Args;
use serde_json::Value;

use super::SettingsArgs;
use super::schedule::ScheduleTopicArgs;
use crate::admin::api;
use crate::schedule::partition_of;
use crate::scheduler::command::FoundSchedule;
use crate::scheduler::reading::Reading;

/// Whether the topic is read, and where it is.
#[derive(Debug, Args)]
pub(super) struct FromKafkaArgs {
    /// Read the schedule topic itself instead of asking an instance: all of its partitions, from their beginning
    #[arg(long)]
    pub(super) from_kafka: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl FromKafkaArgs {
    /// The pending schedule of an ID, as the API gives it.
    pub(super) fn find(&self, schedule_topic: Option<String>, id: &str) -> anyhow::Result<Value> {
        let id_bytes = api::parse_id(id).map_err(super::UsageError)?;
        let mut found = None;
        let topic = self.read(schedule_topic, Some(&id_bytes), |content_of, partition, topic| {
            found = content_of.find(&id_bytes).map(|schedule| api::describe(&schedule, topic, partition));
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        found.ok_or_else(|| anyhow::anyhow!("no schedule with the ID {id} is pending in {topic}"))
    }

    /// Every pending schedule, partition by partition, until `each` breaks off.
    pub(super) fn each(
        &self,
        schedule_topic: Option<String>,
        mut each: impl FnMut(&FoundSchedule, &str, i32) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        let mut outcome = Ok(ControlFlow::Continue(()));
        self.read(schedule_topic, None, |content, partition, topic| {
            content.each(|schedule| {
                outcome = each(&schedule, topic, partition);
                matches!(outcome, Ok(ControlFlow::Continue(())))
            });
            match outcome {
                Ok(flow) => flow,
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        outcome.map(|_| ())
    }

    /// Reads partition by partition, the one where producers put an ID first.
    fn read(
        &self,
        schedule_topic: Option<String>,
        id: Option<&[u8]>,
        mut look: impl FnMut(&crate::scheduler::reading::Content, i32, &str) -> ControlFlow<()>,
    ) -> anyhow::Result<String> {
        let settings = self.settings.load_for_command()?;
        let topic = ScheduleTopicArgs { schedule_topic }.choose(&settings)?;
        let format = settings.topics.format_of(&topic).ok_or_else(|| {
            let why =
                format!("{topic} is none of the schedule topics of the settings, so its format is not known");
            super::UsageError(why)
        })?;
        let reading = Reading::new(&settings)?;
        let count = reading
            .partition_count(&topic)?
            .ok_or_else(|| anyhow::anyhow!("the topic {topic} does not exist"))?;
        let home = id.map_or(0, |id| partition_of(id, count));
        let mut partitions: Vec<i32> = (0..count).collect();
        partitions.sort_by_key(|&partition| partition != home);
        for partition in partitions {
            let content = reading.read(&topic, partition, format)?;
            if let Some((offset, end)) = content.held_back {
                eprintln!(
                    "{topic}-{partition} is not read to its end, only to offset {offset} of {end}: another producer's \
                     transaction is open there."
                );
            }
            if look(&content, partition, &topic).is_break() {
                break;
            }
        }
        Ok(topic)
    }
}
