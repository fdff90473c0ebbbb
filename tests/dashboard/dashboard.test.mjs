// The dashboard as a person uses it, in a real browser, against a running instance.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { api, destination, launch, open, put, unique } from "./support.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const VIEWS = ["overview", "schedules", "recent", "partitions"];

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** Runs with a page of its own, on which nothing may have gone wrong at the end. */
function look(name, options, run) {
  test(name, async () => {
    const { page, troubles, close } = await open(browser, options);
    try {
      await run(page);
      assert.deepEqual(troubles, []);
    } finally {
      await close();
    }
  });
}

async function find(page, id, kind = "exact") {
  await page.getByLabel("ID", { exact: true }).first().fill(id);
  await page.getByText(kind === "exact" ? "is exactly" : "begins with", { exact: true }).click();
  await page.getByRole("button", { name: "Search" }).click();
}

look("a schedule is created, counted, and seen to fire", {}, async (page) => {
  const id = unique("created");
  await page.getByText("ready", { exact: true }).waitFor();
  const pending = () => page.locator(".figure .value").first().innerText();
  await page.getByRole("link", { name: "Schedules" }).click();
  await page.getByRole("button", { name: "New schedule" }).click();
  const form = page.locator("#edit-dialog");
  await form.getByLabel("ID", { exact: true }).fill(id);
  await form.getByLabel("How long from now").fill("4s");
  await form.getByLabel("Destination topic").fill(destination);
  await form.getByLabel("Key", { exact: true }).fill("customer-7");
  await form.getByLabel("Value", { exact: true }).fill('{"cart": [1, 2]}');
  await form.getByLabel("Headers, one a line").fill("content-type: application/json");
  await form.getByRole("button", { name: "Schedule", exact: true }).click();
  await page.getByText(`${id} is scheduled`).waitFor();

  await find(page, id);
  await page.locator("#found").getByText("1 schedule").waitFor();
  await page.locator("#found-table").getByRole("button", { name: id }).click();
  const shown = page.locator("#schedule-fields");
  await shown.getByText("customer-7").waitFor();
  await shown.getByText('"cart"').waitFor();
  await page.locator("#schedule-dialog").getByRole("button", { name: "Close" }).click();

  await page.getByRole("link", { name: "Overview" }).click();
  await page.waitForFunction(() => /[1-9]/.test(document.querySelector(".figure .value")?.textContent ?? ""));
  assert.notEqual(await pending(), "0");
  await page.getByRole("link", { name: "Recent" }).click();
  const row = page.locator("#recent-table tr", { hasText: id });
  await row.getByText("fired", { exact: true }).waitFor({ timeout: 10_000 });
  await row.getByText(`to ${destination}`).waitFor();
});

look("one is rescheduled, one fired at once, one cancelled", { path: "/#schedules" }, async (page) => {
  const [later, now, never] = ["later", "now", "never"].map(unique);
  for (const id of [later, now, never]) assert.equal((await put(id, { in: "2h" })).status, 200);
  const act = async (id, button, confirm, fill) => {
    await find(page, id);
    await page.locator("#found-table").getByRole("button", { name: id }).click();
    await page.locator("#schedule-actions").getByRole("button", { name: button }).click();
    await fill?.();
    await page.locator("#schedule-actions").getByRole("button", { name: confirm, exact: true }).click();
  };
  const before = (await api("GET", `/api/schedules/${later}`)).body.time;
  await act(later, "Reschedule…", "Reschedule", () => page.getByLabel("New due time").fill("2040-01-02T03:04:05"));
  await page.getByText(`${later} has another due time`).waitFor();
  assert.notEqual((await api("GET", `/api/schedules/${later}`)).body.time, before);
  await act(now, "Fire now…", "Fire it now");
  await page.getByText(`${now} is due now`).waitFor();
  await act(never, "Cancel it…", "Cancel it");
  await page.getByText(`${never} is cancelled`).waitFor();
  const gone = await api("GET", `/api/schedules/${never}`);
  assert.equal(gone.status, 404);
  await find(page, never);
  await page.locator("#found").getByText(/the last that happened to it: cancelled/).waitFor();
  await page.getByRole("link", { name: "Recent" }).click();
  await page.locator("#recent-table tr", { hasText: now }).getByText("fired", { exact: true }).waitFor({ timeout: 10_000 });
});

