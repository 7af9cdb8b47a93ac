/**
 * Names from outside are text: of runs, of matrices, of files, in failures and notices. Each is shown as it is, runs nothing, loads nothing and makes no element.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import type { ToPanel } from "../../src/protocol/panelProtocol.ts";
import { sharedData } from "../support/sharedData.ts";
import { browserArguments, findBrowser } from "./browser.ts";
import { deliver, prepare, serveWebview, someRun } from "./panelPage.ts";

const hostile = [
  "<img src=x onerror=\"document.title='broken'\">",
  "</main><script>document.title='broken'</script>",
  "javascript:document.title='broken'",
  "\" onmouseover=\"document.title='broken'",
  "{{constructor.constructor('return 1')()}}",
  "‮gnirts desrever",
  "a\u0000b\u0007c",
  "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 👩‍👩‍👧 ﷽",
  "__proto__",
  "constructor",
];

let panel: Awaited<ReturnType<typeof serveWebview>>;
let browser: Browser;
let page: Page;
const heard: string[] = [];

before(
  async () => {
    panel = await serveWebview("panel");
    browser = await chromium.launch({ executablePath: findBrowser(), args: browserArguments });
    page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
    page.on("dialog", (dialog) => {
      heard.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on("pageerror", (error) => heard.push(`error: ${error.message}`));
    page.on("console", (message) => message.type() === "error" && heard.push(message.text()));
    page.on("request", (request) => !/\/(panel\.(js|css))?$|favicon/.test(request.url()) && heard.push(`request: ${request.url()}`));
    await page.goto(panel.url);
    await page.waitForFunction(() => (window as unknown as { sent: string[] }).sent.includes("ready"));
    heard.length = 0;
  },
  { timeout: 120_000 },
);
after(async () => {
  await browser?.close();
  panel?.close();
});

function named(name: string): ToPanel {
  const failure = { code: "run/failed", message: name, action: name, place: { file: name, line: 1 } };
  return {
    kind: "hydrate",
    strings: {},
    run: { ...someRun, name, state: "failed", warmup: null, failure, logTail: [name] },
    form: {
      file: name,
      editable: true,
      values: { model: name, data: { train: name } },
      given: ["model"],
      problems: [{ path: "model", message: name, line: 1 }],
    },
    plan: { kind: "problem", failure },
    events: [{ sequence: 1, timeMs: 1, kind: "notice", code: name, message: name }],
    frames: [
      {
        header: {
          kind: "scores",
          step: 1,
          afterStep: 0,
          final: false,
          matrices: [{ name: name || "unnamed", rows: 1, columns: 2, low: 0, high: 1 }],
        },
        payload: Uint8Array.of(0, 255),
      },
    ],
  };
}

/** What is shown of a run of that name, and what the page is made of. */
function shown(): Promise<{ title: string; strange: number; pageTitle: string }> {
  return page.evaluate(() => ({
    title: document.querySelector("h1")?.textContent ?? "",
    strange: document.querySelectorAll("img, iframe, object, embed, script:not([nonce]), link:not([rel=stylesheet]), [onmouseover], [onerror]")
      .length,
    pageTitle: document.title,
  }));
}

async function assertText(name: string): Promise<void> {
  await prepare(page, named(name));
  await deliver(page);
  await page.evaluate(() => window.dispatchEvent(new MessageEvent("message", { data: { kind: "events", events: [] } })));
  const { title, strange, pageTitle } = await shown();
  assert.equal(title, name);
  assert.equal(strange, 0, JSON.stringify(name));
  assert.equal(pageTitle, "", JSON.stringify(name));
  assert.deepEqual(heard, [], JSON.stringify(name));
}

test("hostile names are shown as text", async () => {
  for (const name of hostile) await assertText(name);
});

test("so are all of a known list of naughty strings", { timeout: 300_000 }, async (t) => {
  const folder = sharedData("naughty-strings");
  if (!folder) return t.diagnostic("not run: no shared data: naughty strings as names in the panel");
  const names: string[] = JSON.parse(readFileSync(path.join(folder, "blns.json"), "utf8"));
  assert.ok(names.length > 500);
  for (const name of names) await assertText(name);
});

test("the checks see what they are for", async () => {
  await page.evaluate(() => {
    document.querySelector("h1")?.insertAdjacentHTML("beforeend", '<img alt="" src="/elsewhere">');
    document.querySelector("h1")?.insertAdjacentHTML("beforeend", '<b style="color: red">x</b>');
  });
  assert.equal((await shown()).strange, 1);
  assert.ok(heard.some((line) => /Content Security Policy/.test(line)));
});
