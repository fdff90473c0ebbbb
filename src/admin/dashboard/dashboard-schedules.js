// Finding schedules: by ID, by the beginning of it, by destination, by due time; and the one that is open, beside the list.

import { api } from "./dashboard-api.js";
import { openCancelMany } from "./dashboard-cancel-many.js";
import { button, field, fill, h, setText, table, trouble, visible as legible } from "./dashboard-dom.js";
import { whenChanged } from "./dashboard-changes.js";
import { openForm } from "./dashboard-form.js";
import { bytes, count, dateTime, duration, iso, until } from "./dashboard-format.js";
import { live, on } from "./dashboard-live.js";
import { hrefOf, navigate } from "./dashboard-route.js";
import { OneSchedule } from "./dashboard-schedule.js";
import { localInput, momentOf } from "./dashboard-time.js";
import { PAGE, Walk } from "./dashboard-walk.js";

const COLUMNS = [
  { name: "ID", class: "wide" },
  { name: "Due", class: "wide" },
  { name: "Destination", class: "medium" },
  { name: "Value", class: "number" },
  { name: "Record", class: "minor" },
];
const FILTERS = ["exact", "prefix", "destination", "from", "to"];
const STATES = { in_flight: "in flight", set_aside: "set aside" };

export function schedules() {
  const search = searchForm();
  const actions = h("div", { class: "view-actions" });
  const list = resultList((id) => hrefOf("schedules", { ...filters, id }));
  const one = new OneSchedule(() => navigate("schedules", { ...filters, exact: null }));
  const layout = h("div", { class: "split" }, h("div", { class: "split-list" }, search.element, list.element), one.element);
  const element = h("div", {}, h("div", { class: "view-head" }, h("h1", {}, "Schedules"), actions), layout);
  let filters = {};
  let searched = null;
  let shown = false;

  function showActions() {
    const mayChange = live.stats && !live.isReadOnly;
    if (mayChange && !actions.querySelector("button")) {
      fill(actions, button("Cancel many…", () => openCancelMany(filters), { class: "danger-quiet" }), button("Create a schedule", () => openForm(), { class: "primary" }));
    } else if (!mayChange) {
      fill(actions, live.isReadOnly && h("p", { class: "note" }, "Read-only: this instance changes nothing."));
    }
  }

  on("change", () => {
    showActions();
    // A link into the page is followed before anybody knows what may be changed.
    if (shown) one.refresh();
  });
  on("stats", () => shown && list.tell());
  whenChanged((id) => {
    if (!shown) return;
    if (id === null) list.reload();
    else list.touch(id);
  });

  return {
    element,
    title: "Schedules",
    show(params) {
      shown = true;
      filters = Object.fromEntries(FILTERS.filter((name) => params.get(name)).map((name) => [name, params.get(name)]));
      showActions();
      search.fill(filters);
      const id = params.get("id") ?? filters.exact ?? null;
      layout.classList.toggle("has-one", id !== null);
      one.show(id);
      const query = JSON.stringify([filters, params.get("topic")]);
      if (query !== searched) {
        searched = query;
        list.search(filters);
      }
      list.mark(id);
    },
    hide() {
      shown = false;
      list.stop();
      searched = list.isWhole ? searched : null;
    },
  };
}

