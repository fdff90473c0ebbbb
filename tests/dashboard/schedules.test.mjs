// What an operator does with schedules. These run against a real instance as well (KMS_URL, KMS_DESTINATION).

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DESTINATION, base64, eventually, unique, useBrowser, withPage } from "./support.mjs";

const open = (id) => `#/schedules?${new URLSearchParams({ id })}`;
const pendingTile = async (page) => Number((await page.locator(".tile-pending .figure-huge").textContent()).replaceAll(",", ""));
const rows = (page) => page.locator(".results tbody tr");
const ids = (page) => page.locator(".results tbody a.id").allTextContents();

async function search(page, { how = "prefix", id = "", destination = "" }) {
  await page.getByLabel("How the ID is compared").selectOption(how);
  await page.getByRole("searchbox", { name: "ID" }).fill(id);
  await page.locator(".search").getByLabel("Destination").fill(destination);
  await page.getByRole("button", { name: "Search" }).click();
}

async function create(page, { id, after, value = "", topic = DESTINATION }) {
  await page.getByRole("button", { name: "Create a schedule" }).first().click();
  const form = page.getByRole("dialog", { name: "Create a schedule" });
  await form.getByLabel("ID", { exact: true }).fill(id);
  await form.getByLabel("Due in", { exact: true }).fill(after);
  await form.getByLabel("Destination topic").fill(topic);
  await form.getByLabel("Value", { exact: true }).fill(value);
  await form.getByRole("button", { name: "Create" }).click();
  return form;
}

