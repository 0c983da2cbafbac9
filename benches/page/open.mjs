// Opens the page, and prints the time to the first row, the bytes, and the memory of the tab: now, and after MINUTES of updates.
// For comparison, the same is measured for a static page with the same rows: what this browser needs at least on this machine.
//
//   NODE_PATH=src/query/ui/node_modules node benches/page/open.mjs http://127.0.0.1:8080/ CHROMIUM [MINUTES]
import { createServer } from "node:http";
import { createRequire } from "node:module";
const { chromium } = createRequire(new URL("../../src/query/ui/package.json", import.meta.url))("playwright-core");

const [base, executablePath, minutes = "0"] = process.argv.slice(2);
const RUNS = 11;
const SIZE = { viewport: { width: 1280, height: 900 } };
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const median = (list) => [...list].sort((a, b) => a - b)[(list.length - 1) / 2].toFixed(0);

/** Opens a URL in a new tab. Returns the tab and the time to the frame with the first row, as the browser itself measures it. */
async function open(url, given) {
  const context = given ?? (await browser.newContext(SIZE));
  const page = await context.newPage();
  // From the start of the navigation.
  await page.addInitScript(() => {
    const look = () => {
      if (!document.querySelector("td .state")) return false;
      requestAnimationFrame(() => setTimeout(() => { window.firstRow = performance.now(); }));
      return true;
    };
    if (!look()) new MutationObserver((_, observer) => look() && observer.disconnect()).observe(document, { childList: true, subtree: true });
  });
  await page.goto(url);
  await page.waitForFunction(() => window.firstRow);
  return { page, time: await page.evaluate(() => window.firstRow) };
}

// The page, without its script and with its styles, as it is after the first frame.
const { page: model } = await open(base);
await model.waitForTimeout(500);
const styles = await (await fetch(new URL("page.css", base))).text();
const body = await model.evaluate(() => {
  document.querySelectorAll("tbody tr:not(.group)").forEach((row, i) => i >= 15 && row.remove());
  return document.getElementById("app").outerHTML;
});
await model.close();
const html = `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><style>${styles}</style><body>${body}`;
const still = createServer((_, answer) => answer.setHeader("content-type", "text/html").end(html));
await new Promise((listening) => still.listen(0, "127.0.0.1", listening));
const stillUrl = `http://127.0.0.1:${still.address().port}/`;

const times = { editwar: [], static: [], again: [], "static, again": [] };
for (let run = 0; run < RUNS; run++) {
  for (const [name, url] of [["editwar", base], ["static", stillUrl]]) {
    // A new profile, and then a second tab of it.
    const context = await browser.newContext(SIZE);
    const first = await open(url, context);
    times[name].push(first.time);
    const second = await open(url, context);
    times[name === "editwar" ? "again" : "static, again"].push(second.time);
    await context.close();
  }
}
still.close();
for (const [name, list] of Object.entries(times)) {
  console.log(`first row, ${name}: median ${median(list)} ms of ${RUNS}, ${Math.min(...list).toFixed(0)} to ${Math.max(...list).toFixed(0)} ms`);
}
const ratio = (a, b) => (median(times[a]) / median(times[b])).toFixed(2);
console.log(`ratio to the static page: ${ratio("editwar", "static")}, again ${ratio("again", "static, again")}`);

const { page } = await open(base);
const protocol = await page.context().newCDPSession(page);
const heap = async () => {
  await protocol.send("HeapProfiler.collectGarbage");
  const { metrics } = await protocol.send("Performance.getMetrics");
  return metrics.find((m) => m.name === "JSHeapUsedSize").value / 1e6;
};
await protocol.send("Performance.enable");
await page.waitForTimeout(3000);
console.log(`rows in the table: ${await page.locator("tbody tr:not(.group)").count()}; heap ${(await heap()).toFixed(1)} MB`);
const search = page.getByRole("searchbox");
const typed = performance.now();
await search.fill("settings-42");
await page.waitForFunction(() => [...document.querySelectorAll("td[data-label=object]")].every((cell) => cell.textContent.includes("settings-42")));
console.log(`a search: ${(performance.now() - typed).toFixed(0)} ms`);
await search.fill("");
if (Number(minutes)) {
  await page.waitForTimeout(Number(minutes) * 60_000);
  console.log(`after ${minutes} min: heap ${(await heap()).toFixed(1)} MB`);
}
await browser.close();
