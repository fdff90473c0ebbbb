// Building the page, and writing figures for people.
//
// Whatever comes from the API goes into text nodes and properties, never into HTML: an ID may be a script tag.

/** An element with properties (`class`, `on…`, or attributes) and children: nodes or text. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const $ = (id) => document.getElementById(id);

const GROUPED = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** `1,234,567` */
export const grouped = (number) => GROUPED.format(number);

/** `1.2M`; small numbers as they are. */
export const compact = (number) => (Math.abs(number) < 10_000 ? GROUPED.format(number) : COMPACT.format(number));

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count < 10 && unit > 0 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

const UNITS = [["y", 31_536_000], ["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];

/** The two largest units: `1 h 30 min`; below ten seconds to the tenth. */
export function duration(ms) {
  if (Math.abs(ms) < 1_000) return `${Math.round(ms)} ms`;
  if (Math.abs(ms) < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  let left = Math.floor(Math.abs(ms) / 1_000);
  const parts = [];
  for (const [unit, seconds] of UNITS) {
    if (left >= seconds && parts.length < 2) parts.push(`${Math.floor(left / seconds)} ${unit}`);
    left %= seconds;
  }
  return parts.join(" ");
}

/** `in 5 min`, `3 s ago`. */
export function distance(ms) {
  return ms >= 0 ? `in ${duration(ms)}` : `${duration(-ms)} ago`;
}

const MOMENT = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false, timeZoneName: "short",
});
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

/** No calendar reaches further. */
const LAST_MS = 8_640_000_000_000_000;

/** A time here, with its zone; milliseconds where no calendar reaches. */
export const moment = (ms) => (Math.abs(ms) > LAST_MS ? `${ms} ms` : MOMENT.format(new Date(ms)));

/** The time of day, and the day if it is not today's. */
export function clock(ms, nowMs = Date.now()) {
  if (Math.abs(ms) > LAST_MS) return `${ms} ms`;
  const date = new Date(ms);
  return date.toDateString() === new Date(nowMs).toDateString() ? CLOCK.format(date) : MOMENT.format(date);
}

/** What a field of date and time says, epoch milliseconds; undefined when it is empty. */
export function fromField(text) {
  if (!text) return undefined;
  const ms = new Date(text).getTime();
  return Number.isNaN(ms) ? undefined : ms;
}

/** The other way round. */
export function toField(ms) {
  const date = new Date(ms);
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19);
}

export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

export function decodeBase64(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

export function encodeBase64(text) {
  return btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(""));
}

/** The text that bytes are, or null. */
export function asText(content) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(content);
    // Control characters are no text to read, but for line ends and tabs.
    return /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** Sixteen bytes a line, in hexadecimal and as characters. */
export function hexDump(content, most = 4_096) {
  const lines = [];
  for (let at = 0; at < Math.min(content.length, most); at += 16) {
    const row = Array.from(content.slice(at, at + 16));
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const characters = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex.padEnd(47)}  ${characters}`);
  }
  if (content.length > most) lines.push(`… ${grouped(content.length - most)} bytes more`);
  return lines.join("\n");
}
