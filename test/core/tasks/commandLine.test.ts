/** `evaluate --task` and `--perplexity`, as a person types them, and the service's request: the same figures, progress, and an end when it is asked for. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import type { TaskResult } from "../../../src/protocol/evaluationTasks.ts";
import type { ServiceResults } from "../../../src/protocol/serviceProtocol.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { finishedRun, jsonLines, runFileText, sparseTuner, temporaryFolder } from "../commands/commandLine.ts";
import { RawService } from "../service/rawService.ts";
import { fixtures } from "./openStory.ts";

const folder = temporaryFolder(after);
const evaluate = (...args: string[]) => sparseTuner(folder, "evaluate", ...args);
const tasks = (list: string, ...more: string[]) => evaluate(storyFolder, "--task", list, "--data", fixtures, ...more);

/** What is said of every computation where there are no native kernels. */
const portable = /The portable device computes[^\n]*/;

interface Printed {
  results: TaskResult[];
  mean: { accuracy: number; majorityFloor: number | null };
}

test("sets are printed beside their floors, with the mean below, and as JSON", () => {
  const [{ results, mean }] = jsonLines<Printed>(tasks("boolq,arc_easy", "--json"));
  assert.deepEqual(
    results.map(({ task, total, majorityFloor, scoring }) => [task, total, majorityFloor, scoring]),
    [
      ["boolq", 10, 0.6, "logLikelihood"],
      ["arc_easy", 12, 5 / 12, "logLikelihood"],
    ],
  );
  assert.deepEqual(mean, { accuracy: (results[0].accuracy + results[1].accuracy) / 2, majorityFloor: (0.6 + 5 / 12) / 2 });
  const { status, stdout, stderr } = tasks("boolq,arc_easy");
  assert.equal(status, 0);
  assert.match(stderr, new RegExp(`^(note: ${portable.source}\\n)?$`));
  const lines = stdout.trimEnd().split("\n");
  assert.match(lines[0], /^ +accuracy +floor +rows +scored by$/);
  assert.match(lines[1], /^BoolQ +\d+\.\d % ± \d+\.\d +60\.0 % +10 +log-likelihood$/);
  assert.match(lines[2], /^ARC-e +\d+\.\d % ± \d+\.\d +41\.7 % +12 +log-likelihood$/);
  assert.match(lines[3], /^mean +\d+\.\d % +50\.8 % +unweighted, over sets$/);
  assert.match(lines[4], /^floor: always giving the file's most frequent answer$/);
  assert.match(lines[5], /^log-likelihood: .*sum over its tokens; by the mean per token: BoolQ \d/);
});

test("numbers are generated, have no floor, and rows without an answer are said", () => {
  const [{ results, mean }] = jsonLines<Printed>(tasks("addsub", "--rows", "2", "--json"));
  assert.deepEqual([results[0].scoring, results[0].majorityFloor, mean.majorityFloor, results[0].total], ["generation", null, null, 2]);
  const { stdout } = tasks("addsub", "--rows", "2", "--batch-size", "1");
  assert.match(stdout, /^AddSub +\d+\.\d % ± \d+\.\d +- +2 +generation$/m);
  assert.doesNotMatch(stdout, /^mean|^floor/m);
  const { unanswered } = results[0];
  assert.equal(stdout.includes(`no answer found in the text, counted as wrong: AddSub ${unanswered} of 2`), (unanswered ?? 0) > 0);
});

test("what cannot be done as asked is refused before the model is opened", () => {
  const nowhere = path.join(folder, "no model");
  const cases: [string[], RegExp][] = [
    [["--task", "piqa", "--data", fixtures], /no file of the task piqa: looked for piqa\/test\.json/],
    [["--task", "commonsense", "--data", fixtures], /no file of the task piqa.*\n.*boolq,hellaswag,arc_easy/],
    [["--task", "bolq", "--data", fixtures], /no task "bolq"\.\nDid you mean boolq/],
    [["--task", "gsm8k", "--data", fixtures, "--scoring", "logLikelihood"], /gsm8k offers no answers to choose from/],
    [
      ["--task", "arc_easy,arc_challenge", "--data", path.join(fixtures, "ARC-Easy/test.json")],
      /cannot be the file of both arc_easy and arc_challenge/,
    ],
    [["--task", "boolq"], /required option '--data <FILE>' not specified/],
    [["--data", "x.jsonl", "--scoring", "generation"], /--scoring and --batch-size belong to --task/],
    [["--task", "boolq", "--data", fixtures, "--scoring", "guess"], /Allowed choices are logLikelihood, generation/],
    [["--task", "boolq", "--data", fixtures, "--sequence-length", "8"], /cannot be used with option '--sequence-length/],
    [["--perplexity", "x.txt", "--data", "y.txt"], /cannot be used with option '--data/],
    [["--perplexity", "x.txt", "--scoring", "generation"], /cannot be used with option '--scoring/],
    [["--perplexity", "x.txt", "--batch-size", "4"], /cannot be used with option '--batch-size/],
  ];
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = evaluate(nowhere, ...args);
    assert.deepEqual([status, stdout], [2, ""], args.join(" "));
    assert.match(stderr, message);
  }
});

test("perplexity over windows is printed, and as JSON", () => {
  const file = path.join(folder, "text.txt");
  writeFileSync(file, "Once upon a time there was a dog. The dog was happy. ".repeat(40));
  const [{ perplexity, loss, windows, tokens, sequenceLength }] = jsonLines<Record<string, number>>(
    evaluate(storyFolder, "--perplexity", file, "--sequence-length", "32", "--json"),
  );
  assert.ok(Math.abs(perplexity - Math.exp(loss)) < 1e-9 && tokens === windows * 31 && sequenceLength === 32 && windows > 5);
  const { stdout } = evaluate(storyFolder, "--perplexity", file, "--sequence-length", "32");
  assert.ok(
    stdout.startsWith(`perplexity ${perplexity.toFixed(3)}, loss ${loss.toFixed(4)}, over ${windows} windows of 32 tokens without overlap;`),
    stdout,
  );
});

test("a run that was trained on the questions is evaluated with a warning", () => {
  const { run } = finishedRun(folder, "seen", runFileText({ data: path.join(fixtures, "AddSub/test.json") }));
  const { status, stdout, stderr } = evaluate(run, "--task", "addsub", "--data", fixtures);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^AddSub /m);
  assert.match(stderr, /note: AddSub: Warning: 4 of these 4 questions stand in the run's training data/);
});

test("the service gives the same figures and says how far it is; cancelled, it stops and answers the next", async (t) => {
  const service = new RawService(t);
  const request = { modelOrRun: storyFolder, tasks: ["boolq", "addsub"], data: fixtures, scoring: null, rows: 3, batchSize: 2, stream: 5 };
  const { result, error } = await service.ask("evaluateTasks", request);
  assert.equal(error, undefined, JSON.stringify(error));
  const { results, notes } = result as ServiceResults["evaluateTasks"];
  const [printed] = jsonLines<Printed>(tasks("boolq,addsub", "--rows", "3", "--batch-size", "2", "--json"));
  assert.deepEqual([results, notes.filter((note) => !portable.test(note))], [printed.results, []]);
  const said = () =>
    service.messages.filter(({ method }) => method === "evaluating").map(({ params }) => params as unknown as Record<string, unknown>);
  for (const task of ["boolq", "addsub"]) {
    const own = said().filter((progress) => progress.task === task);
    assert.deepEqual(own[0], { stream: 5, task, done: 0, of: 3 });
    assert.deepEqual(own.at(-1), { stream: 5, task, done: 3, of: 3 });
  }

  const before = said().length;
  const id = service.send("evaluateTasks", { ...request, tasks: ["gsm8k", "addsub"], rows: null, batchSize: 1, stream: 6 });
  await service.seen(({ method, params }) => method === "evaluating" && params?.stream === 6);
  service.notify("$/cancelRequest", { id });
  const cancelled = await service.seen((message) => message.id === id);
  assert.equal(cancelled.error?.data?.code, "service/cancelled");
  assert.ok(!said().some(({ stream, task, done }, i) => i >= before && stream === 6 && task === "addsub" && done === 4), "it went on to its end");
  const again = await service.ask("evaluateTasks", { ...request, tasks: ["boolq"], stream: 7 });
  assert.deepEqual((again.result as ServiceResults["evaluateTasks"]).results, [printed.results[0]]);
});
