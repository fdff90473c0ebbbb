// Every view in both themes: nothing that axe objects to, and nothing wider than a phone.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { mockOnly, objections, overflow, useBrowser, withPage } from "./support.mjs";

const VIEWS = {
  overview: ["huge", "#/overview", ".due-bars a[href]"],
  "overview, empty": ["plain", "#/overview", ".empty h2"],
  partitions: ["loading", "#/partitions", "progress"],
  "partitions, standing by": ["standby", "#/partitions", ".elsewhere"],
  recent: ["busy", "#/recent", "tbody tr:nth-child(9)"],
  schedules: ["busy", "#/schedules", "tbody tr:nth-child(99)"],
  "a schedule": ["busy", "#/schedules?id=order-002399", ".one pre"],
  "a schedule that is gone": ["busy", "#/schedules?exact=nothing", ".gone"],
  "nothing found": ["busy", "#/schedules?prefix=nothing", ".walk .is-empty"],
  token: ["token", "#/overview", "dialog"],
};
const DIALOGS = {
  "create": ["Create a schedule", "Create a schedule"],
  "cancel many": ["Cancel many…", "Cancel many schedules"],
  "fire": ["Fire now", "Fire now?"],
  "reschedule": ["Reschedule", "Reschedule"],
  "replace": ["Replace", "Replace the schedule"],
  "cancel": ["Cancel it", "Cancel this schedule?"],
};

async function check(page, what) {
  await page.waitForTimeout(350); // Until what moves has come to rest: axe measures colors in between, too.
  assert.deepEqual(await objections(page), [], what);
}

describe("accessibility", mockOnly, () => {
  useBrowser();

  for (const theme of ["light", "dark"]) {
    it(`${theme}: axe has nothing to say about any view`, async () => {
      for (const [name, [scenario, hash, there]] of Object.entries(VIEWS)) {
        await withPage({ scenario, hash, theme, mayFail: true }, async ({ page }) => {
          await page.locator(there).first().waitFor();
          if (name === "overview") await page.getByRole("button", { name: "Fired, as a table" }).click();
          await check(page, name);
        });
      }
    });

    it(`${theme}: nor about any dialog`, () =>
      withPage({ scenario: "busy", hash: "#/schedules?id=order-002399", theme, width: 1400 }, async ({ page }) => {
        for (const [name, [opener, title]] of Object.entries(DIALOGS)) {
          await page.getByRole("button", { name: opener, exact: true }).click();
          const dialog = page.getByRole("dialog", { name: title });
          await dialog.waitFor();
          if (name === "create") {
            await dialog.getByRole("button", { name: "Add a header" }).click();
            await dialog.getByRole("button", { name: "Create" }).click();
            await dialog.locator(".trouble").waitFor();
          }
          await check(page, name);
          await dialog.getByRole("button", { name: "Close" }).click();
        }
      }));
  }

  for (const width of [360, 320]) {
    it(`${width} px: no view is wider`, async () => {
      for (const [name, [scenario, hash, there]] of Object.entries(VIEWS)) {
        await withPage({ scenario, hash, width, height: 740, mayFail: true }, async ({ page }) => {
          await page.locator(there).first().waitFor();
          assert.deepEqual(await overflow(page), [], name);
        });
      }
    });
  }

  it("360 px: nor is a dialog, and axe agrees", () =>
    withPage({ scenario: "busy", hash: "#/schedules", width: 360, height: 740 }, async ({ page }) => {
      for (const opener of ["Create a schedule", "Cancel many…"]) {
        await page.getByRole("button", { name: opener }).click();
        const dialog = page.getByRole("dialog");
        if (opener === "Create a schedule") await dialog.getByRole("button", { name: "Add a header" }).click();
        const sticksOut = await dialog.evaluate((element) => element.scrollWidth - element.clientWidth);
        assert.equal(sticksOut, 0, opener);
        await check(page, opener);
        await dialog.getByRole("button", { name: "Close" }).click();
      }
      await page.locator("tbody tr").nth(5).waitFor();
      await check(page, "cards");
    }));

  it("the theme is chosen, kept, and there before the page is painted", () =>
    withPage({ theme: "light" }, async ({ page }) => {
      const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = await background();
      await page.getByRole("button", { name: "Theme: system" }).click();
      await page.getByRole("button", { name: "Theme: light" }).click();
      await page.getByRole("button", { name: "Theme: dark" }).waitFor();
      assert.notEqual(await background(), light);
      await page.reload({ waitUntil: "commit" });
      await page.locator("html[data-theme=dark]").waitFor({ state: "attached" });
    }));

  it("navigation can be skipped, and the histogram is read as a list", () =>
    withPage({ scenario: "huge" }, async ({ page }) => {
      await page.locator(".due-bars a[href]").first().waitFor();
      await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      assert.equal(await page.evaluate(() => document.activeElement.id), "main");
      await page.getByRole("link", { name: /due in 5 min to 10 min$/ }).click();
      await page.getByText(/found|There may be more/).first().waitFor();
      assert.match(page.url(), /from=\d+&to=\d+/);
    }));
});
