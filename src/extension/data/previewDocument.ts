/**
 * The read-only documents of previews: their text, colours, links and hovers. One document a run file; asking again renews it.
 * The rule to keep: colours are put only onto the very text they were made for.
 */
import path from "node:path";
import * as vscode from "vscode";
import { UserError } from "../../protocol/userError.ts";
import { resultLanguage } from "../contributions.ts";
import type { PreviewText, SpanKind } from "./previewText.ts";

export const previewScheme = "sparse-tuner-preview";

/** Makes the preview of a run file anew, for a document that outlived its window. */
type MakePreview = (runFile: vscode.Uri) => Promise<PreviewText>;

export class PreviewDocuments implements vscode.Disposable {
  readonly #make: MakePreview;
  /** By the document's uri. */
  readonly #previews = new Map<string, PreviewText>();
  readonly #changed = new vscode.EventEmitter<vscode.Uri>();
  readonly #styles = styles();
  readonly #subscriptions: vscode.Disposable;

  constructor(make: MakePreview) {
    this.#make = make;
    const selector: vscode.DocumentFilter = { scheme: previewScheme };
    this.#subscriptions = vscode.Disposable.from(
      vscode.workspace.registerTextDocumentContentProvider(previewScheme, {
        onDidChange: this.#changed.event,
        provideTextDocumentContent: (uri) => this.#contentOf(uri),
      }),
      vscode.languages.registerDocumentLinkProvider(selector, { provideDocumentLinks: (document) => this.#linksOf(document) }),
      vscode.languages.registerHoverProvider(selector, { provideHover: (document, position) => this.#hoverOf(document, position) }),
      vscode.window.onDidChangeVisibleTextEditors((editors) => {
        for (const editor of editors) this.#paint(editor);
      }),
      vscode.workspace.onDidChangeTextDocument(({ document }) => this.#paintAll(document)),
      vscode.workspace.onDidCloseTextDocument(({ uri }) => this.#forgetIfClosed(uri)),
    );
  }

  dispose(): void {
    this.#subscriptions.dispose();
    this.#changed.dispose();
    for (const style of Object.values(this.#styles)) style.dispose();
  }

  /** Shows a preview beside its run file. */
  async show(runFile: vscode.Uri, preview: PreviewText): Promise<void> {
    const uri = previewUri(runFile);
    this.#previews.set(uri.toString(), preview);
    const document = await vscode.workspace.openTextDocument(uri);
    if (document.getText() !== preview.text) this.#changed.fire(uri);
    const editor = await vscode.window.showTextDocument(await wrapped(document), { viewColumn: vscode.ViewColumn.Beside, preview: false });
    this.#paint(editor);
  }

  /** Opened again later, it is made anew. Another language also says that a document closed, and opens it at once. */
  #forgetIfClosed(uri: vscode.Uri): void {
    const key = uri.toString();
    setImmediate(() => {
      if (!vscode.workspace.textDocuments.some((document) => document.uri.toString() === key)) this.#previews.delete(key);
    });
  }

  async #contentOf(uri: vscode.Uri): Promise<string> {
    const key = uri.toString();
    const known = this.#previews.get(key);
    if (known) return known.text;
    try {
      const made = await this.#make(vscode.Uri.parse(uri.query, true));
      this.#previews.set(key, made);
      return made.text;
    } catch (error) {
      if (error instanceof UserError) return `${error.message}\n${error.action}\n`;
      throw error;
    }
  }

  /** The preview that a document shows now, not the one it is about to show. */
  #shownIn(document: vscode.TextDocument): PreviewText | null {
    const preview = document.uri.scheme === previewScheme ? this.#previews.get(document.uri.toString()) : undefined;
    return preview && document.getText().replaceAll("\r\n", "\n") === preview.text ? preview : null;
  }

  #paintAll(document: vscode.TextDocument): void {
    if (document.uri.scheme !== previewScheme) return;
    for (const editor of vscode.window.visibleTextEditors) if (editor.document === document) this.#paint(editor);
  }

  #paint(editor: vscode.TextEditor): void {
    const { document } = editor;
    const preview = this.#shownIn(document);
    if (!preview) return;
    for (const [kind, style] of Object.entries(this.#styles)) {
      const spans = preview.spans.filter((span) => span.kind === kind);
      editor.setDecorations(
        style,
        spans.map((span) => rangeOf(document, span)),
      );
    }
  }

  #linksOf(document: vscode.TextDocument): vscode.DocumentLink[] {
    return (this.#shownIn(document)?.links ?? []).map((link) => {
      const target = vscode.Uri.file(path.resolve(link.file)).with({ fragment: `L${link.line}` });
      const made = new vscode.DocumentLink(rangeOf(document, link), target);
      made.tooltip = vscode.l10n.t("Open this line of the data");
      return made;
    });
  }

  #hoverOf(document: vscode.TextDocument, position: vscode.Position): vscode.Hover | null {
    const offset = document.offsetAt(position);
    const found = this.#shownIn(document)?.tokens.find(({ start, end }) => offset >= start && offset < end);
    if (!found) return null;
    const { id, text, role, loss } = found.token;
    const words = new vscode.MarkdownString();
    const place = loss ? vscode.l10n.t("in the loss") : vscode.l10n.t("not in the loss");
    words.appendText(vscode.l10n.t("Token {0}, {1}, {2}", id, role, place));
    words.appendCodeblock(JSON.stringify(text), "json");
    return new vscode.Hover(words, rangeOf(document, found));
  }
}

/** The document in the language whose editors wrap lines, where the manifest contributes it. */
async function wrapped(document: vscode.TextDocument): Promise<vscode.TextDocument> {
  if (document.languageId === resultLanguage || !(await vscode.languages.getLanguages()).includes(resultLanguage)) return document;
  return vscode.languages.setTextDocumentLanguage(document, resultLanguage);
}

function previewUri(runFile: vscode.Uri): vscode.Uri {
  const name = path.posix.basename(runFile.path).replace(/\.ya?ml$/, "");
  return vscode.Uri.from({ scheme: previewScheme, path: `/${vscode.l10n.t("First batch of {0}", name)}`, query: runFile.toString() });
}

function rangeOf(document: vscode.TextDocument, { start, end }: { start: number; end: number }): vscode.Range {
  return new vscode.Range(document.positionAt(start), document.positionAt(end));
}

/** Theme colours only; in high contrast the outline tells the loss's tokens apart. */
function styles(): Record<SpanKind, vscode.TextEditorDecorationType> {
  const color = (name: string) => new vscode.ThemeColor(name);
  const make = (options: vscode.DecorationRenderOptions) => vscode.window.createTextEditorDecorationType(options);
  const closed = vscode.DecorationRangeBehavior.ClosedClosed;
  return {
    loss: make({
      backgroundColor: color("diffEditor.insertedTextBackground"),
      // Only high-contrast themes name this colour.
      outline: "1px solid transparent",
      outlineColor: color("diffEditor.insertedTextBorder"),
      rangeBehavior: closed,
    }),
    context: make({ color: color("descriptionForeground"), rangeBehavior: closed }),
    heading: make({ color: color("symbolIcon.classForeground"), fontWeight: "bold", rangeBehavior: closed }),
    padding: make({ color: color("descriptionForeground"), fontStyle: "italic", rangeBehavior: closed }),
    mark: make({ color: color("charts.green"), fontWeight: "bold", rangeBehavior: closed }),
  };
}
