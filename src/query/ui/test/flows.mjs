// Every flow of the page in a real browser, driven by tests/it/page.rs: `node flows.mjs URL CHROMIUM [SCREENSHOTS]`. What the test must
// do to the server is asked for on stdout, as `post RECORDING CLUSTER`, `stop` or `start`; a line on stdin says that it is done.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [base, executablePath, screenshots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const HPA = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function server(command) {
  console.log(command);
  const { value } = await answers.next();
  assert.equal(value, "done", command);
}

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ["clipboard-read", "clipboard-write"] });
const page = await context.newPage();
const complaints = [];
let isServerGone = false;
page.on("console", (message) => message.type() === "error" && !isServerGone && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(`${error}`));
page.on("request", (request) => request.url().startsWith(base) || request.url().startsWith("data:") || complaints.push(`a request to ${request.url()}`));

const see = (text, options = {}) => page.getByText(text, options).first().waitFor({ timeout: 15_000 });
const heading = (name) => page.getByRole("heading", { name }).first().waitFor({ timeout: 15_000 });
const go = (hash) => page.goto(base + hash);
const tile = (name) => page.locator(".tiles button", { hasText: name });
const count = async (name) => Number(await tile(name).locator(".count").textContent());
async function until(what, condition) {
  for (let i = 0; i < 150; i++) {
    if (await condition()) return;
    await page.waitForTimeout(100);
  }
  assert.fail(`it never happens that ${what}`);
}

/** Checks the present view with axe, and that it does not scroll sideways. */
async function isAccessible(view) {
  for (const width of [1280, 400, 360, 3840]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme });
      await page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); }));
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
      assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).slice(0, 2).join(" ")}`), [], `${view} at ${width}, ${colorScheme}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${view} is ${wide} pixels wide at ${width}`);
      await page.evaluate(() => scrollTo(0, 0));
      if (screenshots && [1280, 400].includes(width) && (colorScheme === "light" || view === "wars")) {
        await page.screenshot({ path: `${screenshots}/page-${view}-${width}${colorScheme === "dark" ? "-dark" : ""}.png` });
      }
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
}

/** Goes through the views by touch, at 400 px. */
async function onAPhone() {
  const phone = await browser.newContext({ viewport: { width: 400, height: 800 }, hasTouch: true, isMobile: true });
  const touched = await phone.newPage();
  touched.on("pageerror", (error) => complaints.push(`on a phone: ${error}`));
  const rows = () => touched.locator("tbody tr:not(.group)");
  // A phone zooms out if something is wider than the screen.
  const fits = async (view) => assert.equal(await touched.evaluate(() => innerWidth), 400, `${view} is wider than a phone`);
  await touched.goto(`${base}#/wars`);
  await touched.locator(".tiles button", { hasText: "sustained" }).tap();
  await until("the tile filters", async () => (await touched.locator("td .state").allTextContents()).every((s) => s === "sustained") && (await rows().count()) > 0);
  await touched.locator(".tiles button", { hasText: "sustained" }).tap();
  await fits("the list");
  // The headings of columns are hidden here.
  await touched.locator("select[name=sort]").selectOption("retakes");
  await until("it is sorted", async () => (await rows().first().textContent()).includes("storm-owner"));
  await touched.getByRole("searchbox").fill("spec.replicas");
  await until("the search filters", async () => (await rows().count()) === 1);
  await touched.getByRole("link", { name: "Deployment shop/web" }).tap();
  // Marks are drawn in their order, so that no other one covers the last.
  await touched.locator(".lanes").first().locator(".mark").last().tap();
  await until("a write is selected", async () => (await touched.locator(".selection").first().textContent()).includes(" of "));
  const before = await touched.locator(".lanes").first().locator(".mark").count();
  await touched.getByRole("button", { name: "Zoom in" }).first().tap();
  await until("fewer marks are shown", async () => (await touched.locator(".lanes").first().locator(".mark").count()) < before);
  await touched.getByText("other ways").first().tap();
  await touched.locator("details.remedies .command").first().waitFor();
  const closed = touched.locator("details:not([open]) > summary");
  while (await closed.count()) await closed.first().tap();
  await fits("a war");
  for (const view of ["Actors", "Sources"]) {
    await touched.getByRole("link", { name: view, exact: true }).tap();
    await touched.getByRole("heading", { name: view, exact: true }).waitFor();
    await fits(view);
  }
  await phone.close();
}

