// Pictures of every view: `node screenshots.mjs DIRECTORY`.

import { launch, open } from "./support.mjs";

const [directory] = process.argv.slice(2);
const browser = await launch();
for (const [name, options] of [
  ["overview-light", {}],
  ["overview-dark", { theme: "dark" }],
  ["schedules", { path: "/#schedules" }],
  ["recent", { path: "/#recent" }],
  ["partitions", { path: "/#partitions", theme: "dark" }],
  ["phone", { width: 390, height: 844 }],
  ["phone-schedules", { width: 390, height: 844, path: "/#schedules" }],
]) {
  const { page, close } = await open(browser, options);
  await page.waitForTimeout(3_500);
  await page.screenshot({ path: `${directory}/${name}.png` });
  if (name === "schedules") {
    await page.locator("#found-table button").first().click();
    await page.waitForTimeout(500);
    await page.screenshot({ path: `${directory}/schedule.png` });
  }
  await close();
}
await browser.close();
