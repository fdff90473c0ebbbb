//! `kms cancel --prefix …`: many schedules of a running instance.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::api::AdminArgs;
use super::{UsageError, print, text};
use crate::schedule::DueTime;

/// What the schedules to cancel have in common.
#[derive(Debug, Args)]
#[group(id = "many", multiple = true)]
pub(super) struct ManyArgs {
    /// All whose IDs begin with this; an empty text for all there are
    #[arg(long, value_name = "TEXT", conflicts_with = "ids_from")]
    prefix: Option<String>,
    /// Only those for this topic
    #[arg(long, value_name = "TOPIC", conflicts_with = "ids_from")]
    destination: Option<String>,
    /// Only those due at this moment or later
    #[arg(long, value_name = "TIME", value_parser = text::moment, allow_hyphen_values = true, conflicts_with = "ids_from")]
    from: Option<DueTime>,
    /// Only those due at this moment or earlier
    #[arg(long, value_name = "TIME", value_parser = text::moment, allow_hyphen_values = true, conflicts_with = "ids_from")]
    until: Option<DueTime>,
    /// Those whose IDs this file lists, one a line as `kms list` shows them; - is standard input
    #[arg(long, value_name = "FILE")]
    ids_from: Option<PathBuf>,
    /// Only count them
    #[arg(long, requires = "many", conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask before it is done
    #[arg(long, requires = "many")]
    yes: bool,
}

/// Listed in one request.
const LISTED: usize = 5_000;
/// Times that a job is looked at in vain.
const LOOKS: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn execute(
    args: &ManyArgs,
    admin: &AdminArgs,
    schedule_topic: Option<&str>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let wanted = wanted(args)?;
    let run = |dry_run: bool| -> anyhow::Result<Total> {
        let mut total = Total::default();
        for request in &wanted {
            let mut request = request.clone();
            request["dry_run"] = json!(dry_run);
            total.add(&follow(admin, schedule_topic, &request)?);
        }
        Ok(total)
    };
    let counted = if args.yes { None } else { Some(run(true)?) };
    if args.dry_run {
        return counted.unwrap_or_default().show(as_json);
    }
    if let Some(counted) = counted
        && (counted.matched == 0 || !confirmed(&counted)?)
    {
        return counted.show(as_json);
    }
    run(false)?.show(as_json)
}

/// The requests that say it.
fn wanted(args: &ManyArgs) -> anyhow::Result<Vec<Value>> {
    let Some(file) = &args.ids_from else {
        let has_conditions = args.prefix.is_some()
            || args.destination.is_some()
            || args.from.is_some()
            || args.until.is_some();
        if !has_conditions {
            let message = "say which: give an ID, or --prefix, --destination, --from, --until or --ids-from";
            return Err(UsageError(message.to_owned()).into());
        }
        let mut request = json!({});
        for (name, value) in [
            ("prefix", args.prefix.as_ref().map(|prefix| json!(prefix))),
            ("destination", args.destination.as_ref().map(|topic| json!(topic))),
            ("from", args.from.map(|due| json!(due.epoch_ms()))),
            ("to", args.until.map(|due| json!(due.epoch_ms()))),
        ] {
            if let Some(value) = value {
                request[name] = value;
            }
        }
        return Ok(vec![request]);
    };
    let wrong = |error: std::io::Error| UsageError(format!("--ids-from {}: {error}", file.display()));
    let lines: Result<Vec<String>, _> = if file.as_os_str() == "-" {
        std::io::stdin().lock().lines().collect()
    } else {
        std::io::BufReader::new(std::fs::File::open(file).map_err(wrong)?).lines().collect()
    };
    let ids: Vec<String> = lines.map_err(wrong)?.into_iter().filter(|line| !line.is_empty()).collect();
    Ok(ids.chunks(LISTED).map(|ids| json!({ "ids": ids })).collect())
}

