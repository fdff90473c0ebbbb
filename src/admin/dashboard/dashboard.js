// The dashboard's frame: views, what is wrong with the connection or the instance, the token, the schedule topic.

import { setScheduleTopic, token } from "./dashboard-api.js";
import { button, field, fill, h, openDialog, setText } from "./dashboard-dom.js";
import { clock, duration, zone } from "./dashboard-format.js";
import { connect, forgetFigures, live, on } from "./dashboard-live.js";
import { overview } from "./dashboard-overview.js";
import { partitions } from "./dashboard-partitions.js";
import { recent } from "./dashboard-recent.js";
import { hrefOf, navigate, route, shownTopic } from "./dashboard-route.js";
import { schedules } from "./dashboard-schedules.js";

const byId = (id) => document.getElementById(id);
const views = { overview: overview(), partitions: partitions(), recent: recent(), schedules: schedules() };
let shown = null;
let topic = null;

function showRoute() {
  const { view: name, params } = route();
  // An anchor of the page, such as the one that skips the navigation, is no view.
  if (name !== "overview" && !views[name] && byId(name)) return;
  const view = views[name] ?? views.overview;
  chooseTopic(params.get("topic"));
  if (view !== shown) {
    shown?.hide();
    fill(byId("main"), view.element);
    shown = view;
    document.title = `${view.title} · kms`;
    scrollTo(0, 0);
  }
  view.show(params);
  for (const link of document.querySelectorAll("nav [data-view]")) {
    link.setAttribute("href", hrefOf(link.dataset.view));
    if (views[link.dataset.view] === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showState();
}

function chooseTopic(next) {
  if (next === topic) return;
  topic = next;
  setScheduleTopic(topic);
  forgetFigures();
  connect();
}

/// The instance knows which topics there are; with one there is nothing to choose.
function showTopics() {
  const topics = live.stats?.schedule_topics ?? [];
  byId("topic-choice").hidden = topics.length < 2;
  const select = byId("topic");
  if ([...select.options].map((option) => option.value).join("\n") !== topics.join("\n")) {
    fill(select, ...topics.map((name) => h("option", { value: name }, name)));
  }
  select.value = shownTopic(topics) ?? "";
}

byId("topic").addEventListener("change", (event) => {
  const first = event.target.value === live.stats?.schedule_topics[0];
  navigate(route().view, { topic: first ? null : event.target.value });
});

const HEALTH = {
  connecting: () => ["connecting", "connecting"],
  unauthorized: () => ["token needed", "bad"],
  lost: () => ["no answer", "bad"],
  live: (stats) => {
    if (!stats.ready) return ["not ready", "warning"];
    return stats.partitions === 0 ? ["standing by", "idle"] : ["ready", "fine"];
  },
};

function showState() {
  const [text, state] = HEALTH[live.connection](live.stats);
  const health = byId("health");
  setText(health, text);
  health.dataset.state = state;
  byId("read-only").hidden = !live.isReadOnly;
  byId("forget-token").hidden = !token.get();
  document.body.classList.toggle("is-stale", live.connection === "lost" || live.connection === "unauthorized");
  if (live.stats) setText(byId("version"), `kms ${live.stats.version}`);
  showTopics();
  fill(byId("notices"), ...notices());
}

function notices() {
  if (live.connection === "unauthorized") {
    return [notice("bad", "The instance wants its token.", button("Enter the token", askToken, { class: "primary" }))];
  }
  if (live.connection === "lost") return [lostNotice()];
  const stats = live.stats;
  if (!stats) return [];
  if (!stats.ready) {
    const reasons = stats.reasons ?? [];
    return [notice("warning", "Not ready.", reasons.length > 0 && h("ul", {}, ...reasons.map((reason) => h("li", {}, reason))), route().view !== "partitions" && h("a", { href: hrefOf("partitions") }, "See the partitions"))];
  }
  if (stats.partitions === 0) {
    return [notice("idle", "Standing by.", h("p", {}, "This instance is ready and owns no partition: others serve them all. It takes over when one of them goes away."))];
  }
  return [];
}

const countdown = h("span", {});

function lostNotice() {
  const since = live.heardAt > 0 ? ` What is shown is of ${clock(live.heardAt)}.` : "";
  const why = live.error ? [h("p", {}, live.error.message), live.error.hint && h("p", {}, live.error.hint)] : [];
  tellCountdown();
  return notice("bad", live.error ? "The instance refuses to say." : "The instance does not answer.", ...why, h("p", {}, `${since} `.trimStart(), countdown), live.error?.code === "no_such_topic" ? h("a", { href: hrefOf(route().view, { topic: null }) }, "Go to the first topic") : button("Try now", connect));
}

function tellCountdown() {
  if (live.connection !== "lost") return;
  const left = live.retryAt - Date.now();
  setText(countdown, left > 500 ? `Trying again in ${duration(Math.ceil(left / 1000) * 1000)}.` : "Trying…");
}

/// Only the headline is read out: what counts down would never let anybody listen to anything else.
function notice(kind, headline, ...more) {
  return h("section", { class: `notice notice-${kind}` }, h("p", { class: "notice-head", role: "status" }, headline), ...more);
}

let tokenDialog = null;

function askToken() {
  if (tokenDialog?.open) return;
  const input = h("input", { type: "password", required: true, autocomplete: "off" });
  const wrong = token.get() !== null;
  const { dialog, body } = openDialog("Token", { class: "ask-dialog token-dialog" });
  tokenDialog = dialog;
  const submit = (event) => {
    event.preventDefault();
    if (input.value === "") return;
    token.set(input.value);
    dialog.close();
    connect();
  };
  fill(
    body,
    h(
      "form",
      { novalidate: true, on: { submit } },
      wrong && h("p", { class: "warning", role: "alert" }, "That token was not accepted."),
      field("What admin.token is set to", input, "It is kept until this tab is closed, and sent to this instance only."),
      h("div", { class: "dialog-actions" }, h("button", { type: "submit", class: "primary" }, "Use it")),
    ),
  );
  input.focus();
}

byId("forget-token").addEventListener("click", () => {
  token.forget();
  forgetFigures();
  connect();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  // The address is the view's.
  event.preventDefault();
  byId("main").focus();
});

on("change", showState);
on("stats", showTopics);
on("change", () => {
  if (live.connection === "unauthorized") askToken();
});
addEventListener("hashchange", showRoute);
setInterval(tellCountdown, 500);
setText(byId("zone"), `Times in ${zone(Date.now())}`);
showRoute();
connect();
