/** The packaged extension in the oldest VS Code it supports: it activates, shows its views, and Doctor answers. */
import { test } from "node:test";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";

const inWorkbench = workbenchSession();

test(
  "the container with its three views",
  inWorkbench(async ({ window }) => {
    await window.openContainer("Sparse Tuner");
    for (const view of ["Runs", "Models", "Devices"]) await window.page.locator(".pane-header").filter({ hasText: view }).first().waitFor();
    for (const action of ["New Run", "Add Model Folders"]) await window.page.locator(".welcome-view").getByText(action).first().waitFor();
    await window.screenshot("views-empty");
  }),
);

test(
  "Doctor says what is usable",
  inWorkbench(async ({ window }) => {
    await window.runCommand("Sparse Tuner: Doctor");
    await window.page.locator(".part.editor .view-lines").filter({ hasText: /cpu/i }).waitFor();
    await window.screenshot("doctor");
  }),
);

test(
  "the palette offers every command that needs no run",
  inWorkbench(async ({ window }) => {
    // Asked one by one: a long list shows its first rows alone.
    for (const title of ["New Run", "Run Demo", "Doctor", "Show Log", "Plan Memory", "Prune Model", "Compare Runs"])
      await until(`${title} in the palette`, async () => (await window.commandsFor(`Sparse Tuner: ${title}`)).includes(`Sparse Tuner: ${title}`));
  }),
);
