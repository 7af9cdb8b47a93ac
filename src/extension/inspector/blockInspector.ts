/**
 * The inspector of sub-matrices: one panel a run, which shows one or two blocks of it. This side reads blocks, from the live core or from checkpoints, and
 * passes them on; the webview draws.
 * The rules to keep: every message of the webview is checked by its schema and gets one answer; what was not kept is said, never filled in; looking never
 * starts, stops or slows a run.
 */
import { Value } from "typebox/value";
import * as vscode from "vscode";
import { type BlockPlace, maxBlockValues } from "../../protocol/coreProtocol.ts";
import { type FromInspector, fromInspectorSchemas, type StepChoice, type ToInspector } from "../../protocol/inspectorProtocol.ts";
import type { SelectedBlock } from "../../protocol/selection.ts";
import { UserError } from "../../protocol/userError.ts";
import { webviewHtml, webviewOptions, webviewStrings } from "../panel/webviewHtml.ts";
import type { RunSession } from "../runs/runSession.ts";
import { csvOf, npyOf } from "./arrayText.ts";
import { pickBlock, rankedBlocks } from "./rankedBlocks.ts";

/** What inspectors are made of. */
export interface InspectorParts {
  context: vscode.ExtensionContext;
  log: vscode.LogOutputChannel;
}

/** Blocks of the ranked list that are sent. */
const listedBlocks = 10_000;
/** A live run's new steps are told this often. */
const movedMs = 500;

type ShownBlock = BlockPlace & { at: StepChoice };
type Answer = Extract<ToInspector, { request: number }>;

/** All inspectors of a window. */
export class BlockInspectors {
  readonly #parts: InspectorParts;
  readonly #open = new Map<string, BlockInspector>();

  constructor(parts: InspectorParts) {
    this.#parts = parts;
  }

  /** Shows a block of a run; without one, asks which of the ranked list. Throws UserError when the run has chosen none. */
  async open(session: RunSession, block?: BlockPlace): Promise<void> {
    const shown = block ?? (await pickBlock(await rankedBlocks(session)));
    if (!shown) return;
    const known = this.#open.get(session.runFolder);
    if (known) return known.show("left", shown);
    const inspector = new BlockInspector(session, shown, this.#parts);
    this.#open.set(session.runFolder, inspector);
    inspector.onDidDispose(() => this.#open.delete(session.runFolder));
  }
}

class BlockInspector {
  readonly #session: RunSession;
  readonly #parts: InspectorParts;
  readonly #panel: vscode.WebviewPanel;
  #left: ShownBlock;
  #watching: { dispose(): void } | null = null;
  #movedTimer: NodeJS.Timeout | null = null;

  constructor(session: RunSession, block: BlockPlace, parts: InspectorParts) {
    this.#session = session;
    this.#parts = parts;
    this.#left = { ...placeOf(block), at: "now" };
    const { extensionUri } = parts.context;
    const title = vscode.l10n.t("Sub-matrices of {0}", session.view.name);
    this.#panel = vscode.window.createWebviewPanel("sparseTuner.blockInspector", title, vscode.ViewColumn.Active, webviewOptions(extensionUri));
    this.#panel.webview.onDidReceiveMessage((message: unknown) => this.#onMessage(message));
    this.#panel.onDidChangeViewState(() => {
      if (!this.#panel.visible) this.#rest();
    });
    this.#panel.onDidDispose(() => this.#rest());
    this.#panel.webview.html = webviewHtml(this.#panel.webview, extensionUri, "inspector", "Sparse Tuner Sub-matrix Inspector");
  }

  onDidDispose(listener: () => void): void {
    this.#panel.onDidDispose(listener);
  }

  show(side: "left" | "right", block: BlockPlace): void {
    if (side === "left") this.#left = { ...placeOf(block), at: "now" };
    this.#panel.reveal();
    this.#send({ kind: "show", side, block: placeOf(block) });
  }

  #send(message: ToInspector): void {
    void this.#panel.webview.postMessage(message);
  }

  #rest(): void {
    this.#watching?.dispose();
    this.#watching = null;
    if (this.#movedTimer) clearTimeout(this.#movedTimer);
    this.#movedTimer = null;
  }

