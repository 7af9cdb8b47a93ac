/** Sets the context keys that menus and the palette ask, whenever a run, the list of runs or the panel in front changes; only what differs is set. */
import * as vscode from "vscode";
import type { KnownRuns } from "../commands/knownRuns.ts";
import { scannedKey } from "../contributions.ts";
import type { RunSessions } from "../runs/runSessions.ts";
import { contextOf } from "./runAbilities.ts";

export function followContext(known: KnownRuns, runs: RunSessions): vscode.Disposable {
  const set = new Map<string, boolean>();
  const update = () => {
    const states = runs.all().map(({ view }) => view.state);
    const keys = { ...contextOf(known.frontState(), states, known.scanned), [scannedKey]: known.scanned };
    for (const [key, value] of Object.entries(keys)) {
      if (set.get(key) === value) continue;
      set.set(key, value);
      void vscode.commands.executeCommand("setContext", `sparseTuner.${key}`, value);
    }
  };
  update();
  return known.onDidChange(update);
}
