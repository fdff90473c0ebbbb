// What is pending, when it is due, what is done, and whether all is well.

import { api } from "./dashboard-api.js";
import { TimeChart } from "./dashboard-charts.js";
import { button, fill, h, segments, setText } from "./dashboard-dom.js";
import { DueHistogram } from "./dashboard-due.js";
import { openForm } from "./dashboard-form.js";
import { bytes, count, duration, percent, rate, short } from "./dashboard-format.js";
import { live, on } from "./dashboard-live.js";
import { OverTime } from "./dashboard-over-time.js";
import { hrefOf, navigate, shownTopic } from "./dashboard-route.js";

const SPANS = { "10m": ["10 min", 600_000], "1h": ["1 hour", 3_600_000], "24h": ["24 hours", 86_400_000] };
const DUE_EVERY_MS = 5000;
/// Points that were made here from figures that came live give way to those of the instance.
const KEPT_EVERY_MS = 60_000;
/// Later than that is shown as a warning.
const LATE_MS = 5000;

export function overview() {
  const tiles = makeTiles();
  const charts = makeCharts();
  const due = new DueHistogram((bucket) => hrefOf("schedules", { from: bucket.from, to: bucket.to === null ? null : bucket.to - 1 }));
  const empty = h("div", {});
  let over = "10m";
  let time = null;
  let timers = [];
  let visible = false;

  const spans = segments("Span of the charts", Object.entries(SPANS).map(([value, [text]]) => [value, text]), over, (value) => navigate("overview", { over: value }));
  const element = h(
    "div",
    { class: "overview" },
    h("h1", { class: "unseen-label" }, "Overview"),
    empty,
    tiles.element,
    due.element,
    h("div", { class: "span-head" }, h("h2", {}, "Over time"), spans.element),
    h("div", { class: "charts" }, ...charts.all.map((chart) => chart.element)),
  );

  async function loadDue() {
    // Errors are said by the connection's notice; what is shown stays.
    const answer = await api.due().catch(() => null);
    if (answer && visible) due.show(answer);
  }

  async function loadTime() {
    const asked = over;
    const answer = await api.stats(asked).catch(() => null);
    if (!answer?.over_time || asked !== over) return;
    time = new OverTime(SPANS[over][1], answer.over_time);
    time.take(answer);
    charts.show(time);
  }

  on("stats", (stats) => {
    if (time?.take(stats) && visible) charts.show(time);
    if (!visible) return;
    tiles.show(stats);
    showEmpty(empty, stats);
  });
  on("change", () => {
    // What was kept while the connection was lost is fetched once it is there again.
    if (visible && live.connection === "live") refresh();
  });

  function refresh() {
    loadDue();
    loadTime();
  }

  return {
    element,
    title: "Overview",
    show(params) {
      visible = true;
      const next = SPANS[params.get("over")] ? params.get("over") : "10m";
      if (next !== over) time = null;
      over = next;
      spans.value = over;
      if (live.stats) {
        tiles.show(live.stats);
        showEmpty(empty, live.stats);
      }
      refresh();
      timers.forEach(clearInterval);
      timers = [setInterval(loadDue, DUE_EVERY_MS), setInterval(loadTime, KEPT_EVERY_MS)];
    },
    hide() {
      visible = false;
      timers.forEach(clearInterval);
    },
  };
}

/// Nothing scheduled, nothing done: how to begin.
function showEmpty(place, stats) {
  const isEmpty = stats.pending === 0 && stats.fired + stats.cancelled + stats.replaced === 0 && stats.partitions > 0 && stats.ready;
  if (isEmpty === place.hasChildNodes()) return;
  if (!isEmpty) {
    fill(place);
    return;
  }
  const topic = shownTopic(stats.schedule_topics);
  fill(
    place,
    h(
      "section",
      { class: "card empty" },
      h("h2", {}, "Nothing is scheduled yet"),
      h("p", {}, "A schedule says when a message goes to which topic. Write one to ", h("code", {}, topic), " from your producers, by the command line, or here."),
      h("pre", { tabindex: "0", "aria-label": "Command" }, `kms schedule cart-7 --in 10s --topic reminders --key customer-7 \\\n    --value 'your cart is waiting' --schedule-topic ${topic}`),
      !stats.read_only && button("Create a schedule", () => openForm(), { class: "primary" }),
    ),
  );
}

