// Due times as they are typed: from now on, or at a time of the clock. The zone is always said.

import { field, freshId, h, segments, setText } from "./dashboard-dom.js";
import { dateTime, parseDuration, until, zone } from "./dashboard-format.js";
import { live } from "./dashboard-live.js";

/// What a field of date and time shows for epoch milliseconds: local time.
export function localInput(ms) {
  const date = new Date(Number(ms));
  if (ms === null || ms === undefined || ms === "" || Number.isNaN(date.getTime())) return "";
  const two = (number) => String(number).padStart(2, "0");
  return `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/// Epoch milliseconds of what such a field holds; `null` if it is empty.
export function momentOf(text) {
  const ms = new Date(text).getTime();
  return text === "" || Number.isNaN(ms) ? null : ms;
}

const QUICK = ["10s", "5m", "1h", "1d", "7d"];

/// A due time: `read()` gives what a request takes, `{in}` or `{time}`, or throws what is wrong.
export class DueField {
  #how;
  #after = h("input", { type: "text", id: freshId(), value: "1h", autocomplete: "off", spellcheck: "false", autocapitalize: "off", inputmode: "text" });
  #at = h("input", { type: "datetime-local", id: freshId(), step: "1" });
  #afterField;
  #atField;
  /// The due time to begin with, to the millisecond, which the field cannot hold.
  #exact = null;
  #preview = h("p", { class: "preview", "aria-live": "polite" });

  constructor() {
    this.#how = segments("When it is due", [["in", "From now"], ["at", "At a time"]], "in", () => this.#show());
    const quick = QUICK.map((text) =>
      h("button", { type: "button", class: "chip", on: { click: () => { this.#after.value = text; this.#tell(); } } }, text),
    );
    this.#afterField = h("div", {}, field("Due in", this.#after, "Such as 90s, 5m, 1h 30m or 30d."), h("div", { class: "chips" }, ...quick));
    this.#atField = field("Due at", this.#at, `Local time: ${zone(Date.now())}`);
    this.element = h("div", { class: "due-field" }, this.#how.element, this.#afterField, this.#atField, this.#preview);
    for (const input of [this.#after, this.#at]) input.addEventListener("input", () => this.#tell());
    this.#at.value = localInput(live.now() + 3_600_000);
    this.#show();
  }

  /// Shows a due time to begin with.
  set(ms) {
    this.#how.value = "at";
    this.#at.value = localInput(ms);
    this.#exact = { text: this.#at.value, ms };
    this.#show();
  }

  read() {
    if (this.#how.value === "in") {
      const text = this.#after.value.trim();
      if (parseDuration(text) === null) throw new Error("“Due in” is no duration: write 90s, 5m, 1h 30m or 30d.");
      return { in: text };
    }
    const time = this.#moment();
    if (time === null) throw new Error("“Due at” has no date and time.");
    return { time };
  }

  #moment() {
    return this.#exact?.text === this.#at.value ? this.#exact.ms : momentOf(this.#at.value);
  }

  #show() {
    const isAfter = this.#how.value === "in";
    this.#afterField.hidden = !isAfter;
    this.#atField.hidden = isAfter;
    this.#tell();
  }

  #tell() {
    setText(this.#preview, this.#how.value === "in" ? timeOf(this.#after.value) : distanceTo(this.#moment()));
  }
}

function timeOf(after) {
  const ms = parseDuration(after);
  return ms === null ? "" : `${dateTime(live.now() + ms)}, ${zone(live.now() + ms)}`;
}

function distanceTo(ms) {
  if (ms === null) return "";
  return ms <= live.now() ? "In the past: fires at once." : until(ms, live.now());
}