/// The filters. They are written into the address, which then searches: so they can be sent on, and gone back to.
function searchForm() {
  const id = h("input", { type: "search", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
  const how = h("select", { "aria-label": "How the ID is compared" }, h("option", { value: "prefix" }, "begins with"), h("option", { value: "exact" }, "is exactly"));
  const destination = h("input", { type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
  const from = h("input", { type: "datetime-local", step: "1" });
  const to = h("input", { type: "datetime-local", step: "1" });
  // Where the page is narrow, these come on demand: what was found is to be on the screen, too.
  const more = button("More filters", () => showMore(!element.classList.contains("has-more")), { class: "quiet search-more" });
  const showMore = (shows) => {
    element.classList.toggle("has-more", shows);
    more.setAttribute("aria-expanded", String(shows));
  };
  const filter = () => ({
    [how.value]: id.value,
    destination: destination.value,
    from: momentOf(from.value),
    to: momentOf(to.value),
  });
  const element = h(
    "form",
    {
      class: "card search",
      role: "search",
      on: {
        submit: (event) => {
          event.preventDefault();
          navigate("schedules", filter());
        },
      },
    },
    h("div", { class: "search-id" }, how, field("ID", id)),
    field("Destination", destination),
    field("Due from", from),
    field("Due to", to),
    more,
    h("div", { class: "search-actions" }, h("button", { type: "submit", class: "primary" }, "Search"), button("Clear", () => navigate("schedules", {}))),
  );
  showMore(false);
  how.addEventListener("change", () => id.focus());
  return {
    element,
    fill(filters) {
      how.value = filters.exact ? "exact" : "prefix";
      id.value = filters.exact ?? filters.prefix ?? "";
      destination.value = filters.destination ?? "";
      from.value = localInput(filters.from);
      to.value = localInput(filters.to);
      if (filters.destination || filters.from || filters.to) showMore(true);
    },
  };
}

function resultList(hrefOfOne) {
  const { element: grid, body, row } = table("Schedules", COLUMNS);
  const bar = walkBar({
    stop: () => walk.stop(),
    goOn: () => run(() => walk.goOn()),
    previous: () => walk.previous(),
    next: () => run(() => walk.next()),
  });
  const problem = h("div", {});
  const element = h("section", { class: "results", "aria-label": "Found schedules" }, bar.element, problem, h("div", { class: "scroller" }, grid));
  let walk = null;
  let filters = {};
  let drawn = { page: null, rows: 0 };
  let marked = null;

  async function run(step) {
    const mine = walk;
    fill(problem);
    try {
      await step();
    } catch (error) {
      if (mine !== walk) return;
      // A cursor ends with the time that the partition is owned: the walk begins anew.
      fill(problem, trouble(error, error.code === "outdated_cursor" ? reload : () => run(() => walk.goOn())));
      draw("failed", {});
    }
  }

  function reload() {
    if (filters) search(filters);
  }

  function search(next) {
    walk?.stop();
    filters = next;
    const { exact, ...query } = next;
    walk = null;
    drawn = { page: null, rows: 0 };
    fill(body);
    fill(problem);
    element.hidden = Boolean(exact);
    if (exact) return;
    const mine = new Walk(query, (progress) => mine === walk && draw(progress.state, progress));
    walk = mine;
    run(() => walk.next());
  }

  function draw(state, progress) {
    const page = walk.page;
    if (!page) return;
    if (drawn.page !== page) {
      drawn = { page, rows: 0 };
      fill(body);
    }
    const now = live.now();
    body.append(...page.schedules.slice(drawn.rows).map((schedule) => row(cells(schedule, hrefOfOne(schedule.id), now), { "data-id": schedule.id })));
    drawn.rows = page.schedules.length;
    grid.hidden = drawn.rows === 0;
    mark(marked);
    bar.show(state, progress, walk, filters);
  }

  /// A schedule was changed from here: its row shows so, and the others stay where they are.
  async function touch(id) {
    const find = () => [...body.children].find((line) => line.dataset.id === id);
    if (!find()) {
      if (walk?.at === 0) reload();
      return;
    }
    const schedule = await api.schedule(id).catch((error) => (error.isNotPending ? "gone" : null));
    const line = find();
    if (!line || schedule === null) return;
    if (schedule === "gone") line.classList.add("is-gone");
    else line.replaceWith(row(cells(schedule, hrefOfOne(id), live.now()), { "data-id": id }));
    mark(marked);
  }

  /// Time goes on in a list that stands.
  function tell() {
    const now = live.now();
    for (const time of body.querySelectorAll("time[data-ms]")) setText(time, leftOf(Number(time.dataset.ms), now));
  }

  function mark(id) {
    marked = id;
    for (const line of body.children) line.classList.toggle("is-open", line.dataset.id === id);
  }

  return {
    element,
    search,
    reload,
    touch,
    tell,
    mark,
    stop: () => walk?.stop(),
    get isWhole() {
      return !walk?.isWalking;
    },
  };
}

function cells(schedule, href, now) {
  const state = STATES[schedule.state];
  return [
    h("a", { class: "id", href }, legible(schedule.id)),
    h(
      "div",
      { class: "due-cell" },
      h("time", { datetime: iso(schedule.time), "data-ms": schedule.time }, leftOf(schedule.time, now)),
      h("span", { class: "note" }, dateTime(schedule.time)),
      state && h("span", { class: `badge state-${schedule.state}` }, state),
    ),
    schedule.topic,
    schedule.value === null ? h("span", { class: "note" }, "null") : bytes(sizeOf(schedule.value)),
    h("span", { class: "note" }, `${schedule.partition}@${count(schedule.offset)}`),
  ];
}

/// A list does not hear what fires: of what is past it only says that.
function leftOf(ms, now) {
  return ms > now ? until(ms, now) : `due ${duration(now - ms)} ago`;
}

/// How many bytes base64 stands for.
function sizeOf(base64) {
  return (base64.length / 4) * 3 - (base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0);
}

/// How far a walk is or what it came to, and the pages. Buttons stay the same while it goes on: whoever aims at one meets it.
function walkBar({ stop, goOn, previous, next }) {
  const spinner = h("span", { class: "spinner", "aria-hidden": "true" });
  const progress = h("progress", { "aria-label": "Looked at" });
  const far = h("span", {});
  const outcome = h("span", { role: "status" });
  const buttons = { stop: button("Stop", stop, { class: "quiet" }), goOn: button("Go on", goOn, { class: "quiet" }), previous: button("Previous", previous), next: button("Next", next) };
  const number = h("span", { class: "note" });
  const pager = h("nav", { class: "pager", "aria-label": "Pages" }, buttons.previous, number, buttons.next);
  const element = h("div", { class: "results-bar" }, h("div", { class: "walk" }, spinner, progress, far, outcome, buttons.stop, buttons.goOn), pager);

  function show(state, { lookedAt, requests, sinceMs }, walk, filters) {
    const page = walk.page;
    const isWalking = state === "walking";
    const isFailed = state === "failed"; // What went wrong is said below, with a way on.
    const isHalted = state === "paused" || state === "stopped";
    const whole = lookedAt ? (live.stats?.pending ?? 0) : 0;
    progress.hidden = !isWalking || whole === 0;
    spinner.hidden = !isWalking || whole > 0;
    if (whole > 0) Object.assign(progress, { max: whole, value: Math.min(lookedAt, whole) });
    // Only what a walk came to is read out.
    setText(far, isWalking ? farOf(lookedAt, requests, page.schedules.length, sinceMs) : "");
    setText(outcome, isWalking || isFailed ? "" : outcomeOf(state, lookedAt, page, filters));
    outcome.classList.toggle("is-empty", state === "end" && page.number === 1 && page.schedules.length === 0);
    buttons.stop.hidden = !isWalking;
    buttons.goOn.hidden = !isHalted;
    const [hasPrevious, hasNext] = [walk.hasPrevious, walk.hasNext && !isHalted && !isFailed];
    pager.hidden = !hasPrevious && !hasNext;
    buttons.previous.disabled = isWalking || !hasPrevious;
    buttons.next.disabled = isWalking || !hasNext;
    setText(number, `Page ${count(page.number)}`);
  }

  return { element, show };
}

function farOf(lookedAt, requests, found, sinceMs) {
  if (!requests) return "Looking…";
  return `${lookedAt ? `${count(lookedAt)} looked at` : `${count(requests)} steps`}, ${count(found)} found, ${duration(sinceMs)}`;
}

function outcomeOf(state, lookedAt, page, filters) {
  const found = page.schedules.length;
  if (state === "paused" || state === "stopped") {
    return `${state === "paused" ? "Paused" : "Stopped"} with ${count(found)} found${lookedAt ? ` among ${count(lookedAt)}` : ""}. There may be more.`;
  }
  const without = missing(page.coverage).join("");
  if (state === "end" && found === 0 && page.number === 1) {
    return `${Object.keys(filters).length > 0 ? "No pending schedule matches." : "Nothing is pending here."}${without}`;
  }
  if (state === "end" && page.number === 1) return `${count(found)} found. In no particular order.${without}`;
  const first = (page.number - 1) * PAGE + 1;
  const range = found > 0 ? `${count(first)}–${count(first + found - 1)}` : "No more";
  return `${range}${state === "end" ? ", the last" : ""}. In no particular order.${without}`;
}

function missing(coverage) {
  const partitions = coverage?.missing ?? [];
  if (partitions.length === 0) return [];
  const why = new Map();
  for (const one of partitions) why.set(one.why, [...(why.get(one.why) ?? []), one.partition]);
  return [...why].map(([reason, numbers]) => ` Without ${count(numbers.length)} ${numbers.length === 1 ? "partition" : "partitions"}: ${reason}.`);
}

