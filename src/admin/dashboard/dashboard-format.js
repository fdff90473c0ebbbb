// Figures and times as people read them. Nothing here touches the page.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric" });
const NOTHING = "–";

/// 100,000,000
export function count(number) {
  return number === null || number === undefined ? NOTHING : WHOLE.format(number);
}

/// 100M; small ones as they are.
export function short(number) {
  if (number === null || number === undefined) return NOTHING;
  return Math.abs(number) < 10_000 ? WHOLE.format(number) : COMPACT.format(number);
}

/// How often a second: tenths only where they matter.
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return NOTHING;
  return perSecond > 0 && perSecond < 10 ? TENTHS.format(Math.max(perSecond, 0.1)) : short(Math.round(perSecond));
}

/// 1 of 3, 12 %
export function percent(part, whole) {
  if (!(whole > 0)) return NOTHING;
  // What is not finished is never called 100 %.
  return `${part >= whole ? 100 : Math.min(99, Math.floor((part / whole) * 100))} %`;
}

export function bytes(number) {
  if (number === null || number === undefined) return NOTHING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${number < 100 && unit > 0 ? TENTHS.format(number) : WHOLE.format(number)} ${units[unit]}`;
}

/// 5 ms, 1.2 s, 3 min 12 s, 2 h 5 min, 3 d 4 h, 2 y 40 d
export function duration(ms) {
  if (ms === null || ms === undefined) return NOTHING;
  if (ms < 0) return `−${duration(-ms)}`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${TENTHS.format(Math.floor(ms / 100) / 10)} s`;
  const steps = [["y", 31_536_000_000], ["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1000]];
  const at = steps.findIndex(([, size]) => ms >= size);
  const [unit, size] = steps[at];
  const first = `${WHOLE.format(Math.floor(ms / size))} ${unit}`;
  const next = steps[at + 1];
  const rest = next ? Math.floor((ms % size) / next[1]) : 0;
  return rest > 0 ? `${first} ${rest} ${next[0]}` : first;
}

/// 15:04:05
export function clock(ms) {
  return hasDate(ms) ? CLOCK.format(ms) : NOTHING;
}

/// 15:04:05.678
export function clockMs(ms) {
  return hasDate(ms) ? `${CLOCK.format(ms)}.${String(new Date(ms).getMilliseconds()).padStart(3, "0")}` : NOTHING;
}

/// 15:04
export function minute(ms) {
  return MINUTE.format(ms);
}

/// Sat, 28 Nov 2026, 15:04:05. A due time can be any 64-bit number, and calendars end before that.
export function dateTime(ms) {
  return hasDate(ms) ? `${DAY.format(ms)}, ${CLOCK.format(ms)}` : `${count(ms)} ms, beyond any calendar`;
}

/// In UTC, for machines and for comparing with logs.
export function iso(ms) {
  return hasDate(ms) ? new Date(ms).toISOString() : String(ms);
}

/// The zone that times are shown in, with its offset at that time.
export function zone(ms) {
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "longOffset" }).formatToParts(hasDate(ms) ? ms : 0);
  const offset = parts.find((part) => part.type === "timeZoneName").value.replace("GMT", "UTC");
  return `${Intl.DateTimeFormat().resolvedOptions().timeZone} (${offset})`;
}

/// in 3 h 12 min; 12 s overdue
export function until(ms, now) {
  const distance = ms - now;
  if (Math.abs(distance) < 1000) return "now";
  return distance > 0 ? `in ${duration(distance)}` : `${duration(-distance)} overdue`;
}

/// 0–2, 5
export function ranges(numbers) {
  const runs = [];
  for (const number of [...numbers].sort((one, other) => one - other)) {
    const last = runs.at(-1);
    if (last && last[1] + 1 === number) last[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
}

/// What `90m`, `1h 30m` or `30d` is in milliseconds; `null` if it is no duration. The instance has the last word.
export function parseDuration(text) {
  const piece = /(\d+)\s*([a-z]+)\s*/iy;
  let [sum, at] = [0, 0];
  const rest = text.trim();
  while (at < rest.length) {
    piece.lastIndex = at;
    const match = piece.exec(rest);
    const size = match && unitOf(match[2]);
    if (!size) return null;
    sum += Number(match[1]) * size;
    at = piece.lastIndex;
  }
  return rest === "" ? null : sum;
}

function unitOf(name) {
  const units = [
    [1, "ms", "millis"],
    [1000, "s", "sec", "secs", "second", "seconds"],
    [60_000, "m", "min", "mins", "minute", "minutes"],
    [3_600_000, "h", "hr", "hrs", "hour", "hours"],
    [86_400_000, "d", "day", "days"],
    [604_800_000, "w", "week", "weeks"],
  ];
  return units.find(([, ...names]) => names.includes(name))?.[0];
}

function hasDate(ms) {
  return Number.isFinite(ms) && Math.abs(ms) <= 8.64e15;
}