look("a schedule is replaced with what it had", { path: "/#schedules" }, async (page) => {
  const id = unique("replaced");
  await put(id, { in: "3h", key_text: "k", value_text: "first", headers_text: { a: "b" } });
  await find(page, id);
  await page.locator("#found-table").getByRole("button", { name: id }).click();
  await page.getByRole("button", { name: "Replace…" }).click();
  const form = page.locator("#edit-dialog");
  assert.equal(await form.getByLabel("Value", { exact: true }).inputValue(), "first");
  assert.equal(await form.getByLabel("Headers, one a line").inputValue(), "a: b");
  await form.getByLabel("Value", { exact: true }).fill("second");
  await form.getByRole("button", { name: "Schedule", exact: true }).click();
  await page.getByText(`${id} is scheduled`).waitFor();
  const { body } = await api("GET", `/api/schedules/${id}`);
  assert.equal(Buffer.from(body.value, "base64").toString(), "second");
  assert.deepEqual([body.key, body.headers], ["aw==", { a: "Yg==" }]);
});

look("many are found page by page, and cancelled after they were counted", { path: "/#schedules" }, async (page) => {
  const prefix = unique("many");
  await Promise.all(Array.from({ length: 250 }, (_, n) => put(`${prefix}-${n}`, { in: "5h" })));
  await find(page, prefix, "prefix");
  const rows = () => page.locator("#found-table tbody tr").count();
  await page.waitForFunction(() => document.querySelectorAll("#found-table tbody tr").length >= 100);
  while (await page.locator("#more").isVisible()) {
    const shown = await rows();
    await page.locator("#more").click();
    await page.waitForFunction((shown) => document.querySelectorAll("#found-table tbody tr").length > shown || document.getElementById("more").hidden, shown);
    await page.waitForFunction(() => document.getElementById("stop-search").hidden);
  }
  assert.equal(await rows(), 250);

  await page.getByRole("button", { name: "Cancel many…" }).click();
  const dialog = page.locator("#many-dialog");
  await dialog.getByRole("button", { name: "Count" }).click();
  await dialog.getByText(/^250 of .* schedules match/).waitFor();
  assert.equal((await api("GET", `/api/schedules/${prefix}-7`)).status, 200, "nothing is cancelled before");
  const go = dialog.getByRole("button", { name: "Cancel 250" });
  assert.ok(await go.isDisabled());
  await dialog.getByLabel("Write the number").fill("25");
  assert.ok(await go.isDisabled());
  await dialog.getByLabel("Write the number").fill("250");
  await go.click();
  await dialog.getByText("250 cancelled.").waitFor();
  assert.equal((await api("GET", `/api/schedules/${prefix}-7`)).status, 404);
});

look("an ID that is a script does nothing", { path: "/#schedules" }, async (page) => {
  const mark = unique("x");
  const id = `<script>alert("${mark}")</script>"><img src=x onerror=alert(1)>`;
  const body = { in: "6h", key_text: id, value_text: id, headers_text: { "<b>": id } };
  assert.equal((await put(id, body)).status, 200);
  await find(page, "<script>", "prefix");
  await page.locator("#found-table").getByRole("button", { name: mark }).click();
  await page.locator("#schedule-title", { hasText: id }).waitFor();
  await page.locator("#schedule-fields", { hasText: `Header <b>` }).waitFor();
  assert.equal(await page.locator("main img, dialog img, main script, dialog script").count(), 0);
  await page.getByRole("button", { name: "Cancel it…" }).click();
  await page.locator("#schedule-actions").getByRole("button", { name: "Cancel it", exact: true }).click();
  await page.getByText("is cancelled (").waitFor();
  await page.getByRole("link", { name: "Recent" }).click();
  await page.locator("#recent-table tr", { hasText: mark }).first().waitFor({ timeout: 10_000 });
});

look("what the API refuses is said where it was asked", { path: "/#schedules" }, async (page) => {
  await page.getByRole("button", { name: "New schedule" }).click();
  const form = page.locator("#edit-dialog");
  await form.getByLabel("ID", { exact: true }).fill("refused");
  await form.getByLabel("How long from now").fill("soon");
  await form.getByLabel("Destination topic").fill("__consumer_offsets");
  await form.getByRole("button", { name: "Schedule", exact: true }).click();
  await form.getByText(/refuse the topic|no duration/).waitFor();
  await form.getByRole("button", { name: "Close" }).click();
  await find(page, unique("unknown"));
  await page.locator("#found").getByText(/no schedule with the ID/).waitFor();
});

