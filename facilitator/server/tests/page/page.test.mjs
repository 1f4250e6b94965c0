// The operator's page as people have it: by keyboard, by screen reader, in light and in dark, while money moves.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const { TALLYBOOK_BIN, CHROMIUM, SCREENSHOTS } = process.env;
const run = promisify(execFile);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [folder, errors] = [await mkdtemp(join(tmpdir(), "tallybook-page-")), []];
let chain, report, browser, page;

/** Pays for some calls of the sample API, as its agent. */
async function pay(calls) {
  const keypair = report.roles.find(({ role }) => role === "agent").keyFile;
  const env = { ...process.env, TALLYBOOK_RPC: report.rpc, TALLYBOOK_MINT: report.mint, TALLYBOOK_KEYPAIR: keypair, TALLYBOOK_STATE_DIR: report.stateDir };
  for (let call = 0; call < calls; call++) await run(TALLYBOOK_BIN, ["pay", report.paidUrl, "-d", "to pay or not to pay"], { env, cwd: folder });
}

/** The base units of a figure. */
const figure = (name) => page.locator(".figures div", { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("data").getAttribute("value");

/** Goes on with the Tab key until something of this name has the focus, and says by how many steps. */
async function tabTo(name) {
  for (let steps = 1; steps <= 60; steps++) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => (document.activeElement?.textContent ?? "").trim());
    if (focused === name) return steps;
  }
  throw new Error(`${name} is not reached by keyboard`);
}

/** What axe finds wrong, by rule. */
async function violations() {
  await page.evaluate(axe).catch(() => page.addScriptTag({ content: axe }));
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const found = await page.evaluate((tags) => globalThis.axe.run(document, { runOnly: { type: "tag", values: tags } }), tags);
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
}

async function picture(name) {
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
}

before(async () => {
  chain = spawn(TALLYBOOK_BIN, ["--json", "dev", "--serve", "--slot-milliseconds", "100", "--keys", join(folder, "keys")], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(createInterface({ input: chain.stdout }), "line");
  report = JSON.parse(line);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(error.message));
});

after(async () => {
  await browser?.close();
  const ended = once(chain, "exit");
  chain.kill("SIGINT");
  await ended;
  await rm(folder, { recursive: true });
});

test("given somebody at the keyboard when they sign in then the overview is there, and live", async () => {
  await pay(2);
  await page.goto(report.operatorPage);
  assert.match(page.url(), /\/operator\/sign-in$/);
  assert.deepEqual(await violations(), []);
  await picture("sign-in");
  await page.locator("#token").focus();
  await page.keyboard.type(report.adminToken);
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/operator$/);
  await page.locator("#live", { hasText: /^Live$/ }).waitFor();
  await page.locator('.figures data[value="1000"]').first().waitFor();
  assert.equal(await figure("Charged"), "1000");
});

test("given the overview when money moves then it is shown without loading the page again", async () => {
  const marked = await page.evaluate(() => (globalThis.marked = document.title));
  await pay(3);
  await page.waitForFunction(() => document.querySelector('.figures data[value="2500"]') !== null);
  assert.equal(await figure("Charged"), "2500");
  assert.equal(await page.evaluate(() => globalThis.marked), marked, "the page was not loaded again");
  const ages = async () => page.locator("#state time").first().textContent();
  const seen = new Set();
  for (let second = 0; second < 4; second++) {
    seen.add(await ages());
    await page.waitForTimeout(1000);
  }
  assert.ok(seen.size > 1, `ages grow: ${[...seen]}`);
});

test("given a piece with the focus when it changes then the focus stays where it was", async () => {
  await page.locator("#payments summary").focus();
  await page.keyboard.press("Enter");
  await page.waitForTimeout(6000);
  assert.equal(await page.evaluate(() => document.activeElement?.closest("section")?.id), "payments");
  assert.ok(await page.locator("#payments details").evaluate((details) => details.open));
  await page.evaluate(() => document.activeElement.blur());
});

test("given the keyboard alone when an administrator acts then every action is reached and answered", async () => {
  for (const [action, told, back] of [
    ["Pause accepting", "Paused", "Resume"],
    ["Resume", "Resumed", "Pause accepting"],
    ["Settle now", "Settling", "Pause accepting"],
  ]) {
    await page.goto(report.operatorPage);
    await tabTo(action);
    await page.keyboard.press("Enter");
    await page.locator("h1", { hasText: told }).waitFor();
    assert.deepEqual(await violations(), []);
    await tabTo("Back to the overview");
    await page.keyboard.press("Enter");
    await page.locator("button", { hasText: back }).waitFor();
  }
  await tabTo("Export vouchers");
  const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
  const lines = (await readFile(await download.path(), "utf8")).trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ charged, book }) => [charged, book]), [["2500", report.book]]);
  await page.goto(report.operatorPage);
  assert.ok((await tabTo("Skip to the content")) === 1, "the first stop skips what is on every page");
});

test("given light and dark when the pages are looked at then all is readable and nothing is wrong with them", async () => {
  await page.goto(report.operatorPage);
  await page.locator('.figures data[value="0"]').first().waitFor();
  await page.locator("#batches .state-of.confirmed").first().waitFor({ timeout: 60_000 });
  await pay(4);
  await page.waitForFunction(() => document.querySelector('.figures data[value="4500"]') !== null);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const path of ["", "/channels", "/batches", "/pages"]) {
      await page.goto(report.operatorPage + path);
      assert.deepEqual(await violations(), [], `${path} ${colorScheme}`);
      await picture(`${path.slice(1) || "overview"}-${colorScheme}`);
    }
  }
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(report.operatorPage);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wide, 0, "on a telephone only tables scroll sideways");
  await picture("telephone");
});

test("given a browser without scripts when the page is loaded then it says the same, and stands still", async () => {
  const still = await browser.newContext({ javaScriptEnabled: false });
  const other = await still.newPage();
  await other.goto(report.operatorPage);
  await other.locator("#token").fill(report.adminToken);
  await other.keyboard.press("Enter");
  await other.locator("#live", { hasText: "As loaded" }).waitFor();
  assert.ok((await other.locator('.figures data[value="4500"]').count()) > 0);
  await other.locator("button", { hasText: "Sign out" }).click();
  await other.locator("#token").waitFor();
  await still.close();
});

test("given all of that when the console is looked at then nothing went wrong", () => assert.deepEqual(errors, []));
