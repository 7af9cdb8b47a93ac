/** The display language zh-cn: commands, views and the panel speak it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fillWithRun, openRun } from "./broughtRun.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";

const root = path.resolve(import.meta.dirname, "../..");
const inWorkbench = workbenchSession({ language: "zh-cn", workspace: { fill: fillWithRun }, viewport: { width: 1500, height: 1200 } });
const texts = JSON.parse(readFileSync(path.join(root, "package.nls.zh-cn.json"), "utf8")) as Record<string, string>;

test(
  "the views, and the panel's headings",
  inWorkbench(async ({ window }) => {
    await window.openContainer("Sparse Tuner");
    const view = window.page.locator(".pane-header").filter({ hasText: texts["view.runs.name"] });
    await view.first().waitFor();
    const panel = await openRun(window, "brought");
    await panel.locator(".heatmap h2").waitFor();
    const bundle = JSON.parse(readFileSync(path.join(root, "l10n/bundle.l10n.zh-cn.json"), "utf8")) as Record<string, string>;
    assert.equal(await panel.locator(".heatmap h2").innerText(), bundle["Block heatmap"]);
    assert.equal(
      await panel
        .locator(".badge")
        .innerText()
        .then((text) => text.replace(/^\W*/u, "").trim() !== "Finished"),
      true,
    );
    await window.screenshot("chinese-panel");
    // Every heading has a Chinese character.
    for (const heading of await panel.locator("h2").allInnerTexts()) assert.match(heading, /\p{Script=Han}/u);
  }),
);

test(
  "the palette",
  inWorkbench(async ({ window }) => {
    const title = texts["command.newRun.title"];
    await until(title, async () => (await window.commandsFor(title)).some((label) => label.includes(title)));
    await window.page.keyboard.press("F1");
    await window.quickInput.locator("input").first().fill(">Sparse Tuner");
    await window.screenshot("chinese-palette");
    await window.page.keyboard.press("Escape");
  }),
);
