/** How a panel's page begins: it takes what came before its program was there, in its order, and makes the charts when their events have come. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chromium } from "playwright-core";
import type { ToPanel } from "../../src/protocol/panelProtocol.ts";
import { browserArguments, findBrowser } from "./browser.ts";
import { serveWebview, someRun } from "./panelPage.ts";

test("a panel shows what came while its program was fetched, and its charts when their events come", { timeout: 120_000 }, async (t) => {
  const panel = await serveWebview("panel");
  t.after(() => panel.close());
  const browser = await chromium.launch({ executablePath: findBrowser(), args: browserArguments });
  t.after(() => browser.close());
  const page = await browser.newPage();
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  await page.route("**/panel.js", async (route) => {
    await released;
    await route.continue();
  });
  const send = (message: ToPanel) => page.evaluate((data) => window.dispatchEvent(new MessageEvent("message", { data })), message);
  await page.goto(panel.url, { waitUntil: "commit" });
  await page.waitForFunction(() => (window as unknown as { sent?: string[] }).sent?.includes("ready"));
  await send({ kind: "hydrate", strings: {}, run: someRun, form: null, plan: { kind: "none" }, events: [], frames: [] });
  await send({ kind: "run", run: { ...someRun, name: "renamed meanwhile" } });
  assert.equal(await page.locator("h1").count(), 0);
  release();
  await page.getByRole("heading", { level: 1, name: "renamed meanwhile" }).waitFor();
  await page.waitForFunction(() => (window as unknown as { sent: string[] }).sent.includes("frameShown"));
  const parts = (name: string) => page.locator(`.part-${name} > *`).count();
  assert.deepEqual([await parts("heatmap"), await parts("loss")], [1, 0]);
  await send({ kind: "events", events: [] });
  assert.deepEqual([await parts("heatmap"), await parts("loss")], [1, 1]);
});
