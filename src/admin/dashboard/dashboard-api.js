// Asking the instance.

const TOKEN = "kms-token";

/** Which schedule topic is meant; empty: the first. */
let scheduleTopic = "";
let askForToken = async () => {};

export function setTopic(topic) {
  scheduleTopic = topic;
}

/** What to do when the token is missing or wrong: resolves when there is another one. */
export function onUnauthorized(ask) {
  askForToken = ask;
}

/** For this tab only, and never in an address. */
export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** What the API refuses, or that it does not answer (status 0). */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.hint ? `${body.message}; ${body.hint}` : body.message);
    this.status = status;
    this.code = body.code;
  }
}

function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ schedule_topic: scheduleTopic, ...parameters })) {
    if (value !== undefined && value !== null && value !== "") query.set(name, value);
  }
  return query.size > 0 ? `${path}?${query}` : path;
}

async function send(method, path, { parameters, body, signal } = {}) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (method === "PUT" || method === "POST") headers["Content-Type"] = "application/json";
  const options = { method, headers, signal, cache: "no-store" };
  if (body !== undefined) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(address(path, parameters), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: "no_answer", message: "the instance does not answer" });
  }
  if (response.status === 401) {
    await askForToken();
    return send(method, path, { parameters, body, signal });
  }
  if (!response.ok) {
    const said = await response.json().catch(() => ({ code: "unknown", message: `the instance answers ${response.status}` }));
    throw new ApiError(response.status, said);
  }
  return response;
}

export async function ask(method, path, options) {
  return (await send(method, path, options)).json();
}

export const get = (path, parameters, signal) => ask("GET", path, { parameters, signal });
export const pathOf = (id) => `/api/schedules/${encodeURIComponent(id)}`;

/** Hands out server-sent events until `signal` ends it. `EventSource` cannot send a token. */
export async function watch(onEvent, signal) {
  const response = await send("GET", "/api/events", { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const field = (name) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      const data = field("data");
      if (data) onEvent(field("event"), JSON.parse(data));
    }
  }
}