// Nothing received, then peace, then wars: without reloading the page.
await go("#/wars");
await heading("Nothing received");
await isAccessible("empty");
await server("post quota-peace north");
// The recording is some days old, so peace is not known up to now.
await heading("Not up to date");
await see("No edit war is known up to 2026-11-24 21:09:44Z");
assert.equal(await page.getByText("This is not an all-clear").count(), 1);
await server("post hpa-vs-applier east");
await see("Deployment shop/web");
await until("the tile counts the war", async () => (await count("ended")) === 1);

// Typing keeps focus and text while new wars arrive.
const search = page.getByRole("searchbox");
await search.click();
await page.keyboard.type("gitops deploy");
await page.keyboard.press("Home");
await server("post gitops-vs-kubectl west");
await until("the new war is counted", async () => (await count("sustained")) >= 1);
await page.keyboard.type("x");
assert.equal(await search.inputValue(), "xgitops deploy");
assert.ok(await search.evaluate((input) => input === document.activeElement && input.selectionStart === 1));
await heading("No match");
assert.match(page.url(), /q=xgitops/);
await page.getByRole("link", { name: "Clear", exact: true }).click();
await server("post flapping-webhook west");
await server("post conflict-storm west");
await see("flapping admission");
await isAccessible("wars");

// The document that the server sends has the first rows already, with the same text and in the same places.
const rowsOf = (of) => of.evaluate(() => [...document.querySelectorAll("main h2, main thead, main tbody tr")].slice(0, 18).map((row) => ({
  text: row.innerText.replace(/\s+/g, " ").trim(),
  links: [...row.querySelectorAll("a")].map((a) => new URL(a.href).hash),
  top: Math.round(row.getBoundingClientRect().top),
})));
for (const width of [1280, 400]) {
  const still = await browser.newContext({ viewport: { width, height: 900 }, javaScriptEnabled: false });
  const first = await still.newPage();
  await first.goto(base);
  await page.setViewportSize({ width, height: 900 });
  await go("#/wars");
  await see("flapping admission");
  const sent = await rowsOf(first);
  assert.ok(sent.length > 6, "the document has rows");
  assert.deepEqual(sent, (await rowsOf(page)).slice(0, sent.length));
  await still.close();
}
await page.setViewportSize({ width: 1280, height: 900 });

// Tiles, filters and sorting are in the URL, and survive a reload.
await tile("sustained").click();
await until("only sustained wars are listed", async () => (await page.locator("td .state").allTextContents()).every((s) => s === "sustained"));
const sustained = await page.locator("tbody tr:not(.group)").count();
assert.equal(sustained, await count("sustained"));
await page.reload();
await until("the filter is kept", async () => (await page.locator("tbody tr:not(.group)").count()) === sustained);
assert.equal(await tile("sustained").getAttribute("aria-pressed"), "true");
await tile("sustained").click();
await page.locator("select[name=class]").selectOption("hpa");
await until("only the war of the autoscaler is listed", async () => (await page.locator("tbody tr:not(.group)").count()) === 1);
await page.locator("select[name=class]").selectOption("");
const retakes = page.getByRole("button", { name: /^retakes/ });
await retakes.focus();
await page.keyboard.press("Enter");
await until("it is sorted", async () => (await page.locator("th[aria-sort=descending]").textContent()).startsWith("retakes"));
assert.ok(await retakes.evaluate((button) => button === document.activeElement), "the focus stays on the button");
const numbers = (await page.locator("td[data-label=retakes]").allTextContents()).map((text) => parseInt(text.replaceAll(",", ""), 10)).filter(Number.isFinite);
assert.deepEqual(numbers, [...numbers].sort((a, b) => b - a));
for (const term of ["spec.replicas", HPA, "shop web", "conflicting_automation"]) {
  await search.fill(term);
  await until(`${term} is found`, async () => (await page.locator("tbody tr:not(.group)").allTextContents()).every((row) => row.includes("shop/web")) && (await page.locator("tbody tr:not(.group)").count()) === 1);
}

