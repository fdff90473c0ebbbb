// What happened lately, as it happens.

import { get } from "./dashboard-api.js";
import { $, clock, distance, duration, el } from "./dashboard-dom.js";

const KEPT = 500;
const KINDS = { fired: "good", cancelled: "warn", replaced: "info", rejected: "bad", skipped: "warn" };

const state = { events: [], visible: false, isPaused: false };
let openSchedule = () => {};

export function start(open) {
  openSchedule = open;
  $("recent-kind").addEventListener("change", load);
  $("recent-pause").addEventListener("click", () => {
    state.isPaused = !state.isPaused;
    $("recent-pause").setAttribute("aria-pressed", String(state.isPaused));
    $("recent-pause").textContent = state.isPaused ? "Go on" : "Pause";
    if (!state.isPaused) load();
  });
}

export function show() {
  state.visible = true;
  load();
}

export function hide() {
  state.visible = false;
}

export const reload = () => state.visible && load();

async function load() {
  try {
    const { events } = await get("/api/history", { limit: KEPT, kind: $("recent-kind").value });
    state.events = events;
    draw(0);
  } catch (error) {
    $("recent-empty").hidden = false;
    $("recent-empty").textContent = error.message;
  }
}

/** Newest first. */
export function take(events) {
  if (!state.visible || state.isPaused) return;
  const kind = $("recent-kind").value;
  const name = (event) => `${event.partition} ${event.offset} ${event.kind}`;
  const known = new Set(state.events.map(name));
  const fresh = events.filter((event) => (kind === "" || event.kind === kind) && !known.has(name(event)));
  if (fresh.length === 0) return;
  state.events = [...fresh, ...state.events].slice(0, KEPT);
  draw(fresh.length);
}

function draw(fresh) {
  const isEmpty = state.events.length === 0;
  $("recent-empty").hidden = !isEmpty;
  $("recent-empty").textContent = "Nothing has happened yet.";
  $("recent-table").hidden = isEmpty;
  const body = $("recent-table").tBodies[0];
  if (fresh > 0 && fresh < state.events.length) {
    body.prepend(...state.events.slice(0, fresh).map((event) => row(event, "new")));
    while (body.rows.length > KEPT) body.lastElementChild.remove();
  } else {
    body.replaceChildren(...state.events.map((event) => row(event, null)));
  }
}

function row(event, className) {
  return el("tr", { class: className },
    el("td", { class: "time", "data-label": "Time" }, clock(event.time)),
    el("td", { "data-label": "What" }, el("span", { class: `chip ${KINDS[event.kind] ?? ""}` }, event.kind)),
    el("td", { class: "id", "data-label": "ID" }, event.id === "~" ? "(no ID)" : el("button", { class: "link", type: "button", onclick: () => openSchedule(event.id) }, event.id)),
    el("td", { class: "text", "data-label": "Details" }, details(event)),
    el("td", { class: "faint", "data-label": "Record" }, `${event.partition}@${event.offset}`));
}

function details({ kind, late_ms: late, topic, due, reason }) {
  if (kind === "fired") return `to ${topic}, ${duration(late ?? 0)} late`;
  if (kind === "replaced") return `due ${distance(due - Date.now())}, to ${topic}`;
  return reason ?? topic ?? "";
}
