// Keys, values and headers are bytes. Here they become something to read, and what was typed becomes bytes.

/// Standard base64, padded or not, blanks aside; `null` if it is none.
export function fromBase64(text) {
  try {
    return Uint8Array.from(atob(text.replace(/\s+/g, "")), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

export function toBase64(bytes) {
  let binary = "";
  // In steps: a call takes only so many arguments.
  for (let at = 0; at < bytes.length; at += 8192) binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(binary);
}

export function textToBase64(text) {
  return toBase64(new TextEncoder().encode(text));
}

/// The text that the bytes are, or `null` if they are no UTF-8.
export function toText(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

/// JSON with a line for each member, or `null` if the text is no JSON object or array. It is the text that is laid out anew,
/// not what it parses to: numbers keep their digits, and members that are there twice stay so.
export function prettyJson(text) {
  if (!/^\s*[[{]/.test(text)) return null;
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const line = (depth) => `\n${"  ".repeat(depth)}`;
  let [out, depth] = ["", 0];
  const tokens = text.match(/"(?:\\.|[^"\\])*"|[[\]{},:]|[^\s[\]{},:"]+/g);
  tokens.forEach((token, at) => {
    if (token === "{" || token === "[") {
      const empty = tokens[at + 1] === "}" || tokens[at + 1] === "]";
      depth += 1;
      out += empty ? token : token + line(depth);
    } else if (token === "}" || token === "]") {
      depth -= 1;
      const empty = tokens[at - 1] === "{" || tokens[at - 1] === "[";
      out += empty ? token : line(depth) + token;
    } else if (token === ",") out += token + line(depth);
    else if (token === ":") out += ": ";
    else out += token;
  });
  return out;
}

/// 00000000  68 69 0a                 hi.
/// Eight bytes a line, so that a line fits beside a list and on a phone.
export function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 8) {
    const row = [...bytes.subarray(at, at + 8)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(23);
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${hex}  ${text}`);
  }
  return lines.join("\n");
}
