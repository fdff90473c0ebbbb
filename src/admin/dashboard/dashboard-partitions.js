// The partitions of this instance, and how each is.

import { get } from "./dashboard-api.js";
import { $, bytes, compact, duration, el, grouped } from "./dashboard-dom.js";

const EVERY_MS = 2_000;
const PHASES = { live: "good", loading: "info", restoring: "info", fencing: "info", waiting: "bad", stopping: "warn" };

let timer = null;
let visible = false;

export function show() {
  visible = true;
  load();
}

export function hide() {
  visible = false;
  clearTimeout(timer);
}

export const reload = () => visible && load();

async function load() {
  clearTimeout(timer);
  try {
    draw(await get("/api/partitions"));
  } catch (error) {
    $("partitions-note").textContent = error.message;
  }
  if (visible) timer = setTimeout(load, EVERY_MS);
}

function draw({ schedule_topic: topic, partitions, not_owned: elsewhere }) {
  const live = partitions.filter((partition) => partition.phase === "live").length;
  $("partitions-note").textContent = `${topic}: ${live} of ${partitions.length} live`;
  $("partitions-empty").hidden = partitions.length > 0;
  $("partitions-table").hidden = partitions.length === 0;
  $("partitions-table").tBodies[0].replaceChildren(...partitions.map(row));
  $("elsewhere").textContent = elsewhere.length > 0 ? `Other instances', or nobody's: ${elsewhere.join(", ")}` : "";
}

function row(partition) {
  const { phase, records_applied: applied, records_to_apply: all } = partition;
  const chip = el("span", { class: `chip ${PHASES[phase] ?? ""}` }, phase);
  const loading = phase === "loading" && all > 0
    ? [" ", el("progress", { max: all, value: Math.min(applied, all), "aria-label": "Loaded" }), ` ${Math.floor(100 * Math.min(applied, all) / all)} %`]
    : [];
  const number = (label, value) => el("td", { class: "n", "data-label": label, title: grouped(value) }, compact(value));
  return el("tr", {},
    el("th", { scope: "row", "data-label": "Partition" }, String(partition.partition)),
    el("td", { "data-label": "Phase" }, el("span", {}, chip, ...loading)),
    number("Pending", partition.pending),
    el("td", { class: "n", "data-label": "Overdue" }, partition.oldest_overdue_ms > 0 ? duration(partition.oldest_overdue_ms) : "–"),
    number("Set aside", partition.set_aside),
    number("Lag", partition.lag),
    el("td", { class: "n", "data-label": "Memory" }, bytes(partition.payload_bytes + partition.structure_bytes)),
    el("td", { class: "text", "data-label": "Why" }, partition.reason ?? ""));
}
