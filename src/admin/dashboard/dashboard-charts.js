// Charts over time, drawn by uPlot: one look, one cursor over all of them, and a table of the same figures.

import { button, fill, freshId, h, setText } from "./dashboard-dom.js";
import { clock, minute } from "./dashboard-format.js";

const HEIGHT = 168;
const CURSOR = "kms";

/// A chart. `series`: `{name, color}` each, where the color is a custom property of the style. `format` writes a figure.
export class TimeChart {
  #title;
  #series;
  #format;
  #plot = null;
  #data;
  #spanMs = 600_000;
  #place;
  #readouts;
  #moment;
  #tablePlace;
  #tableButton;

  constructor({ title, unit, series, format }) {
    this.#title = title;
    this.#series = series;
    this.#format = format;
    this.#data = [[], ...series.map(() => [])];
    this.#place = h("div", { class: "plot", role: "img" });
    this.#moment = h("span", { class: "legend-moment" });
    this.#readouts = series.map(() => h("span", { class: "legend-figure" }));
    const legend = series.map(({ name, color }, at) =>
      h("span", { class: "legend-item" }, h("i", { class: "legend-mark", vars: { "--color": `var(${color})` } }), name, " ", this.#readouts[at]),
    );
    this.#tablePlace = h("div", { id: freshId(), class: "figures", hidden: true });
    this.#tableButton = button("Table", () => this.#toggleTable(), {
      class: "quiet",
      "aria-expanded": "false",
      "aria-controls": this.#tablePlace.id,
      "aria-label": `${title}, as a table`,
    });
    this.element = h(
      "section",
      { class: "card chart" },
      h("header", { class: "card-head" }, h("h2", {}, title, unit && h("span", { class: "unit" }, ` ${unit}`)), this.#tableButton),
      h("p", { class: "legend", "aria-hidden": "true" }, this.#moment, ...legend),
      this.#place,
      this.#tablePlace,
    );
    new ResizeObserver(() => this.#fit()).observe(this.#place);
    document.addEventListener("kms:theme", () => this.#anew());
  }

  /// `times` in epoch milliseconds, and the figures of each series.
  show(times, figures, spanMs) {
    this.#spanMs = spanMs;
    this.#data = [times.map((time) => time / 1000), ...figures];
    if (this.#plot) this.#plot.setData(this.#data);
    else this.#draw();
    this.#read(null);
    this.#describe();
    if (!this.#tablePlace.hidden) this.#fillTable();
  }

  #draw() {
    const width = this.#place.clientWidth;
    if (width === 0) return; // Not on the page: it is drawn when it is.
    this.#plot = new uPlot(this.#options(width), this.#data, this.#place);
  }

  #fit() {
    const width = this.#place.clientWidth;
    if (width === 0) return;
    if (!this.#plot) this.#draw();
    else if (this.#plot.width !== width) this.#plot.setSize({ width, height: HEIGHT });
  }

  /// Colors are fixed when a plot is made.
  #anew() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#draw();
  }

  #options(width) {
    const axis = { stroke: color("--muted"), font: `11px ${FONT}`, ticks: { show: false }, grid: { stroke: color("--grid"), width: 1 } };
    return {
      width,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: CURSOR }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: {
        x: { range: () => this.#range() },
        y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.12 : 1] },
      },
      axes: [
        { ...axis, size: 26, gap: 6, space: 72, values: (_plot, splits) => splits.map((split) => minute(split * 1000)), grid: { show: false } },
        { ...axis, size: 58, gap: 6, space: 36, values: (_plot, splits) => splits.map((split) => this.#format(split)) },
      ],
      series: [
        {},
        ...this.#series.map((series, at) => ({
          stroke: color(series.color),
          width: 1.75,
          fill: this.#series.length === 1 ? color(series.color, 0.12) : undefined,
          // Lines hide what stands alone between gaps.
          points: { show: true, size: 4, filter: () => alone(this.#data[at + 1]) },
        })),
      ],
      hooks: { setCursor: [(plot) => this.#read(plot.cursor.idx)] },
    };
  }

  /// Always the whole span, so that a start looks like a start and charts stand side by side.
  #range() {
    const last = this.#data[0].at(-1) ?? Date.now() / 1000;
    return [last - this.#spanMs / 1000, last];
  }

  /// Writes the figures at the cursor, else the last.
  #read(index) {
    const at = index ?? this.#data[0].length - 1;
    setText(this.#moment, index === null || index === undefined ? "" : clock(this.#data[0][at] * 1000));
    this.#readouts.forEach((readout, series) => setText(readout, this.#format(this.#data[series + 1][at] ?? null)));
  }

  #describe() {
    const last = this.#data[0].length - 1;
    const about = this.#series.map(({ name }, at) => {
      const figures = this.#data[at + 1].filter((figure) => figure !== null);
      if (figures.length === 0) return `${name}: nothing`;
      const most = figures.reduce((one, other) => Math.max(one, other));
      return `${name}: now ${this.#format(this.#data[at + 1][last])}, at most ${this.#format(most)}`;
    });
    this.#place.setAttribute("aria-label", `${this.#title}. ${about.join("; ")}`);
  }

  #toggleTable() {
    const opens = this.#tablePlace.hidden;
    this.#tablePlace.hidden = !opens;
    this.#tableButton.setAttribute("aria-expanded", String(opens));
    if (opens) this.#fillTable();
    else fill(this.#tablePlace);
  }

  #fillTable() {
    const rows = this.#data[0].map((time, at) =>
      h("tr", {}, h("th", { scope: "row" }, clock(time * 1000)), ...this.#series.map((_, of) => h("td", {}, this.#format(this.#data[of + 1][at])))),
    );
    const scroller = this.#tablePlace.firstElementChild;
    const top = scroller?.scrollTop ?? 0;
    const columns = this.#series.map(({ name }) => h("th", { scope: "col" }, name));
    const next = h(
      "div",
      { class: "figures-scroll", tabindex: "0", role: "region", "aria-label": `${this.#title}, figures` },
      h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), ...columns)), h("tbody", {}, ...rows.reverse())),
    );
    // While somebody reads it, it stays as it is.
    if (scroller?.contains(document.activeElement) || top > 0) return;
    fill(this.#tablePlace, next);
  }
}

const FONT = "system-ui, sans-serif";

/// Where a figure has no neighbour.
function alone(figures) {
  const found = [];
  figures.forEach((figure, at) => {
    if (figure !== null && (figures[at - 1] ?? null) === null && (figures[at + 1] ?? null) === null) found.push(at);
  });
  return found;
}

/// A color of the style, resolved for a canvas, which knows neither custom properties nor themes.
function color(property, alpha = 1) {
  const probe = h("span", { hidden: true, vars: { color: `var(${property})` } });
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return alpha === 1 ? resolved : resolved.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
}