// A war: the sentence, the remedy to copy, lanes by keyboard, the table, what comes from where.
await page.getByRole("link", { name: "Deployment shop/web" }).click();
await heading("Deployment shop/web");
await see("keep overwriting each other: spec.replicas");
await see("conflicting automation");
const command = page.locator(".command").first();
await command.getByRole("button").click();
const copied = await page.evaluate(() => navigator.clipboard.readText());
assert.equal(copied, await command.locator("pre").textContent());
assert.match(copied, /^kubectl annotate deployments.apps web -n shop platform.kubevirt.io\/ignore=spec.replicas/);
await see("in the cluster east");
// The creation, then 11 writes of each (truth.txt).
const marks = page.locator(".lanes .mark");
assert.equal(await marks.count(), 22);
const lanes = page.getByRole("application").first();
await lanes.focus();
await page.keyboard.press("Home");
await see("(1 of 22)");
await page.keyboard.press("ArrowRight");
await see("(2 of 22)");
assert.match(await page.locator(".selection").textContent(), /wrote\s*[35]/);
await page.keyboard.press("+");
await until("fewer marks are shown", async () => (await marks.count()) < 22);
await page.keyboard.press("End");
await see("(22 of 22)");
await page.keyboard.press("0");
await until("all marks are shown", async () => (await marks.count()) === 22);
await page.getByRole("button", { name: "Zoom in" }).click();
await until("fewer marks are shown", async () => (await marks.count()) < 22);
await page.getByRole("button", { name: "All", exact: true }).click();
await page.getByText("As a table: 22 writes").click();
await until("the table is shown", async () => (await page.getByRole("table", { name: "Writes of spec.replicas" }).locator("tbody tr").count()) === 22);
await heading("Transitions");
await see("sustained", { exact: true });
await heading("Objects that only follow this war");
await heading("Where this comes from");
await page.getByRole("button", { name: "Copy as Markdown" }).click();
await until("Markdown is copied", async () => /^## `Deployment shop\/web` in `east`[^]*`spec.replicas`[^]*```sh/.test(await page.evaluate(() => navigator.clipboard.readText())));
const [json] = await Promise.all([context.waitForEvent("page"), page.getByRole("button", { name: "JSON" }).click()]);
await json.waitForLoadState();
assert.equal(JSON.parse(await json.locator("body").textContent()).object.name, "web");
await json.close();
await isAccessible("object");

// Live: a change of the page keeps the selection, an open table and the scroll position.
await lanes.focus();
await page.keyboard.press("End");
await page.locator(".lanes").first().evaluate((element) => element.scrollIntoView());
const top = () => page.locator(".lanes").first().evaluate((element) => element.getBoundingClientRect().top);
const before = await top();
await server("post flux-vs-alice east");
await see("flux-system:kustomize-controller");
const after = await top();
assert.ok(Math.abs(after - before) < 2, `what is read stays where it is: ${before}, ${after}`);
assert.ok(await page.locator(".lanes details").first().evaluate((details) => details.open));
assert.ok(await page.locator(".selection").first().textContent());

// Other findings of an object.
await go("#/object/configmaps/war/storm-counters?cluster=west");
await see("No war over this object.");
await heading("Contention");

// Actors and pairs.
await page.getByRole("link", { name: "Actors" }).click();
await heading("Who fights whom");
await page.getByRole("row", { name: /erin/ }).getByRole("link", { name: "erin" }).click();
await heading("erin");
await see("over 1 object", { exact: false });
await page.getByRole("table", { name: "Objects that it wrote" }).getByText("storm-owner").waitFor();
await isAccessible("actor");
await page.goBack();
await heading("Who fights whom");
await isAccessible("actors");

// Sources: what would not be seen.
await page.getByRole("link", { name: "Sources", exact: true }).click();
await heading("What would I not see?");
await see("in which no source delivered events");
await see("Anything before 2026-11-23");
assert.ok((await page.getByRole("table", { name: "Evidence by kind" }).locator("tbody tr").count()) > 10);
await isAccessible("sources");

await onAPhone();

// The server is gone and comes back.
await go("#/wars");
await see("flapping admission");
isServerGone = true;
await server("stop");
await see("The server does not answer");
await see("flapping admission");
await isAccessible("lost");
await server("start");
await until("the page is live again", async () => (await page.locator(".status").textContent()).startsWith("live"));
assert.equal(await page.getByText("The server does not answer").count(), 0);
// What was written in the last hours is read from the journal.
await see("Deployment shop/web");

await browser.close();
assert.deepEqual(complaints, []);
console.log("passed");
process.exit(0);
