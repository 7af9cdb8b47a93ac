/** `sparse-tuner prune`: a model with a share of its weights zero, and a table of what that costs. Ctrl-C leaves nothing behind. */
import type { PruningProgress } from "../../protocol/pruning.ts";
import { pruneModel } from "../pruning/prune.ts";
import { ProgressBar } from "../terminal/progressBar.ts";
import { pruningTable } from "../terminal/pruningTable.ts";
import { styleOf } from "../terminal/style.ts";
import type { PruneCommandOptions } from "./options.ts";
import { listenForStop } from "./stopSignal.ts";

export async function prune({ json, verbose: _verbose, sequenceLength, grouping, threads, ...options }: PruneCommandOptions): Promise<number> {
  const stopping = new AbortController();
  const bar = new ProgressBar(process.stderr, styleOf(process.stderr));
  const stop = listenForStop(() => stopping.abort());
  let percent = -1;
  const onProgress = ({ done, remainingMs }: PruningProgress) => {
    if (Math.floor(done * 100) === percent) return;
    percent = Math.floor(done * 100);
    bar.update({ label: "Pruning %", step: percent, of: 100, etaMs: remainingMs });
  };
  const onNotes = (notes: readonly string[]) => {
    for (const note of notes) bar.log(`note: ${note}`);
  };
  try {
    const given = { ...(sequenceLength === null ? {} : { sequenceLength }), ...(grouping === null ? {} : { grouping }) };
    const asked = { ...options, ...given, threads: threads ?? ("auto" as const), onNotes };
    const report = await pruneModel(asked, onProgress, stopping.signal);
    bar.finish();
    process.stdout.write(json ? `${JSON.stringify(report)}\n` : `${pruningTable(report)}\nThe pruned model stands in ${options.to}.\n`);
    return 0;
  } catch (error) {
    bar.finish();
    if (stop.exitCode === null || error !== stopping.signal.reason) throw error;
    process.stderr.write("Stopped: nothing was written.\n");
    return stop.exitCode;
  } finally {
    stop.close();
  }
}
