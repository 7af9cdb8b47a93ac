/** The slow way to a log-likelihood: whole logits of one sequence, log-softmax in float64. */
import type { OpenModel } from "../../../src/core/inference.ts";
import { runLogits } from "../../../src/core/model/llama.ts";
import { withPositions } from "../../../src/core/tasks/evaluateTask.ts";

/** log p of every token of a sequence but the first, each given those before it. */
export async function tokenLogLikelihoods({ model, method }: OpenModel, ids: Int32Array): Promise<number[]> {
  const logits = await withPositions(model, ids.length, async (long) => {
    const tensor = await runLogits(long, method, ids, ids.length, null);
    const read = (await model.device.read(tensor)) as Float32Array;
    model.device.free(tensor);
    return read;
  });
  const V = model.config.vocabSize;
  return Array.from(ids.subarray(1), (token, i) => {
    const row = logits.subarray(i * V, (i + 1) * V);
    const max = row.reduce((a, b) => Math.max(a, b));
    let total = 0;
    for (const logit of row) total += Math.exp(logit - max);
    return row[token] - max - Math.log(total);
  });
}

/** Σ log p of a candidate behind a prompt. */
export async function candidateLogLikelihood(open: OpenModel, prompt: ArrayLike<number>, candidate: readonly number[]): Promise<number> {
  const all = await tokenLogLikelihoods(open, Int32Array.from([...Array.from(prompt), ...candidate]));
  return all.slice(-candidate.length).reduce((sum, value) => sum + value, 0);
}
