/** `sparse-tuner plan`, and the service's: the memory a run will take, from the run file and the model's config.json alone. */
import { existsSync } from "node:fs";
import path from "node:path";
import { parseRunFile, type RunConfig } from "../../protocol/runConfig.ts";
import { parseSelection, type Selection } from "../../protocol/selection.ts";
import { UserError } from "../../protocol/userError.ts";
import { adapterOf } from "../adapterParameters.ts";
import { memoryOf } from "../deviceMemory.ts";
import { chooseDevice } from "../devices/choose.ts";
import { sizeOf } from "../devices/device.ts";
import { plannedDevice } from "../devices/open.ts";
import { openModelConfig, openModelFolder } from "../files/modelFolder.ts";
import { runFiles } from "../files/runFolder.ts";
import { readText } from "../files/textFile.ts";
import { cheapestChange } from "../fitting.ts";
import { adapterParameters } from "../methods/adapters.ts";
import { blockEntries, blocksInBudget } from "../methods/smt/selection.ts";
import { type ModelConfig, weightShapes } from "../model/config.ts";
import { type MemoryPlan, planMemory } from "../plan.ts";
import { checkMethod } from "../prepare.ts";
import type { SmtPlan } from "../smtRun.ts";
import { isPruned, shareOfZeros, zerosWarning } from "../sparsity.ts";
import { formatBytes, formatCount, formatPercent } from "../terminal/format.ts";
import { memoryTable } from "../terminal/memoryTable.ts";
import { styleOf } from "../terminal/style.ts";
import type { PlanOptions } from "./options.ts";
import { planColumns } from "./runSummary.ts";

/** A plan, and whether the machine has room for it now. */
export interface PlannedRun {
  memory: MemoryPlan;
  /** What it is planned for, and on which card. */
  device: string;
  /** Null where nobody tells what is free. */
  availableBytes: number | null;
  fits: boolean | null;
  /** Why it is not known what is free, a sentence; null where it is. */
  memoryProblem: string | null;
  /** The smallest change of the run file that takes less; null where it fits, or where that is not known. */
  cheapestChange: string | null;
  trainableParameters: number;
  totalParameters: number;
  /** What the run would do that its giver may not want; as far as the weights are there to be looked at. */
  warnings: string[];
}

/** Plans a run. `runFolder`: the run that was begun with it, if one was; what it trains is known once its selection stands there. Throws UserError. */
export async function planRun(config: RunConfig, runFolder: string | null = null): Promise<PlannedRun> {
  const { config: model } = await openModelConfig(config.model);
  const { smt, selection, notices } = await checkMethod(config, model, runFolder);
  const chosen = smt && !selection && runFolder !== null ? await chosenIn(runFolder) : null;
  const { name, tried } = await chooseDevice(config.device);
  const planned = plannedDevice(name, config.threads, tried);
  const zeros = await knownShareOfZeros(config.model);
  const memory = await planMemory(config, model, selection, planned, { pruned: isPruned(zeros), chosen });
  const adapter = adapterOf(config.method);
  const warning = zerosWarning(config.method, zeros);
  const { freeBytes: availableBytes, card, problem: memoryProblem } = await memoryOf(planned.place);
  const fits = availableBytes === null ? null : memory.peakBytes <= availableBytes;
  const totalParameters = [...weightShapes(model).values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
  return {
    memory,
    device: card ? `${planned.description} on ${card}` : planned.description,
    availableBytes,
    fits,
    memoryProblem,
    cheapestChange: fits === false ? cheapestChange(config, planned) : null,
    trainableParameters: smt ? trainableParameters(smt, selection ?? chosen, model) : adapter ? adapterParameters(adapter, model) : totalParameters,
    totalParameters,
    warnings: [...notices.map(({ message }) => message), ...(warning ? [warning] : [])],
  };
}

/** What the warm-up of a run has chosen; null before that. */
async function chosenIn(runFolder: string): Promise<Selection | null> {
  const file = path.join(runFolder, runFiles.selection);
  return existsSync(file) ? parseSelection(await readText(file), file) : null;
}

/** A plan needs no weights: where they are missing or damaged, nothing is known of their zeros. */
async function knownShareOfZeros(model: string): Promise<number> {
  const folder = await openModelFolder(model).catch((error) => {
    if (error instanceof UserError) return null;
    throw error;
  });
  if (!folder) return 0;
  try {
    return await shareOfZeros(folder);
  } finally {
    await folder.close();
  }
}

/** Entries of the chosen blocks; before they are chosen, those that the budget buys, which are no fewer. */
function trainableParameters(smt: SmtPlan, selection: Selection | null, model: ModelConfig): number {
  if (!selection) return blocksInBudget(model, smt.targets, smt.blockSize, smt.budget) * smt.blockSize ** 2;
  const shapes = weightShapes(model);
  const shapeOf = (name: string) => shapes.get(`${name}.weight`) as number[];
  return selection.blocks.reduce((sum, block) => sum + blockEntries(shapeOf(block.name), block, selection.blockSize), 0);
}

export async function plan({ runFile, json }: PlanOptions): Promise<number> {
  const config = parseRunFile(await readText(runFile), runFile);
  const planned = await planRun(config);
  const { memory, device, fits, availableBytes, memoryProblem, trainableParameters, warnings } = planned;
  const text = json
    ? JSON.stringify({ ...memory, device, fits, availableBytes, memoryProblem, trainableParameters, warnings })
    : describe(planned, config).join("\n");
  process.stdout.write(`${text}\n`);
  return 0;
}

function describe(planned: PlannedRun, config: RunConfig): string[] {
  const { memory, device, availableBytes, fits, memoryProblem, cheapestChange: change, warnings } = planned;
  const method = config.method.name;
  const { peakBytes, fullFineTuning: full, bytesPerParameter } = memory;
  const lines = memoryTable(planColumns(memory, method), styleOf(process.stdout));
  if (method !== "full") {
    const each = `${bytesPerParameter.toFixed(2)} bytes a parameter for weights, gradients and optimizer; full fine-tuning takes ${full.bytesPerParameter.toFixed(2)}`;
    lines.push(`The run takes ${formatPercent(peakBytes / full.peakBytes)} of full fine-tuning's memory: ${each}.`);
  } else lines.push(`${bytesPerParameter.toFixed(2)} bytes a parameter for weights, gradients and optimizer.`);
  if (adapterOf(config.method)) {
    const share = formatPercent(planned.trainableParameters / planned.totalParameters);
    lines.push(
      `It trains ${formatCount(planned.trainableParameters)} parameters beside the model's ${formatCount(planned.totalParameters)} (${share}).`,
    );
  }
  if (!memory.exact) lines.push("Which blocks are trained is not known yet: this is the most the run can take, wherever they lie.");
  if (availableBytes === null) lines.push(`Whether it fits (${device}) is not known. ${memoryProblem}`);
  else lines.push(`It ${fits ? "fits" : "does not fit"}: ${formatBytes(availableBytes)} are free (${device}).`);
  if (change) lines.push(change);
  return [...lines, ...warnings.map((warning) => `Warning: ${warning}`)];
}
