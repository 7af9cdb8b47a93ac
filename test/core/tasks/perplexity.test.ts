/** Perplexity as papers on pruning measure it, against whole logits of each window; what is joined, what is dropped, what is refused. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import type { OpenModel } from "../../../src/core/inference.ts";
import { perplexity, textWindows } from "../../../src/core/tasks/perplexity.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { fastDevice } from "../../support/devices.ts";
import { tokenLogLikelihoods } from "./directScores.ts";
import { storyForTasks } from "./openStory.ts";

let open: OpenModel;
before(async () => {
  open = await storyForTasks(fastDevice(), "f32");
});
after(() => open.close());
const home = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-perplexity-"));
after(() => rmSync(home, { recursive: true, force: true }));

const sentences = [
  "Once upon a time there was a little girl named Lily.",
  "She liked to play in the park with her dog.",
  "One day, it rained and they stayed at home.",
];
const story = Array.from({ length: 12 }, (_, i) => `${sentences[i % 3]} ${"Then they ran. ".repeat(i % 4)}`);

function fileOf(name: string, text: string): string {
  const file = path.join(home, name);
  writeFileSync(file, text);
  return file;
}

const measure = async (file: string, sequenceLength: number | null, onProgress: (done: number, of: number) => void = () => {}) =>
  perplexity(open, await textWindows(open, file, sequenceLength), { onProgress });

async function direct(text: string, T: number): Promise<{ loss: number; windows: number; dropped: number }> {
  const ids = Int32Array.from([...open.tokenizer.prefixIds, ...open.tokenizer.encode(text)]);
  const windows = Math.floor(ids.length / T);
  let sum = 0;
  for (let window = 0; window < windows; window++)
    for (const value of await tokenLogLikelihoods(open, ids.subarray(window * T, (window + 1) * T))) sum -= value;
  return { loss: sum / (windows * (T - 1)), windows, dropped: ids.length - windows * T };
}

test("a text's perplexity is exp of the mean NLL of its whole windows, each on its own", async () => {
  const text = story.join("\n");
  const file = fileOf("story.txt", text);
  for (const T of [16, 33, 64]) {
    const expected = await direct(text, T);
    const progress: [number, number][] = [];
    const found = await measure(file, T, (done, of) => progress.push([done, of]));
    assert.ok(Math.abs(found.loss - expected.loss) < 1e-5, `T ${T}: ${found.loss} instead of ${expected.loss}`);
    assert.equal(found.perplexity, Math.exp(found.loss));
    assert.deepEqual(
      [found.windows, found.droppedTokens, found.tokens, found.sequenceLength],
      [expected.windows, expected.dropped, expected.windows * (T - 1), T],
    );
    assert.deepEqual(progress.at(-1), [expected.windows, expected.windows]);
  }
});

test("rows of text are joined by an empty line", async () => {
  const rows = fileOf("rows.jsonl", story.map((text) => JSON.stringify({ text })).join("\n"));
  const joined = fileOf("joined.txt", story.join("\n\n"));
  assert.deepEqual(await measure(rows, 32), await measure(joined, 32));
});

test("the windows are the model's positions long unless it is said", async () => {
  const file = fileOf("long.txt", story.join("\n").repeat(4));
  assert.equal((await measure(file, null)).sequenceLength, open.model.config.maxPositions);
});

test("too short a text, too long a window, rows without text and a missing file are refused", async () => {
  const refused = async (work: Promise<unknown>) => {
    const error = await work.then(
      () => null,
      (reason) => reason,
    );
    assert.ok(error instanceof UserError, String(error));
    return error.code;
  };
  const short = fileOf("short.txt", "Once upon a time");
  const answers = fileOf("answers.jsonl", JSON.stringify({ question: "a", answer: "b" }));
  const codes = [
    await refused(measure(short, 64)),
    await refused(measure(short, 1024)),
    await refused(measure(answers, 8)),
    await refused(measure(path.join(home, "none.txt"), 8)),
  ];
  assert.deepEqual(codes, ["perplexity/too-short", "data/sequence-too-long", "perplexity/no-text", "data/missing-file"]);
});
