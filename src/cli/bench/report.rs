//! What a benchmark prints: a table for people, or one JSON document.

use serde::Serialize;
use serde_json::{Value, json};

use super::CommonArgs;
use super::lab::Lab;
use crate::schedule::Format;
use crate::version::Version;

/// The median of some rounds, with the least and the most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of figures, of which there is one at least.
    pub(super) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self { median, least, most }
    }

    /// `median (least … most)`, or one figure if there is only one.
    pub(super) fn show(self) -> String {
        let [median, least, most] = [self.median, self.least, self.most].map(figure);
        if least == most { median } else { format!("{median} ({least} … {most})") }
    }
}

/// A figure with three digits that count, or whole.
pub(super) fn figure(figure: f64) -> String {
    match figure.abs() {
        large if large.round() >= 1_000.0 => grouped(figure.round() as i64),
        large if large >= 100.0 => format!("{figure:.0}"),
        large if large >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// A whole number with its digits in groups.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where and with what the figures were taken, for people.
pub(super) fn heading(what: &str, lab: &Lab, args: &CommonArgs) -> String {
    let version = Version::current();
    let machine = Machine::this();
    let rounds = if args.rounds == 1 {
        "one round".to_owned()
    } else {
        format!("median of {} rounds (least … most)", args.rounds)
    };
    let cluster = if lab.is_embedded() {
        "\nAgainst the embedded stand-in for Kafka: these figures say nothing about a real one."
    } else {
        ""
    };
    format!(
        "{what}\n{}, {}, values of {} bytes; kms {}, librdkafka {}; {machine}; {rounds}.{cluster}\n",
        lab.settings.delivery.name(),
        format_name(lab.format),
        lab.value_bytes,
        version.version,
        version.librdkafka,
    )
}

/// The document of a benchmark: what it says itself, and what all of them say.
pub(super) fn document(benchmark: &str, asked: Value, lab: &Lab, args: &CommonArgs, own: Value) -> Value {
    let mut document = json!({
        "benchmark": benchmark,
        "version": Version::current(),
        "machine": Machine::this(),
        "asked": {
            "partitions": args.partitions,
            "value_bytes": args.value_bytes,
            "format": format_name(lab.format),
            "rounds": args.rounds,
            "embedded": args.embedded,
        },
        // Secrets are masked by it.
        "settings": lab.settings,
    });
    merge(&mut document["asked"], asked);
    merge(&mut document, own);
    document
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Avro => "avro",
        Format::Json => "json",
    }
}

/// The machine that this process runs on; what cannot be known is left out.
#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    processor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
}

impl Machine {
    fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let value_of = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = value_of(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = memory.and_then(|memory| memory.strip_suffix(" kB")?.parse::<u64>().ok());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: value_of(&read("/proc/cpuinfo"), "model name"),
            memory_bytes: kilobytes.map(|kilobytes| kilobytes * 1_024),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cores", self.cores)?;
        if let Some(processor) = &self.processor {
            write!(f, " ({processor})")?;
        }
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {:.0} GiB", bytes as f64 / f64::from(1 << 30))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]), Spread { median: 2.5, least: 1.0, most: 4.0 });
        assert_eq!(Spread::of([1234.5, 1234.5]).show(), "1,235");
        assert_eq!(Spread::of([0.5, 12.34, 123.4]).show(), "12.3 (0.50 … 123)");
        assert_eq!(figure(999.6), "1,000");
    }

    #[test]
    fn digits_come_in_groups_of_three() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567, -1_000].map(grouped),
            ["0", "999", "1,000", "1,234,567", "-1,000"]
        );
    }
}
