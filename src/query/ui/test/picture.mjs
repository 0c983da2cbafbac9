// Takes the picture of the page for the README: a demo, some 40 seconds after its start.
//
//   node test/picture.mjs EDITWAR CHROMIUM FOLDER
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [editwar, executablePath, folder] = process.argv.slice(2);
const demo = spawn(editwar, ["demo", "--no-open"], { stdio: ["ignore", "ignore", "pipe"] });
let base;
for await (const line of createInterface({ input: demo.stderr })) {
  base = line.match(/^The page: (.*)/)?.[1];
  if (base) break;
}
demo.stderr.resume();
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
await page.goto(base);
await page.waitForTimeout(52_000);
await page.screenshot({ path: `${folder}/page-wars.png` });
await page.goto(`${base}#/object/deployments.apps/shop/web?cluster=production`);
await page.locator(".lanes").waitFor();
await page.waitForTimeout(1000);
await page.screenshot({ path: `${folder}/page.png` });
await browser.close();
demo.kill("SIGINT");
