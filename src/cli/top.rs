//! `kms top`: a running instance, live in a terminal.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};
use serde_json::Value;

use super::api::AdminArgs;
use super::{UsageError, text};

/// Watch a running instance: what is pending, due and fired, how late, and its partitions
///
/// Late are the median and the 99th percentile of the last minute. Keys: q quits, arrows and page keys scroll the partitions.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms top
  KMS_ADMIN__TOKEN=… kms top --admin https://kms-1:9402 --schedule-topic json-schedules

Exit codes: 0 quit; 1 failed; 2 wrong usage.")]
pub(super) struct TopArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The schedule topic whose partitions and events are shown [default: the first one that the instance has]
    #[arg(long, value_name = "TOPIC")]
    schedule_topic: Option<String>,
}

impl TopArgs {
    fn get(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        self.admin.ask("GET", path, self.schedule_topic.as_deref(), parameters, None)
    }
}

const EVERY: Duration = Duration::from_secs(1);
/// Seconds of the plot.
const RATES: usize = 300;
const RECENT: usize = 50;

pub(super) fn execute(args: &TopArgs) -> anyhow::Result<ExitCode> {
    if !std::io::stdout().is_terminal() {
        let message = "kms top needs a terminal; `kms stats --json` is for programs";
        return Err(UsageError(message.to_owned()).into());
    }
    // Before the terminal is taken over: what is wrong with the first question is said in a sentence.
    let mut seen = Seen::default();
    seen.look(args)?;
    let mut terminal = ratatui::init();
    let outcome = watch(&mut terminal, args, &mut seen);
    ratatui::restore();
    outcome.map(|()| ExitCode::SUCCESS)
}

#[allow(clippy::disallowed_methods, reason = "when to look again, nothing about schedules")]
fn watch(terminal: &mut ratatui::DefaultTerminal, api: &TopArgs, seen: &mut Seen) -> anyhow::Result<()> {
    let mut looked_at = Instant::now();
    loop {
        terminal.draw(|frame| draw(frame, seen))?;
        let left = EVERY.saturating_sub(looked_at.elapsed());
        if event::poll(left)? {
            if let Event::Key(key) = event::read()? {
                let is_ctrl_c =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    _ if is_ctrl_c => return Ok(()),
                    KeyCode::Down => seen.scroll(1),
                    KeyCode::Up => seen.scroll(-1),
                    KeyCode::PageDown => seen.scroll(20),
                    KeyCode::PageUp => seen.scroll(-20),
                    _ => {}
                }
            }
            continue;
        }
        looked_at = Instant::now();
        // An instance that does not answer may come back: what was seen last stays, and the trouble is said.
        seen.trouble = seen.look(api).err().map(|error| format!("{error:#}"));
    }
}

/// What was seen of the instance.
#[derive(Debug, Default)]
struct Seen {
    stats: Value,
    partitions: Value,
    history: Value,
    /// Fired in each of the last seconds.
    rates: VecDeque<u64>,
    /// When, and how many were fired until then.
    before: Option<(i64, u64)>,
    trouble: Option<String>,
    /// The first partition that is shown.
    first: usize,
}

impl Seen {
    fn look(&mut self, api: &TopArgs) -> anyhow::Result<()> {
        self.take(api.get("/api/stats", &[])?);
        self.partitions = api.get("/api/partitions", &[])?;
        self.history = api.get("/api/history", &[("limit", RECENT.to_string())])?;
        Ok(())
    }

    fn take(&mut self, stats: Value) {
        let now_ms = stats["now"].as_i64().unwrap_or(0);
        let fired = number(&stats, "fired");
        if let Some((before_ms, before)) = self.before
            && now_ms > before_ms
        {
            if self.rates.len() == RATES {
                self.rates.pop_front();
            }
            self.rates.push_back(fired.saturating_sub(before) * 1_000 / (now_ms - before_ms) as u64);
        }
        self.before = Some((now_ms, fired));
        self.stats = stats;
    }

    fn scroll(&mut self, by: isize) {
        let last = self.partitions["partitions"].as_array().map_or(0, Vec::len).saturating_sub(1);
        self.first = self.first.saturating_add_signed(by).min(last);
    }
}

const FAINT: Style = Style::new().fg(Color::DarkGray);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

fn draw(frame: &mut Frame<'_>, seen: &Seen) {
    let [head, top, middle, bottom] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(9),
        Constraint::Min(4),
        Constraint::Percentage(35),
    ])
    .areas(frame.area());
    let [due, fired, done] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1), Constraint::Length(28)]).areas(top);
    frame.render_widget(Paragraph::new(heading(seen)), head);
    frame.render_widget(Paragraph::new(due_lines(&seen.stats, due.width)).block(block("pending")), due);
    draw_rate(frame, seen, fired);
    frame.render_widget(Paragraph::new(total_lines(&seen.stats)).block(block("since start, memory")), done);
    frame.render_widget(partition_table(seen), middle);
    frame.render_widget(recent_table(seen, bottom), bottom);
}

