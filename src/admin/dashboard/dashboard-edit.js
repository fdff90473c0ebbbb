// The form that creates a schedule, or replaces one.

import { ask, pathOf } from "./dashboard-api.js";
import { $, asText, decodeBase64, encodeBase64, fromField, grouped, toField, zone } from "./dashboard-dom.js";

let hasChanged = () => {};

export function start(changed) {
  hasChanged = changed;
  const dialog = $("edit-dialog");
  const form = dialog.querySelector("form");
  for (const button of document.querySelectorAll(".new-schedule")) button.addEventListener("click", () => open(null));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save(form);
  });
  // Who fills a field of a choice in, has chosen.
  form.elements.in.addEventListener("input", () => { form.elements.when.value = "in"; });
  form.elements.at.addEventListener("input", () => { form.elements.when.value = "at"; });
  form.elements.null.addEventListener("change", () => { form.elements.value.disabled = form.elements.null.checked; });
}

/** Empty, or with what a schedule has. */
export function open(schedule) {
  const form = $("edit-dialog").querySelector("form");
  form.reset();
  form.elements.value.disabled = false;
  form.querySelector(".bad-text").textContent = "";
  form.querySelector(".zone").textContent = zone();
  $("edit-title").textContent = schedule ? "Replace a schedule" : "New schedule";
  form.elements.id.readOnly = schedule !== null;
  form.elements.at.value = toField(schedule ? schedule.time : Date.now() + 3_600_000);
  if (schedule) fill(form.elements, schedule);
  $("edit-dialog").showModal();
  (schedule ? form.elements.in : form.elements.id).focus();
}

function fill(fields, schedule) {
  fields.id.value = schedule.id;
  fields.when.value = "at";
  fields.topic.value = schedule.topic;
  const headers = Object.entries(schedule.headers).map(([name, value]) => [name, value ?? ""]);
  const contents = [schedule.key, schedule.value ?? "", ...headers.map(([, value]) => value)];
  // In base64 as soon as one of them is no text.
  const isBinary = contents.some((base64) => asText(decodeBase64(base64)) === null);
  const shown = (base64) => (isBinary ? base64 : asText(decodeBase64(base64)));
  fields.base64.checked = isBinary;
  fields.key.value = shown(schedule.key);
  fields.value.value = shown(schedule.value ?? "");
  fields.null.checked = schedule.value === null;
  fields.value.disabled = fields.null.checked;
  fields.headers.value = headers.map(([name, value]) => `${name}: ${shown(value)}`).join("\n");
}

/** The headers of the field, in base64; throws where a line is none. */
function headersOf(text, isBase64) {
  const headers = {};
  for (const line of text.split("\n").filter((line) => line.trim() !== "")) {
    const at = line.indexOf(":");
    if (at < 1) throw new Error(`the header line “${line}” is not like “name: value”`);
    const value = line.slice(at + 1).trim();
    headers[line.slice(0, at).trim()] = isBase64 ? value : encodeBase64(value);
  }
  return headers;
}

function bodyOf(fields) {
  const isBase64 = fields.base64.checked;
  const base64 = (text) => (isBase64 ? text : encodeBase64(text));
  const body = { topic: fields.topic.value.trim(), key: base64(fields.key.value), headers: headersOf(fields.headers.value, isBase64) };
  if (!fields.null.checked) body.value = base64(fields.value.value);
  if (fields.when.value === "in") {
    body.in = fields.in.value.trim();
  } else {
    body.time = fromField(fields.at.value);
    if (body.time === undefined) throw new Error("say when it is due");
  }
  return body;
}

async function save(form) {
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  try {
    const done = await ask("PUT", pathOf(form.elements.id.value), { body: bodyOf(form.elements) });
    $("edit-dialog").close();
    hasChanged(`${done.id} is scheduled (${done.schedule_topic}-${done.partition}@${grouped(done.offset)})`);
  } catch (error) {
    form.querySelector(".bad-text").textContent = error.message;
  } finally {
    button.disabled = false;
  }
}
