// Finding schedules: page by page, whatever their number.

import { ApiError, get, pathOf } from "./dashboard-api.js";
import { $, asText, decodeBase64, distance, el, fromField, grouped, moment } from "./dashboard-dom.js";

/** Rows that a search goes on for by itself. */
const ROWS = 100;

const state = { query: null, cursor: null, shown: 0, requests: 0, stop: null };
let openSchedule = () => {};

export function start(open) {
  openSchedule = open;
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  $("more").addEventListener("click", goOn);
  $("stop-search").addEventListener("click", () => state.stop?.abort());
}

export function show() {
  if (state.query === null) search();
}

export function hide() {
  state.stop?.abort();
}

export function search() {
  const form = $("search").elements;
  const id = form.id.value.trim();
  if (form.kind.value === "exact" && id !== "") {
    findOne(id);
    return;
  }
  state.stop?.abort();
  state.query = { prefix: id, destination: form.destination.value.trim(), from: fromField(form.from.value), to: fromField(form.to.value) };
  Object.assign(state, { cursor: null, shown: 0, requests: 0 });
  $("found-table").tBodies[0].replaceChildren();
  $("found-table").hidden = true;
  goOn();
}

async function findOne(id) {
  state.stop?.abort();
  state.query = {};
  const body = $("found-table").tBodies[0];
  body.replaceChildren();
  $("found-table").hidden = true;
  $("more").hidden = true;
  $("found").textContent = "looking…";
  try {
    const schedule = await get(pathOf(id));
    body.append(row(schedule));
    $("found-table").hidden = false;
    $("found").textContent = "1 schedule";
  } catch (error) {
    $("found").textContent = error.message;
  }
}

/** Asks on until there are enough rows, the end is reached, or somebody stops it. A page may well be empty. */
async function goOn() {
  const stop = new AbortController();
  state.stop = stop;
  $("more").hidden = true;
  $("stop-search").hidden = false;
  const before = state.shown;
  try {
    do {
      const page = await get("/api/schedules", { ...state.query, limit: ROWS, cursor: state.cursor }, stop.signal);
      if (state.stop !== stop) return;
      state.requests += 1;
      state.cursor = page.next_cursor;
      add(page.schedules);
      say(page);
    } while (state.cursor !== null && state.shown - before < ROWS && !stop.signal.aborted);
  } catch (error) {
    if (state.stop !== stop) return;
    if (error instanceof ApiError && error.code === "outdated_cursor") {
      search();
      return;
    }
    if (error.name !== "AbortError") $("found").textContent = error.message;
  }
  $("stop-search").hidden = true;
  $("more").hidden = state.cursor === null;
}

function add(schedules) {
  state.shown += schedules.length;
  $("found-table").tBodies[0].append(...schedules.map(row));
  $("found-table").hidden = state.shown === 0;
}

function say({ next_cursor: next, partitions: { missing } }) {
  const count = `${grouped(state.shown)} schedule${state.shown === 1 ? "" : "s"}`;
  const parts = [next === null ? count : `${count} so far, and there may be more`];
  if (next !== null && state.requests > 1) parts.push(`${grouped(state.requests)} pages looked through`);
  if (missing.length > 0) parts.push(`without ${missing.length} partition${missing.length === 1 ? "" : "s"} of other instances, or not live`);
  $("found").textContent = state.shown === 0 && next === null ? `Nothing matches${missing.length > 0 ? ` here; ${parts.at(-1)}` : "."}` : `${parts.join("; ")}.`;
}

function row(schedule) {
  const key = decodeBase64(schedule.key);
  return el("tr", {},
    el("td", { class: "id", "data-label": "ID" }, el("button", { class: "link", type: "button", onclick: () => openSchedule(schedule.id) }, schedule.id)),
    el("td", { class: "time", "data-label": "Due", title: moment(schedule.time) }, `${moment(schedule.time)} (${distance(schedule.time - Date.now())})`),
    el("td", { class: "text", "data-label": "Destination" }, schedule.topic),
    el("td", { class: "id", "data-label": "Key" }, asText(key) ?? `${grouped(key.length)} bytes`),
    el("td", { "data-label": "State" }, schedule.state.replace("_", " ")));
}
