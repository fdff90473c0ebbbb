//! Joins the engine to Kafka.

pub mod status;

use crate::config::Settings;
use crate::schedule::DueTime;

/// What one run is to do besides its settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Load and report, deliver nothing, write nothing.
    pub dry_run: bool,
    /// Remove schedules due before this instead of delivering them late.
    pub skip_overdue_before: Option<DueTime>,
}

/// Runs an instance until it is told to stop.
pub fn run(settings: Settings, options: RunOptions) -> anyhow::Result<()> {
    let _ = (settings, options);
    anyhow::bail!("not wired yet")
}
