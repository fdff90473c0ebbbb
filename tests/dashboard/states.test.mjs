// Each state that an instance can be in, and what the dashboard makes of it. They need the stand-in.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { eventually, mockOnly, unique, useBrowser, withPage } from "./support.mjs";

const health = (page, text) => page.locator("#health", { hasText: text }).waitFor();

describe("states", mockOnly, () => {
  useBrowser();

  it("empty: says how to create the first", () =>
    withPage({}, async ({ page }) => {
      await page.getByText("Nothing is scheduled yet").waitFor();
      await page.getByText("kms schedule cart-7").waitFor();
      await page.locator(".empty").getByRole("button", { name: "Create a schedule" }).click();
      await page.getByRole("dialog").waitFor();
    }));

  it("unauthorized: asks for the token, keeps it out of addresses, and knows a wrong one", () =>
    withPage({ scenario: "token" }, async ({ page, mock }) => {
      const dialog = page.getByRole("dialog", { name: "Token" });
      await dialog.getByLabel("What admin.token is set to").fill("wrong");
      await dialog.getByRole("button", { name: "Use it" }).click();
      await dialog.getByText("not accepted").waitFor();
      await dialog.getByLabel("What admin.token is set to").fill("right");
      await page.keyboard.press("Enter");
      await health(page, "ready");
      await page.getByText("Nothing is scheduled yet").waitFor();
      assert.ok(!page.url().includes("right"));
      assert.ok(mock.seen.every(({ url }) => !url.includes("right") && !url.includes("wrong")), "it is in no address");
      assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes("right")), false);
      await page.reload();
      await health(page, "ready");
      await page.getByRole("button", { name: "Forget token" }).click();
      await health(page, "token needed");
      assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    }));

  it("read-only: offers nothing that changes anything", () =>
    withPage({ scenario: "readonly", hash: "#/schedules?id=order-000001" }, async ({ page }) => {
      await page.getByText("Read-only: this instance changes nothing.").first().waitFor();
      await page.locator(".one").getByRole("heading", { name: "Value" }).waitFor();
      for (const name of ["Create a schedule", "Cancel many…", "Fire now", "Reschedule", "Replace", "Cancel it"]) {
        assert.equal(await page.getByRole("button", { name }).count(), 0, name);
      }
      assert.ok(await page.locator("#read-only").isVisible());
    }));

  it("gone and back: says so, greys what it has, tries again by itself", () =>
    withPage({ scenario: "busy", mayFail: true }, async ({ page, mock }) => {
      await health(page, "ready");
      await mock.goAway();
      await health(page, "no answer");
      await page.getByText("The instance does not answer.").waitFor();
      await page.locator("body.is-stale").waitFor();
      assert.match(await page.locator(".tile-pending .figure-huge").textContent(), /^2,\d\d\d$/, "the last figures stay");
      await mock.comeBack();
      await health(page, "ready");
      await eventually(() => page.locator(".notice").count(), (count) => count === 0, "the notice goes");
      assert.equal(await page.locator("body.is-stale").count(), 0);
    }));

  it("silent: a connection without figures is given up", () =>
    withPage({ scenario: "busy", mayFail: true }, async ({ page, mock }) => {
      await health(page, "ready");
      for (const sending of mock.streams) clearInterval(sending);
      await health(page, "no answer");
      await health(page, "ready");
    }));

  it("not ready: says why, and how far a load is", () =>
    withPage({ scenario: "loading" }, async ({ page }) => {
      await health(page, "not ready");
      await page.getByText("schedules-2 is waiting").waitFor();
      await page.getByRole("link", { name: "See the partitions" }).click();
      await page.getByText(/4\d % · 4\d\.\dM of 98\.7M records/).waitFor();
      await page.getByText("another producer has a transaction open").last().waitFor();
      await page.getByText(/records, .+ left$/).waitFor();
    }));

  it("standing by: no partition is owned", () =>
    withPage({ scenario: "standby" }, async ({ page }) => {
      await health(page, "standing by");
      await page.getByText("This instance is ready and owns no partition").waitFor();
      await page.getByRole("link", { name: "Partitions" }).click();
      await page.getByText("Partitions 0–3 are served by others").waitFor();
    }));

  it("several topics: one is chosen, and is part of the address", () =>
    withPage({ scenario: "topics", hash: "#/partitions" }, async ({ page, mock }) => {
      await page.getByText("schedules: 4 of 4").waitFor();
      await page.getByLabel("Schedule topic").selectOption("json-schedules");
      await page.getByText("json-schedules: 4 of 4").waitFor();
      assert.match(page.url(), /topic=json-schedules/);
      await page.getByRole("link", { name: "Recent" }).click();
      await eventually(() => mock.seen.map(({ url }) => url).filter((url) => url.startsWith("/api/history")), (urls) => urls.some((url) => url.includes("schedule_topic=json-schedules")), "it is asked about that topic");
      await page.reload();
      await health(page, "ready");
      assert.equal(await page.getByLabel("Schedule topic").inputValue(), "json-schedules");
    }));

  it("another's partition: 421 says whom to ask", () =>
    withPage({ prepare: (mock) => (mock.partitions.length = 0), hash: "#/schedules?exact=order-1" }, async ({ page }) => {
      await page.getByText("where it would be, is another's").waitFor();
      await page.getByText("ask the instance that owns it", { exact: false }).waitFor();
    }));

  it("busy: 503 shows the hint, and Try again does", () =>
    withPage(
      {
        hash: "#/schedules",
        mayFail: true,
        prepare: (mock) => {
          mock.put("order-1", { time: Date.now() + 3_600_000, topic: "reminders" });
          mock.failures.push({ path: "/api/schedules", refusal: [503, "not_live", "schedules-0 is not live but loading", "GET /api/partitions shows how far it is"] });
        },
      },
      async ({ page }) => {
        await page.getByText("Schedules-0 is not live but loading.").waitFor();
        await page.getByText("shows how far it is").waitFor();
        await page.getByRole("button", { name: "Try again" }).click();
        await page.getByRole("link", { name: "order-1" }).waitFor();
      },
    ));

  it("an outdated cursor: the walk begins anew", () =>
    withPage(
      { hash: "#/schedules", prepare: (mock) => { for (let n = 0; n < 130; n += 1) mock.put(`o-${n}`, { time: Date.now() + 3_600_000, topic: "reminders" }); } },
      async ({ page, mock }) => {
        await page.getByText("1–100", { exact: false }).waitFor();
        mock.failures.push({ path: "/api/schedules", refusal: [410, "outdated_cursor", "schedules-0 was loaded anew since this cursor was given", "begin anew, without a cursor"] });
        await page.getByRole("button", { name: "Next" }).click();
        await page.getByRole("button", { name: "Try again" }).click();
        await page.getByText("1–100", { exact: false }).waitFor();
      },
    ));

  it("a write that is refused stays in its dialog", () =>
    withPage({ hash: "#/schedules", mayFail: true }, async ({ page, mock }) => {
      await page.getByRole("button", { name: "Create a schedule" }).click();
      const form = page.getByRole("dialog");
      await form.getByLabel("ID", { exact: true }).fill("kept");
      await form.getByLabel("Destination topic").fill("schedules");
      await form.getByRole("button", { name: "Create" }).click();
      await form.getByText("is a loop").waitFor();
      await form.getByLabel("Destination topic").fill("reminders");
      mock.failures.push({ path: "/api/schedules/kept", refusal: [503, "not_live", "schedules-0 is not live", "wait"] });
      await form.getByRole("button", { name: "Create" }).click();
      await form.getByText("not live").waitFor();
      await form.getByRole("button", { name: "Create" }).click();
      await page.locator(".one").getByText("in 59 min").waitFor();
    }));

  it("a hundred million: figures are grouped, walks go on over empty pages, tell how far, and stop", () =>
    withPage({ scenario: "huge" }, async ({ page }) => {
      await eventually(() => page.locator(".tile-pending .figure-huge").textContent(), (text) => /^100,00\d,\d{3}$/.test(text), "grouped");
      await page.locator(".due-bars").getByText(/^16M$/).waitFor();
      await page.goto(`${page.url().split("#")[0]}#/schedules?prefix=order-0001`);
      await page.getByText(/looked at, \d+ found/).waitFor();
      await page.getByRole("button", { name: "Stop" }).click();
      await page.getByText("There may be more.").waitFor();
      await page.getByRole("button", { name: "Go on" }).click();
      await eventually(() => page.locator(".walk").textContent(), (text) => text.includes("found. In no particular order."), "the walk ends");
    }));

  it("a job that cancels is stopped, and by closing its dialog too", () =>
    withPage({ scenario: "busy", hash: "#/schedules", prepare: (mock) => (mock.jobSteps = 200) }, async ({ page, mock }) => {
      const count = async () => {
        await page.getByRole("button", { name: "Cancel many…" }).click();
        await page.getByRole("dialog").getByLabel("ID begins with").fill("order-");
        await page.getByRole("button", { name: "Count them" }).click();
      };
      await count();
      await page.getByText(/of 2,\d+ looked at/).waitFor();
      await page.getByRole("button", { name: "Stop" }).click();
      await page.getByText("none was cancelled").waitFor();
      await page.getByRole("dialog").getByRole("button", { name: "Close" }).last().click();
      await count();
      await page.getByText(/of 2,\d+ looked at/).waitFor();
      await page.keyboard.press("Escape");
      await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
      await eventually(() => [...mock.jobs.values()].map(({ state }) => state).join(), (states) => states === "stopped,stopped", "both are stopped");
    }));

  it("Recent: filters by kind, pauses, and goes on with what came", () =>
    withPage({ scenario: "busy", hash: "#/recent" }, async ({ page, mock }) => {
      await page.locator("tbody tr").nth(20).waitFor();
      await page.getByRole("radio", { name: "Rejected" }).check();
      await eventually(() => page.locator("tbody tr[data-kind]:not([data-kind=rejected])").count(), (others) => others === 0, "only those");
      const reason = unique("a reason");
      mock.remember("rejected", { id: "bad-1", partition: 0 }, { reason });
      await page.getByText(reason).waitFor();
      await page.getByRole("button", { name: "Pause" }).click();
      mock.remember("rejected", { id: "bad-2", partition: 0 }, { reason: "another" });
      await page.getByRole("button", { name: /Go on \(\d+ new\)/ }).click();
      await page.getByRole("link", { name: "bad-2" }).waitFor();
    }));

  it("figures live: charts move on by the stream", () =>
    withPage({ scenario: "busy" }, async ({ page }) => {
      const fired = page.locator(".chart", { hasText: "Fired" });
      await fired.locator("canvas").waitFor();
      await fired.getByRole("button", { name: "Fired, as a table" }).click();
      const newest = () => fired.locator("tbody th").first().textContent();
      const before = await eventually(newest, Boolean, "a table");
      await eventually(newest, (now) => now !== before, "another point");
      await page.getByRole("radio", { name: "24 hours" }).check();
      await eventually(() => page.url(), (url) => url.includes("over=24h"), "the span is in the address");
      await eventually(() => page.locator(".chart", { hasText: "Pending" }).locator(".plot").getAttribute("aria-label"), (text) => /pending: now .+, at most/.test(text), "described");
    }));
});
