/**
 * Show Log and Copy Report: what one needs to find out what happened, and to tell somebody else.
 * The rule to keep: a report holds what stands in the run's own files, with the home folder's name taken out; nothing is sent anywhere.
 */
import { open } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { recentFailures } from "../failures.ts";
import type { PanelTarget } from "../panel/panelParts.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { targetOf } from "./targets.ts";

const reportedEvents = 30;
const reportedLogLines = 60;
/** Of each file's end that is read. */
const tailBytes = 1 << 16;

export function logAndReport(parts: ShellParts): Handlers<"showLog" | "copyReport"> {
  return {
    showLog: async (argument) => {
      const runFolder = await runInQuestion(parts, argument);
      const file = runFolder && vscode.Uri.file(path.join(runFolder, "log.txt"));
      const log = file && (await vscode.workspace.openTextDocument(file).then(undefined, () => null));
      parts.log.show(log !== null && log !== "");
      if (log) await vscode.window.showTextDocument(log, { preview: true });
    },
    copyReport: async (argument) => {
      const target = targetOf(argument) ?? parts.panels.active ?? { runFolder: await runInQuestion(parts, argument), runFile: null };
      const text = await report(parts, target);
      await vscode.env.clipboard.writeText(text);
      void vscode.window.showInformationMessage(
        vscode.l10n.t("The report is on the clipboard. Read it before you pass it on: it quotes your run file and log."),
      );
      return text;
    },
  };
}

/** The run that a log is asked of, without a question: given, in front, the one that is live, else the newest that is known. */
async function runInQuestion({ panels, runs }: ShellParts, argument: unknown): Promise<string | null> {
  const folder = targetOf(argument)?.runFolder ?? panels.active?.runFolder;
  if (folder) return folder;
  const live = runs.all().filter((session) => session.live);
  return (live.length === 1 ? live[0] : runs.all()[0])?.runFolder ?? null;
}

async function report(parts: ShellParts, { runFolder, runFile }: PanelTarget): Promise<string> {
  const { version } = parts.context.extension.packageJSON as { version: string };
  const node = await parts.program().then(
    (program) => program.node,
    (error: Error) => error.message,
  );
  const lines = [
    `Sparse Tuner ${version}`,
    `${vscode.env.appName} ${vscode.version}, extension host on Node ${process.versions.node}, core on ${node}`,
    `${os.type()} ${os.release()} ${process.arch}, ${os.availableParallelism()} threads, ${Math.round(os.totalmem() / 2 ** 30)} GiB`,
  ];
  if (recentFailures.length > 0) lines.push("", "## failures shown in this window", ...recentFailures);
  if (runFolder) lines.push(...(await runReport(parts, runFolder)));
  if (runFile) lines.push("", `## ${runFile.fsPath}`, await vscode.workspace.openTextDocument(runFile).then((document) => document.getText()));
  return `${lines.join("\n").replaceAll(os.homedir(), "~")}\n`;
}

async function runReport({ runs }: ShellParts, runFolder: string): Promise<string[]> {
  const { state, step, totalSteps, failure, logTail } = runs.get(runFolder).view;
  const ends = { events: await tail(path.join(runFolder, "events.jsonl")), log: await tail(path.join(runFolder, "log.txt")) };
  return [
    "",
    `## ${runFolder}`,
    `${state}, step ${step} of ${totalSteps}`,
    ...(failure ? [`${failure.code}: ${failure.message} ${failure.action}`] : []),
    ...(logTail.length > 0 ? ["", "## end of the crashed core's log", ...logTail] : []),
    "",
    "## run.yaml",
    (await tail(path.join(runFolder, "run.yaml"))).join("\n"),
    "",
    "## events.jsonl, last lines",
    ...ends.events.slice(-reportedEvents),
    "",
    "## log.txt, last lines",
    ...ends.log.slice(-reportedLogLines),
  ];
}

/** The last lines of a file; none when it is not there. The first one may be cut. */
async function tail(file: string): Promise<string[]> {
  const handle = await open(file).catch(() => null);
  if (!handle) return [];
  try {
    const { size } = await handle.stat();
    const length = Math.min(size, tailBytes);
    const { buffer } = await handle.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString("utf8").trimEnd().split("\n");
  } finally {
    await handle.close();
  }
}
