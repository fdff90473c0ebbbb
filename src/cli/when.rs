//! `--at` and `--in`, of the commands that give a schedule its due time.

use std::time::Duration;

use clap::Args;

use super::text;
use crate::schedule::DueTime;

/// A due time on the command line.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct When {
    /// Deliver at this moment: 2030-12-24T18:00:00+01:00, or "2030-12-24 18:00 Europe/Paris"
    #[arg(long, value_name = "TIME", value_parser = text::moment, allow_hyphen_values = true)]
    pub(super) at: Option<DueTime>,
    /// Deliver after this time, for example 90m
    #[arg(long = "in", value_name = "DURATION", value_parser = text::duration, allow_hyphen_values = true)]
    pub(super) after: Option<Duration>,
}
