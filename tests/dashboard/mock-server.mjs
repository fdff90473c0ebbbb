// A server that stands in for kms: the dashboard's files and the admin API, with what is pending in memory and time that flows.
// Tests start it with startMock and set its state; to look at the dashboard by hand: node mock-server.mjs [SCENARIO] [PORT].

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const FILES = new URL("../../src/admin/dashboard/", import.meta.url);
const TYPES = { html: "text/html; charset=utf-8", css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8", svg: "image/svg+xml", txt: "text/plain; charset=utf-8" };
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
  "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const EDGES = [1, 2, 5, 10, 20, 30, 60, 120, 180, 360, 720, 1440, 2880, 4320, 10_080, 20_160, 43_200, 129_600, 525_600].map((minutes) => minutes * MINUTE);
const SPANS = { "10m": [10 * MINUTE, 5000], "1h": [HOUR, 30_000], "24h": [DAY, 720_000] };
const base64 = (text) => Buffer.from(text).toString("base64");

/// Starts it on a free port, or on `port`. `scenario`: see `prepare`.
export async function startMock({ scenario = "plain", port = 0 } = {}) {
  const mock = new Mock();
  prepare(mock, scenario);
  const server = createServer((request, response) => {
    mock.answer(request, response).catch((error) => {
      if (!(error instanceof Refusal)) console.error(error);
      refuse(response, error instanceof Refusal ? error : new Refusal(500, "broken", String(error)));
    });
  });
  const listen = (at) => new Promise((resolve) => server.listen(at, "127.0.0.1", resolve));
  await listen(port);
  const bound = server.address().port;
  const ticking = setInterval(() => mock.tick(), 100);
  mock.url = `http://127.0.0.1:${bound}/`;
  /// As if the process were gone: nothing listens, and open streams break off.
  mock.goAway = () =>
    new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  mock.comeBack = () => listen(bound);
  mock.stop = async () => {
    clearInterval(ticking);
    mock.streams.forEach(clearInterval);
    if (server.listening) await mock.goAway();
  };
  return mock;
}

/// What there is to begin with.
function prepare(mock, scenario) {
  const now = Date.now();
  const scenarios = {
    plain() {},
    /// A busy instance, as on the pictures.
    busy() {
      sample(mock, now);
      mock.traffic = true;
      mock.overTime = (over) => madeUp(over, now, mock.stats().pending);
    },
    huge() {
      scenarios.busy();
      mock.invented = 100_000_000;
      mock.structure = 6_012_000_000;
      mock.payload = 9_420_000_000;
      mock.memoryLimit = 24 * 2 ** 30;
    },
    loading() {
      sample(mock, now);
      Object.assign(mock.partitions[1], { phase: "loading", records_applied: 41_200_000, records_to_apply: 98_700_000 });
      Object.assign(mock.partitions[2], { phase: "waiting", reason: "another producer has a transaction open at offset 8812" });
      mock.notReady = ["schedules-1 is loading: 41,200,000 of 98,700,000 records", "schedules-2 is waiting: another producer has a transaction open at offset 8812"];
    },
    standby() {
      mock.partitions.length = 0;
    },
    readonly() {
      sample(mock, now);
      mock.readOnly = true;
    },
    token() {
      mock.token = "right";
    },
    topics() {
      sample(mock, now);
      mock.topics = ["schedules", "json-schedules"];
    },
  };
  if (!scenarios[scenario]) throw new Error(`no scenario ${scenario}: there is ${Object.keys(scenarios).join(", ")}`);
  scenarios[scenario]();
}

function sample(mock, now) {
  const destinations = ["reminders", "invoices", "carts.abandoned", "push-notifications"];
  for (let n = 0; n < 2400; n += 1) {
    const after = 20_000 * 1.0068 ** n + ((n * 7919) % 997) * 31;
    mock.put(`order-${String(n).padStart(6, "0")}`, {
      time: Math.round(now + after),
      topic: destinations[n % 4],
      key: base64(`customer-${n % 311}`),
      value: n % 9 === 0 ? null : base64(JSON.stringify({ order: n, total: { amount: 1299 + n, currency: "EUR" }, items: [{ sku: `A-${n}`, count: 1 + (n % 3) }] })),
      headers: { "content-type": base64("application/json"), trace: base64(`00-${n.toString(16).padStart(32, "0")}`) },
    });
  }
  mock.counters.replaced = 0;
}

class Refusal extends Error {
  constructor(status, code, message, hint) {
    super(message);
    Object.assign(this, { status, code, hint });
  }
}

class Mock {
  schedules = new Map();
  history = [];
  jobs = new Map();
  streams = new Set();
  topics = ["schedules"];
  partitions = [0, 1, 2, 3].map((partition) => ({ partition, phase: "live", records_applied: 0, records_to_apply: 0 }));
  notOwned = [];
  counters = { fired: 0, cancelled: 0, replaced: 0, rejected: 0, skipped: 0, repaired: 0 };
  offset = 0;
  token = null;
  readOnly = false;
  notReady = [];
  memoryLimit = 2 ** 30;
  /// Schedules that are counted and walked over, but not there.
  invented = 0;
  /// How many are looked at before a page is given as it is; 0: all.
  pageEffort = 0;
  /// The next requests of a kind fail so: `{path, refusal}`.
  failures = [];
  jobSteps = 6;
  /// What each request had in its head.
  seen = [];
  /// Fires, cancels and rejects by itself.
  traffic = false;
  lastTick = Date.now();
  late = [];

  async answer(request, response) {
    const url = new URL(request.url, "http://mock");
    this.seen.push({ url: request.url, authorization: request.headers.authorization });
    if (!url.pathname.startsWith("/api/")) return serveFile(url.pathname, response);
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`) {
      throw new Refusal(401, "unauthorized", "the token is missing or wrong", "send the header `Authorization: Bearer TOKEN` with what admin.token is");
    }
    const failure = this.failures.findIndex(({ path }) => url.pathname.startsWith(path));
    if (failure >= 0) throw new Refusal(...this.failures.splice(failure, 1)[0].refusal);
    if (request.method !== "GET") {
      if (this.readOnly) throw new Refusal(403, "read_only", "this instance changes nothing (admin.read_only)");
      if (request.method !== "DELETE" && request.headers["content-type"] !== "application/json") throw new Refusal(415, "not_json", "what changes something has the content type application/json");
    }
    const topic = url.searchParams.get("schedule_topic") ?? this.topics[0];
    if (!this.topics.includes(topic)) throw new Refusal(404, "no_such_topic", "this instance does not serve that schedule topic");
    const body = await bodyOf(request);
    const [, , resource, rawId, action] = url.pathname.split("/");
    const id = rawId === undefined ? undefined : idOf(decodeURIComponent(rawId));
    if (resource === "events") return this.stream(response);
    const routes = {
      "GET stats": () => this.statsOver(url.searchParams.get("over")),
      "GET due": () => this.due(),
      "GET partitions": () => this.partitionList(topic),
      "GET history": () => this.historyOf(url.searchParams),
      "GET schedules": () => (id === undefined ? this.list(url.searchParams) : this.one(id)),
      "PUT schedules": () => this.write(id, body),
      "DELETE schedules": () => this.cancel(id),
      "POST schedules": () => this.reschedule(id, action === "fire" ? { time: Date.now() } : body),
      "POST cancel": () => this.startJob(body),
      "GET cancel": () => this.job(id),
      "DELETE cancel": () => Object.assign(this.job(id), { state: "stopped" }),
    };
    const answer = routes[`${request.method} ${resource}`];
    if (!answer) throw new Refusal(404, "no_such_path", "there is nothing here");
    const value = answer();
    // To look at a million takes a while.
    if (value.looked_at > 100_000) await new Promise((resolve) => setTimeout(resolve, 40));
    response.writeHead(resource === "cancel" && request.method === "POST" ? 202 : 200, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(JSON.stringify(value));
  }

  // What is pending

  partitionOf(id) {
    let sum = 0;
    for (const byte of Buffer.from(id)) sum = (sum * 31 + byte) >>> 0;
    return sum % 4;
  }

  put(id, { time, topic, key = "", value = null, headers = {} }) {
    const before = this.schedules.get(id);
    this.offset += 1;
    const schedule = { id, schedule_topic: this.topics[0], partition: this.partitionOf(id), offset: this.offset, state: "pending", time, due: new Date(time).toISOString(), topic, key, value, headers };
    this.schedules.set(id, schedule);
    if (before) this.remember("replaced", before);
    return { outcome: "done", id, schedule_topic: schedule.schedule_topic, partition: schedule.partition, offset: schedule.offset };
  }

  remember(kind, { id, partition, time, topic }, more = {}) {
    this.counters[kind] += 1;
    this.offset += 1;
    this.history.unshift({ kind, time: Date.now(), id, partition, offset: this.offset, due: time, topic, ...more });
    this.history.length = Math.min(this.history.length, 2000);
  }

  tick() {
    const now = Date.now();
    for (const schedule of this.schedules.values()) {
      if (schedule.time > now || schedule.state !== "pending") continue;
      this.schedules.delete(schedule.id);
      const late_ms = now - schedule.time;
      this.late.push(late_ms);
      this.remember("fired", schedule, { late_ms });
    }
    if (this.traffic) this.makeTraffic(now);
    for (const job of this.jobs.values()) this.stepJob(job);
  }

  makeTraffic(now) {
    const wave = 14 + 6 * Math.sin(now / 20_000) + Math.random() * 5;
    for (let n = 0; n < wave / 4; n += 1) {
      const number = Math.floor(Math.random() * 90_000_000);
      const late_ms = Math.round(2 + Math.random() ** 4 * 38);
      this.late.push(late_ms);
      const place = { partition: number % 4, time: now - late_ms, topic: ["reminders", "invoices", "carts.abandoned"][number % 3] };
      this.remember("fired", { id: `order-${number}`, ...place }, { late_ms });
      if (number % 17 === 0) this.remember("cancelled", { id: `cart-${number}`, ...place });
      if (number % 13 === 0) this.remember("replaced", { id: `order-${number + 1}`, ...place });
      if (number % 1201 === 0) this.remember("rejected", { id: `order-${number}`, ...place, topic: undefined }, { reason: "Avro: the string `topic` ends at byte 12, before its length of 37" });
    }
    this.counters.fired += Math.round(wave * 3);
    this.late.splice(0, Math.max(0, this.late.length - 500));
  }

  // Figures

  stats() {
    const now = Date.now();
    const schedules = [...this.schedules.values()];
    const windows = [["1m", MINUTE], ["10m", 10 * MINUTE], ["1h", HOUR], ["1d", DAY], ["later", Infinity]];
    let from = -Infinity;
    const due = windows.map(([within, to], at) => {
      const counted = schedules.filter(({ time }) => time - now > from && time - now <= to).length;
      from = to;
      return { within, count: counted + Math.round(this.invented * [0.000_4, 0.003_6, 0.021, 0.31, 0.665][at]) };
    });
    const overdue = schedules.reduce((most, { time }) => Math.max(most, now - time), 0);
    const late = [...this.late].sort((one, other) => one - other);
    const at = (share) => late[Math.floor(late.length * share)] ?? null;
    return {
      now,
      version: "0.1.0",
      read_only: this.readOnly,
      schedule_topics: this.topics,
      ready: this.notReady.length === 0,
      reasons: this.notReady,
      partitions: this.partitions.length,
      pending: schedules.length + this.invented,
      due,
      in_flight: this.traffic ? 120 : 0,
      set_aside: schedules.filter(({ state }) => state === "set_aside").length,
      oldest_overdue_ms: overdue > 500 ? overdue : 0,
      payload_bytes: this.payload ?? schedules.length * 212,
      structure_bytes: this.structure ?? schedules.length * 60,
      resident_bytes: (this.payload ?? 0) + (this.structure ?? 0) + 310_000_000,
      ...(this.memoryLimit ? { memory_limit_bytes: this.memoryLimit } : {}),
      ...this.counters,
      lateness_ms: { p50: at(0.5), p99: at(0.99) },
    };
  }

  statsOver(over) {
    if (!over) return this.stats();
    const [, step_ms] = SPANS[over];
    return { ...this.stats(), over_time: { step_ms, points: this.overTime?.(over) ?? [] } };
  }

  due() {
    const now = Date.now();
    const shares = [0.0004, 0.0006, 0.0012, 0.002, 0.004, 0.005, 0.012, 0.02, 0.018, 0.04, 0.08, 0.152, 0.11, 0.07, 0.16, 0.14, 0.1, 0.08, 0.0047, 0.0001];
    const buckets = [...EDGES, null].map((edge, at) => ({ from: now + (at === 0 ? 0 : EDGES[at - 1]), to: edge === null ? null : now + edge, count: Math.round(this.invented * shares[at]) }));
    for (const { time } of this.schedules.values()) buckets.find(({ to }) => to === null || time < to).count += 1;
    return { now, buckets, partitions: this.coverage() };
  }

  coverage() {
    return { owned: this.partitions.map(({ partition }) => partition), missing: this.notOwned.map((partition) => ({ partition, why: "not owned by this instance" })) };
  }

  partitionList(topic) {
    const partitions = this.partitions.map((one) => {
      const pending = [...this.schedules.values()].filter(({ partition }) => partition === one.partition).length + Math.round(this.invented / 4);
      const extra = one.phase === "loading" ? { records_applied: (one.records_applied += 310_000) } : {};
      return { pending, in_flight: this.traffic ? 30 : 0, set_aside: 0, oldest_overdue_ms: one.phase === "waiting" ? 94_000 : 0, position: this.offset, lag: one.phase === "live" ? 0 : 57_500_000, payload_bytes: pending * 94, structure_bytes: pending * 60, ...one, ...extra };
    });
    const owned = new Set(partitions.map(({ partition }) => partition));
    return { schedule_topic: topic, partitions, not_owned: [0, 1, 2, 3, ...this.notOwned].filter((partition, at, all) => !owned.has(partition) && all.indexOf(partition) === at) };
  }

  historyOf(query) {
    const [limit, kind, prefix] = [Number(query.get("limit") ?? 100), query.get("kind"), query.get("prefix") ?? ""];
    const events = this.history.filter((event) => (!kind || event.kind === kind) && event.id.startsWith(prefix)).slice(0, limit);
    return { events, partitions: this.coverage() };
  }

  stream(response) {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    let newest = this.history[0];
    const send = () => {
      response.write(`event: stats\ndata: ${JSON.stringify(this.stats())}\n\n`);
      const upTo = newest === undefined ? this.history.length : this.history.indexOf(newest);
      const events = this.history.slice(0, upTo < 0 ? 1000 : upTo);
      newest = this.history[0];
      if (events.length > 0) response.write(`event: history\ndata: ${JSON.stringify({ events })}\n\n`);
    };
    send();
    const sending = setInterval(send, 1000);
    this.streams.add(sending);
    response.on("close", () => {
      clearInterval(sending);
      this.streams.delete(sending);
    });
  }

  // Finding and changing

  matching({ prefix = "", destination = null, from = null, to = null }) {
    const moment = (time) => (/^-?\d+$/.test(String(time)) ? Number(time) : Date.parse(time));
    return [...this.schedules.values()].filter(
      ({ id, topic, time }) => id.startsWith(prefix) && (!destination || topic === destination) && (from === null || time >= moment(from)) && (to === null || time <= moment(to)),
    );
  }

  list(query) {
    const limit = Number(query.get("limit") ?? 100);
    const given = Object.fromEntries(query);
    const filter = { ...given, prefix: given.prefix ?? "", from: given.from ?? null, to: given.to ?? null };
    // A walk over what is only invented: pages with nothing, and a cursor.
    const [walked, start] = (query.get("cursor") ?? "0.0").split(".").map(Number);
    const filtered = given.prefix || given.destination || given.from || given.to;
    const looked = 1_900_000;
    if (this.invented > 0 && filtered && walked < this.invented) {
      const found = walked % (looked * 6) === 0 ? this.matching(filter).slice(start, start + 7) : [];
      return this.page(found, `${Math.min(walked + looked, this.invented)}.${start + found.length}`, looked);
    }
    const all = this.matching(filter);
    const page = all.slice(start, start + limit);
    const more = start + limit < all.length;
    return this.page(page, more ? `${walked}.${start + limit}` : null, page.length);
  }

  page(schedules, next_cursor, looked_at) {
    return { schedules, next_cursor, looked_at, partitions: this.coverage() };
  }

  one(id) {
    this.requireOwned(id);
    const found = this.schedules.get(id);
    if (found) return found;
    const fired = this.history.find((event) => event.id === id && event.kind === "fired");
    throw new Refusal(404, "not_pending", `no schedule with the ID ${id} is pending in ${this.topics[0]}${fired ? `: it was fired at ${new Date(fired.time).toISOString()}` : ""}`);
  }

  requireOwned(id) {
    const partition = this.partitionOf(id);
    if (this.partitions.some((owned) => owned.partition === partition)) return;
    throw new Refusal(421, "not_owned", `this instance has no such schedule, and partition ${partition} of ${this.topics[0]}, where it would be, is another's`, "ask the instance that owns it: GET /api/partitions of each lists which it owns");
  }

  write(id, body) {
    this.requireOwned(id);
    const { time, in: after, topic, key, value, headers } = body;
    if (!/^[a-zA-Z0-9._-]{1,249}$/.test(topic)) throw new Refusal(422, "illegal_destination", `\`${topic}\` is no legal topic name: use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'`);
    if (this.topics.includes(topic)) throw new Refusal(422, "destination_denied", `${topic} is a schedule topic: a schedule that schedules itself is a loop`);
    return this.put(id, { time: due(time, after), topic, key, value, headers });
  }

  cancel(id) {
    const found = this.one(id);
    this.schedules.delete(id);
    this.remember("cancelled", found);
    return { outcome: "done", id, schedule_topic: found.schedule_topic, partition: found.partition, offset: this.offset };
  }

  reschedule(id, { time, in: after }) {
    const { topic, key, value, headers } = this.one(id);
    return this.put(id, { time: due(time, after), topic, key, value, headers });
  }

  startJob(body) {
    if (!body.prefix && !body.ids) throw new Refusal(400, "invalid_parameter", "there is neither a prefix nor a list of IDs");
    const job = `k${this.jobs.size + 1}`;
    const matched = this.matching(body).map(({ id }) => id);
    const made = { job, state: "running", dry_run: body.dry_run, looked_at: 0, to_look_at: this.schedules.size + this.invented, matched: 0, cancelled: 0, uncertain: 0, partitions: this.coverage() };
    Object.defineProperty(made, "ids", { value: matched });
    this.jobs.set(job, made);
    return made;
  }

  stepJob(job) {
    if (job.state !== "running") return;
    job.looked_at = Math.min(job.to_look_at, job.looked_at + Math.ceil(job.to_look_at / this.jobSteps));
    job.matched = job.to_look_at === 0 ? 0 : Math.floor((job.ids.length * job.looked_at) / job.to_look_at);
    if (!job.dry_run) {
      for (const id of job.ids.slice(job.cancelled, job.matched)) {
        const found = this.schedules.get(id);
        if (found) this.remember("cancelled", found);
        this.schedules.delete(id);
      }
      job.cancelled = job.matched;
    }
    if (job.looked_at >= job.to_look_at) job.state = "done";
  }

  job(job) {
    const found = this.jobs.get(job);
    if (!found) throw new Refusal(404, "no_such_job", "no such job is known");
    return found;
  }
}

/// A past that looks like one, and leads to what is pending now.
function madeUp(over, until, now) {
  const [span, step] = SPANS[over];
  const points = [];
  for (let time = until - span; time < until; time += step) {
    const wave = 480 + 220 * Math.sin(time / 130_000) + 90 * Math.sin(time / 31_000) + ((time * 7919) % 97);
    const burst = Math.floor(time / step) % 43 === 0 ? 3.2 : 1;
    const share = 1 - (until - time) / span;
    points.push({
      time,
      pending: Math.round(now * (0.9 + 0.1 * share + 0.012 * Math.sin(share * 21) * (1 - share))),
      fired: Math.round((wave * burst * step) / 1000),
      cancelled: Math.round((wave * step) / 190_000),
      replaced: Math.round((wave * step) / 150_000),
      rejected: Math.floor(time / step) % 29 === 0 ? 3 : 0,
      late_p50_ms: Math.round(4 + wave / 200),
      late_p99_ms: Math.round(14 + wave / 30 + (burst > 1 ? 60 : 0)),
    });
  }
  return points;
}

/// IDs that are no text stay as they are written; those that only need not have been are text.
function idOf(written) {
  if (!written.startsWith("~")) return written;
  const bytes = Buffer.from(written.slice(1), "base64url");
  const text = bytes.toString("utf8");
  return Buffer.from(text).equals(bytes) && text && !text.startsWith("~") ? text : written;
}

function due(time, after) {
  if (after === undefined) return typeof time === "number" ? time : Date.parse(time);
  const units = { s: 1000, m: MINUTE, h: HOUR, d: DAY };
  const sum = [...after.matchAll(/(\d+)\s*([smhd])/g)].reduce((ms, [, number, unit]) => ms + number * units[unit], 0);
  if (sum === 0) throw new Refusal(422, "invalid_schedule", "`in` is no duration", "write 90s, 5m, 1h 30m or 30d");
  return Date.now() + sum;
}

async function bodyOf(request) {
  let text = "";
  for await (const piece of request) text += piece;
  return text ? JSON.parse(text) : {};
}

async function serveFile(path, response) {
  const name = path === "/" ? "index.html" : path.slice(1);
  if (!/^[a-z-]+\.[a-z]+$/.test(name)) throw new Refusal(404, "no_such_path", "there is nothing here");
  const content = await readFile(new URL(name, FILES)).catch(() => {
    throw new Refusal(404, "no_such_path", "there is nothing here");
  });
  response.writeHead(200, { "content-type": TYPES[name.split(".").pop()], "content-security-policy": POLICY, "cache-control": "no-store", "x-content-type-options": "nosniff" });
  response.end(content);
}

function refuse(response, { status, code, message, hint }) {
  if (response.headersSent) return response.end();
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ code, message, ...(hint ? { hint } : {}) }));
}

if (import.meta.filename === process.argv[1]) {
  const [scenario, port] = [process.argv[2] ?? process.env.KMS_MOCK ?? "busy", Number(process.argv[3] ?? 9402)];
  const { url } = await startMock({ scenario, port });
  console.log(`${scenario}: ${url}`);
}
