// What the browser tests stand on: a browser, a page that is watched, and kms: the one at KMS_URL, or the stand-in.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before } from "node:test";
import { chromium } from "playwright-core";
import { startMock } from "./mock-server.mjs";

const REAL = process.env.KMS_URL;
/// A topic that exists on the cluster of a real instance.
export const DESTINATION = process.env.KMS_DESTINATION ?? "reminders";
/// For tests that need a state which only the stand-in can be put into.
export const mockOnly = { skip: REAL ? "needs a state that only the stand-in can be put into" : false };
/// A real cluster takes its time.
const PATIENCE_MS = 20_000;

let browser;

/// Call it once in each file of tests.
export function useBrowser() {
  before(async () => {
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"], headless: true });
  });
  after(() => browser?.close());
}

/// A page on a fresh stand-in, or on the real instance; handed to `test`. Whatever the page should never do fails the test.
export async function withPage(options, test) {
  const { scenario = "plain", hash = "", theme = "light", width = 1280, height = 900, prepare, mayFail = false } = options;
  const mock = REAL ? null : await startMock({ scenario });
  const url = REAL ?? mock.url;
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, locale: "en-GB", timezoneId: "Europe/Berlin" });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const wrong = watch(page, mayFail);
  try {
    prepare?.(mock);
    await page.goto(url + hash);
    await test({ page, mock, url, api: apiOf(url) });
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
    await mock?.stop();
  }
}

/// What must not happen on any page: dialogs of the browser, exceptions, complaints of the policy, outside requests.
function watch(page, mayFail) {
  const wrong = [];
  page.on("dialog", (dialog) => {
    wrong.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("pageerror", (error) => wrong.push(`exception: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() !== "error") return;
    // The browser logs every answer that is an error; the dashboard is to cope with them.
    const isAnswer = message.text().startsWith("Failed to load resource");
    if (!isAnswer || !(mayFail || /status of 4\d\d/.test(message.text()))) wrong.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (new URL(request.url()).host !== new URL(page.url() === "about:blank" ? request.url() : page.url()).host) wrong.push(`outside: ${request.url()}`);
  });
  return wrong;
}

/// The API itself, to set the stage.
function apiOf(url) {
  const ask = async (method, path, body) => {
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${url}api/${path}`, { method, headers, body: body && JSON.stringify(body) });
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${response.ok ? "" : await response.text()}`);
    return response.json();
  };
  return {
    put: (id, more) => ask("PUT", `schedules/${encodeURIComponent(id)}`, { in: "1h", topic: DESTINATION, key: "", ...more }),
    async putMany(ids, more) {
      for (let at = 0; at < ids.length; at += 50) await Promise.all(ids.slice(at, at + 50).map((id) => this.put(id, more)));
    },
    stats: () => ask("GET", "stats"),
  };
}

/// A name that no other test, and no run before, has used.
export function unique(name) {
  unique.count = (unique.count ?? 0) + 1;
  return `${name}-${Date.now().toString(36)}${process.pid.toString(36)}${unique.count}`;
}

export const base64 = (content) => Buffer.from(content).toString("base64");

/// Waits until what `ask` gives is as it should be.
export async function eventually(ask, isRight, what) {
  const deadline = Date.now() + PATIENCE_MS;
  let last;
  while (Date.now() < deadline) {
    last = await ask();
    if (isRight(last)) return last;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(`${what}: ${JSON.stringify(last)}`);
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/// What axe objects to, as lines to read.
export async function objections(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document));
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target} ${failureSummary.replace(/\s+/g, " ")}`));
}

/// By how much the page is wider than its window, and what sticks out.
export function overflow(page) {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll("body *")].filter((element) => element.getBoundingClientRect().right > width + 1).slice(0, 5).map((element) => `${element.tagName}.${element.className}`);
  });
}
