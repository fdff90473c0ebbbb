// The partitions of a schedule topic: how each is, how far a load is, and which are another instance's.

import { api } from "./dashboard-api.js";
import { fill, h, setText, table, trouble } from "./dashboard-dom.js";
import { bytes, count, duration, percent, ranges, short } from "./dashboard-format.js";

const EVERY_MS = 2000;
const COLUMNS = [
  { name: "Partition" },
  { name: "Phase" },
  { name: "Pending", class: "number" },
  { name: "Oldest overdue", class: "number" },
  { name: "In flight", class: "number" },
  { name: "Set aside", class: "number" },
  { name: "Lag", class: "number" },
  { name: "Memory", class: "number" },
  { name: "Progress and reasons", class: "wide" },
];
const PHASES = {
  live: "fires what is due",
  loading: "reads the topic",
  fencing: "ends the owner before",
  restoring: "reads its checkpoint",
  waiting: "cannot go on",
  stopping: "is given up",
};

export function partitions() {
  const { element: grid, body, row } = table("Partitions of this instance", COLUMNS);
  const heading = h("p", { class: "view-note" }, "Asking…");
  const problem = h("div", {});
  const others = h("div", {});
  const scroller = h("div", { class: "scroller" }, grid);
  const element = h("div", {}, h("div", { class: "view-head" }, h("h1", {}, "Partitions"), heading), problem, scroller, others);
  const speeds = new Map();
  let timer;
  let visible = false;

  async function load() {
    clearTimeout(timer);
    try {
      const answer = await api.partitions();
      if (!visible) return;
      fill(problem);
      show(answer);
    } catch (error) {
      // The connection's notice says what is unreachable.
      if (visible && !error.isUnreachable) fill(problem, trouble(error));
    }
    if (visible) timer = setTimeout(load, EVERY_MS);
  }

  function show({ schedule_topic: topic, partitions: owned, not_owned: notOwned }) {
    setText(heading, headingOf(topic, owned, notOwned));
    scroller.hidden = owned.length === 0;
    const now = Date.now();
    const seen = owned.map((one) => [one.partition, row(cells(one, speedOf(speeds, one, now)), { "data-phase": one.phase })]);
    fill(body, ...seen.map(([, line]) => line));
    fill(others, ...elsewhere(owned, notOwned));
  }

  return {
    element,
    title: "Partitions",
    show() {
      visible = true;
      load();
    },
    hide() {
      visible = false;
      clearTimeout(timer);
    },
  };
}

function headingOf(topic, owned, notOwned) {
  const all = owned.length + notOwned.length;
  const pending = owned.reduce((sum, one) => sum + one.pending, 0);
  return `${topic}: ${count(owned.length)} of ${count(all)} are this instance's, with ${count(pending)} pending.`;
}

function cells(one, speed) {
  const overdue = one.oldest_overdue_ms > 0 ? duration(one.oldest_overdue_ms) : "none";
  return [
    h("strong", {}, count(one.partition)),
    h("span", { class: `phase phase-${one.phase}`, title: PHASES[one.phase] ?? "" }, one.phase),
    count(one.pending),
    h("span", { class: one.oldest_overdue_ms >= 5000 ? "is-warning" : null }, overdue),
    count(one.in_flight),
    h("span", { class: one.set_aside > 0 ? "is-warning" : null }, count(one.set_aside)),
    count(one.lag),
    bytes(one.payload_bytes + one.structure_bytes),
    h("div", { class: "progress-cell" }, one.phase !== "live" && loadBar(one, speed), one.reason && h("p", {}, one.reason), !one.reason && one.phase === "live" && h("span", { class: "note" }, PHASES.live)),
  ];
}

function loadBar({ partition, records_applied: applied, records_to_apply: target }, speed) {
  if (!(target > 0)) return null;
  const left = speed > 0 ? `, ${duration(((target - applied) / speed) * 1000)} left` : "";
  return h(
    "div",
    { class: "load" },
    h("progress", { max: target, value: applied, "aria-label": `Load of partition ${partition}` }),
    h("span", {}, `${percent(applied, target)} · ${short(applied)} of ${short(target)} records${left}`),
  );
}

/// Records a second, of a load that goes on.
function speedOf(speeds, { partition, records_applied: applied }, now) {
  const before = speeds.get(partition);
  if (!before || applied < before.applied) {
    speeds.set(partition, { applied, now });
    return 0;
  }
  return now > before.now ? ((applied - before.applied) * 1000) / (now - before.now) : 0;
}

function elsewhere(owned, notOwned) {
  const standsBy = owned.length === 0;
  if (notOwned.length === 0) return standsBy ? [h("p", { class: "card empty" }, "The topic has no partitions that are known here.")] : [];
  const which = `${notOwned.length === 1 ? "Partition" : "Partitions"} ${ranges(notOwned)}`;
  const text = standsBy
    ? `This instance stands by and owns none. ${which} ${notOwned.length === 1 ? "is" : "are"} served by others, and come here when one of them goes away.`
    : `${which} ${notOwned.length === 1 ? "belongs" : "belong"} to other instances. Their dashboards show what is pending there.`;
  return [h("section", { class: "card elsewhere" }, h("h2", {}, "Not here"), h("p", {}, text))];
}
