/**
 * Doctor's findings in the display language: what was looked at by its name, and what it means where something is to be mended. The core speaks English, with
 * the names and numbers of the machine; its own words stay behind.
 * The rule to keep: an English window shows the core's words alone, and a subject that is not known is shown as it is.
 */
import * as vscode from "vscode";
import type { ServiceResults } from "../../protocol/serviceProtocol.ts";

export type Finding = ServiceResults["doctor"]["findings"][number];

/** A finding as it is shown. */
export function inLanguage(finding: Finding): Finding {
  const known = findingTexts();
  if (vscode.l10n.bundle === undefined || !Object.hasOwn(known, finding.subject)) return finding;
  const { name, notUsable, toMend } = known[finding.subject];
  const meaning = finding.usable ? finding.fix && toMend : notUsable;
  return { ...finding, subject: name, result: meaning ? `${meaning} ${finding.result}` : finding.result };
}

interface SubjectTexts {
  name: string;
  /** What it means that it cannot be used; null for what always can. */
  notUsable: string | null;
  /** What it means that it can be used and should be mended still. */
  toMend: string | null;
}

/** By the core's name of what was looked at. */
export function findingTexts(): Record<string, SubjectTexts> {
  return {
    node: {
      name: "Node",
      notUsable: vscode.l10n.t("No Node that can run the core was found; install the runtime."),
      // Which Node it is and why is said in the display language.
      toMend: null,
    },
    "cpu device": {
      name: vscode.l10n.t("processor as a device"),
      notUsable: vscode.l10n.t("The processor cannot be used as a device; no run can start."),
      toMend: null,
    },
    "native cpu": {
      name: vscode.l10n.t("native kernels"),
      notUsable: vscode.l10n.t("The native kernels are not there; everything works, many times slower."),
      toMend: null,
    },
    processor: { name: vscode.l10n.t("processor"), notUsable: null, toMend: null },
    memory: { name: vscode.l10n.t("memory"), notUsable: null, toMend: null },
    disk: {
      name: vscode.l10n.t("disk"),
      notUsable: vscode.l10n.t("Runs cannot be written there; open a folder that you may write to, or set output in the run file."),
      toMend: vscode.l10n.t("There is little room on the disk; checkpoints may not fit."),
    },
    webgpu: {
      name: vscode.l10n.t("graphics card (WebGPU)"),
      notUsable: vscode.l10n.t("No graphics card can be used through WebGPU; runs take the processor."),
      toMend: null,
    },
    "card figures": {
      name: vscode.l10n.t("the card's own figures"),
      notUsable: vscode.l10n.t("Memory, load and temperature of a graphics card cannot be shown; runs need none of them."),
      toMend: null,
    },
    tensorflow: {
      name: "TensorFlow",
      notUsable: vscode.l10n.t("TensorFlow cannot be used; runs take another device."),
      toMend: vscode.l10n.t("TensorFlow computes by WebAssembly; its GPU engine is not installed."),
    },
    "device: auto": {
      name: vscode.l10n.t("what device: auto takes"),
      notUsable: vscode.l10n.t("A variable of the environment names no device; correct it or take it away."),
      toMend: null,
    },
  };
}