function makeTiles() {
  const pending = h("p", { class: "figure-huge" }, "–");
  const pendingNote = h("p", { class: "note" });
  const soon = ["1 minute", "10 minutes", "1 hour", "1 day"].map((name) => figure(name));
  const lateHalf = figure("p50");
  const lateMost = figure("p99");
  const overdue = h("p", { class: "figure-big" }, "–");
  const waiting = h("p", { class: "note" });
  const done = ["fired", "cancelled", "replaced", "rejected"].map((name) => doneFigure(name));
  const memory = memoryTile();

  const element = h(
    "div",
    { class: "tiles" },
    tile("Pending", "tile-pending", pending, pendingNote),
    tile("Due within", "tile-soon", h("dl", { class: "figures-row" }, ...soon.map((one) => one.element))),
    tile("Oldest overdue", "tile-overdue", overdue, waiting),
    tile("Lateness, last minute", "tile-late", h("dl", { class: "figures-row" }, lateHalf.element, lateMost.element)),
    tile("Done, per second", "tile-done", h("dl", { class: "figures-row" }, ...done.map((one) => one.element))),
    memory.element,
  );

  function show(stats) {
    setText(pending, count(stats.pending));
    const where = `${count(stats.partitions)} ${stats.partitions === 1 ? "partition" : "partitions"}`;
    setText(pendingNote, stats.pending >= 10_000 ? `${short(stats.pending)} in ${where}` : `in ${where}`);
    let sum = 0;
    soon.forEach((one, at) => {
      sum += stats.due[at]?.count ?? 0;
      one.show(short(sum), count(sum));
    });
    const late = stats.oldest_overdue_ms >= LATE_MS;
    setText(overdue, stats.oldest_overdue_ms > 0 ? duration(stats.oldest_overdue_ms) : "none");
    overdue.classList.toggle("is-warning", late);
    setText(waiting, `${short(stats.in_flight)} in flight, ${short(stats.set_aside)} set aside`);
    waiting.classList.toggle("is-warning", stats.set_aside > 0);
    lateHalf.show(duration(stats.lateness_ms.p50));
    lateMost.show(duration(stats.lateness_ms.p99));
    done.forEach((one) => one.show(stats));
    memory.show(stats);
  }

  return { element, show };
}

function tile(title, name, ...children) {
  return h("section", { class: `card tile ${name}` }, h("h2", {}, title), ...children);
}

function figure(name) {
  const number = h("dd", { class: "figure-big" }, "–");
  return {
    element: h("div", {}, h("dt", {}, name), number),
    show(text, whole) {
      setText(number, text);
      if (whole && whole !== text) number.title = whole;
      else number.removeAttribute("title");
    },
  };
}

/// How often a second, and how often since the start.
function doneFigure(name) {
  const often = h("span", { class: "figure-big" }, "–");
  const sum = h("span", { class: "note" });
  return {
    element: h("div", {}, h("dt", {}, h("i", { class: `kind-mark kind-${name}`, "aria-hidden": "true" }), name), h("dd", {}, often, sum)),
    show(stats) {
      setText(often, rate(live.rates?.[name]));
      setText(sum, `${short(stats[name])} in all`);
      sum.title = count(stats[name]);
      often.classList.toggle("is-bad", name === "rejected" && live.rates?.rejected > 0);
    },
  };
}

function memoryTile() {
  const used = h("p", { class: "figure-big" }, "–");
  const meter = h("div", { class: "meter", role: "meter", "aria-label": "Memory of what is pending, of its limit", "aria-valuemin": "0", "aria-valuemax": "100" }, h("span", {}));
  const note = h("p", { class: "note" });
  return {
    element: tile("Memory", "tile-memory", used, meter, note),
    show(stats) {
      // The limit is one on what is pending, not on the process.
      const [held, limit] = [stats.payload_bytes + stats.structure_bytes, stats.memory_limit_bytes];
      setText(used, limit ? `${bytes(held)} of ${bytes(limit)}` : bytes(held));
      const parts = `content ${bytes(stats.payload_bytes)}, structure ${bytes(stats.structure_bytes)}, process ${bytes(stats.resident_bytes)}`;
      setText(note, limit ? `${percent(held, limit)} · ${parts}` : `no limit · ${parts}`);
      meter.hidden = !limit;
      if (!limit) return;
      const share = Math.min(held / limit, 1);
      meter.style.setProperty("--share", share.toFixed(4));
      meter.setAttribute("aria-valuenow", String(Math.round(share * 100)));
      meter.dataset.level = share >= 0.95 ? "bad" : share >= 0.8 ? "warning" : "fine";
    },
  };
}

function makeCharts() {
  const fired = new TimeChart({ title: "Fired", unit: "per second", series: [{ name: "fired", color: "--fired" }], format: rate });
  const lateness = new TimeChart({
    title: "Lateness",
    series: [{ name: "p50", color: "--late-half" }, { name: "p99", color: "--late-most" }],
    format: duration,
  });
  const pending = new TimeChart({ title: "Pending", series: [{ name: "pending", color: "--accent" }], format: short });
  const others = new TimeChart({
    title: "Cancelled, replaced, rejected",
    unit: "per second",
    series: [{ name: "cancelled", color: "--cancelled" }, { name: "replaced", color: "--replaced" }, { name: "rejected", color: "--rejected" }],
    format: rate,
  });
  return {
    all: [fired, lateness, pending, others],
    show(time) {
      const times = time.series((point) => point.time);
      const show = (chart, ...figures) => chart.show(times, figures, time.spanMs);
      show(fired, time.perSecond("fired"));
      show(lateness, time.series((point) => point.late_p50_ms), time.series((point) => point.late_p99_ms));
      show(pending, time.series((point) => point.pending));
      show(others, time.perSecond("cancelled"), time.perSecond("replaced"), time.perSecond("rejected"));
    },
  };
}
