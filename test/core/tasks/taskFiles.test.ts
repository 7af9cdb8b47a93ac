/** Finding and reading the files of tasks: both layouts, what is refused and by which name, floors; those of the real sets against the published ones. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { findTaskFile, readTaskRows } from "../../../src/core/tasks/taskFiles.ts";
import { taskOf, tasks } from "../../../src/core/tasks/taskTable.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { sharedData } from "../../support/sharedData.ts";
import { fixtures } from "./openStory.ts";

const home = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-tasks-"));
after(() => rmSync(home, { recursive: true, force: true }));

const refuses = (work: () => Promise<unknown>, code: string, ...parts: RegExp[]) =>
  assert.rejects(work, (error) => {
    assert.ok(error instanceof UserError && error.code === code, String(error));
    for (const part of parts) assert.match(`${error.message} ${error.action}`, part);
    return true;
  });

test("a file is taken as it is; in a folder the layout of LLM-Adapters or the task's own name is found", async () => {
  const easy = path.join(fixtures, "ARC-Easy/test.json");
  assert.equal(await findTaskFile(taskOf("arc_easy"), easy), easy);
  assert.equal(await findTaskFile(taskOf("arc_easy"), fixtures), easy);
  assert.equal(await findTaskFile(taskOf("arc_easy"), path.dirname(easy)), easy);
  assert.equal(await findTaskFile(taskOf("gsm8k"), fixtures), path.join(fixtures, "gsm8k.jsonl"));
  // A folder of one task has no file of another.
  await refuses(() => findTaskFile(taskOf("boolq"), path.dirname(easy)), "task/missing-file", /boolq\/test\.json/);
});

test("a missing file is refused with what was looked for, and with the tasks that are there", async () => {
  await refuses(
    () => findTaskFile(taskOf("piqa"), fixtures),
    "task/missing-file",
    /the task piqa: looked for piqa\/test\.json, piqa\/test\.jsonl, piqa\.json, piqa\.jsonl/,
    /boolq,hellaswag,arc_easy,gsm8k,addsub,mathqa/,
  );
  await refuses(() => findTaskFile(taskOf("boolq"), path.join(home, "none")), "task/missing-file", /There is no .*none/);
});

test("rows of both layouts are read, the limit counts usable rows, and the floor is the whole file's", async () => {
  const easy = await readTaskRows(taskOf("arc_easy"), path.join(fixtures, "ARC-Easy/test.json"), 5);
  assert.deepEqual([easy.rows.length, easy.skipped], [5, []]);
  assert.deepEqual([easy.rows[0].answer, easy.rows[4].offered], ["answer2", ["answer1", "answer2", "answer3"]]);
  assert.equal(easy.majorityFloor, 5 / 12);
  const gsm = await readTaskRows(taskOf("gsm8k"), path.join(fixtures, "gsm8k.jsonl"), null);
  assert.deepEqual(
    gsm.rows.map(({ answer, line }) => [answer, line]),
    [
      ["1,200", 1],
      ["27", 2],
      ["-11", 3],
    ],
  );
  assert.equal(gsm.majorityFloor, null);
});

test("HellaSwag's and MathQA's rows are read as their conversions write them", async () => {
  const read = async (name: "hellaswag" | "mathqa") => readTaskRows(taskOf(name), await findTaskFile(taskOf(name), fixtures), null);
  const [endings, letters] = [await read("hellaswag"), await read("mathqa")];
  for (const { skipped } of [endings, letters]) assert.deepEqual(skipped, []);
  assert.deepEqual(
    endings.rows.map(({ answer }) => answer),
    ["ending2", "ending3", "ending1", "ending4"],
  );
  for (const { offered } of endings.rows) assert.deepEqual(offered, ["ending1", "ending2", "ending3", "ending4"]);
  assert.deepEqual(
    letters.rows.map(({ answer }) => answer),
    ["C", "A", "E", "B"],
  );
  // "D ) 60 , E ) nonE of thEsE": no letter stands in brackets, and the capitals in words are none.
  for (const { offered } of letters.rows) assert.deepEqual(offered, ["A", "B", "C", "D", "E"]);
  assert.deepEqual([endings.majorityFloor, letters.majorityFloor], [0.25, 0.25]);
});

test("a file of another task is refused by its first rows; a few bad rows are counted", async () => {
  await refuses(
    () => readTaskRows(taskOf("boolq"), path.join(fixtures, "ARC-Easy/test.json"), null),
    "task/no-usable-row",
    /"answer2" is none of true, false/,
  );
  const good = { instruction: "is it? Answer format: true/false", answer: "true" };
  const file = path.join(home, "boolq.jsonl");
  const write = (bad: unknown[], goods: number) =>
    writeFileSync(
      file,
      [...bad, ...Array.from({ length: goods }, () => good)].map((row) => (typeof row === "string" ? row : JSON.stringify(row))).join("\n"),
    );
  const bad = ["{ no row", { instruction: " ", answer: "true" }, { ...good, answer: "maybe" }];
  write(bad, 300);
  const read = await readTaskRows(taskOf("boolq"), file, null);
  assert.equal(read.rows.length, 300);
  assert.deepEqual(
    read.skipped.map(({ line }) => line),
    [1, 2, 3],
  );
  assert.deepEqual(read.rows[0].line, 4);
  write(bad, 100);
  await refuses(() => readTaskRows(taskOf("boolq"), file, null), "task/wrong-rows", /3 of 103 rows/, /line 1/);
});

test("a right answer that the question does not offer makes a bad row", async () => {
  const file = path.join(home, "arc_easy.json");
  writeFileSync(file, JSON.stringify([{ instruction: "Which? Answer format: answer1/answer2", answer: "answer4" }]));
  await refuses(() => readTaskRows(taskOf("arc_easy"), file, null), "task/no-usable-row", /not among those it offers/);
});

const real = sharedData("data-llm-adapters");

test("the published floors are those of the published files", { skip: real === null && "not run: no shared data" }, async () => {
  const data = real as string;
  const sizes: Record<string, number> = { boolq: 3270, piqa: 1838, siqa: 1954, winogrande: 1267, arc_easy: 2376, arc_challenge: 1172, obqa: 500 };
  for (const task of tasks.filter(({ name }) => name in sizes)) {
    const { rows, skipped, majorityFloor } = await readTaskRows(task, await findTaskFile(task, data), null);
    assert.deepEqual([rows.length, skipped], [sizes[task.name], []], task.name);
    assert.equal((100 * (majorityFloor ?? 0)).toFixed(1), task.publishedFloor?.toFixed(1), task.name);
  }
});

test("every row of the published maths files has a right answer", { skip: real === null && "not run: no shared data" }, async () => {
  const sizes: Record<string, number> = { gsm8k: 1319, svamp: 1000, aqua: 254, addsub: 395, multiarith: 600, singleeq: 508, mawps: 238 };
  for (const task of tasks.filter(({ name }) => name in sizes)) {
    const { rows, skipped } = await readTaskRows(task, await findTaskFile(task, real as string), null);
    assert.deepEqual([rows.length, skipped], [sizes[task.name], []], task.name);
  }
});

const gsm = sharedData("data-gsm8k");

test("GSM8K's own test file has the same answers as the one of LLM-Adapters", {
  skip: (real === null || gsm === null) && "not run: no shared data",
}, async () => {
  const ours = await readTaskRows(taskOf("gsm8k"), path.join(gsm as string, "test.jsonl"), null);
  const theirs = await readTaskRows(taskOf("gsm8k"), await findTaskFile(taskOf("gsm8k"), real as string), null);
  const byQuestion = ({ rows }: typeof ours) =>
    new Map(rows.map(({ instruction, answer }) => [instruction.replaceAll(/\s+/g, " ").trim(), Number(answer.replaceAll(",", ""))]));
  const [a, b] = [byQuestion(ours), byQuestion(theirs)];
  let shared = 0;
  for (const [question, answer] of a)
    if (b.has(question)) {
      shared++;
      assert.equal(b.get(question), answer, question);
    }
  assert.ok(shared > 1000, `${shared} questions in both`);
});
