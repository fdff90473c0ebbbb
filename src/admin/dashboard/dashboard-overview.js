// The overview: how much is pending, when it is due, how fast it fires and how late.

import { get } from "./dashboard-api.js";
import { Chart } from "./dashboard-charts.js";
import { $, bytes, compact, duration, el, grouped } from "./dashboard-dom.js";

const DUE_EVERY_MS = 10_000;
const SPANS_MS = { "10m": 600_000, "1h": 3_600_000, "24h": 86_400_000 };
const PLOTS_EVERY_MS = { "10m": 5_000, "1h": 5_000, "24h": 60_000 };

const state = { over: "10m", visible: false, before: null, rate: null, timers: [] };
let charts = null;

export function start() {
  for (const button of document.querySelectorAll("[data-over]")) {
    button.addEventListener("click", () => {
      state.over = button.dataset.over;
      for (const other of document.querySelectorAll("[data-over]")) other.setAttribute("aria-pressed", String(other === button));
      loadPlots();
    });
  }
}

export function show() {
  charts ??= {
    fired: new Chart($("fired-chart"), [{ label: "fired a second", colour: "--accent" }]),
    late: new Chart($("late-chart"), [{ label: "p50", colour: "--accent" }, { label: "p99", colour: "--second" }]),
    pending: new Chart($("pending-chart"), [{ label: "pending", colour: "--accent" }]),
  };
  state.visible = true;
  loadDue();
  loadPlots();
}

export function hide() {
  state.visible = false;
  state.timers.forEach(clearTimeout);
  state.timers = [];
}

export function restyle() {
  if (charts) Object.values(charts).forEach((chart) => chart.restyle());
}

/** The other topic's, at once. */
export function reload() {
  if (state.visible) loadDue();
}

function later(key, run, ms) {
  clearTimeout(state.timers[key]);
  state.timers[key] = setTimeout(() => state.visible && run(), ms);
}

async function loadDue() {
  try {
    drawDue(await get("/api/due"));
  } catch (error) {
    $("due-note").textContent = error.message;
  }
  later(0, loadDue, DUE_EVERY_MS);
}

async function loadPlots() {
  const { over } = state;
  try {
    const { over_time: { step_ms: stepMs, points } } = await get("/api/stats", { over });
    if (over !== state.over) return;
    const times = points.map((point) => point.time);
    for (const chart of Object.values(charts)) chart.span(SPANS_MS[over]);
    charts.fired.set(times, points.map((point) => point.fired * 1_000 / stepMs));
    charts.late.set(times, points.map((point) => point.late_p50_ms), points.map((point) => point.late_p99_ms));
    charts.pending.set(times, points.map((point) => point.pending));
  } catch { /* the head of the page says that nobody answers */ }
  later(1, loadPlots, PLOTS_EVERY_MS[over]);
}

/** `2 h – 3 h` from now. */
function span(from, to, now, isFirst) {
  if (isFirst) return "within a minute";
  if (to === null) return `after ${duration(from - now)}`;
  return `${duration(from - now)} – ${duration(to - now)}`;
}

function drawDue({ now, buckets, partitions }) {
  const total = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
  const most = Math.max(1, ...buckets.map((bucket) => bucket.count));
  // Of what is empty at the far end, little is shown.
  const last = Math.max(9, buckets.findLastIndex((bucket) => bucket.count > 0));
  const rows = buckets.slice(0, last + 1).map(({ from, to, count }, at) => {
    const fill = el("span", { class: "bar-fill" });
    fill.style.width = count === 0 ? "0" : `max(2px, ${100 * count / most}%)`;
    return el("tr", {},
      el("th", { scope: "row" }, span(from, to, now, at === 0)),
      el("td", {}, el("span", { class: "bar-track", "aria-hidden": "true" }, fill)),
      el("td", { class: "n", title: grouped(count) }, compact(count)));
  });
  const head = el("thead", { class: "visually-hidden" }, el("tr", {}, el("th", { scope: "col" }, "From now"), el("td", {}), el("th", { scope: "col" }, "Schedules")));
  $("due").replaceChildren(el("table", { class: "bars" }, head, el("tbody", {}, ...rows)));
  const missing = partitions.missing.length;
  $("due-note").textContent = missing > 0 ? `${compact(total)} in ${$("topic").value}, without ${missing} partitions that are not this instance's or not live` : `${compact(total)} in ${$("topic").value}`;
}

/** Figures of a second. */
export function take(stats) {
  if (state.before && stats.now > state.before.now) {
    state.rate = (stats.fired - state.before.fired) * 1_000 / (stats.now - state.before.now);
  }
  state.before = stats;
  if (!state.visible) return;
  const within = Object.fromEntries(stats.due.map(({ within: window, count }) => [window, count]));
  const soon = within["1m"] + within["10m"];
  const late = stats.lateness_ms;
  const limit = stats.memory_limit_bytes;
  const held = stats.payload_bytes + stats.structure_bytes;
  const figures = [
    ["Pending", compact(stats.pending), `${grouped(stats.pending)} in ${grouped(stats.partitions)} partition${stats.partitions === 1 ? "" : "s"}`],
    ["Due within an hour", compact(soon + within["1h"]), `${compact(within["1m"])} in a minute, ${compact(soon + within["1h"] + within["1d"])} in a day`],
    ["Fired a second", state.rate === null ? "–" : compact(Math.round(state.rate)), `${compact(stats.fired)} since the start`],
    ["Late, median of a minute", late.p50 === null ? "–" : duration(late.p50), late.p99 === null ? "nothing fired" : `p99 ${duration(late.p99)}`],
    ["Oldest overdue", stats.oldest_overdue_ms > 0 ? duration(stats.oldest_overdue_ms) : "none", stats.set_aside > 0 ? `${compact(stats.set_aside)} set aside` : "nothing set aside", stats.oldest_overdue_ms > 10_000 || stats.set_aside > 0],
    ["Cancelled", compact(stats.cancelled), `${compact(stats.replaced)} replaced, since the start`],
    ["Rejected", compact(stats.rejected), "records that are no schedules", stats.rejected > 0],
    ["Memory", bytes(stats.resident_bytes ?? held), limit ? `${bytes(held)} of ${bytes(limit)} pending` : `${bytes(held)} pending`, limit && held > limit],
  ];
  const place = $("figures");
  if (place.childElementCount !== figures.length) {
    place.replaceChildren(...figures.map(([label]) =>
      el("div", { class: "figure" }, el("div", { class: "label" }, label), el("div", { class: "value" }), el("div", { class: "more" }))));
  }
  figures.forEach(([, value, more, isBad], at) => {
    const figure = place.children[at];
    figure.classList.toggle("bad", Boolean(isBad));
    if (figure.children[1].textContent !== value) figure.children[1].textContent = value;
    if (figure.children[2].textContent !== more) figure.children[2].textContent = more;
  });
  $("first-steps").hidden = stats.pending > 0 || stats.fired > 0 || stats.partitions === 0 || !stats.ready;
}
