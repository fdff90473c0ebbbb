// What was done of late: fired and how late, cancelled, replaced, rejected and why. The newest is on top.

import { api } from "./dashboard-api.js";
import { button, fill, h, segments, setText, table, trouble, visible as legible } from "./dashboard-dom.js";
import { clockMs, count, dateTime, duration, iso } from "./dashboard-format.js";
import { live, on } from "./dashboard-live.js";
import { hrefOf, navigate } from "./dashboard-route.js";

const KINDS = ["fired", "cancelled", "replaced", "rejected", "skipped"];
/// More is not read while it passes by; a page that holds more is slow.
const ROWS = 200;
const COLUMNS = [
  { name: "When" },
  { name: "What" },
  { name: "ID", class: "wide" },
  { name: "Late", class: "number" },
  { name: "Destination", class: "medium" },
  { name: "Record", class: "minor" },
  { name: "Reason", class: "wide" },
];
const LATE_MS = 1000;

export function recent() {
  const { element: grid, body, row } = table("Recent events", COLUMNS);
  const problem = h("div", {});
  const nothing = h("p", { class: "card empty", hidden: true });
  const prefix = h("input", { type: "search", name: "prefix", "aria-label": "ID begins with", placeholder: "ID begins with…", autocomplete: "off", spellcheck: "false" });
  const hold = button("Pause", () => (held ? goOn() : pause()), { class: "hold" });
  const kinds = segments("Kind", [["", "All"], ...KINDS.map((kind) => [kind, kind[0].toUpperCase() + kind.slice(1)])], "", (kind) => go({ kind }));
  const bar = h("form", { class: "bar", on: { submit: (event) => { event.preventDefault(); go({ prefix: prefix.value }); } } }, kinds.element, prefix, hold);
  const element = h("div", {}, h("div", { class: "view-head" }, h("h1", {}, "Recent")), bar, problem, nothing, h("div", { class: "scroller" }, grid));

  let filter = { kind: "", prefix: "" };
  let shown = false;
  /// While paused: what came meanwhile, newest first.
  let held = null;
  let keys = new Set();
  let turn = 0;

  prefix.addEventListener("change", () => go({ prefix: prefix.value }));

  function go(change) {
    navigate("recent", { ...filter, ...change });
  }

  function pause() {
    held = [];
    setText(hold, "Go on");
  }

  function goOn() {
    const came = held;
    held = null;
    setText(hold, "Pause");
    add(came);
  }

  async function load() {
    const mine = (turn += 1);
    try {
      const { events } = await api.history({ limit: ROWS, ...filter });
      if (mine !== turn) return;
      fill(problem);
      // What came by the stream while this was asked for is in both.
      keys = new Set();
      fill(body);
      add(events);
    } catch (error) {
      if (mine === turn && !error.isUnreachable) fill(problem, trouble(error, load));
    }
  }

  function matches(event) {
    return (!filter.kind || event.kind === filter.kind) && (!filter.prefix || event.id.startsWith(filter.prefix));
  }

  function add(events) {
    const fresh = [];
    for (const event of events.slice(0, ROWS)) {
      const key = `${event.kind} ${event.partition} ${event.offset}`;
      if (keys.has(key)) continue;
      keys.add(key);
      fresh.push(row(cells(event), { "data-kind": event.kind, "data-key": key }));
    }
    body.prepend(...fresh);
    while (body.children.length > ROWS) {
      keys.delete(body.lastElementChild.dataset.key);
      body.lastElementChild.remove();
    }
    nothing.hidden = body.hasChildNodes();
    grid.hidden = !nothing.hidden;
    if (!nothing.hidden) setText(nothing, filter.kind || filter.prefix ? "Nothing of that kind is remembered." : "Nothing has happened yet since the instance was started.");
  }

  on("history", (events) => {
    if (!shown) return;
    const matching = events.filter(matches);
    if (!held) {
      if (matching.length > 0) add(matching);
      return;
    }
    held = [...matching, ...held].slice(0, ROWS);
    setText(hold, held.length === 0 ? "Go on" : `Go on (${held.length >= ROWS ? `${count(ROWS)}+` : count(held.length)} new)`);
  });
  on("change", () => {
    if (shown && live.connection === "live" && !held) load();
  });

  return {
    element,
    title: "Recent",
    show(params) {
      shown = true;
      const kind = KINDS.includes(params.get("kind")) ? params.get("kind") : "";
      filter = { kind, prefix: params.get("prefix") ?? "" };
      kinds.value = kind;
      if (prefix !== document.activeElement) prefix.value = filter.prefix;
      if (held) goOn();
      load();
    },
    hide() {
      shown = false;
    },
  };
}

function cells(event) {
  const late = event.late_ms ?? null;
  return [
    h("time", { datetime: iso(event.time), title: dateTime(event.time) }, clockMs(event.time)),
    h("span", { class: "kind" }, h("i", { class: `kind-mark kind-${event.kind}`, "aria-hidden": "true" }), event.kind),
    h("a", { class: "id", href: hrefOf("schedules", { id: event.id }) }, legible(event.id)),
    late === null ? "" : h("span", { class: late >= LATE_MS ? "is-warning" : null, title: event.due === undefined ? null : `due ${dateTime(event.due)}` }, duration(late)),
    event.topic ?? "",
    h("span", { class: "note" }, `${event.partition}@${count(event.offset)}`),
    event.reason ? legible(event.reason) : "",
  ];
}
