/** The blocks a run trains, best first, and the quick pick of them. Reads the run's selection.json; runs nothing. */
import path from "node:path";
import * as vscode from "vscode";
import type { BlockPlace } from "../../protocol/coreProtocol.ts";
import { parseSelection, type SelectedBlock } from "../../protocol/selection.ts";
import { UserError } from "../../protocol/userError.ts";
import type { RunSession } from "../runs/runSession.ts";

/** In rank order. Throws UserError `inspect/no-selection` where the run has chosen none. */
export async function rankedBlocks({ runFolder }: RunSession): Promise<SelectedBlock[]> {
  const file = path.join(runFolder, "selection.json");
  const bytes = await vscode.workspace.fs.readFile(vscode.Uri.file(file)).then(
    (read) => read,
    () => null,
  );
  if (bytes) return parseSelection(new TextDecoder().decode(bytes), file).blocks;
  throw new UserError(
    "inspect/no-selection",
    vscode.l10n.t("This run has chosen no blocks."),
    vscode.l10n.t("Inspect a run of method smt after its warm-up."),
    { badInput: false },
  );
}

/** Asks which block; null when none was chosen. */
export async function pickBlock(blocks: readonly SelectedBlock[]): Promise<BlockPlace | null> {
  const items = blocks.map((block) => ({
    label: `${block.rank + 1}. ${block.name}`,
    description: `${block.row}, ${block.column}`,
    detail: vscode.l10n.t("score {0}", block.score.toExponential(3)),
    block,
  }));
  const picked = await vscode.window.showQuickPick(items, {
    title: vscode.l10n.t("Inspect Sub-matrix"),
    placeHolder: vscode.l10n.t("A chosen block, best first"),
    matchOnDescription: true,
    // The panel it is asked from takes the focus back late.
    ignoreFocusOut: true,
  });
  return picked ? { name: picked.block.name, row: picked.block.row, column: picked.block.column } : null;
}
