/**
 * What the service answers to each request: the same code as behind the command line, given plain data and giving plain data. It knows no connection.
 * The rule to keep: parameters have been checked by their schemas before they come here; nothing is written but by `export` and `prune`, where they were
 * told to.
 */
import { access } from "node:fs/promises";
import path from "node:path";
import type { TaskName } from "../../protocol/evaluationTasks.ts";
import type { PruningNotes, PruningProgress } from "../../protocol/pruning.ts";
import { parseRunFile } from "../../protocol/runConfig.ts";
import type { ServiceParams, ServiceRequest, ServiceResults } from "../../protocol/serviceProtocol.ts";
import { Analyst } from "../blocks/analyst.ts";
import { RunBlocks } from "../blocks/runBlocks.ts";
import { examine } from "../commands/doctor.ts";
import { evaluateOn } from "../commands/evaluate.ts";
import { evaluateTasksOn, type OnTaskProgress } from "../commands/evaluateTasks.ts";
import { exportResult } from "../commands/export.ts";
import { generateText } from "../commands/generate.ts";
import { planRun } from "../commands/plan.ts";
import { documentsOf, previewRun } from "../commands/preview.ts";
import { pruneModel } from "../pruning/prune.ts";
import { describeModel } from "./describeModel.ts";
import { describeTensors, readTensorWindow } from "./tensorFiles.ts";

/** How far a long answer is, is said no oftener. */
const progressMs = 200;

/** Who asks, as far as answers need it. */
export interface Asker {
  /** Says that nobody waits for the answer any more. */
  signal: AbortSignal;
  sendFrame(frame: Uint8Array): Promise<void>;
  /** Sends values as a frame of their own; its id. */
  sendValues(values: Float32Array): Promise<number>;
  generated(stream: number, text: string): void;
  evaluating(stream: number, task: TaskName, done: number, of: number): void;
  pruning(stream: number, said: PruningProgress | PruningNotes): void;
}

const analyst = new Analyst();

type Answers = { [Name in ServiceRequest]: (parameters: ServiceParams[Name], asker: Asker) => Promise<ServiceResults[Name]> };

export const answers: Answers = {
  async plan({ runFile, text, runFolder }) {
    const { memory, ...rest } = await planRun(parseRunFile(text, runFile), runFolder);
    return { ...memory, ...rest };
  },

  async preview({ runFile, text }) {
    const { batch, rows, data } = await previewRun(parseRunFile(text, runFile));
    return {
      batchSize: batch.batchSize,
      sequenceLength: batch.sequenceLength,
      unmaskedTokens: batch.unmaskedTokens,
      tokens: batch.tokens,
      rows: rows.map((row) => ({ documents: documentsOf(row).map(shownDocument), padding: row.padding })),
      notices: data.notices.map(({ message }) => message),
      skipped: data.skipped.map(({ file, line, reason }) => ({ file, line, reason })),
      skippedRows: data.skippedRows,
    };
  },

  describeModel: ({ folder }) => describeModel(folder),

  describeRun: async ({ runFolder }) => (await RunBlocks.open(runFolder)).describe(),

  async heatmap({ runFolder, step }, { sendFrame }) {
    const shown = await (await RunBlocks.open(runFolder)).frames(step);
    for (const frame of shown.frames) await sendFrame(frame);
    return { step: shown.step };
  },

  readCell: async ({ runFolder, step, ...place }) => (await RunBlocks.open(runFolder)).cell(place, step),

  async readBlock({ runFolder, step, part, window, analyze, ...place }, { sendValues }) {
    const block = await (await RunBlocks.open(runFolder)).read(place, part, step, { window, analyze });
    if ("reason" in block) return { available: false, ...block };
    const { values, whole, ...rest } = block;
    const analysed = await analyst.analyze(whole, block);
    return { available: true, frame: await sendValues(values), ...rest, ...analysed };
  },

  blockHistory: async ({ runFolder, ...place }) => ({ cells: await (await RunBlocks.open(runFolder)).history(place) }),

  describeTensors: ({ file }) => describeTensors(file),

  async readTensor(request, { sendValues }) {
    const { rows, columns } = request.window;
    return { frame: await sendValues(await readTensorWindow(request)), rows, columns };
  },

  async evaluate(request, { signal }) {
    let notes: string[] = [];
    const onNotes = (found: readonly string[]) => {
      notes = [...found];
    };
    const { loss, perplexity, tokens, rows } = await evaluateOn({ ...request, sequenceLength: null }, { onNotes, signal });
    return { loss, perplexity, tokens, rows, notes };
  },

  async evaluateTasks({ stream, ...request }, { evaluating, signal }) {
    let notes: string[] = [];
    const onNotes = (found: readonly string[]) => {
      notes = [...found];
    };
    let saidMs = Number.NEGATIVE_INFINITY;
    const onProgress: OnTaskProgress = (task, done, of) => {
      if (done > 0 && done < of && performance.now() - saidMs < progressMs) return;
      saidMs = performance.now();
      evaluating(stream, task, done, of);
    };
    return { results: await evaluateTasksOn(request, { onNotes, onProgress, signal }), notes };
  },

  async generate({ stream, ...request }, { generated, signal }) {
    let notes: string[] = [];
    const onNotes = (found: readonly string[]) => {
      notes = [...found];
    };
    const result = await generateText(request, { onNotes, onText: (text) => generated(stream, text), signal });
    return { ...result, notes };
  },

  async export(request, { signal }) {
    const { notes, relativeError } = await exportResult(request, signal);
    return { folder: path.resolve(request.to), notes, relativeError: relativeError ?? null };
  },

  prune({ stream, sequenceLength, grouping, ...request }, { pruning, signal }) {
    const given = { ...(sequenceLength === null ? {} : { sequenceLength }), ...(grouping === null ? {} : { grouping }) };
    const onNotes = (notes: readonly string[]) => {
      if (notes.length > 0) pruning(stream, { notes: [...notes] });
    };
    const options = { ...request, ...given, device: "auto", threads: "auto", onNotes } as const;
    return pruneModel(options, (progress) => pruning(stream, progress), signal);
  },

  doctor: async ({ folder }) => examine(await existingFolder(folder)),
};

type Row = ServiceResults["preview"]["rows"][number];

function shownDocument(tokens: ReturnType<typeof documentsOf>[number]): Row["documents"][number] {
  return { line: tokens[0].line, tokens: tokens.map(({ id, text, role, loss }) => ({ id, text, role, loss })) };
}

/** The folder, or the nearest one above it that is there: a run's folder is made when it starts. */
async function existingFolder(folder: string): Promise<string> {
  const found = await access(folder).then(
    () => true,
    () => false,
  );
  const above = path.dirname(folder);
  return found || above === folder ? folder : existingFolder(above);
}
