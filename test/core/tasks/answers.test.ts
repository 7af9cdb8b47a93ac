/** Reading answers: the right ones of rows, the model's in its text, which are the same; which of a row's answers are offered; names of tasks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { extractAnswer, isCorrect, offeredAnswers, readRightAnswer } from "../../../src/core/tasks/answers.ts";
import { candidateText, promptText } from "../../../src/core/tasks/prompts.ts";
import { parseTasks, taskOf, tasks } from "../../../src/core/tasks/taskTable.ts";
import { commonsenseTasks, mathsTasks, meanOver, type TaskResult, taskNames } from "../../../src/protocol/evaluationTasks.ts";
import { UserError } from "../../../src/protocol/userError.ts";

const kindOf = (name: (typeof taskNames)[number]) => taskOf(name).answer;

test("a choice is the first of its words in the text, as it is written", () => {
  const cases: [(typeof taskNames)[number], string, string | null][] = [
    ["boolq", "the correct answer is true", "true"],
    ["boolq", "false, not true", "false"],
    ["boolq", "True", null],
    ["piqa", "the correct answer is solution2 and not solution1", "solution2"],
    ["siqa", "answer3", "answer3"],
    ["arc_easy", "the correct answer is answer5", "answer5"],
    ["arc_easy", "answer 1", null],
    ["hellaswag", "the correct answer is ending4.", "ending4"],
    ["winogrande", "option1option2", "option1"],
    ["obqa", "", null],
  ];
  for (const [task, text, answer] of cases) assert.equal(extractAnswer(kindOf(task), text), answer, `${task}: ${text}`);
});

test("a number is the last one, without commas and to a thousandth", () => {
  const number = kindOf("gsm8k");
  const cases: [string, string | null][] = [
    ["A: 3 + 4 = 7 balls. The answer is 7.", "7."],
    ["The answer is 1,234,567", "1234567"],
    ["#### -11", "-11"],
    ["it is 2.50 dollars", "2.50"],
    ["no number at all", null],
    ["7 is the answer, I think, of 2", "2"],
  ];
  for (const [text, answer] of cases) assert.equal(extractAnswer(number, text), answer, text);
  for (const [given, right, same] of [
    ["7.", "7.0", true],
    ["1234567", "1,234,567", true],
    ["3.501", "3.5", true],
    ["3.4989", "3.5", false],
    ["-7", "7", false],
    ["0.3333", "0.333333", true],
  ] as const)
    assert.equal(isCorrect(number, given, right), same, `${given} for ${right}`);
  assert.equal(isCorrect(number, null, "0"), false);
});

test("a letter is the first capital from A to E, fragile as that is", () => {
  const letter = kindOf("aqua");
  assert.equal(extractAnswer(letter, "The answer is (D)"), "D");
  assert.equal(extractAnswer(letter, "By the rule, C follows. Also A."), "B");
  assert.equal(extractAnswer(letter, "the answer is d"), null);
  assert.ok(isCorrect(letter, "D", "D") && !isCorrect(letter, "D", "A") && !isCorrect(letter, null, "A"));
});

test("right answers: of a choice one of its words, of GSM8K what stands behind the hashes; anything else is a reason", () => {
  assert.deepEqual(readRightAnswer(kindOf("boolq"), "true"), { answer: "true" });
  assert.deepEqual(readRightAnswer(kindOf("gsm8k"), "He has 3 + 4.\n#### 1,200"), { answer: "1,200" });
  assert.deepEqual(readRightAnswer(kindOf("svamp"), "8.0"), { answer: "8.0" });
  assert.deepEqual(readRightAnswer(kindOf("svamp"), 8), { answer: "8" });
  assert.deepEqual(readRightAnswer(kindOf("mathqa"), "c"), { answer: "C" });
  for (const [task, value, reason] of [
    ["boolq", "answer1", /"answer1" is none of true, false/],
    ["boolq", undefined, /not text/],
    ["gsm8k", "#### seven", /"seven" is not a number/],
    ["gsm8k", "", /not a number/],
    ["aqua", "F", /no letter from A to E/],
  ] as const) {
    const read = readRightAnswer(kindOf(task), value);
    assert.ok("problem" in read && reason.test(read.problem), JSON.stringify(read));
  }
});

test("what a question offers stands in it, else it is all that the task has", () => {
  assert.deepEqual(offeredAnswers(kindOf("arc_easy"), "Which?\n\nAnswer1: a Answer2: b\n\nAnswer format: answer1/answer2/answer3"), [
    "answer1",
    "answer2",
    "answer3",
  ]);
  assert.deepEqual(offeredAnswers(kindOf("boolq"), "is it?"), ["true", "false"]);
  assert.deepEqual(offeredAnswers(kindOf("aqua"), "How many? Answer Choices: (A) 1 (B) 2 (C) 3"), ["A", "B", "C"]);
  assert.equal(offeredAnswers(kindOf("aqua"), "How many?").length, 5);
  assert.deepEqual(offeredAnswers(kindOf("gsm8k"), "Answer format: answer1/answer2"), []);
});

test("the prompt is Alpaca's, to the character, and candidates are what rows of the sets answer", () => {
  assert.equal(
    promptText({ instruction: "Add 1 and 2.", input: "" }),
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd 1 and 2.\n\n### Response:\n",
  );
  assert.equal(candidateText(kindOf("boolq"), "true"), "the correct answer is true");
  assert.equal(candidateText(kindOf("aqua"), "D"), "The answer is (D)");
});

test("tasks are named one by one or by group, each once; the table has all of them", () => {
  assert.deepEqual(parseTasks("boolq, arc_easy,boolq"), ["boolq", "arc_easy"]);
  assert.deepEqual(parseTasks("maths"), [...mathsTasks]);
  assert.deepEqual(parseTasks("obqa,commonsense"), ["obqa", ...commonsenseTasks.filter((name) => name !== "obqa")]);
  assert.deepEqual(
    tasks.map(({ name }) => name),
    [...taskNames],
  );
  for (const [name, action] of [
    ["arc-easy", /Did you mean arc_easy/],
    ["", /Use commonsense, maths, boolq/],
    ["constructor", /Use|Did you mean/],
  ] as const)
    assert.throws(
      () => parseTasks(name),
      (error) => error instanceof UserError && error.code === "task/unknown" && action.test(error.action),
    );
});

test("the mean is unweighted, and has a floor only where every set has one", () => {
  const result = (accuracy: number, total: number, majorityFloor: number | null) => ({ accuracy, total, majorityFloor }) as TaskResult;
  assert.deepEqual(meanOver([result(0.5, 1000, 0.4), result(1, 10, 0.2)]), { accuracy: 0.75, majorityFloor: (0.4 + 0.2) / 2 });
  assert.equal(meanOver([result(0.5, 1000, 0.4), result(1, 10, null)]).majorityFloor, null);
});
