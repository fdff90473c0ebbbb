// Pictures of every view: node screenshots.mjs DIRECTORY [NAME…]. With names: only those.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { startMock } from "./mock-server.mjs";

const [directory, ...only] = process.argv.slice(2);
if (!directory) {
  console.error("say where to: node screenshots.mjs DIRECTORY [NAME…]");
  process.exit(2);
}
const open = (name) => async (page) => page.getByRole("button", { name, exact: true }).first().click();
const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 780 };
const PICTURES = {
  overview: { scenario: "huge", hash: "#/overview", settle: 4500, full: true },
  "overview-hour": { scenario: "huge", hash: "#/overview?over=1h", settle: 3000, full: true },
  empty: { scenario: "plain", hash: "#/overview" },
  partitions: { scenario: "loading", hash: "#/partitions", settle: 2600 },
  recent: { scenario: "huge", hash: "#/recent", settle: 2500 },
  schedules: { scenario: "busy", hash: "#/schedules", settle: 800 },
  schedule: { scenario: "busy", hash: "#/schedules?prefix=order-00&id=order-002315", settle: 800 },
  walking: { scenario: "huge", hash: "#/schedules?prefix=order-0001", settle: 150 },
  create: { scenario: "busy", hash: "#/schedules", act: open("Create a schedule") },
  reschedule: { scenario: "busy", hash: "#/schedules?id=order-002315", act: open("Reschedule") },
  cancel: { scenario: "busy", hash: "#/schedules?id=order-002315", act: open("Cancel it") },
  "cancel-many": {
    scenario: "busy",
    hash: "#/schedules?prefix=order-0",
    act: async (page) => {
      await open("Cancel many…")(page);
      await open("Count them")(page);
      await page.getByText("match.").waitFor();
    },
  },
  token: { scenario: "token", hash: "#/overview" },
  readonly: { scenario: "readonly", hash: "#/schedules?id=order-002315" },
  gone: { scenario: "huge", hash: "#/overview", settle: 2500, act: async (page, mock) => { await mock.goAway(); await page.getByText("does not answer").waitFor(); } },
};

await mkdir(directory, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"], headless: true });
for (const [name, { scenario, hash, settle = 700, act, full }] of Object.entries(PICTURES)) {
  if (only.length > 0 && !only.includes(name)) continue;
  const mock = await startMock({ scenario });
  // All of a view at once: what takes time is to wait for figures.
  const looks = [["light", WIDE, "light"], ["dark", WIDE, "dark"], ["phone", PHONE, "light"]];
  const pages = [];
  for (const [look, viewport, colorScheme] of looks) {
    const context = await browser.newContext({ viewport, colorScheme, locale: "en-GB", timezoneId: "Europe/Berlin" });
    const page = await context.newPage();
    await page.goto(mock.url + hash);
    pages.push([look, page]);
  }
  await new Promise((resolve) => setTimeout(resolve, settle));
  for (const [, page] of pages) await act?.(page, mock);
  for (const [look, page] of pages) {
    await page.waitForTimeout(400);
    await page.screenshot({ path: join(directory, `${name}-${look}.png`), fullPage: Boolean(full) && look !== "phone" });
    await page.context().close();
  }
  await mock.stop();
}
await browser.close();