describe("schedules", () => {
  useBrowser();

  it("are created, counted, and fire", () =>
    withPage({ hash: "#/overview" }, async ({ page, url }) => {
      await page.getByText("ready", { exact: true }).waitFor();
      const id = unique("later");
      await page.getByRole("link", { name: "Schedules" }).click();
      await create(page, { id, after: "2h", value: "hello" });
      await page.locator(".one").getByText("hello").waitFor();
      await page.getByRole("link", { name: "Overview", exact: true }).click();
      // Beside it others come and go: the figure is that of the API, in which it is.
      const counted = async () => (await (await fetch(`${url}api/stats`)).json()).pending;
      await eventually(async () => (await pendingTile(page)) - (await counted()), (difference) => difference === 0, "it is counted");
      assert.ok((await counted()) > 0);

      const soon = unique("soon");
      await page.getByRole("link", { name: "Schedules" }).click();
      await create(page, { id: soon, after: "2s" });
      await page.getByRole("link", { name: "Recent" }).click();
      const line = page.locator("tr", { hasText: soon });
      await line.getByText("fired").waitFor();
      assert.match(await line.locator("td").nth(3).textContent(), /^\d+(\.\d)? (ms|s)$/, "it says how late");
    }));

  it("are cancelled after a question, and Recent says so", () =>
    withPage({}, async ({ page, api, url }) => {
      const id = unique("cancel");
      await api.put(id);
      await page.goto(url + open(id));
      await page.getByRole("button", { name: "Cancel it" }).click();
      const question = page.getByRole("dialog");
      await question.getByRole("button", { name: "Not now" }).click();
      await page.getByRole("button", { name: "Cancel it" }).click();
      await question.getByRole("button", { name: "Cancel the schedule" }).click();
      await page.getByText("Not pending.").waitFor();
      await page.getByRole("link", { name: "Recent" }).click();
      await page.getByRole("radio", { name: "Cancelled" }).check();
      await page.locator("tr", { hasText: id }).getByText("cancelled").waitFor();
    }));

  it("are rescheduled", () =>
    withPage({}, async ({ page, api, url }) => {
      const id = unique("move");
      await api.put(id, { value: base64("kept") });
      await page.goto(url + open(id));
      await page.getByRole("button", { name: "Reschedule" }).click();
      const form = page.getByRole("dialog");
      await form.getByLabel("Due in", { exact: true }).fill("never");
      await form.getByRole("button", { name: "Reschedule" }).click();
      await form.getByText("no duration").waitFor();
      await form.getByLabel("Due in", { exact: true }).fill("5h");
      await form.getByRole("button", { name: "Reschedule" }).click();
      await page.locator(".one").getByText(/^in (5 h|4 h 59 min)$/).waitFor();
      await page.locator(".one").getByText("kept").waitFor();
    }));

  it("fire now", () =>
    withPage({}, async ({ page, api, url }) => {
      const id = unique("now");
      await api.put(id);
      await page.goto(url + open(id));
      await page.getByRole("button", { name: "Fire now" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Fire now" }).click();
      await page.getByText("Not pending.").waitFor();
      await page.locator(".past").getByText("fired").waitFor();
    }));

  it("are replaced only by who knows", () =>
    withPage({ hash: "#/schedules" }, async ({ page, api }) => {
      const id = unique("twice");
      await api.put(id, { value: base64("first") });
      const form = await create(page, { id, after: "3h", value: "second" });
      await form.getByText("This ID is pending").waitFor();
      assert.equal(await page.locator(".one").isVisible(), false);
      await form.getByRole("button", { name: "Replace it" }).click();
      await page.locator(".one").getByText("second").waitFor();
    }));

  it("are replaced with all that they had, to the byte", () =>
    withPage({}, async ({ page, api, url }) => {
      const id = unique("whole");
      const value = base64(Buffer.from([0, 255, 1, 10, 13]));
      await api.put(id, { key: base64("the key"), value, headers: { a: base64("1\n2"), b: base64(Buffer.from([200])) }, time: 4_102_444_800_123, in: undefined });
      await page.goto(url + open(id));
      await page.getByRole("button", { name: "Replace" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Replace" }).click();
      await page.getByText(/^Replaced:/).waitFor();
      const answer = await (await fetch(`${url}api/schedules/${id}`)).json();
      assert.deepEqual([answer.key, answer.value, answer.headers, answer.time], [base64("the key"), value, { a: base64("1\n2"), b: base64(Buffer.from([200])) }, 4_102_444_800_123]);
    }));

  it("are found by ID, by its beginning, by destination and by time", () =>
    withPage({ hash: "#/schedules" }, async ({ page, api, url }) => {
      const name = unique("find");
      await api.putMany([`${name}-a`, `${name}-b`]);
      await api.put(`${name}-far`, { in: "400d" });
      await search(page, { id: name });
      await rows(page).nth(2).waitFor();
      assert.deepEqual((await ids(page)).sort(), [`${name}-a`, `${name}-b`, `${name}-far`]);
      await search(page, { how: "exact", id: `${name}-b` });
      await page.locator(".one").getByText("in 59 min").waitFor();
      await search(page, { id: name, destination: "elsewhere" });
      await page.getByText("No pending schedule matches.").waitFor();
      const query = new URLSearchParams({ prefix: name, from: String(Date.now() + 300 * 86_400_000) });
      await page.goto(`${url}#/schedules?${query}`);
      await eventually(() => ids(page), (found) => found.length === 1 && found[0] === `${name}-far`, "only the far one");
      await search(page, { how: "exact", id: `${name}-none` });
      await page.getByText("Not pending.").waitFor();
    }));

  it("are paged through, there and back", () =>
    withPage({ hash: "#/schedules" }, async ({ page, api }) => {
      const name = unique("page");
      await api.putMany(Array.from({ length: 230 }, (_, n) => `${name}-${n}`));
      await search(page, { id: name });
      const seen = new Set();
      for (const count of [100, 100, 30]) {
        await eventually(() => rows(page).count(), (now) => now === count, "a page");
        await eventually(async () => (await ids(page)).some((id) => seen.has(id)), (isOld) => !isOld, "another page");
        for (const id of await ids(page)) seen.add(id);
        if (count === 100) await page.getByRole("button", { name: "Next" }).click();
      }
      assert.equal(seen.size, 230);
      await page.getByRole("button", { name: "Previous" }).click();
      await page.getByText("101–200.").waitFor();
    }));

  it("are cancelled by the beginning of their IDs, once the count is typed", () =>
    withPage({ hash: "#/schedules" }, async ({ page, api }) => {
      const name = unique("many");
      await api.putMany(Array.from({ length: 30 }, (_, n) => `${name}-${n}`));
      await api.put(`other-${name}`);
      await search(page, { id: name });
      await rows(page).nth(29).waitFor();
      await page.getByRole("button", { name: "Cancel many…" }).click();
      const dialog = page.getByRole("dialog");
      assert.equal(await dialog.getByLabel("ID begins with").inputValue(), name, "it begins with what was searched for");
      await dialog.getByRole("button", { name: "Count them" }).click();
      await dialog.getByText("schedules match.").waitFor();
      assert.equal(await rows(page).count(), 30, "counting cancels nothing");
      const typed = dialog.getByLabel("To confirm, type 30");
      await typed.fill("3");
      assert.ok(await dialog.getByRole("button", { name: "Cancel 30" }).isDisabled());
      await typed.fill("30");
      await dialog.getByRole("button", { name: "Cancel 30" }).click();
      await dialog.getByText("30 cancelled.").waitFor();
      await dialog.getByRole("button", { name: "Close" }).last().click();
      await page.getByText("No pending schedule matches.").waitFor();
      await search(page, { how: "exact", id: `other-${name}` });
      await page.locator(".one").getByText(/^in /).waitFor();
    }));

  it("do nothing by what they are called or hold", () =>
    withPage({ hash: "#/schedules" }, async ({ page, api, url }) => {
      const name = unique("x");
      const hostile = [`${name}<script>alert(1)</script>`, `${name}"><img src=x onerror=alert(1)>`, `${name}'onmouseover='alert(1)`, `${name}javascript:alert(1)`, `${name}{{7*7}}&lt;b&gt;`];
      for (const id of hostile) await api.put(id, { value: base64(id), key: base64(id), headers: { [`<img src=x onerror=alert(2)>`]: base64(id) } });
      await search(page, { id: name });
      await rows(page).nth(hostile.length - 1).waitFor();
      assert.deepEqual((await ids(page)).sort(), [...hostile].sort(), "they are shown as they are");
      for (const id of hostile) {
        await page.goto(url + open(id));
        await page.locator(".one h2", { hasText: id }).waitFor();
        await page.locator(".one pre", { hasText: id }).first().waitFor();
      }
      await page.getByRole("button", { name: "Cancel it" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Cancel the schedule" }).click();
      await page.getByText("Not pending.").waitFor();
      await page.getByRole("link", { name: "Recent" }).click();
      await page.locator("tr", { hasText: hostile.at(-1) }).first().waitFor();
      assert.equal(await page.locator("main script, main img").count(), 0);
    }));

  it("can be called anything", () =>
    withPage({}, async ({ page, api, url }) => {
      const name = unique("odd");
      for (const id of [`${name}/a?b=c#d`, `${name} with  blanks `, `${name}%2F+&`, `${name}-ü-✓-\u202eoops`]) {
        await api.put(id);
        await page.goto(url + open(id));
        await page.locator(".one").getByText(/^in /).waitFor();
        await page.getByRole("button", { name: "Cancel it" }).click();
        await page.getByRole("dialog").getByRole("button", { name: "Cancel the schedule" }).click();
        await page.getByText("Not pending.").waitFor();
      }
      await page.locator(".one h2", { hasText: "U+202E" }).waitFor();
      // The browser would take them for directories.
      await api.put("~Li4", {}); // base64 of ..
      await page.goto(url + open(".."));
      await page.locator(".one").getByText(/^in /).waitFor();
      await page.getByRole("button", { name: "Cancel it" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Cancel the schedule" }).click();
      await page.getByText("Not pending.").waitFor();
    }));

  it("show their content as JSON, text, hex or null", () =>
    withPage({}, async ({ page, api, url }) => {
      const id = unique("content");
      await api.put(id, { value: base64('{"n":12345678901234567890,"e":{},"a":[1,"x: {"]}'), key: base64(Buffer.from([255, 0])) });
      await page.goto(url + open(id));
      const value = page.locator(".content", { has: page.getByRole("heading", { name: "Value" }) });
      await value.locator("pre").waitFor();
      assert.equal(await value.locator("pre").textContent(), '{\n  "n": 12345678901234567890,\n  "e": {},\n  "a": [\n    1,\n    "x: {"\n  ]\n}');
      await value.getByRole("radio", { name: "Hex" }).check();
      assert.match(await value.locator("pre").textContent(), /^00000000 {2}7b 22 6e 22 3a 31 32 33 {2}\{"n":123\n00000008/);
      const key = page.locator(".content", { has: page.getByRole("heading", { name: "Key" }) });
      assert.match(await key.locator("pre").textContent(), /ff 00/);
      await api.put(id, { value: null });
      await page.reload();
      await page.getByText("that is a delete").waitFor();
    }));

  it("are created by keyboard alone", () =>
    withPage({ hash: "#/schedules" }, async ({ page }) => {
      await page.getByText("ready", { exact: true }).waitFor();
      await page.getByRole("button", { name: "Create a schedule" }).first().waitFor();
      const id = unique("keys");
      const focused = () => page.evaluate(() => document.activeElement.textContent || document.activeElement.labels?.[0]?.textContent || "");
      const tabTo = async (name) => {
        for (let n = 0; n < 40; n += 1) {
          if ((await focused()).startsWith(name)) return;
          await page.keyboard.press("Tab");
        }
        assert.fail(`Tab does not reach ${name}`);
      };
      await tabTo("Create a schedule");
      await page.keyboard.press("Enter");
      await page.getByRole("dialog").waitFor();
      await page.keyboard.type(id);
      await tabTo("Due in");
      await page.keyboard.press("Control+A");
      await page.keyboard.type("90m");
      await tabTo("Destination topic");
      await page.keyboard.type(DESTINATION);
      await page.keyboard.press("Enter");
      await page.locator(".one").getByText(/^in 1 h (29|30) min$/).waitFor();
      assert.equal(await page.locator("dialog").count(), 0);
      await page.getByRole("button", { name: "Fire now" }).focus();
      await page.keyboard.press("Enter");
      await page.getByRole("dialog").waitFor();
      await page.keyboard.press("Escape");
      await eventually(() => page.locator("dialog").count(), (count) => count === 0, "Escape closes");
      assert.equal(await focused(), "Fire now", "the focus is where it was");
      await page.locator(".one").getByText(/^in 1 h/).waitFor();
    }));
});
