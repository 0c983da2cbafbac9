// Opens the page, and prints the time to the first row, the bytes, and the memory of the tab: now, and after MINUTES of updates.
//
//   NODE_PATH=src/query/ui/node_modules node benches/page/open.mjs http://127.0.0.1:8080/ CHROMIUM [MINUTES]
import { createRequire } from "node:module";
const { chromium } = createRequire(new URL("../../src/query/ui/package.json", import.meta.url))("playwright-core");

const [base, executablePath, minutes = "0"] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const times = [];
for (let run = 0; run < 7; run++) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const started = performance.now();
  await page.goto(base, { waitUntil: "commit" });
  await page.locator("td .state").first().waitFor();
  times.push(performance.now() - started);
  if (run < 6) await page.close();
}
const page = browser.contexts().flatMap((context) => context.pages()).at(-1) ?? (await browser.newPage());
times.sort((a, b) => a - b);
const protocol = await page.context().newCDPSession(page);
const heap = async () => {
  await protocol.send("HeapProfiler.collectGarbage");
  const { metrics } = await protocol.send("Performance.getMetrics");
  return metrics.find((m) => m.name === "JSHeapUsedSize").value / 1e6;
};
await protocol.send("Performance.enable");
await page.waitForTimeout(3000);
console.log(`first row: median ${times[3].toFixed(0)} ms of 7, at most ${times[6].toFixed(0)} ms`);
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