/// Starts a job and looks at it until it ends.
fn follow(admin: &AdminArgs, schedule_topic: Option<&str>, request: &Value) -> anyhow::Result<Value> {
    let mut job = admin.ask("POST", "/api/cancel", schedule_topic, &[], Some(request))?;
    let path = format!("/api/cancel/{}", job["job"].as_str().unwrap_or_default());
    let bar = bar(&job);
    while job["state"] == "running" {
        #[allow(clippy::disallowed_methods, reason = "between two looks at a job")]
        std::thread::sleep(LOOK_EVERY);
        job = look(admin, &path)?;
        bar.set_length(number(&job, "to_look_at").max(number(&job, "looked_at")));
        bar.set_position(number(&job, "looked_at"));
        bar.set_message(format!(
            "{} matched, {} cancelled",
            number(&job, "matched"),
            number(&job, "cancelled")
        ));
    }
    bar.finish_and_clear();
    Ok(job)
}

/// An instance that does not answer just now goes on with the job all the same.
fn look(admin: &AdminArgs, path: &str) -> anyhow::Result<Value> {
    for _ in 0..LOOKS {
        if let Ok(job) = admin.ask("GET", path, None, &[], None) {
            return Ok(job);
        }
        #[allow(clippy::disallowed_methods, reason = "between two looks at a job")]
        std::thread::sleep(Duration::from_secs(1));
    }
    let job = path.rsplit('/').next().unwrap_or_default();
    admin.ask("GET", path, None, &[], None).with_context(|| format!("the job {job} may be running on"))
}

/// Hidden where standard error is no terminal.
fn bar(job: &Value) -> ProgressBar {
    let bar = ProgressBar::new(number(job, "to_look_at"));
    let style = ProgressStyle::with_template("{msg}  {wide_bar} {human_pos} of {human_len}  {eta}");
    bar.set_style(style.expect("the template is right"));
    bar
}

fn confirmed(counted: &Total) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        let message = "nobody can be asked here: say --yes to cancel them, or --dry-run to count them";
        return Err(UsageError(message.to_owned()).into());
    }
    eprint!("Cancel {} schedules? [y/N] ", counted.matched);
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What came of all jobs together.
#[derive(Debug, Default)]
struct Total {
    looked_at: u64,
    matched: u64,
    cancelled: u64,
    uncertain: u64,
    dry_run: bool,
    /// Partitions that could not be looked at.
    missing: u64,
    /// Why a job ended early.
    trouble: Option<String>,
}

impl Total {
    fn add(&mut self, job: &Value) {
        self.looked_at += number(job, "looked_at");
        self.matched += number(job, "matched");
        self.cancelled += number(job, "cancelled");
        self.uncertain += number(job, "uncertain");
        self.dry_run = job["dry_run"] == true;
        self.missing = job["partitions"]["missing"].as_array().map_or(0, Vec::len) as u64;
        match job["state"].as_str() {
            Some("done") => {}
            Some("stopped") => self.trouble = Some("it was stopped".to_owned()),
            _ => self.trouble = Some(job["error"].as_str().unwrap_or("it failed").to_owned()),
        }
    }

    fn show(&self, as_json: bool) -> anyhow::Result<ExitCode> {
        let Self { looked_at, matched, cancelled, uncertain, dry_run, missing, trouble } = self;
        if as_json {
            let shown = json!({
                "looked_at": looked_at, "matched": matched, "cancelled": cancelled, "uncertain": uncertain,
                "dry_run": dry_run, "partitions_missing": missing, "error": trouble,
            });
            print(&shown.to_string())?;
        } else if *dry_run {
            print(&format!("{matched} of {looked_at} match; nothing was cancelled"))?;
        } else {
            print(&format!("cancelled {cancelled} of {matched} that matched"))?;
        }
        if *uncertain > 0 {
            eprintln!(
                "{uncertain} may or may not have been cancelled: the partition was taken over meanwhile."
            );
        }
        if *missing > 0 {
            eprintln!("{missing} partitions are not this instance's, or not live: ask their instances, too.");
        }
        if let Some(trouble) = trouble {
            eprintln!("Not all was looked at: {trouble}.");
        }
        Ok(if trouble.is_some() || *missing > 0 || *uncertain > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn number(job: &Value, name: &str) -> u64 {
    job[name].as_u64().unwrap_or(0)
}
