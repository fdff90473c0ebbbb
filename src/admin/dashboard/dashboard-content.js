// Keys, values and headers as something to read: text if they are text, laid out if they are JSON, else bytes in hex.

import { fromBase64, hexDump, prettyJson, toText } from "./dashboard-bytes.js";
import { button, fill, h, say, segments, visible as legible } from "./dashboard-dom.js";
import { bytes, count } from "./dashboard-format.js";

/// More than this is shown on demand: megabytes of text make a page slow.
const SHOWN = 20_000;
const SHOWN_BYTES = 4096;

/// A block: what it is, how large, the content.
export function content(name, base64) {
  if (base64 === null) return block(name, "null", h("p", { class: "note" }, "Null: to a compacted topic, that is a delete."));
  const raw = fromBase64(base64);
  if (raw.length === 0) return block(name, "empty", null);
  const text = toText(raw);
  const json = text === null ? null : prettyJson(text);
  const views = [];
  if (json !== null) views.push(["json", "JSON", () => clipped(json, SHOWN)]);
  if (text !== null) views.push(["text", "Text", () => clipped(text, SHOWN)]);
  views.push(["hex", "Hex", () => clippedHex(raw)]);
  const place = h("div", {});
  const show = (which) => fill(place, views.find(([view]) => view === which)[2](place));
  const choice = segments(`How ${name.toLowerCase()} is shown`, views.map(([view, label]) => [view, label]), views[0][0], show);
  show(views[0][0]);
  return block(name, bytes(raw.length), place, choice.element, copyButton(name, text ?? base64, text === null));
}

/// Short bytes on one line, for a header.
export function inline(base64) {
  if (base64 === null) return h("span", { class: "note" }, "null");
  const raw = fromBase64(base64);
  const text = toText(raw);
  if (raw.length === 0) return h("span", { class: "note" }, "empty");
  if (text === null) return h("code", {}, [...raw.subarray(0, 64)].map((byte) => byte.toString(16).padStart(2, "0")).join(" "), raw.length > 64 ? " …" : "");
  return h("code", {}, legible(text.slice(0, 2000)), text.length > 2000 ? "…" : "");
}

function block(name, size, body, ...tools) {
  return h("section", { class: "content" }, h("header", {}, h("h3", {}, name), h("span", { class: "note" }, size), ...tools), body);
}

function clipped(text, shown) {
  const pre = (part) => h("pre", { tabindex: "0" }, ...lines(part));
  if (text.length <= shown) return pre(text);
  const element = h("div", {}, pre(text.slice(0, shown)), button(`Show all ${count(text.length)} characters`, () => fill(element, pre(text)), { class: "quiet" }));
  return element;
}

function clippedHex(raw) {
  const pre = (part) => h("pre", { tabindex: "0", class: "hex" }, hexDump(part));
  if (raw.length <= SHOWN_BYTES) return pre(raw);
  const element = h("div", {}, pre(raw.subarray(0, SHOWN_BYTES)), button(`Show all ${count(raw.length)} bytes`, () => fill(element, pre(raw)), { class: "quiet" }));
  return element;
}

/// Line breaks and tabs are what they are; every other unseen character is shown by number.
function lines(text) {
  return text.split(/([\n\t])/).map((part) => (part === "\n" || part === "\t" ? part : legible(part)));
}

function copyButton(name, text, isBase64) {
  if (!navigator.clipboard) return null; // Only where the connection is trusted.
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    say(`${name} copied${isBase64 ? ", as base64" : ""}.`);
  };
  return button("Copy", copy, { class: "quiet", "aria-label": `Copy ${name.toLowerCase()}` });
}
