// Asking the instance: requests, its stream of events, and the token.

/// What the instance refused, or why it did not answer (`status` 0).
export class ApiError extends Error {
  constructor(status, code, message, hint) {
    super(message);
    Object.assign(this, { status, code, hint });
  }

  /// Other things that are not found, such as a topic, say nothing about a schedule.
  get isNotPending() {
    return this.code === "not_pending";
  }

  get isUnreachable() {
    return this.status === 0;
  }
}

/// Which schedule topic is asked about; `null`: the first that the instance has.
let scheduleTopic = null;

export function setScheduleTopic(topic) {
  scheduleTopic = topic;
}

const TOKEN = "kms.token";

/// The token lives as long as the tab, and goes nowhere but into the header: an address would be kept in histories and logs.
export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

export const api = {
  stats: (over) => get("stats", { over }),
  due: () => get("due"),
  partitions: () => get("partitions"),
  history: (query) => get("history", query),
  schedules: (query, signal) => get("schedules", query, signal),
  schedule: (id, signal) => get(`schedules/${segment(id)}`, {}, signal),
  put: (id, schedule) => send("PUT", `schedules/${segment(id)}`, schedule),
  cancel: (id) => send("DELETE", `schedules/${segment(id)}`),
  fire: (id) => send("POST", `schedules/${segment(id)}/fire`, {}),
  reschedule: (id, when) => send("POST", `schedules/${segment(id)}/reschedule`, when),
  cancelMany: (what) => send("POST", "cancel", what),
  cancelJob: (job) => get(`cancel/${segment(job)}`),
  stopJob: (job) => send("DELETE", `cancel/${segment(job)}`),
};

/// The instance's events, as `{event, data}`, until the stream ends. EventSource could not send a token.
export async function* events(signal) {
  const response = await answered("GET", "events", {}, undefined, signal);
  const lines = linesOf(response.body.pipeThrough(new TextDecoderStream()).getReader());
  let [event, data] = ["message", ""];
  for await (const line of lines) {
    if (line === "") {
      if (data) yield { event, data: JSON.parse(data) };
      [event, data] = ["message", ""];
    } else if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data += line.slice(5).trim();
  }
}

/// An answer to a question comes soon or not at all; a write waits for its place in the log.
const PATIENCE_MS = { question: 15_000, write: 60_000 };

async function get(path, query, signal) {
  const patience = AbortSignal.timeout(PATIENCE_MS.question);
  const response = await answered("GET", path, query, undefined, signal ? AbortSignal.any([signal, patience]) : patience);
  return response.json();
}

async function send(method, path, body) {
  const response = await answered(method, path, {}, body, AbortSignal.timeout(PATIENCE_MS.write));
  return response.json();
}

async function answered(method, path, query, body, signal) {
  const url = new URL(`api/${path}`, document.baseURI);
  url.hash = "";
  for (const [name, value] of Object.entries({ ...query, schedule_topic: scheduleTopic })) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(url, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted && error.name === "AbortError") throw error;
    throw unreachable(method, error);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

function unreachable(method, error) {
  const late = error.name === "TimeoutError";
  const message = late ? "The instance did not answer in time." : "The instance cannot be reached.";
  const hint = method === "GET" ? undefined : "Whether it was done is not known. Look for the schedule before you try again.";
  return new ApiError(0, "unreachable", message, hint);
}

async function refusal(response) {
  // What stands in front of an instance may answer in its own words.
  const body = await response.json().catch(() => ({}));
  const message = body.message ?? `The answer was ${response.status} ${response.statusText}.`;
  return new ApiError(response.status, body.code ?? "unknown", sentence(message), body.hint && sentence(body.hint));
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}

/// An ID as a segment of a path. `.` and `..` would be resolved away by the browser, encoded or not: they go as bytes.
function segment(id) {
  if (id === "." || id === "..") return `~${btoa(id).replace(/=+$/, "")}`;
  return encodeURIComponent(id);
}

async function* linesOf(reader) {
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) yield line.endsWith("\r") ? line.slice(0, -1) : line;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
