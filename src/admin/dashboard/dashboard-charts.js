// Plots over time: a canvas for the eyes, and a table of the same for those who do not see it.
/* global uPlot */

import { clock, compact, el } from "./dashboard-dom.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Rows of the table: the newest. */
const ROWS = 30;

export class Chart {
  /**
   * @param place   the element that it fills
   * @param series  `{label, colour}` each, the colour by its name in the style sheet
   */
  constructor(place, series) {
    this.place = place;
    this.series = series;
    this.data = [[], ...series.map(() => [])];
    this.spanS = 600;
    this.table = el("details", { class: "chart-table" }, el("summary", {}, "As a table"), el("div", { tabindex: "0" }));
    this.table.addEventListener("toggle", () => this.fillTable());
    place.after(this.table);
    place.setAttribute("role", "img");
    new ResizeObserver(() => this.fit()).observe(place);
  }

  /** How far back it goes from its newest point, whatever there is. */
  span(ms) {
    this.spanS = ms / 1_000;
  }

  /** Draws anew, in the colours of the theme that holds now. */
  restyle() {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  /** `times` in epoch milliseconds, and as many values for each series; null: none. */
  set(times, ...values) {
    this.data = [times.map((ms) => ms / 1_000), ...values];
    if (this.plot) this.plot.setData(this.data);
    else this.draw();
    this.describe();
    if (this.table.open) this.fillTable();
  }

  draw() {
    const { width, height } = this.size();
    if (width === 0 || this.data[0].length === 0) return;
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const line = ({ label, colour: name }) => ({
      label, stroke: colour(name), width: 2, points: { show: false }, spanGaps: false, fill: this.series.length === 1 ? `${colour(name)}22` : undefined,
      value: (_, value) => (value === null ? "–" : compact(value)),
    });
    this.plot = new uPlot({
      width, height,
      legend: { show: this.series.length > 1, live: false },
      cursor: { y: false, points: { size: 6 } },
      scales: { x: { range: () => this.range() }, y: { range: (_, least, most) => [0, most > 0 ? most * 1.08 : 1] } },
      axes: [axis, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => compact(tick)) }],
      series: [{}, ...this.series.map(line)],
    }, this.data, this.place);
  }

  range() {
    const newest = this.data[0].at(-1) ?? 0;
    return [newest - this.spanS, newest];
  }

  size() {
    return { width: this.place.clientWidth, height: 150 };
  }

  fit() {
    if (this.plot) this.plot.setSize(this.size());
    else this.draw();
  }

  describe() {
    const parts = this.series.map(({ label }, at) => {
      const values = this.data[at + 1].filter((value) => value !== null);
      if (values.length === 0) return `${label}: nothing`;
      return `${label}: ${compact(values.at(-1))} at the end, ${compact(Math.max(...values))} at most`;
    });
    this.place.setAttribute("aria-label", `Plot over time. ${parts.join("; ")}.`);
  }

  fillTable() {
    if (!this.table.open) return;
    const [times, ...values] = this.data;
    const head = el("tr", {}, el("th", { scope: "col" }, "Time"), ...this.series.map(({ label }) => el("th", { scope: "col", class: "n" }, label)));
    const rows = times.slice(-ROWS).map((_, n, shown) => {
      const at = times.length - 1 - n;
      const cells = values.map((series) => el("td", { class: "n" }, series[at] === null ? "–" : compact(series[at])));
      return shown && el("tr", {}, el("th", { scope: "row" }, clock(times[at] * 1_000)), ...cells);
    });
    this.table.lastElementChild.replaceChildren(el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
  }
}