fn block(title: &str) -> Block<'_> {
    Block::bordered().border_style(FAINT).title(format!(" {title} "))
}

fn heading(seen: &Seen) -> Vec<Line<'static>> {
    let stats = &seen.stats;
    let word = if stats["ready"] == true { "ready".green().bold() } else { Span::styled("not ready", BAD) };
    let version = stats["version"].as_str().unwrap_or_default().to_owned();
    let now = stats["now"].as_i64().map_or_else(String::new, text::show_moment);
    let first = Line::from(vec![
        "kms ".bold(),
        version.into(),
        "  ".into(),
        word,
        format!("  {} partitions  {now}  ", stats["partitions"]).into(),
        Span::styled("q quits, arrows scroll", FAINT),
    ]);
    let reasons: Vec<&str> =
        stats["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let said = seen.trouble.clone().unwrap_or_else(|| reasons.join("; "));
    vec![first, Line::from(Span::styled(said, BAD))]
}

/// How much is due how soon, as bars.
fn due_lines(stats: &Value, width: u16) -> Vec<Line<'static>> {
    let windows = stats["due"].as_array().map_or(&[][..], Vec::as_slice);
    let most = windows.iter().map(|window| number(window, "count")).max().unwrap_or(0).max(1);
    let room = u64::from(width.saturating_sub(26));
    let mut lines = vec![Line::from(vec![grouped(number(stats, "pending")).bold(), " pending".into()])];
    lines.extend(windows.iter().map(|window| {
        let (within, count) = (window["within"].as_str().unwrap_or_default(), number(window, "count"));
        let bar = "█".repeat((count * room / most).max(u64::from(count > 0)) as usize);
        Line::from(vec![
            Span::raw(format!("{within:>6} ")),
            Span::styled(bar, Style::new().fg(Color::Cyan)),
            Span::raw(format!(" {}", grouped(count))),
        ])
    }));
    let overdue_ms = number(stats, "oldest_overdue_ms");
    let aside = number(stats, "set_aside");
    if aside > 0 {
        lines.push(Line::styled(format!("{} set aside", grouped(aside)), BAD));
    }
    if overdue_ms > 0 {
        lines.push(Line::styled(format!("oldest overdue {:.1} s", overdue_ms as f64 / 1_000.0), BAD));
    }
    lines
}

fn draw_rate(frame: &mut Frame<'_>, seen: &Seen, area: Rect) {
    let now = seen.rates.back().copied().unwrap_or(0);
    let late = &seen.stats["lateness_ms"];
    let quantile = |name: &str| late[name].as_u64().map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let title = format!("fired {} a second, late {} / {}", grouped(now), quantile("p50"), quantile("p99"));
    let room = usize::from(area.width.saturating_sub(2));
    let skipped = seen.rates.len().saturating_sub(room);
    let shown: Vec<u64> = seen.rates.iter().skip(skipped).copied().collect();
    let plot = Sparkline::default().data(shown).style(Style::new().fg(Color::Cyan)).block(block(&title));
    frame.render_widget(plot, area);
}

fn total_lines(stats: &Value) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = ["fired", "cancelled", "replaced", "rejected"]
        .iter()
        .map(|name| {
            let count = number(stats, name);
            let is_bad = count > 0 && *name == "rejected";
            let style = if is_bad { BAD } else { Style::new() };
            Line::styled(format!("{name:<10} {:>12}", grouped(count)), style)
        })
        .collect();
    let mib = |bytes: u64| format!("{} MiB", grouped(bytes >> 20));
    let held = number(stats, "payload_bytes") + number(stats, "structure_bytes");
    let bound = stats["memory_limit_bytes"].as_u64();
    let of = bound.map_or_else(String::new, |bound| format!(" of {}", mib(bound)));
    lines.push(Line::raw(""));
    lines.push(Line::raw(format!("now: {} resident", mib(number(stats, "resident_bytes")))));
    lines.push(Line::raw(format!("{}{of} for what is pending", mib(held))));
    lines
}

