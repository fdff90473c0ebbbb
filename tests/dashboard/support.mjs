// A browser, and an instance to look at.

import { chromium } from "playwright-core";

export const url = process.env.KMS_URL ?? "http://127.0.0.1:9402";

/** Where delivered: a topic that the instance may deliver to. */
export const destination = process.env.KMS_DESTINATION ?? "reminders";

export async function launch() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
}

/** The page's files from here instead of those in the binary, while they are worked on. */
const assets = process.env.KMS_ASSETS;
const KINDS = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };

async function serveFromDisk(route) {
  const { pathname } = new URL(route.request().url());
  const file = pathname === "/" ? "index.html" : pathname.slice(1);
  const headers = (await route.fetch()).headers();
  await route.fulfill({ path: `${assets}/${file}`, headers: { ...headers, "content-length": undefined }, contentType: KINDS[file.split(".").pop()] });
}

/**
 * A page that fails the test on errors of scripts, on what its policy blocked, and on dialogs of the browser: nothing that a
 * schedule has in it may run.
 */
export async function open(browser, { path = "/", width = 1280, height = 900, theme = "light", prepare } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, reducedMotion: "reduce", locale: "en-GB" });
  const page = await context.newPage();
  const troubles = [];
  page.on("pageerror", (error) => troubles.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => { troubles.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) troubles.push(message.text());
  });
  if (assets) await page.route((address) => !address.pathname.startsWith("/api/"), serveFromDisk);
  await prepare?.(page);
  await page.goto(`${url}${path}`);
  return { page, troubles, close: () => context.close() };
}

export async function api(method, path, body) {
  const headers = method === "PUT" || method === "POST" ? { "Content-Type": "application/json" } : {};
  const response = await fetch(`${url}${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  return { status: response.status, body: await response.json() };
}

export const put = (id, body) => api("PUT", `/api/schedules/${encodeURIComponent(id)}`, { topic: destination, value_text: "hi", ...body });

/** Unlike any other of this run or an earlier one. */
export const unique = (name) => `${name}-${Date.now().toString(36)}-${Math.floor(Math.random() * 1e6)}`;
