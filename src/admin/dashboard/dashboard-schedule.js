// One schedule: everything about it, and what can be done with it.

import { ask, get, pathOf } from "./dashboard-api.js";
import { $, asText, decodeBase64, distance, el, fromField, grouped, hexDump, moment, toField, zone } from "./dashboard-dom.js";

let editSchedule = () => {};
let hasChanged = () => {};

/** `edit` opens the form with a schedule in it; `changed` is told that something was done. */
export function start(edit, changed) {
  editSchedule = edit;
  hasChanged = changed;
}

export async function open(id) {
  const dialog = $("schedule-dialog");
  $("schedule-title").textContent = id;
  $("schedule-fields").replaceChildren(el("dd", { class: "faint" }, "looking…"));
  $("schedule-actions").replaceChildren();
  complain("");
  if (!dialog.open) dialog.showModal();
  try {
    draw(await get(pathOf(id)));
  } catch (error) {
    $("schedule-fields").replaceChildren();
    complain(error.message);
  }
}

function complain(text) {
  $("schedule-dialog").querySelector(".bad-text").textContent = text;
}

function draw(schedule) {
  const headers = Object.entries(schedule.headers);
  const fields = [
    ["Due", `${moment(schedule.time)} (${distance(schedule.time - Date.now())})`],
    ["Destination", schedule.topic],
    ["State", schedule.state.replace("_", " ")],
    ["Key", content(schedule.key)],
    ["Value", schedule.value === null ? "null: a delete" : content(schedule.value, true)],
    ...headers.map(([name, value]) => [`Header ${name}`, value === null ? "null" : content(value)]),
    ["Record", `${schedule.schedule_topic}-${schedule.partition}@${schedule.offset}`],
  ];
  $("schedule-fields").replaceChildren(...fields.flatMap(([name, value]) => [el("dt", { class: "break" }, name), el("dd", {}, value)]));
  offer(schedule);
}

/** Text where it is text, JSON in lines of its own; else a dump. */
function content(base64, isLarge = false) {
  const bytes = decodeBase64(base64);
  if (bytes.length === 0) return el("span", { class: "faint" }, "empty");
  const text = asText(bytes);
  if (text === null) return el("pre", { tabindex: "0" }, hexDump(bytes));
  if (!isLarge && text.length < 200 && !text.includes("\n")) return text;
  return el("pre", { tabindex: "0" }, pretty(text));
}

function pretty(text) {
  try {
    const parsed = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? JSON.stringify(parsed, null, 2) : text;
  } catch {
    return text;
  }
}

function offer(schedule) {
  const button = (text, run, className) => el("button", { type: "button", class: className, onclick: run }, text);
  $("schedule-actions").replaceChildren(el("div", { class: "buttons" },
    button("Fire now…", () => confirm(schedule, "It is delivered at once, and gone.", "Fire it now", "POST", "/fire", {}, "calm")),
    button("Reschedule…", () => reschedule(schedule)),
    button("Replace…", () => { $("schedule-dialog").close(); editSchedule(schedule); }),
    button("Cancel it…", () => confirm(schedule, "It will never be delivered.", "Cancel it", "DELETE", "", undefined, ""))));
}

/** Puts the question in the place of the buttons. */
function question(schedule, className, ...parts) {
  const back = el("button", { type: "button", onclick: () => offer(schedule) }, "Back");
  const place = el("form", { class: `confirm ${className}` }, ...parts, el("p", { class: "buttons end" }, back));
  $("schedule-actions").replaceChildren(place);
  return place;
}

function confirm(schedule, text, verb, method, path, body, className) {
  complain("");
  const yes = el("button", { type: "submit", class: className === "calm" ? "primary" : "danger" }, verb);
  const place = question(schedule, className, el("p", {}, text));
  place.lastElementChild.append(yes);
  place.addEventListener("submit", (event) => {
    event.preventDefault();
    act(schedule, method, path, body, yes);
  });
  yes.focus();
}

function reschedule(schedule) {
  complain("");
  const field = el("input", { type: "datetime-local", step: "1", required: true, "aria-label": "New due time" });
  field.value = toField(schedule.time);
  const yes = el("button", { type: "submit", class: "primary" }, "Reschedule");
  const place = question(schedule, "calm", el("p", {}, "Due at ", field, " ", el("span", { class: "faint" }, zone())));
  place.lastElementChild.append(yes);
  place.addEventListener("submit", (event) => {
    event.preventDefault();
    act(schedule, "POST", "/reschedule", { time: fromField(field.value) }, yes);
  });
  field.focus();
}

async function act(schedule, method, path, body, button) {
  button.disabled = true;
  try {
    const done = await ask(method, `${pathOf(schedule.id)}${path}`, { body });
    $("schedule-dialog").close();
    const what = { "/fire": "is due now", "/reschedule": "has another due time", "": "is cancelled" }[path];
    hasChanged(`${schedule.id} ${what} (${done.schedule_topic}-${done.partition}@${grouped(done.offset)})`);
  } catch (error) {
    complain(error.message);
    button.disabled = false;
  }
}
