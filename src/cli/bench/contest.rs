//! kms and librdkafka alone in turn, round by round, and how they compare.

use serde::Serialize;
use serde_json::{Value, json};

use super::delivery::{Delivered, Faults};
use super::report::{Spread, figure, grouped};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Kms,
    Raw,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Raw => "raw librdkafka",
        }
    }
}

/// What both delivered in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Round {
    kms: Delivered,
    raw: Delivered,
}

/// Plays so many rounds. Who begins changes from round to round, so that neither always finds the machine as the other
/// left it.
pub(super) fn play(
    rounds: u32,
    mut turn: impl FnMut(Contender) -> anyhow::Result<Delivered>,
) -> anyhow::Result<Vec<Round>> {
    let mut played = Vec::new();
    let mut turn = |contender| {
        let delivered = turn(contender)?;
        anyhow::ensure!(
            delivered.messages > 0,
            "{} delivered nothing, and after a while it was given up: are the brokers well?",
            contender.name()
        );
        Ok(delivered)
    };
    for round in 0..rounds {
        let (kms, raw) = if round % 2 == 0 {
            let kms = turn(Contender::Kms)?;
            (kms, turn(Contender::Raw)?)
        } else {
            let raw = turn(Contender::Raw)?;
            (turn(Contender::Kms)?, raw)
        };
        played.push(Round { kms, raw });
    }
    Ok(played)
}

/// A figure of a contender.
type Figure = (&'static str, &'static str, fn(&Delivered) -> f64);

/// Name in JSON, name for people, and where it is found.
static FIGURES: [Figure; 8] = [
    // Of a rate: they mean something where both contenders have the same time for the same messages.
    ("first_due_to_last_visible_seconds", "first due to last visible, s", |it| it.seconds),
    ("messages_per_second", "messages a second", |it| it.messages_per_second),
    ("messages_per_transaction", "messages a transaction", Delivered::messages_per_transaction),
    ("processor_us_per_message", "processor time a message, µs *", Delivered::processor_us_per_message),
    ("due_to_visible_p50_ms", "due to visible, p50, ms", |it| it.latency.p50_ms),
    ("due_to_visible_p99_ms", "due to visible, p99, ms", |it| it.latency.p99_ms),
    ("due_to_visible_p99_9_ms", "due to visible, p99.9, ms", |it| it.latency.p99_9_ms),
    ("due_to_visible_max_ms", "due to visible, max, ms", |it| it.latency.max_ms),
];

const OF_A_RATE: usize = 2;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The same messages, due at the same times.
    Alike,
    /// As many messages over about the same time, but some of kms are due a little later: no rates.
    Apart,
}

impl Kind {
    fn figures(self) -> &'static [Figure] {
        match self {
            Self::Alike => &FIGURES,
            Self::Apart => &FIGURES[OF_A_RATE..],
        }
    }
}

/// What stands below the table of [`rows`].
pub(super) const FOOTNOTE: &str = "* of this process, its reader included, which is the same for both";

/// The faults of all rounds, of either contender.
pub(super) fn faults(rounds: &[Round]) -> Faults {
    rounds.iter().fold(Faults::default(), |sum, round| sum.and(round.kms.faults).and(round.raw.faults))
}

/// Each figure of either, and the ratio of their medians.
pub(super) fn rows(rounds: &[Round], kind: Kind) -> Vec<Vec<String>> {
    let head = ["", "kms", "raw librdkafka", "kms / raw"].map(str::to_owned).to_vec();
    let row = |(_, name, of): &Figure| {
        let [kms, raw] = both(rounds, *of);
        vec![(*name).to_owned(), kms.show(), raw.show(), figure(ratio(kms, raw))]
    };
    std::iter::once(head).chain(kind.figures().iter().map(row)).collect()
}

pub(super) fn summary(rounds: &[Round], kind: Kind) -> Value {
    let mut summary = json!({ "kms": {}, "raw": {}, "kms_to_raw": {} });
    for &(name, _, of) in kind.figures() {
        let [kms, raw] = both(rounds, of);
        summary["kms"][name] = json!(kms);
        summary["raw"][name] = json!(raw);
        summary["kms_to_raw"][name] = json!(ratio(kms, raw));
    }
    summary
}

/// How many messages were how late, as shares of all.
pub(super) fn histogram_rows(rounds: &[Round]) -> Vec<Vec<String>> {
    let head = ["due to visible, up to", "kms", "raw librdkafka"].map(str::to_owned).to_vec();
    let count = |of: fn(&Round) -> &Delivered, bucket: usize| -> u64 {
        rounds.iter().map(|round| of(round).histogram[bucket].messages).sum()
    };
    let contenders: [fn(&Round) -> &Delivered; 2] = [|round| &round.kms, |round| &round.raw];
    let Some(first) = rounds.first() else { return vec![head] };
    let buckets = 0..first.kms.histogram.len();
    let all = contenders.map(|of| buckets.clone().map(|bucket| count(of, bucket)).sum::<u64>().max(1));
    let row = |bucket: usize| {
        let counts = contenders.map(|of| count(of, bucket));
        let up_to = first.kms.histogram[bucket].up_to_ms;
        let name = up_to.map_or_else(|| "more".to_owned(), |ms| format!("{} ms", grouped(ms as i64)));
        let shares =
            counts.iter().zip(all).map(|(count, all)| format!("{:.2} %", *count as f64 * 100.0 / all as f64));
        (counts != [0, 0]).then(|| std::iter::once(name).chain(shares).collect())
    };
    std::iter::once(head).chain(buckets.filter_map(row)).collect()
}

fn both(rounds: &[Round], of: fn(&Delivered) -> f64) -> [Spread; 2] {
    [
        Spread::of(rounds.iter().map(|round| of(&round.kms))),
        Spread::of(rounds.iter().map(|round| of(&round.raw))),
    ]
}

fn ratio(kms: Spread, raw: Spread) -> f64 {
    kms.median / raw.median
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::delivery::{Cost, Seen};
    use super::super::timetable::Even;
    use super::*;

    fn delivered(after_ms: i64) -> Delivered {
        let timetable = Even::new(1, None);
        timetable.begin(1_000);
        let mut seen = Seen::new(1);
        seen.judge(&timetable, 0, 0, (1_000 + after_ms) * 1_000);
        seen.figures(1, 1_000, Cost { transactions: 1, processor_seconds: Some(0.01) })
    }

    #[test]
    fn they_take_turns_and_change_who_begins() {
        let mut turns = Vec::new();
        let rounds = play(2, |contender| {
            turns.push(contender);
            Ok(delivered(if contender == Contender::Kms { 20 } else { 10 }))
        });
        let rounds = rounds.unwrap();
        assert_eq!(turns, [Contender::Kms, Contender::Raw, Contender::Raw, Contender::Kms]);
        let summary = summary(&rounds, Kind::Alike);
        let ratio = |name: &str| summary["kms_to_raw"][name].as_f64().unwrap();
        assert!((ratio("first_due_to_last_visible_seconds") - 2.0).abs() < 1e-6);
        assert!((ratio("messages_per_second") - 0.5).abs() < 1e-6);
        assert!(faults(&rounds).are_none());
        let rows = histogram_rows(&rounds);
        assert_eq!(rows[1], ["10 ms", "0.00 %", "100.00 %"]);
        assert_eq!(rows[2], ["20 ms", "100.00 %", "0.00 %"]);
        assert_eq!(rows.len(), 3, "empty ones are left out");
    }

    #[test]
    fn a_turn_that_fails_ends_it() {
        assert!(play(2, |_| anyhow::bail!("x")).is_err());
    }
}
