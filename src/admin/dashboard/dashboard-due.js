// When what is pending is due: a bar for each stretch of time from now on. A list of links, so that it is read, reached by
// keyboard, and leads to the schedules themselves.

import { fill, h, segments } from "./dashboard-dom.js";
import { count, duration, short } from "./dashboard-format.js";

const KEY = "kms.due-scale";

export class DueHistogram {
  #answer = null;
  #bars = h("ol", { class: "due-bars" });
  #grid = h("div", { class: "due-grid", "aria-hidden": "true" });
  #note = h("p", { class: "due-note" });
  #hrefOf;
  #scale;

  /// `hrefOf(bucket)`: where its schedules are.
  constructor(hrefOf) {
    this.#hrefOf = hrefOf;
    this.#scale = kept() ?? "log";
    const scales = segments("Scale of the bars", [["log", "Log"], ["linear", "Linear"]], this.#scale, (scale) => {
      this.#scale = scale;
      keep(scale);
      this.#draw();
    });
    this.element = h(
      "section",
      { class: "card due" },
      h("header", { class: "card-head" }, h("h2", {}, "When it is due"), scales.element),
      h("div", { class: "due-plot" }, this.#grid, this.#bars),
      this.#note,
    );
  }

  show(answer) {
    this.#answer = answer;
    this.#draw();
  }

  #draw() {
    if (!this.#answer) return;
    const { now, buckets, partitions } = this.#answer;
    const most = buckets.reduce((one, { count }) => Math.max(one, count), 0);
    const share = this.#scale === "log" ? (n) => Math.log10(n + 1) / Math.log10(most + 1 || 1) : (n) => n / most;
    // Bars are changed in place: whoever stands on one with the keyboard stays there.
    if (this.#bars.children.length !== buckets.length) fill(this.#bars, ...buckets.map(() => bar()));
    buckets.forEach((bucket, at) => {
      const height = bucket.count === 0 || most === 0 ? 0 : share(bucket.count);
      write(this.#bars.children[at], this.#hrefOf(bucket), bucket, bounds(buckets, at, now), height);
    });
    fill(this.#grid, ...(most > 0 ? lines(most, this.#scale, share) : [h("p", { class: "due-nothing" }, "Nothing is pending.")]));
    const missing = partitions?.missing?.length ?? 0;
    const whole = missing === 0 ? "" : ` ${missing} more ${missing === 1 ? "partition is" : "partitions are"} not counted here.`;
    fill(this.#note, `From now: each bar counts what is due within that time and is not in the bar before. ${this.#scale === "log" ? "The scale is logarithmic." : ""}${whole}`);
  }
}

/// How long from now a bucket begins and ends.
function bounds(buckets, at, now) {
  const end = buckets[at].to === null ? null : buckets[at].to - now;
  return { begin: at === 0 ? null : buckets[at].from - now, end };
}

function bar() {
  return h(
    "li",
    {},
    h(
      "a",
      {},
      h("span", { class: "due-count", "aria-hidden": "true" }),
      h("span", { class: "due-bar", "aria-hidden": "true" }, h("span", { class: "due-fill" })),
      h("span", { class: "due-label", "aria-hidden": "true" }),
      h("span", { class: "unseen-label" }),
    ),
  );
}

function write(item, href, bucket, { begin, end }, height) {
  const link = item.firstElementChild;
  const [number, , label, whole] = link.children;
  link.setAttribute("href", href);
  const range = rangeOf(begin, end);
  link.title = `${count(bucket.count)} due ${range}`;
  number.textContent = bucket.count === 0 ? "" : short(bucket.count);
  label.textContent = end === null ? "later" : compact(end);
  whole.textContent = `${count(bucket.count)} due ${range}`;
  item.classList.toggle("is-first", begin === null);
  item.classList.toggle("is-empty", bucket.count === 0);
  item.style.setProperty("--share", height.toFixed(4));
}

function rangeOf(begin, end) {
  if (begin === null) return `within ${compact(end)}, or overdue`;
  if (end === null) return `later than ${compact(begin)}`;
  return `in ${compact(begin)} to ${compact(end)}`;
}

/// Buckets are counted from a moment that is not quite now: 59.8 s is a minute.
function compact(ms) {
  const steps = [[31_536_000_000, "y"], [86_400_000, "d"], [3_600_000, "h"], [60_000, "min"]];
  for (const [size, unit] of steps) {
    const whole = Math.round(ms / size);
    if (whole >= 1 && Math.abs(ms - whole * size) < size * 0.05) return `${whole} ${unit}`;
  }
  return duration(ms);
}

/// Lines at round counts, few enough to stay apart.
function lines(most, scale, share) {
  const at = [];
  if (scale === "log") {
    const digits = Math.floor(Math.log10(most));
    const step = Math.max(1, Math.ceil(digits / 4));
    for (let digit = step; digit <= digits; digit += step) at.push(10 ** digit);
  } else {
    const raw = most / 4;
    const size = 10 ** Math.floor(Math.log10(raw));
    const step = Math.max(1, [1, 2, 5, 10].find((factor) => factor * size >= raw) * size);
    for (let line = step; line <= most; line += step) at.push(line);
  }
  return at.map((line) => h("span", { class: "due-line", vars: { "--share": share(line).toFixed(4) } }, h("span", {}, short(line))));
}

function kept() {
  try {
    const scale = localStorage.getItem(KEY);
    return scale === "log" || scale === "linear" ? scale : null;
  } catch {
    return null;
  }
}

function keep(scale) {
  try {
    localStorage.setItem(KEY, scale);
  } catch {
    // Not kept: the choice lasts as long as the page.
  }
}