fn partition_table(seen: &Seen) -> Table<'static> {
    let topic = seen.partitions["schedule_topic"].as_str().unwrap_or_default().to_owned();
    let all = seen.partitions["partitions"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = all.iter().skip(seen.first).map(|partition| {
        let phase = partition["phase"].as_str().unwrap_or_default().to_owned();
        let style = if phase == "live" { Style::new() } else { BAD };
        let applied = match (number(partition, "records_applied"), number(partition, "records_to_apply")) {
            (applied, all) if phase == "loading" && all > 0 => format!("{} %", applied * 100 / all),
            _ => String::new(),
        };
        let reason = partition["reason"].as_str().unwrap_or_default().to_owned();
        Row::new([
            Cell::from(partition["partition"].to_string()),
            Cell::from(format!("{phase} {applied}")).style(style),
            Cell::from(grouped(number(partition, "pending"))),
            Cell::from(grouped(number(partition, "lag"))),
            Cell::from(grouped(number(partition, "oldest_overdue_ms"))),
            Cell::from(grouped(number(partition, "set_aside"))),
            Cell::from(reason),
        ])
    });
    let widths = [
        Constraint::Length(9),
        Constraint::Length(14),
        Constraint::Length(13),
        Constraint::Length(10),
        Constraint::Length(11),
        Constraint::Length(10),
        Constraint::Min(10),
    ];
    let head =
        Row::new(["partition", "phase", "pending", "lag", "overdue ms", "set aside", "why"]).style(FAINT);
    let owned = all.len();
    let elsewhere = seen.partitions["not_owned"].as_array().map_or(0, Vec::len);
    let title = format!(" {topic}: {owned} partitions here, {elsewhere} elsewhere ");
    Table::new(rows, widths).header(head).block(Block::bordered().border_style(FAINT).title(title))
}

fn recent_table(seen: &Seen, area: Rect) -> Table<'static> {
    let room = usize::from(area.height.saturating_sub(2));
    let events = seen.history["events"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = events.iter().take(room).map(|event| {
        let field = |name: &str| event[name].as_str().unwrap_or_default();
        let kind = field("kind").to_owned();
        let color = match kind.as_str() {
            "fired" => Color::Green,
            "rejected" => Color::Red,
            _ => Color::Yellow,
        };
        let what = match event["late_ms"].as_i64() {
            Some(late_ms) => format!("to {}, {late_ms} ms late", field("topic")),
            None if field("reason").is_empty() => field("topic").to_owned(),
            None => field("reason").to_owned(),
        };
        Row::new([
            Cell::from(event["time"].as_i64().map_or_else(String::new, text::show_moment)).style(FAINT),
            Cell::from(kind).style(Style::new().fg(color)),
            Cell::from(text::show_id(field("id"))),
            Cell::from(text::show_bytes(what.as_bytes())),
        ])
    });
    let widths =
        [Constraint::Length(24), Constraint::Length(9), Constraint::Percentage(30), Constraint::Min(10)];
    Table::new(rows, widths).block(Block::bordered().border_style(FAINT).title(" what happened lately "))
}

fn number(object: &Value, name: &str) -> u64 {
    object[name].as_i64().map_or(0, |number| number.max(0) as u64)
}

/// `1,234,567`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn stats(now_ms: i64, fired: u64) -> Value {
        json!({
            "now": now_ms, "version": "0.1.0", "ready": false, "reasons": ["no broker is reached"], "partitions": 2,
            "pending": 1_234_567, "due": [{"within": "1m", "count": 7}, {"within": "later", "count": 1_234_560}],
            "oldest_overdue_ms": 1_500, "fired": fired, "cancelled": 5, "replaced": 0, "rejected": 2, "set_aside": 0,
            "resident_bytes": 3_u64 << 30, "lateness_ms": {"p50": 12, "p99": null},
        })
    }

    fn screen(seen: &Seen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, seen)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(row).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn all_that_matters_is_on_the_screen() {
        let mut seen = Seen::default();
        seen.take(stats(1_000_000, 100));
        seen.take(stats(1_002_000, 500));
        seen.partitions = json!({"schedule_topic": "schedules", "not_owned": [7], "partitions": [
            {"partition": 0, "phase": "live", "pending": 1_000, "lag": 3},
            {"partition": 1, "phase": "loading", "records_applied": 50, "records_to_apply": 200, "reason": "it stands still"},
        ]});
        seen.history = json!({"events": [
            {"kind": "fired", "time": 1_001_000, "id": "order-1", "topic": "orders", "late_ms": 9},
            {"kind": "rejected", "time": 1_000_500, "id": "\u{1b}[2J", "reason": "no JSON"},
        ]});
        let shown = screen(&seen, 120, 40);
        for part in [
            "not ready",
            "no broker is reached",
            "1,234,567 pending",
            "oldest overdue 1.5 s",
            "200 a second",
            "12 ms / -",
            "3,072 MiB",
            "loading 25 %",
            "it stands still",
            "schedules: 2 partitions here, 1 elsewhere",
            "order-1",
            "to orders, 9 ms late",
            "~G1sySg",
            "no JSON",
        ] {
            assert!(shown.contains(part), "{part} is not there:\n{shown}");
        }
    }

    #[test]
    fn it_fits_any_terminal_and_scrolls_no_further_than_the_end() {
        let mut seen = Seen::default();
        screen(&seen, 20, 5);
        seen.partitions = json!({"partitions": [{"partition": 0}, {"partition": 1}]});
        seen.scroll(20);
        assert_eq!(seen.first, 1);
        seen.scroll(-20);
        assert_eq!(seen.first, 0);
        seen.trouble = Some("no answer".into());
        assert!(screen(&seen, 100, 30).contains("no answer"));
    }
}
