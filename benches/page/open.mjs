// Opens the page, and prints the time to the first row, the bytes, and the memory of the tab: now, and after MINUTES of updates.
//
//   NODE_PATH=src/query/ui/node_modules node benches/page/open.mjs http://127.0.0.1:8080/ CHROMIUM [MINUTES]
import { createRequire } from "node:module";
const { chromium } = createRequire(new URL("../../src/query/ui/package.json", import.meta.url))("playwright-core");

const [base, executablePath, minutes = "0"] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const [times, paints] = [[], []];
for (let run = 0; run < 9; run++) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  // From the start of the navigation to the frame with the first row, as the browser itself measures it.
  await page.addInitScript(() => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector("td .state")) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => { window.firstRow = performance.now(); }));
    }).observe(document, { childList: true, subtree: true });
  });
  await page.goto(base);
  await page.waitForFunction(() => window.firstRow);
  times.push(await page.evaluate(() => window.firstRow));
  paints.push(await page.evaluate(() => performance.getEntriesByName("first-paint")[0]?.startTime ?? 0));
  if (run < 8) await page.close();
}
const page = browser.contexts().flatMap((context) => context.pages()).at(-1) ?? (await browser.newPage());
[times, paints].forEach((list) => list.sort((a, b) => a - b));
const protocol = await page.context().newCDPSession(page);
const heap = async () => {
  await protocol.send("HeapProfiler.collectGarbage");
  const { metrics } = await protocol.send("Performance.getMetrics");
  return metrics.find((m) => m.name === "JSHeapUsedSize").value / 1e6;
};
await protocol.send("Performance.enable");
await page.waitForTimeout(3000);
console.log(`first paint, without rows: median ${paints[4].toFixed(0)} ms; first row: median ${times[4].toFixed(0)} ms of 9, at most ${times[8].toFixed(0)} ms`);
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
