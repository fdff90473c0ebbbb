//! `kms schema`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::print;
use crate::codec;

/// Print the Avro schema of schedules
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms schema
  kms schema --out schedule.avsc")]
pub(super) struct SchemaArgs {
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn execute(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    let schema = codec::avro_schema();
    let schema = schema.trim_end();
    match &args.out {
        Some(path) => std::fs::write(path, format!("{schema}\n"))
            .with_context(|| format!("cannot write the schema to {}", path.display()))?,
        None => print(schema)?,
    }
    Ok(ExitCode::SUCCESS)
}
