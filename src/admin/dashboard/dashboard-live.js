// The instance as it is right now: its stream of events, what becomes of the connection, and who wants to know.

import { events } from "./dashboard-api.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 10_000;
/// Figures come every second. A connection that is silent for so long is dead, whatever the system believes.
const SILENCE_MS = 6000;
/// How many rates a second are made from: fewer jump, more lag behind.
const SAMPLES = 6;

/// `connecting`, `live`, `lost` (tries again at `retryAt`) or `unauthorized` (waits for a token).
export const live = {
  connection: "connecting",
  /// The last figures, also while the connection is lost; `null` before the first.
  stats: null,
  /// Why it is lost.
  error: null,
  retryAt: 0,
  /// How often a second, by counter; `null` until two figures are there.
  rates: null,
  /// When the last figures came, by the clock of this machine.
  heardAt: 0,

  /// The time of the instance: due times are by its clock, and this machine's may be another.
  now() {
    return this.stats ? this.stats.now + (Date.now() - this.heardAt) : Date.now();
  },
  get isReadOnly() {
    return this.stats?.read_only ?? false;
  },
};

const listeners = { change: new Set(), stats: new Set(), history: new Set() };

/// `change`: the connection, or what the page must offer, is another. `stats`: figures came. `history`: events came.
export function on(what, listener) {
  listeners[what].add(listener);
}

/// Connects, or connects anew: with another token, to another topic, or at once instead of after the pause.
export function connect() {
  running?.abort();
  running = new AbortController();
  clearTimeout(retrying);
  // `finally` of a run that was replaced must not touch the run that replaced it.
  run(running);
}

/// Nothing of the topic before is shown for the next.
export function forgetFigures() {
  Object.assign(live, { stats: null, rates: null });
  samples.length = 0;
}

let running;
let retrying;
let pause = FIRST_PAUSE_MS;
const samples = [];

async function run(controller) {
  if (live.connection !== "lost") become({ connection: live.stats ? live.connection : "connecting" });
  let silence;
  let why = null;
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => controller.abort("silent"), SILENCE_MS);
  };
  try {
    listen();
    for await (const { event, data } of events(controller.signal)) {
      listen();
      if (controller !== running) return;
      if (event === "stats") take(data);
      else if (event === "history") tell("history", data.events);
    }
  } catch (error) {
    why = error;
  } finally {
    clearTimeout(silence);
  }
  if (controller === running) lose(why);
}

function take(stats) {
  const before = live.stats;
  Object.assign(live, { stats, heardAt: Date.now() });
  sample(stats);
  pause = FIRST_PAUSE_MS;
  const changed = live.connection !== "live" || shape(before) !== shape(stats);
  if (changed) become({ connection: "live", error: null });
  tell("stats", stats);
}

/// What notices and offers hang on.
function shape(stats) {
  return stats && JSON.stringify([stats.ready, stats.reasons, stats.read_only, stats.schedule_topics, stats.partitions > 0, stats.version]);
}

function sample(stats) {
  // Counters begin anew with the process.
  if (samples.length > 0 && stats.fired < samples.at(-1).fired) samples.length = 0;
  samples.push(stats);
  if (samples.length > SAMPLES) samples.shift();
  const [first, last] = [samples[0], samples.at(-1)];
  const seconds = (last.now - first.now) / 1000;
  const of = (counter) => (last[counter] - first[counter]) / seconds;
  if (seconds > 0) live.rates = Object.fromEntries(["fired", "cancelled", "replaced", "rejected"].map((name) => [name, of(name)]));
}

function lose(why) {
  samples.length = 0;
  if (why?.status === 401) {
    become({ connection: "unauthorized", error: why, rates: null });
    return;
  }
  become({ connection: "lost", error: why?.status > 0 ? why : null, retryAt: Date.now() + pause, rates: null });
  retrying = setTimeout(connect, pause);
  pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
}

function become(state) {
  Object.assign(live, state);
  tell("change");
}

function tell(what, news) {
  for (const listener of listeners[what]) listener(news);
}