  #onMessage(message: unknown): void {
    const kind = typeof message === "object" && message !== null ? (message as { kind?: unknown }).kind : undefined;
    const known = typeof kind === "string" && Object.hasOwn(fromInspectorSchemas, kind);
    if (!known || !Value.Check(fromInspectorSchemas[kind as FromInspector["kind"]], message)) {
      this.#parts.log.warn(`The inspector sent what nobody understands: ${String(kind).slice(0, 40)}`);
      return;
    }
    const asked = message as FromInspector;
    this.#handle(asked).catch((error: unknown) => this.#fail(asked, error));
  }

  async #handle(message: FromInspector): Promise<void> {
    switch (message.kind) {
      case "ready":
        return this.#hydrate();
      case "problem":
        return this.#parts.log.error(`The inspector: ${message.message}`);
      case "pick": {
        const block = await pickBlock(await rankedBlocks(this.#session));
        if (block) this.show(message.side, block);
        return;
      }
      case "copy":
        return this.#copy(message);
      default:
        this.#send(await this.#answer(message));
    }
  }

  #fail(message: FromInspector, error: unknown): void {
    const text = error instanceof UserError ? `${error.message} ${error.action}` : error instanceof Error ? error.message : String(error);
    if ("request" in message) this.#send({ kind: "missing", request: message.request, step: null, reason: text });
    else void vscode.window.showErrorMessage(text);
    if (!(error instanceof UserError)) this.#parts.log.error(error instanceof Error ? (error.stack ?? text) : text);
  }

  async #hydrate(): Promise<void> {
    this.#rest();
    const [strings, { checkpoints, blockSize }, selected] = await Promise.all([
      webviewStrings(),
      this.#session.describe(),
      rankedBlocks(this.#session).catch((): SelectedBlock[] => []),
    ]);
    const { name } = this.#session.view;
    const shown = { left: this.#left, right: null, selected: selected.slice(0, listedBlocks) };
    this.#send({ kind: "hydrate", strings, runName: name, blockSize: blockSize ?? 0, live: this.#session.live, steps: checkpoints, ...shown });
    this.#watching = this.#session.listen({ onView: () => this.#moved(), onEvents: () => this.#moved() });
  }

  #moved(): void {
    this.#movedTimer ??= setTimeout(async () => {
      this.#movedTimer = null;
      const { checkpoints } = await this.#session.describe().catch(() => ({ checkpoints: [] }));
      this.#send({ kind: "moved", live: this.#session.live, step: this.#session.view.step, steps: checkpoints });
    }, movedMs);
  }

  async #answer(message: Extract<FromInspector, { request: number }>): Promise<Answer> {
    const { request } = message;
    if (message.kind === "history") return { kind: "history", request, cells: await this.#session.history(placeOf(message)) };
    if (message.kind === "neighbours") return { kind: "neighbours", request, cells: await this.#neighbours(message) };
    const { part, window, analyze } = message;
    const block = await this.#session.readBlock({ ...placeOf(message), part, window, analyze }, message.at);
    if (!block.available) return { kind: "missing", request, step: block.step, reason: block.reason };
    const { step, rows, columns, blockRows, blockColumns, values, analysis, analysisMs } = block;
    return { kind: "values", request, step, rows, columns, blockRows, blockColumns, values, analysis, analysisMs };
  }

  async #neighbours({ name, row, column, at }: ShownBlock) {
    const grid = (await this.#session.describe()).matrices.find((matrix) => matrix.name === name);
    const places = [-1, 0, 1].flatMap((down) => [-1, 0, 1].map((right) => ({ name, row: row + down, column: column + right })));
    const inside = (place: BlockPlace) => grid && place.row >= 0 && place.column >= 0 && place.row < grid.rows && place.column < grid.columns;
    return Promise.all(places.map((place) => (inside(place) ? this.#session.readCell(place, at) : null)));
  }

  async #copy({ part, format, at, ...block }: Extract<FromInspector, { kind: "copy" }>): Promise<void> {
    const read = await this.#session.readBlock({ ...placeOf(block), part }, at).catch(explainSize);
    if (!read.available)
      throw new UserError("inspect/not-kept", read.reason, vscode.l10n.t("Choose another step or another part."), { badInput: false });
    const { values, rows, columns } = read;
    if (format === "csv") {
      await vscode.env.clipboard.writeText(csvOf(values, rows, columns));
      vscode.window.setStatusBarMessage(vscode.l10n.t("Copied {0} × {1} values.", rows, columns), 3000);
      return;
    }
    const name = `${block.name}.${block.row}.${block.column}.${part}.npy`;
    const target = await vscode.window.showSaveDialog({
      defaultUri: vscode.Uri.joinPath(vscode.Uri.file(this.#session.runFolder), name),
      filters: { NumPy: ["npy"] },
    });
    if (target) await vscode.workspace.fs.writeFile(target, npyOf(values, rows, columns));
  }
}

/** All of a block is copied in one reading, so that it is of one step. */
function explainSize(error: unknown): never {
  if (!(error instanceof UserError) || error.code !== "inspect/no-window") throw error;
  throw new UserError(
    "inspect/too-large",
    vscode.l10n.t("The block holds more than the {0} values that are copied at once.", maxBlockValues),
    vscode.l10n.t("Read it from a checkpoint's files with another program, or choose smaller blocks."),
  );
}

/** The place alone: a message carries more. */
function placeOf({ name, row, column }: BlockPlace): BlockPlace {
  return { name, row, column };
}
