// Figures over time: what the instance kept, and what came since. Nothing here touches the page.

const COUNTERS = ["fired", "cancelled", "replaced", "rejected"];

export class OverTime {
  /// The figures before those that came last.
  #before = null;
  /// The point that is being counted.
  #open = null;

  /// `spanMs`: how far back it goes. `kept`: the `over_time` of an answer.
  constructor(spanMs, kept) {
    this.spanMs = spanMs;
    this.stepMs = kept.step_ms;
    this.points = kept.points;
  }

  /// Takes figures that came live. True: another point is complete.
  take(stats) {
    const before = this.#before;
    // An answer and the stream may overtake each other.
    if (before && stats.now <= before.now) return false;
    this.#before = stats;
    // Counters begin anew with the process: what was counted in between is not known.
    if (!before || stats.fired < before.fired) return false;
    this.#open ??= { time: before.now, fired: 0, cancelled: 0, replaced: 0, rejected: 0 };
    const open = this.#open;
    for (const counter of COUNTERS) open[counter] += stats[counter] - before[counter];
    open.pending = stats.pending;
    // Where nothing fired, the lateness of the last minute is that of others.
    const { p50, p99 } = open.fired > 0 ? stats.lateness_ms : { p50: null, p99: null };
    Object.assign(open, { late_p50_ms: p50, late_p99_ms: p99 });
    if (stats.now < open.time + this.stepMs) return false;
    this.#close(stats.now);
    return true;
  }

  #close(now) {
    this.points.push(this.#open);
    this.#open = null;
    const first = this.points.findIndex((point) => point.time >= now - this.spanMs);
    this.points.splice(0, Math.max(first, 0));
  }

  /// Times in seconds and a figure for each.
  series(figure) {
    return this.points.map(figure);
  }

  perSecond(counter) {
    return this.series((point) => (point[counter] * 1000) / this.stepMs);
  }
}
