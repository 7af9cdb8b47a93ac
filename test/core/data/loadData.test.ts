/** Data files from disk to documents: layouts, what counts in the loss, lengths, what is left out and told. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { type DataOptions, type LoadedData, loadData } from "../../../src/core/data/loadData.ts";
import { loadDocuments } from "../../../src/core/data/loadDocuments.ts";
import { BatchSource } from "../../../src/core/data/packing.ts";
import { previewBatch } from "../../../src/core/data/preview.ts";
import { openTokenizer } from "../../../src/core/data/tokenizer.ts";
import type { ModelConfig } from "../../../src/core/model/config.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { sharedData } from "../../support/sharedData.ts";
import { byteConfig, byteTokenizer, showLoss } from "./byteTokenizer.ts";

const demo = path.resolve(import.meta.dirname, "../../../media/demo");
const defaults = {
  eval: null,
  format: "auto",
  template: "auto",
  maxRows: null,
  trainOnPrompt: false,
  sequenceLength: 2048,
  evaluationRows: null,
} as const;
const tokenizer = byteTokenizer();

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "data-"));
});
after(() => rm(folder, { recursive: true }));

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, content);
  return file;
}

async function load(name: string, content: string | Uint8Array, options: Partial<DataOptions> = {}): Promise<LoadedData> {
  return loadData({ ...defaults, train: await write(name, content), ...options }, tokenizer, byteConfig);
}

const jsonLines = (...rows: unknown[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
const codes = (data: LoadedData): string[] => data.notices.map(({ code }) => code);
const row = (index: number) => ({ prompt: `p${index}`, completion: `c${index}` });

test("the layouts of rows: one BOS, the prompt masked, one trained EOS", async () => {
  const request = "Write a response that appropriately completes the request.\n\n### Instruction:\nSay hi\n\n";
  const head = "<s>Below is an instruction that describes a task";
  const cases: Array<[object, string]> = [
    [{ prompt: "Once ", completion: "upon" }, "<s>Once «upon</s>»"],
    [{ prompt: "<s>Once ", completion: "upon</s>" }, "<s>Once «upon</s>»"],
    [{ prompt: "", completion: "upon" }, "<s>«upon</s>»"],
    [{ question: "Why?", answer: "so" }, "<s>Question: Why?\nAnswer:« so</s>»"],
    [{ instruction: "Say hi", input: "", output: "hi" }, `${head}. ${request}### Response:\n«hi</s>»`],
    [
      { instruction: "Say hi", input: "now", output: "hi" },
      `${head}, paired with an input that provides further context. ${request}### Input:\nnow\n\n### Response:\n«hi</s>»`,
    ],
    [{ text: "Once upon" }, "«<s>Once upon</s>»"],
  ];
  for (const [value, expected] of cases) assert.deepEqual(showLoss((await load("rows.jsonl", jsonLines(value))).train, tokenizer), [expected]);
});

test("trainOnPrompt counts the prompt, template none leaves the layout out, a template of the run file serves every layout", async () => {
  const rows = jsonLines({ question: "Why?", answer: "so" });
  assert.deepEqual(showLoss((await load("a.jsonl", rows, { trainOnPrompt: true })).train, tokenizer), ["«<s>Question: Why?\nAnswer: so</s>»"]);
  assert.deepEqual(showLoss((await load("a.jsonl", rows, { template: "none" })).train, tokenizer), ["<s>Why?\n«so</s>»"]);
  const template =
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}<|eot_id|>\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
  const expected = ["<s>user: Why?<|eot_id|>\nassistant: «so<|eot_id|>»\n"];
  assert.deepEqual(showLoss((await load("a.jsonl", rows, { template })).train, tokenizer), expected);
  assert.deepEqual(showLoss((await load("a.jsonl", rows, { template: await write("chat.jinja", template) })).train, tokenizer), expected);
  await assert.rejects(load("a.jsonl", rows, { template: path.join(folder, "none.jinja") }), /cannot be read/);
});

test("JSON arrays, CSV and TSV give the same documents as JSON lines, with their lines", async () => {
  const rows = [
    { prompt: 'a "b", c', completion: "d" },
    { prompt: "two\nlines", completion: "e" },
    { prompt: "f", completion: "g" },
  ];
  const expected = ['<s>a "b", c«d</s>»', "<s>two\nlines«e</s>»", "<s>f«g</s>»"];
  const files: Array<[string, string, number[]]> = [
    ["rows.jsonl", `\ufeff${jsonLines(...rows).replaceAll("\n", "\r\n")}\r\n`, [1, 2, 3]],
    ["lines.json", jsonLines(...rows), [1, 2, 3]],
    ["rows.json", ` ${JSON.stringify(rows, null, 1)}`, [2, 6, 10]],
    ["flat.json", JSON.stringify(rows), [1, 1, 1]],
    ["rows.csv", '\ufeffprompt,completion\r\n"a ""b"", c",d\r\n"two\nlines",e\r\nf,g\r\n', [2, 4, 5]],
    ["rows.tsv", 'prompt\tcompletion\n"a ""b"", c"\td\n"two\nlines"\te\nf\tg\n', [2, 4, 5]],
  ];
  for (const [name, content, lines] of files) {
    const { train } = await load(name, content);
    assert.deepEqual(showLoss(train, tokenizer), expected, name);
    assert.deepEqual(
      [0, 1, 2].map((document) => train.lineOf(document)),
      lines,
      name,
    );
  }
});

test("plain text: one document, split into windows, every token once", async () => {
  const text = "Once upon a time\r\nthere was text\n\nwith é and 🙂";
  const data = await load("text.txt", `\ufeff${text}`, { sequenceLength: 10 });
  const ids = Array.from({ length: data.train.count }, (_, document) => [...data.train.tokensOf(document)]).flat();
  assert.equal(tokenizer.decode(ids), `<s>${text}</s>`);
  assert.equal(data.train.targetCount, ids.length - data.train.count);
  assert.deepEqual(codes(data), ["data/split"]);
  // BOS, nine letters and EOS: the EOS stands alone in the second window and has nothing before it.
  assert.deepEqual(showLoss((await load("text.txt", "123456789", { sequenceLength: 10 })).train, tokenizer), ["«<s>123456789»"]);
  const whole = await load("text.txt", text);
  assert.deepEqual(showLoss(whole.train, tokenizer), [`«<s>${text}</s>»`]);
});

test("plain text of several pieces is encoded like one", async () => {
  const file = await write("pieces.txt", "a line\nanother line\n\n\nthe last one");
  const options = { ...defaults, sequenceLength: 8 };
  const whole = await loadDocuments(file, options, tokenizer, byteConfig);
  for (const textPieceBytes of [1, 10, 20, 1000]) {
    const pieces = await loadDocuments(file, { ...options, textPieceBytes }, tokenizer, byteConfig);
    assert.deepEqual(showLoss(pieces.documents, tokenizer), showLoss(whole.documents, tokenizer));
    assert.deepEqual([pieces.rows, pieces.split], [1, 1]);
  }
});

test("long documents are cut and told; rows whose prompt fills everything are left out and told", async () => {
  const rows = jsonLines({ prompt: "12345", completion: "678901234" }, { prompt: "1234567890", completion: "1" }, row(1));
  const data = await load("long.jsonl", rows, { sequenceLength: 10 });
  assert.deepEqual(showLoss(data.train, tokenizer), ["<s>12345«6789»", "<s>p1«c1</s>»"]);
  assert.equal(data.truncated, 1);
  assert.equal(data.skippedRows, 1);
  assert.deepEqual(codes(data), ["data/rows-without-targets", "data/truncated"]);
  assert.deepEqual(
    data.skipped.map(({ line, reason }) => [line, reason]),
    [[2, "its prompt fills all 10 tokens"]],
  );
});

test("bad rows: skipped up to 1 % with line and reason, one in any case; more refuse the file", async () => {
  const rows = Array.from({ length: 300 }, (_, index) => JSON.stringify(row(index)));
  const withBad = (...bad: number[]) => rows.map((text, index) => (bad.includes(index) ? "{broken" : text)).join("\n");
  const data = await load("bad.jsonl", withBad(4, 100, 299));
  assert.equal(data.train.count, 297);
  assert.deepEqual(
    data.skipped.map(({ line }) => line),
    [5, 101, 300],
  );
  assert.match(data.notices[0].message, /3 rows of .*line 5: it is not valid JSON/);
  await assert.rejects(
    load("bad.jsonl", withBad(4, 100, 200, 299)),
    (error) => error instanceof UserError && /4 of 300 rows.*line 5/.test(error.message),
  );
  assert.equal((await load("two.jsonl", `{broken\n${JSON.stringify(row(1))}`)).train.count, 1);
  await assert.rejects(load("three.jsonl", `{broken\n[]\n${JSON.stringify(row(1))}`), { code: "data/too-many-bad-rows" });
  assert.equal((await load("max.jsonl", withBad(4), { maxRows: 10 })).train.lineOf(9), 11);
});

test("evaluation rows that also stand in the training data are counted and named", async () => {
  const held = await write("held.jsonl", jsonLines(row(7), row(500), { prompt: "P9 ", completion: "c9" }, row(7)));
  const data = await load("train.jsonl", jsonLines(...Array.from({ length: 20 }, (_, index) => row(index))), { eval: held });
  assert.equal(data.evaluation.count, 4);
  assert.deepEqual(codes(data), ["data/overlap"]);
  assert.match(data.notices[0].message, /^2 evaluation rows .*: 1 = 8, 3 = 10\)/);
  assert.equal((await load("train.jsonl", jsonLines(row(1)), { eval: held, evaluationRows: 2 })).evaluation.count, 2);
  assert.deepEqual(codes(await load("train.jsonl", jsonLines(row(1)), { eval: held })), []);
});

test("refused by name: positions, vocabulary, a missing EOS, a missing chat template", async () => {
  const one = jsonLines(row(1));
  await assert.rejects(load("a.jsonl", one, { sequenceLength: 4097 }), { code: "data/sequence-too-long", message: /4097.*4096 positions/ });
  const file = await write("special.jsonl", jsonLines({ prompt: "a<|eot_id|>", completion: "b" }));
  const small = { ...byteConfig, vocabSize: 258 } as ModelConfig;
  await assert.rejects(loadData({ ...defaults, train: file }, tokenizer, small), {
    code: "data/token-outside-vocabulary",
    message: /Line 1 .*"<\|eot_id\|>".*260.*258 tokens/,
  });
  const endless = byteTokenizer({ eos_token: null });
  await assert.rejects(loadData({ ...defaults, train: file }, endless, { ...byteConfig, eosTokenIds: [] }), { code: "tokenizer/no-eos" });
  await assert.rejects(
    load(
      "chat.jsonl",
      jsonLines({
        messages: [
          { role: "user", content: "a" },
          { role: "assistant", content: "b" },
        ],
      }),
    ),
    { code: "template/missing" },
  );
});

test("the hash is the data's: it changes with a byte and not with the path", async () => {
  const one = (await load("one.jsonl", jsonLines(row(1)))).hash;
  assert.match(one, /^[0-9a-f]{64}$/);
  assert.equal((await load("other.jsonl", jsonLines(row(1)))).hash, one);
  assert.notEqual((await load("one.jsonl", jsonLines(row(2)))).hash, one);
});

test("the bundled GSM8K rows with the bundled model: nothing lost, preview shows the real batch", async () => {
  const story = await openTokenizer(path.join(demo, "model"));
  const options = {
    ...defaults,
    train: path.join(demo, "data/gsm8k-train.jsonl"),
    eval: path.join(demo, "data/gsm8k-test.jsonl"),
    sequenceLength: 512,
  };
  const data = await loadData(options, story, { vocabSize: 2048, maxPositions: 512, eosTokenIds: [2] } as unknown as ModelConfig);
  assert.deepEqual([data.train.count + data.skippedRows, data.evaluation.count, data.padTokenId], [600, 60, 0]);
  const source = new BatchSource(data.train, { batchSize: 2, sequenceLength: 512, padTokenId: data.padTokenId, seed: 1, longestFirst: true });
  const rows = previewBatch(source, 0, story);
  const batch = source.batch(0);
  const tokens = rows.flatMap((preview) => preview.tokens);
  assert.equal(tokens.length, batch.tokens);
  assert.equal(tokens.filter(({ loss }) => loss).length, batch.unmaskedTokens);
  assert.deepEqual([tokens[0].id, tokens[0].role, tokens[0].loss], [1, "prompt", false]);
  assert.match(rows[0].tokens.map(({ text }) => text).join(""), /Answer: /);
  assert.equal(rows[0].tokens.length + rows[0].padding, 512);
});

test("data sets at hand: alpaca, dolly, chats, text, maths", async (context) => {
  if (sharedData("data-gsm8k") === null) return context.skip("not run: no shared data");
  const chat =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  const cases: Array<[string, number, string?]> = [
    ["data-litgpt-fixtures/alpaca.json", 23],
    ["data-litgpt-fixtures/dolly.json", 12],
    ["data-llamafactory/alpaca_en_demo.json", 999],
    ["data-llamafactory/identity.json", 91],
    ["data-llamafactory/c4_demo.jsonl", 300],
    ["data-gsm8k/test.jsonl", 1319],
    ["data-llm-adapters/boolq/test.json", 3270],
    ["data-wikitext2/valid.txt", 1],
    ["data-axolotl-fixtures/conversation.json", 1, chat],
  ];
  for (const [name, rows, template = "auto"] of cases) {
    const data = await loadData({ ...defaults, train: sharedData(name) as string, template, sequenceLength: 4096 }, tokenizer, byteConfig);
    assert.equal(data.trainRows + data.skippedRows, rows, name);
    assert.ok(data.trainRows >= rows * 0.99, name);
  }
});
