//! The log: lines for people, or one JSON object a line.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Level, LogFormat, Logging};

/// Sends the log of this process to standard error, so that standard output is free for what a command prints.
///
/// A second call changes nothing.
pub fn start_log(logging: &Logging) {
    // The filter is a layer for the whole subscriber, not one of the lines' own: with one of its own, a line of a
    // library that is refused takes our next line on the same thread with it.
    let registry = tracing_subscriber::registry().with(filter(logging));
    let lines: Box<dyn Layer<Layered<Targets, Registry>> + Send + Sync> = match logging.format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Auto | LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            // Which module speaks is for those who debug it; in the lines of every day it is in the way.
            let modules = matches!(logging.level, Level::Debug | Level::Trace);
            fmt::layer()
                .compact()
                .with_target(modules)
                .with_ansi(colours)
                .with_writer(std::io::stderr)
                .boxed()
        }
    };
    // Fails only when a log was started before.
    let _ = registry.with(lines).try_init();
}

fn filter(logging: &Logging) -> Targets {
    Targets::new()
        .with_default(level(logging.root_level))
        .with_target("kafka_message_scheduler", level(logging.level))
        .with_target("kms", level(logging.level))
}

fn level(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level as Line;

    #[test]
    fn our_level_and_that_of_the_libraries_are_apart() {
        let logging = Logging { level: Level::Debug, root_level: Level::Warn, format: LogFormat::Text };
        let filter = filter(&logging);
        for (target, line, logged) in [
            ("kafka_message_scheduler::scheduler", Line::DEBUG, true),
            ("kafka_message_scheduler::scheduler", Line::TRACE, false),
            ("kms", Line::INFO, true),
            ("rdkafka::client", Line::INFO, false),
            ("rdkafka::client", Line::WARN, true),
        ] {
            assert_eq!(filter.would_enable(target, &line), logged, "{target} {line}");
        }
    }
}
