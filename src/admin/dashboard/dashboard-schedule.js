// One schedule: all of it, what happened to its ID of late, and what can be done.

import { api } from "./dashboard-api.js";
import { announce, whenChanged } from "./dashboard-changes.js";
import { content, inline } from "./dashboard-content.js";
import { button, fill, h, openDialog, say, setText, trouble, visible as legible } from "./dashboard-dom.js";
import { openForm } from "./dashboard-form.js";
import { clockMs, count, dateTime, duration, iso, until, zone } from "./dashboard-format.js";
import { live, on } from "./dashboard-live.js";
import { DueField } from "./dashboard-time.js";

/// Once it is due, it is asked for again until it is gone.
const AGAIN_MS = 1500;

export class OneSchedule {
  element = h("aside", { class: "one", "aria-label": "Schedule", hidden: true });
  #close;
  #id = null;
  #schedule = null;
  #turn = 0;
  #timer;
  #left = h("span", {});

  /// `close` leads back to the list.
  constructor(close) {
    this.#close = close;
    on("stats", () => this.#tell());
    whenChanged((id) => {
      if (this.#id !== null && (id === null || id === this.#id)) this.#load();
    });
  }

  show(id) {
    if (id === this.#id && id !== null) return;
    this.#id = id;
    this.#schedule = null;
    this.element.hidden = id === null;
    clearTimeout(this.#timer);
    if (id === null) return;
    fill(this.element, this.#head(), h("p", { class: "note" }, "Asking…"));
    this.#load();
  }

  /// What may be changed is another.
  refresh() {
    if (this.#id === null) return;
    if (this.#schedule) this.#draw();
    else if (live.connection === "live") this.#load();
  }

  async #load() {
    const mine = (this.#turn += 1);
    const id = this.#id;
    clearTimeout(this.#timer);
    try {
      const schedule = await api.schedule(id);
      if (mine !== this.#turn || id !== this.#id) return;
      const same = JSON.stringify(schedule) === JSON.stringify(this.#schedule);
      this.#schedule = schedule;
      if (!same) this.#draw();
      this.#wait(schedule);
    } catch (error) {
      if (mine !== this.#turn || id !== this.#id) return;
      const before = this.#schedule;
      this.#schedule = null;
      if (error.isNotPending) this.#drawGone(error, before);
      else fill(this.element, this.#head(), trouble(error, () => this.#load()));
    }
  }

  #wait(schedule) {
    const left = schedule.time - live.now();
    // Timers take 32 bits of milliseconds.
    this.#timer = setTimeout(() => this.#load(), Math.min(Math.max(left, 0) + AGAIN_MS, 3_600_000));
  }

  #head() {
    return h(
      "header",
      { class: "one-head" },
      button("Back to the list", this.#close, { class: "quiet one-back" }),
      h("h2", { class: "id" }, legible(this.#id)),
      button("×", this.#close, { class: "icon-button one-close", "aria-label": "Close" }),
    );
  }

  #draw() {
    const schedule = this.#schedule;
    const headers = Object.entries(schedule.headers);
    const past = h("div", {});
    fill(
      this.element,
      this.#head(),
      this.#actions(schedule),
      h(
        "dl",
        { class: "facts" },
        ...fact("Due", h("strong", {}, this.#left), h("br", {}), h("time", { datetime: iso(schedule.time) }, dateTime(schedule.time)), h("br", {}), h("span", { class: "note" }, zone(schedule.time)), h("br", {}), h("span", { class: "note" }, iso(schedule.time))),
        ...fact("State", h("span", { class: `badge state-${schedule.state}` }, schedule.state.replace("_", " "))),
        ...fact("Destination", schedule.topic),
        ...fact("Record", `${schedule.schedule_topic}, partition ${schedule.partition}, offset ${count(schedule.offset)}`),
      ),
      content("Key", schedule.key),
      content("Value", schedule.value),
      h(
        "section",
        { class: "content" },
        h("header", {}, h("h3", {}, "Headers"), h("span", { class: "note" }, headers.length === 0 ? "none" : count(headers.length))),
        headers.length > 0 && h("dl", { class: "header-list" }, ...headers.map(([name, value]) => [h("dt", {}, legible(name)), h("dd", {}, inline(value))]).flat()),
      ),
      past,
    );
    this.#tell();
    this.#drawPast(past, this.#id);
  }

  #drawGone(error, before) {
    const past = h("div", {});
    const again = before && !live.isReadOnly && button("Create it again…", () => openForm(before), {});
    fill(this.element, this.#head(), h("div", { class: "gone" }, h("p", {}, h("strong", {}, "Not pending.")), h("p", {}, error.message), error.hint && h("p", { class: "note" }, error.hint), again), past);
    this.#drawPast(past, this.#id);
  }

  /// What the instance remembers of this ID.
  async #drawPast(place, id) {
    const answer = await api.history({ prefix: id, limit: 50 }).catch(() => null);
    const events = answer?.events.filter((event) => event.id === id) ?? [];
    if (events.length === 0) return;
    const lines = events.slice(0, 10).map((event) =>
      h(
        "li",
        {},
        h("time", { datetime: iso(event.time), title: dateTime(event.time) }, clockMs(event.time)),
        h("span", { class: "kind" }, h("i", { class: `kind-mark kind-${event.kind}`, "aria-hidden": "true" }), event.kind),
        h("span", { class: "note" }, pastNote(event)),
      ),
    );
    fill(place, h("section", { class: "content" }, h("header", {}, h("h3", {}, "Of late")), h("ol", { class: "past" }, ...lines)));
  }

  #tell() {
    if (this.#schedule) setText(this.#left, until(this.#schedule.time, live.now()));
  }

  #actions(schedule) {
    if (!live.stats || live.isReadOnly) return live.isReadOnly ? h("p", { class: "note" }, "Read-only: this instance changes nothing.") : null;
    return h(
      "div",
      { class: "one-actions" },
      button("Fire now", () => askFire(schedule)),
      button("Reschedule", () => askReschedule(schedule)),
      button("Replace", () => openForm(schedule)),
      button("Cancel it", () => askCancel(schedule), { class: "danger-quiet" }),
    );
  }
}

function fact(name, ...what) {
  return [h("dt", {}, name), h("dd", {}, ...what)];
}

function pastNote(event) {
  if (event.reason) return event.reason;
  if (event.late_ms !== undefined) return `${duration(event.late_ms)} late, to ${event.topic ?? "its destination"}`;
  return "";
}

function askFire(schedule) {
  ask({
    title: "Fire now?",
    text: ["Its message goes to ", h("strong", {}, schedule.topic), " at once, instead of ", `${until(schedule.time, live.now())}.`],
    schedule,
    action: "Fire now",
    run: () => api.fire(schedule.id),
    said: "Made due now",
  });
}

function askReschedule(schedule) {
  const due = new DueField();
  ask({
    title: "Reschedule",
    text: [`It is due ${until(schedule.time, live.now())} (${dateTime(schedule.time)}). All but the time stays as it is.`],
    extra: due.element,
    schedule,
    action: "Reschedule",
    run: () => api.reschedule(schedule.id, due.read()),
    said: "Rescheduled",
  });
}

function askCancel(schedule) {
  ask({
    title: "Cancel this schedule?",
    text: ["Its message to ", h("strong", {}, schedule.topic), ` (due ${until(schedule.time, live.now())}) will not be sent. This cannot be undone.`],
    schedule,
    action: "Cancel the schedule",
    danger: true,
    run: () => api.cancel(schedule.id),
    said: "Cancelled",
  });
}

/// Asks before something is done, does it, and stays open with what went wrong.
function ask({ title, text, extra, schedule, action, danger, run, said }) {
  const { dialog, body } = openDialog(title, { class: "ask-dialog" });
  const problem = h("div", {});
  const submit = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
  const send = async () => {
    fill(problem);
    submit.disabled = true;
    try {
      const done = await run();
      dialog.close();
      say(`${said}: ${done.id}, record ${done.partition}@${count(done.offset)}.`);
      announce(schedule.id);
    } catch (error) {
      fill(problem, trouble(error));
    } finally {
      submit.disabled = false;
    }
  };
  fill(
    body,
    h(
      "form",
      { novalidate: true, on: { submit: (event) => { event.preventDefault(); send(); } } },
      h("p", { class: "id ask-id" }, legible(schedule.id)),
      h("p", {}, ...text),
      extra,
      problem,
      h("div", { class: "dialog-actions" }, button("Not now", () => dialog.close()), submit),
    ),
  );
  submit.focus();
}