look("a schedule is created with the keyboard alone", { path: "/#schedules" }, async (page) => {
  const id = unique("keys");
  await page.getByRole("button", { name: "New schedule" }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type(id);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("4h");
  for (let n = 0; n < 12 && (await page.evaluate(() => document.activeElement.name)) !== "topic"; n += 1) await page.keyboard.press("Tab");
  await page.keyboard.type(destination);
  await page.keyboard.press("Enter");
  await page.getByText(`${id} is scheduled`).waitFor();
  assert.equal((await api("GET", `/api/schedules/${id}`)).status, 200);
});

/** Answers some requests itself, as an instance in another state would. */
const instead = (pattern, answer) => (page) => page.route(pattern, (route) => answer(route));

test("an instance with a token asks for it, and for another if it is wrong", async () => {
  const prepare = instead("**/api/**", async (route) => {
    if ((await route.request().headerValue("authorization")) === "Bearer secret") return route.continue();
    return route.fulfill({ status: 401, json: { code: "unauthorized", message: "the token is missing or wrong" } });
  });
  const { page, troubles, close } = await open(browser, { prepare });
  const dialog = page.locator("#token-dialog");
  await dialog.getByLabel("Token").fill("wrong");
  await dialog.getByRole("button", { name: "Continue" }).click();
  await dialog.getByText("That token is wrong.").waitFor();
  await dialog.getByLabel("Token").fill("secret");
  await dialog.getByRole("button", { name: "Continue" }).click();
  await page.getByText("ready", { exact: true }).waitFor();
  assert.ok(!page.url().includes("secret"));
  assert.deepEqual(troubles, []);
  await close();
});

/** The stream of an instance whose figures are changed. */
const withStats = (change) => instead("**/api/events*", async (route) => {
  const { body } = await api("GET", "/api/stats");
  const data = JSON.stringify({ ...body, ...change });
  await route.fulfill({ contentType: "text/event-stream", body: `event: stats\ndata: ${data}\n\n` });
});

test("states that are rare are said", async () => {
  for (const [change, wanted, path] of [
    [{ read_only: true }, "ready, read-only", "/#schedules"],
    [{ ready: false, reasons: ["no broker is reached"] }, "Not ready: no broker is reached", "/"],
    [{ partitions: 0 }, "This instance stands by", "/"],
    [{ pending: 100_000_000, due: [{ within: "1m", count: 99_999_999 }, { within: "10m", count: 0 }, { within: "1h", count: 0 }, { within: "1d", count: 1 }, { within: "later", count: 0 }] }, "100,000,000", "/"],
    [{ pending: 0, fired: 0 }, "Nothing is scheduled yet", "/"],
  ]) {
    const { page, troubles, close } = await open(browser, { path, prepare: withStats(change) });
    await page.getByText(wanted).first().waitFor();
    if (change.read_only) assert.equal(await page.getByRole("button", { name: "New schedule" }).isVisible(), false);
    assert.deepEqual(troubles, []);
    await close();
  }
});

test("an instance that goes away is said to be gone, and comes back", async () => {
  let isGone = false;
  const prepare = instead("**/api/**", (route) => (isGone ? route.abort() : withStatsOnce(route)));
  const withStatsOnce = async (route) => {
    if (!route.request().url().includes("/api/events")) return route.continue();
    const { body } = await api("GET", "/api/stats");
    return route.fulfill({ contentType: "text/event-stream", body: `event: stats\ndata: ${JSON.stringify(body)}\n\n` });
  };
  const { page, close } = await open(browser, { prepare });
  await page.getByText("ready", { exact: true }).waitFor();
  isGone = true;
  await page.getByText("The instance does not answer").waitFor();
  isGone = false;
  await page.getByText("ready", { exact: true }).waitFor();
  assert.equal(await page.locator("body.stale").count(), 0);
  await close();
});

for (const theme of ["light", "dark"]) {
  for (const view of VIEWS) {
    look(`${view}, ${theme}: accessible, also on a phone`, { path: `/#${view}`, theme }, async (page) => {
      await page.getByText("ready", { exact: true }).waitFor();
      await page.waitForTimeout(1_200);
      await assertAccessible(page);
      await page.setViewportSize({ width: 360, height: 740 });
      await page.waitForTimeout(300);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(wide <= 0, `${wide} pixels too wide`);
      await assertAccessible(page);
    });
  }
  look(`dialogs, ${theme}: accessible`, { path: "/#schedules", theme }, async (page) => {
    const id = unique("dialog");
    await put(id, { in: "2h", value_text: "x".repeat(300) });
    await page.getByRole("button", { name: "New schedule" }).click();
    await assertAccessible(page);
    await page.locator("#edit-dialog").getByRole("button", { name: "Close" }).click();
    await page.getByRole("button", { name: "Cancel many…" }).click();
    await assertAccessible(page);
    await page.locator("#many-dialog").getByRole("button", { name: "Close" }).click();
    await find(page, id);
    await page.locator("#found-table").getByRole("button", { name: id }).click();
    await page.getByRole("button", { name: "Cancel it…" }).click();
    await assertAccessible(page);
  });
}

async function assertAccessible(page) {
  // The page's policy lets no other script in but by the driver's own way.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
  const said = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" | ")}`);
  assert.deepEqual(said, []);
}
