// What needs no browser: figures, durations, bytes, figures over time; and that what was vendored is what was published.

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";

const FILES = new URL("../../src/admin/dashboard/", import.meta.url);
const load = (name) => import(new URL(name, FILES));
const format = await load("dashboard-format.js");
const bytes = await load("dashboard-bytes.js");
const { OverTime } = await load("dashboard-over-time.js");

describe("plain", () => {
  it("writes figures", () => {
    assert.equal(format.count(100_000_000), "100,000,000");
    assert.deepEqual([0, 9_999, 10_000, 1_234_567, 100_000_000].map(format.short), ["0", "9,999", "10K", "1.23M", "100M"]);
    assert.deepEqual([0, 0.02, 3.14, 12.6, 48_000].map(format.rate), ["0", "0.1", "3.1", "13", "48K"]);
    assert.deepEqual([[0, 0], [1, 3], [999, 1000], [5, 5]].map(([part, whole]) => format.percent(part, whole)), ["–", "33 %", "99 %", "100 %"]);
    assert.deepEqual([0, 1023, 1536, 14.4 * 2 ** 30].map(format.bytes), ["0 B", "1,023 B", "1.5 KiB", "14.4 GiB"]);
    assert.equal(format.ranges([5, 0, 1, 2]), "0–2, 5");
  });

  it("writes durations, rounded down: what is not over is not said to be", () => {
    const written = [0, 999, 1_250, 59_999, 192_000, 3_600_000, 7_500_000, 273_600_000, 66_528_000_000].map(format.duration);
    assert.deepEqual(written, ["0 ms", "999 ms", "1.2 s", "59 s", "3 min 12 s", "1 h", "2 h 5 min", "3 d 4 h", "2 y 40 d"]);
    assert.deepEqual([5_000, -90_000, 200].map((left) => format.until(1e12 + left, 1e12)), ["in 5 s", "1 min 30 s overdue", "now"]);
  });

  it("writes times that no calendar has", () => {
    assert.match(format.dateTime(9.2e18), /beyond any calendar/);
    assert.equal(format.clock(9.2e18), "–");
    assert.equal(format.iso(0), "1970-01-01T00:00:00.000Z");
  });

  it("reads durations", () => {
    assert.deepEqual(["90m", "1h 30m", "30d", "10 s", "2days"].map(format.parseDuration), [5_400_000, 5_400_000, 2_592_000_000, 10_000, 172_800_000]);
    assert.deepEqual(["", "m", "5", "5x", "-5m", "5m!"].map(format.parseDuration), [null, null, null, null, null, null]);
  });

  it("gives bytes back as they were", () => {
    const all = Uint8Array.from({ length: 70_000 }, (_, n) => n % 256);
    assert.deepEqual(bytes.fromBase64(bytes.toBase64(all)), all);
    assert.equal(bytes.toText(bytes.fromBase64(bytes.textToBase64("ü✓"))), "ü✓");
    assert.equal(bytes.toText(Uint8Array.of(0xff)), null);
    assert.equal(bytes.fromBase64("*"), null);
  });

  it("lays JSON out without changing it", () => {
    const text = '{"big":12345678901234567890,"same":1,"same":2,"s":"a\\"{b}","e":[],"o":{"x":[1,{}]}}';
    const pretty = bytes.prettyJson(text);
    assert.equal(pretty.replace(/\n\s*/g, "").replaceAll('": ', '":'), text);
    assert.deepEqual(["12", '"x"', "{", "no", ""].map(bytes.prettyJson), [null, null, null, null, null]);
  });

  it("dumps bytes", () => {
    assert.equal(bytes.hexDump(Uint8Array.of(104, 105, 10)), `00000000  ${"68 69 0a".padEnd(23)}  hi.`);
  });

  it("counts what comes live into steps", () => {
    const time = new OverTime(20_000, { step_ms: 5000, points: [{ time: 0, fired: 7 }] });
    const stats = (now, fired) => ({ now, fired, cancelled: 0, replaced: 0, rejected: 0, pending: 1, lateness_ms: { p50: 1, p99: 2 } });
    assert.deepEqual([0, 1, 2, 3, 4, 5, 6].map((second) => time.take(stats(10_000 + second * 1000, second * 10))), [false, false, false, false, false, true, false]);
    assert.deepEqual(time.points.map(({ time: at, fired }) => [at, fired]), [[0, 7], [10_000, 50]]);
    assert.deepEqual(time.perSecond("fired"), [1.4, 10]);
    assert.equal(time.take(stats(17_000, 0)), false, "a process that began anew counts nothing backwards");
  });

  it("has uPlot as it was published, with its licence", async () => {
    const published = dirname(createRequire(import.meta.url).resolve("uplot/package.json"));
    for (const [ours, theirs] of [["uplot.js", "dist/uPlot.iife.min.js"], ["uplot.css", "dist/uPlot.min.css"], ["uplot-license.txt", "LICENSE"]]) {
      assert.deepEqual(await readFile(new URL(ours, FILES)), await readFile(join(published, theirs)), ours);
    }
  });

  it("makes no markup of data, and needs nothing from outside", async () => {
    for (const name of await readdir(FILES)) {
      if (name.startsWith("uplot")) continue;
      const text = await readFile(new URL(name, FILES), "utf8");
      assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser/, name);
      assert.doesNotMatch(text.replace("http://www.w3.org/2000/svg", ""), /https?:\/\//, name);
    }
    const page = await readFile(new URL("index.html", FILES), "utf8");
    assert.doesNotMatch(page, /\sstyle=|\son[a-z]+=|<style|<script>/);
  });
});
