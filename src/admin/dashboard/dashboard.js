// The page: which view is shown, the head, and what comes live.

import * as api from "./dashboard-api.js";
import { $, el } from "./dashboard-dom.js";
import * as edit from "./dashboard-edit.js";
import * as many from "./dashboard-many.js";
import * as overview from "./dashboard-overview.js";
import * as partitions from "./dashboard-partitions.js";
import * as recent from "./dashboard-recent.js";
import * as schedule from "./dashboard-schedule.js";
import * as schedules from "./dashboard-schedules.js";

const VIEWS = { overview, schedules, recent, partitions };
const NOTE_MS = 6_000;
/** The stream sends each second: this long without it, and nobody is there. */
const SILENCE_MS = 5_000;
const RETRY_MS = 2_000;

let current = null;
let noteTimer = null;

function route() {
  const asked = location.hash.slice(1);
  const name = asked in VIEWS ? asked : "overview";
  if (name === current) return;
  if (current) VIEWS[current].hide();
  const isFirst = current === null;
  current = name;
  for (const view of Object.keys(VIEWS)) $(view).hidden = view !== name;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · kms`;
  VIEWS[name].show();
  // Whoever goes by keyboard or ear is at the beginning of what is new.
  if (!isFirst) $("main").focus({ preventScroll: true });
}

function note(text) {
  clearTimeout(noteTimer);
  $("note").textContent = text;
  $("note").hidden = false;
  noteTimer = setTimeout(() => { $("note").hidden = true; }, NOTE_MS);
}

function hasChanged(text) {
  note(text);
  if (current === "schedules") schedules.search();
}

// The head of the page.

function takeStats(stats) {
  $("version").textContent = stats.version;
  document.body.classList.toggle("read-only", stats.read_only);
  offerTopics(stats.schedule_topics);
  const state = $("state");
  const text = `${stats.ready ? "ready" : "not ready"}${stats.read_only ? ", read-only" : ""}`;
  if (state.textContent !== text) state.textContent = text;
  state.className = `chip ${stats.ready ? "good" : "warn"}`;
  const reasons = stats.reasons.length > 0 ? stats.reasons : (stats.ready ? [] : ["partitions are not live yet: see Partitions"]);
  const standby = stats.ready && stats.partitions === 0 ? "This instance stands by: it owns no partition. Others have them all." : "";
  trouble(reasons.length > 0 ? `Not ready: ${reasons.join("; ")}` : standby, stats.ready);
  overview.take(stats);
}

function trouble(text, isMild) {
  const banner = $("trouble");
  banner.classList.toggle("bad", !isMild);
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = text === "";
}

function offerTopics(topics) {
  const select = $("topic");
  if (select.options.length === topics.length) return;
  select.replaceChildren(...topics.map((topic) => el("option", { value: topic }, topic)));
  $("topic-choice").hidden = topics.length < 2;
  for (const place of document.querySelectorAll(".topic-name")) place.textContent = topics[0];
}

// What comes live.

async function stayInTouch() {
  for (;;) {
    const stop = new AbortController();
    let silence = setTimeout(() => stop.abort(), SILENCE_MS);
    let isRestart = false;
    let hasFailed = false;
    const restart = () => {
      isRestart = true;
      stop.abort();
    };
    document.addEventListener("topic", restart);
    try {
      await api.watch((kind, data) => {
        clearTimeout(silence);
        silence = setTimeout(() => stop.abort(), SILENCE_MS);
        document.body.classList.remove("stale");
        if (kind === "stats") takeStats(data);
        if (kind === "history") recent.take(data.events);
      }, stop.signal);
    } catch (error) {
      hasFailed = true;
      if (error instanceof api.ApiError && error.status !== 0) trouble(error.message, false);
    }
    clearTimeout(silence);
    document.removeEventListener("topic", restart);
    if (isRestart) continue;
    // A stream that ends in good order may go on in a moment; whether somebody is there, the next question tells.
    if (hasFailed) isGone();
    await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
  }
}

/** The last figures stay, but it is said that they are old. */
function isGone() {
  document.body.classList.add("stale");
  $("state").textContent = "no answer";
  $("state").className = "chip bad";
  trouble("The instance does not answer; what is shown is old. Asking again…", false);
}

function askForToken() {
  const dialog = $("token-dialog");
  const form = dialog.querySelector("form");
  return new Promise((resolve) => {
    form.elements.token.value = "";
    form.querySelector(".bad-text").textContent = askForToken.hasAsked ? "That token is wrong." : "";
    askForToken.hasAsked = true;
    if (!dialog.open) dialog.showModal();
    form.addEventListener("submit", () => {
      api.setToken(form.elements.token.value);
      resolve();
    }, { once: true });
  });
}

// The theme.

function toggleTheme() {
  const isDark = getComputedStyle(document.documentElement).colorScheme === "dark";
  const theme = isDark ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("kms-theme", theme);
  } catch { /* then it holds for this page */ }
  overview.restyle();
}

function start() {
  // Several requests may be refused at once; one dialog answers them all.
  let asking = null;
  api.onUnauthorized(() => {
    asking ??= askForToken().finally(() => { asking = null; });
    return asking;
  });
  $("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
  for (const button of document.querySelectorAll("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
  $("theme").addEventListener("click", toggleTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => overview.restyle());
  $("topic").addEventListener("change", () => {
    api.setTopic($("topic").value);
    document.dispatchEvent(new Event("topic"));
    for (const view of [overview, recent, partitions]) view.reload();
    if (current === "schedules") schedules.search();
  });
  overview.start();
  schedule.start(edit.open, hasChanged);
  edit.start(hasChanged);
  many.start(hasChanged);
  schedules.start(schedule.open);
  recent.start(schedule.open);
  addEventListener("hashchange", route);
  route();
  stayInTouch();
}

start();
