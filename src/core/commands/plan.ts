/** `sparse-tuner plan`: the memory a run will take, from the run file and the model's config.json alone. */
import os from "node:os";
import { parseRunFile, type RunConfig } from "../../protocol/runConfig.ts";
import { plannedDevice } from "../devices/open.ts";
import { openModelConfig } from "../files/modelFolder.ts";
import { readText } from "../files/textFile.ts";
import { type MemoryPlan, planMemory } from "../plan.ts";
import { cheapestChange, checkMethod } from "../prepare.ts";
import { formatBytes, formatPercent } from "../terminal/format.ts";
import { memoryTable } from "../terminal/memoryTable.ts";
import { styleOf } from "../terminal/style.ts";
import type { PlanOptions } from "./options.ts";
import { planColumns } from "./runSummary.ts";

export async function plan({ runFile, json }: PlanOptions): Promise<number> {
  const config = parseRunFile(await readText(runFile), runFile);
  const { config: model } = await openModelConfig(config.model);
  const { selection } = await checkMethod(config, model);
  const planned = plannedDevice(config.threads);
  const memory = await planMemory(config, model, selection, planned);
  const availableBytes = os.freemem();
  const fits = memory.peakBytes <= availableBytes;
  if (json) {
    process.stdout.write(`${JSON.stringify({ ...memory, device: planned.description, fits, availableBytes })}\n`);
    return 0;
  }
  process.stdout.write(`${describe(memory, config, planned.description, availableBytes).join("\n")}\n`);
  return 0;
}

function describe(memory: MemoryPlan, config: RunConfig, device: string, availableBytes: number): string[] {
  const method = config.method.name;
  const { peakBytes, fullFineTuning: full, bytesPerParameter } = memory;
  const lines = memoryTable(planColumns(memory, method), styleOf(process.stdout));
  if (method !== "full") {
    const each = `${bytesPerParameter.toFixed(2)} bytes a parameter for weights, gradients and optimizer; full fine-tuning takes ${full.bytesPerParameter.toFixed(2)}`;
    lines.push(`The run takes ${formatPercent(peakBytes / full.peakBytes)} of full fine-tuning's memory: ${each}.`);
  } else lines.push(`${bytesPerParameter.toFixed(2)} bytes a parameter for weights, gradients and optimizer.`);
  if (!memory.exact) lines.push("Which blocks are trained is not known yet: this is the most the run can take, wherever they lie.");
  const fits = peakBytes <= availableBytes;
  lines.push(`It ${fits ? "fits" : "does not fit"}: ${formatBytes(availableBytes)} are free (${device}).`);
  if (!fits) lines.push(cheapestChange(config));
  return lines;
}
