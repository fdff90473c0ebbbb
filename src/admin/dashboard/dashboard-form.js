// Creating a schedule, or replacing one.

import { api } from "./dashboard-api.js";
import { fromBase64, textToBase64, toBase64, toText } from "./dashboard-bytes.js";
import { button, field, fill, freshId, h, openDialog, say, segments, setText, trouble } from "./dashboard-dom.js";
import { count, dateTime, until } from "./dashboard-format.js";
import { live } from "./dashboard-live.js";
import { announce } from "./dashboard-changes.js";
import { hrefOf, shownTopic } from "./dashboard-route.js";
import { DueField } from "./dashboard-time.js";

/// Opens the form. With a schedule it is about replacing that one.
export function openForm(schedule = null) {
  const { dialog, body } = openDialog(schedule ? "Replace the schedule" : "Create a schedule", { class: "form-dialog" });
  const id = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false", autocapitalize: "off", value: schedule?.id ?? "", readonly: schedule !== null });
  const due = new DueField();
  const topic = h("input", { type: "text", required: true, maxlength: "249", autocomplete: "off", spellcheck: "false", autocapitalize: "off", value: schedule?.topic ?? "" });
  const key = new BytesField("Key", { rows: 1 });
  const value = new BytesField("Value", { rows: 5, mayBeNull: true });
  const headers = new HeadersField();
  const problem = h("div", {});
  const submit = h("button", { type: "submit", class: "primary" }, schedule ? "Replace" : "Create");
  const topics = live.stats?.schedule_topics ?? [];
  /// The ID that was said to be pending already: sending it again means it.
  let warned = schedule?.id ?? null;

  if (schedule) {
    due.set(schedule.time);
    key.set(schedule.key);
    value.set(schedule.value);
    headers.set(schedule.headers);
  }

  fill(
    body,
    h(
      "form",
      { novalidate: true, on: { submit: (event) => { event.preventDefault(); send(); } } },
      topics.length > 1 && h("p", {}, "Into the schedule topic ", h("strong", {}, shownTopic(topics)), "."),
      field("ID", id, schedule ? null : "One ID, one schedule: writing it again replaces it. An ID that begins with ~ is read as base64."),
      due.element,
      field("Destination topic", topic),
      key.element,
      value.element,
      headers.element,
      problem,
      h("div", { class: "dialog-actions" }, button("Not now", () => dialog.close()), submit),
    ),
  );
  (schedule ? topic : id).focus();

  async function send() {
    fill(problem);
    let request;
    try {
      request = { ...due.read(), topic: required(topic, "The destination topic"), key: key.read() ?? "", value: value.read(), headers: headers.read() };
      required(id, "The ID");
    } catch (error) {
      fill(problem, trouble(error));
      return;
    }
    submit.disabled = true;
    try {
      if (warned !== id.value && !(await mayWrite())) return;
      const done = await api.put(id.value, request);
      dialog.close();
      say(`${schedule ? "Replaced" : "Scheduled"}: ${done.id}, record ${done.partition}@${count(done.offset)}.`);
      announce(done.id);
      location.hash = hrefOf("schedules", { id: done.id });
    } catch (error) {
      fill(problem, trouble(error));
    } finally {
      submit.disabled = false;
    }
  }

  /// Nobody replaces a schedule without knowing.
  async function mayWrite() {
    const pending = await api.schedule(id.value).catch((error) => {
      if (error.isNotPending) return null;
      throw error;
    });
    if (!pending) return true;
    warned = id.value;
    setText(submit, "Replace it");
    fill(problem, h("p", { class: "warning", role: "alert" }, `This ID is pending: to ${pending.topic}, due ${until(pending.time, live.now())} (${dateTime(pending.time)}). Creating it replaces that.`));
    return false;
  }

  id.addEventListener("input", () => {
    if (!schedule) setText(submit, "Create");
  });
}

function required(input, name) {
  if (input.value === "") {
    input.focus();
    throw new Error(`${name} is missing.`);
  }
  return input.value;
}

/// Bytes, typed as text or as base64, or null where that is something.
class BytesField {
  #name;
  #how;
  #input;

  constructor(name, { rows, mayBeNull = false }) {
    this.#name = name;
    this.#input = h("textarea", { id: freshId(), rows: String(rows), spellcheck: "false", autocomplete: "off", autocapitalize: "off" });
    const choices = [["text", "Text"], ["base64", "Base64"]];
    if (mayBeNull) choices.push(["null", "Null"]);
    this.#how = segments(`How ${name.toLowerCase()} is written`, choices, "text", () => this.#show());
    this.element = h("div", { class: "field bytes-field" }, h("div", { class: "field-head" }, h("label", { for: this.#input.id }, name), this.#how.element), this.#input);
  }

  set(base64) {
    if (base64 === null) this.#how.value = "null";
    else [this.#how.value, this.#input.value] = typed(base64);
    this.#show();
  }

  read() {
    if (this.#how.value === "null") return null;
    return encoded(this.#how.value, this.#input.value, `“${this.#name}”`);
  }

  #show() {
    this.#input.hidden = this.#how.value === "null";
  }
}

/// Headers: a row for each.
class HeadersField {
  #rows = h("div", { class: "header-rows" });
  #note = h("p", { class: "hint", hidden: true });

  constructor() {
    this.element = h(
      "fieldset",
      { class: "field" },
      h("legend", {}, "Headers"),
      this.#rows,
      this.#note,
      button("Add a header", () => this.#add("", "text", "").focus(), { class: "quiet" }),
    );
  }

  set(headers) {
    for (const [name, base64] of Object.entries(headers)) {
      if (base64 === null) {
        // The format of requests has no such thing.
        this.#note.hidden = false;
        setText(this.#note, `${this.#note.textContent} The header ${name} has no value: it will not be in the replacement.`.trim());
      } else this.#add(name, ...typed(base64, false));
    }
  }

  read() {
    const headers = {};
    for (const row of this.#rows.children) {
      const [name, how, value] = row.querySelectorAll("input, select, textarea");
      if (name.value === "") throw new Error("A header has no name.");
      if (Object.hasOwn(headers, name.value)) throw new Error(`The header ${name.value} is there twice.`);
      // A name like __proto__ is a name like any other.
      Object.defineProperty(headers, name.value, { value: encoded(how.value, value.value, `The header ${name.value}`), enumerable: true });
    }
    return headers;
  }

  #add(name, how, value) {
    const input = h("input", { type: "text", "aria-label": "Header name", placeholder: "name", autocomplete: "off", spellcheck: "false", autocapitalize: "off", value: name });
    const choice = h("select", { "aria-label": "How the header is written" }, h("option", { value: "text" }, "text"), h("option", { value: "base64" }, "base64"));
    choice.value = how;
    const text = h("input", { type: "text", "aria-label": "Header value", placeholder: "value", autocomplete: "off", spellcheck: "false", value });
    const row = h("div", { class: "header-row" }, input, choice, text, button("×", () => row.remove(), { class: "icon-button", "aria-label": "Remove the header" }));
    this.#rows.append(row);
    return input;
  }
}

/// How bytes are typed best: as text only if the field gives it back as it was. Fields change or drop control characters.
function typed(base64, hasLines = true) {
  const text = toText(fromBase64(base64));
  const plain = hasLines ? text?.replace(/\n/g, "") : text;
  return text !== null && !/\p{Cc}/u.test(plain) ? ["text", text] : ["base64", base64];
}

function encoded(how, text, name) {
  if (how === "text") return textToBase64(text);
  const bytes = fromBase64(text);
  if (bytes === null) throw new Error(`${name} is no base64.`);
  return toBase64(bytes);
}
