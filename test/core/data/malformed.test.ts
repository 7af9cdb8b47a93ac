/** Files that are no data, or hardly: each gives its verdict — documents, rows left out, or a refusal by name — and never anything else. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { loadData } from "../../../src/core/data/loadData.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { sharedData } from "../../support/sharedData.ts";
import { byteConfig, byteTokenizer } from "./byteTokenizer.ts";

const defaults = {
  eval: null,
  format: "auto",
  template: "auto",
  maxRows: null,
  trainOnPrompt: false,
  sequenceLength: 4096,
  evaluationRows: null,
} as const;
const tokenizer = byteTokenizer();
const chatTemplate = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "malformed-"));
});
after(() => rm(folder, { recursive: true }));

/** `[good rows, reasons of left-out rows]`, or the code of the refusal. */
async function verdict(name: string, content: string | Uint8Array): Promise<[number, string[]] | string> {
  const file = path.join(folder, name);
  await writeFile(file, content);
  try {
    const data = await loadData({ ...defaults, train: file, template: name.startsWith("chat") ? chatTemplate : "auto" }, tokenizer, byteConfig);
    return [data.trainRows, data.skipped.map(({ line, reason }) => `${line} ${reason}`)];
  } catch (error) {
    if (error instanceof UserError) return error.code;
    throw error;
  }
}

const good = '{"prompt":"a","completion":"b"}';
const chat = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}';
const deep = "[".repeat(10_000) + "]".repeat(10_000);

/** One bad line among good ones: the line, and the reason it is left out for. */
const badLines: Array<[string, string | Uint8Array, RegExp]> = [
  ["half an object", '{"prompt":"a","comple', /not valid JSON/],
  ["two objects in one line", `${good}${good}`, /not valid JSON/],
  ["a trailing comma", '{"prompt":"a","completion":"b",}', /not valid JSON/],
  ["single quotes", "{'prompt':'a','completion':'b'}", /not valid JSON/],
  ["a comment", "// nothing", /not valid JSON/],
  ["NaN", '{"prompt":NaN}', /not valid JSON/],
  ["a raw NUL", '{"prompt":"a\0","completion":"b"}', /not valid JSON/],
  ["an escaped NUL", '{"prompt":"a\\u0000","completion":"b"}', /NUL/],
  ["a lone surrogate", '{"prompt":"a\\ud83d","completion":"b"}', /lone surrogate/],
  ["Latin-1", Buffer.from('{"prompt":"\xe9","completion":"b"}', "latin1"), /UTF-8/],
  ["an overlong sequence", Buffer.concat([Buffer.from('{"prompt":"'), Buffer.from([0xc0, 0x80]), Buffer.from('","completion":"b"}')]), /UTF-8/],
  ["a cut character", Buffer.concat([Buffer.from('{"prompt":"'), Buffer.from([0xf0, 0x9f, 0x99]), Buffer.from('","completion":"b"}')]), /UTF-8/],
  ["a byte order mark in the middle", `\ufeff${good}`, /not valid JSON/],
  ["a list", '["a","b"]', /not an object/],
  ["a number", "42", /not an object/],
  ["null", "null", /not an object/],
  ["text", '"a"', /not an object/],
  ["ten thousand lists", deep, /not an object/],
  ["ten thousand lists inside", `{"prompt":${deep},"completion":"b"}`, /"prompt" is not text/],
  ["no completion", '{"prompt":"a"}', /"completion" is missing/],
  ["no prompt", '{"completion":"a"}', /"prompt" is missing/],
  ["an empty completion", '{"prompt":"a","completion":"  "}', /"completion" is empty/],
  ["a number as prompt", '{"prompt":1,"completion":"b"}', /"prompt" is not text/],
  ["null as completion", '{"prompt":"a","completion":null}', /"completion" is not text/],
  ["a list as completion", '{"prompt":"a","completion":["b"]}', /"completion" is not text/],
  ["__proto__", '{"__proto__":{"prompt":"a","completion":"b"}}', /"prompt" is missing/],
  ["another layout", '{"question":"a","answer":"b"}', /"prompt" is missing/],
  ["10 MB", `{"prompt":"${"a".repeat(10_000_000)}","completion":"b"}`, /longer than 8 MB/],
];

test(`${badLines.length} bad lines among good ones are left out by number and reason`, async () => {
  for (const [name, line, reason] of badLines) {
    const content = Buffer.concat([Buffer.from(`${good}\n`), Buffer.from(line as string), Buffer.from(`\n${good}\n`)]);
    const result = await verdict("rows.jsonl", content);
    assert.ok(Array.isArray(result), `${name}: ${result}`);
    assert.deepEqual([result[0], result[1].length], [2, 1], name);
    assert.match(result[1][0], new RegExp(`^2 .*${reason.source}`), name);
  }
});

const badChats: Array<[string, unknown, RegExp]> = [
  ["no messages", { messages: [] }, /not a list with entries/],
  ["messages as text", { messages: "hello" }, /not a list with entries/],
  ["a message as text", { messages: ["hello"] }, /message 1: it is not an object/],
  ["an unknown role", { messages: [{ role: "wizard", content: "a" }] }, /message 1: the role "wizard"/],
  ["no role", { messages: [{ content: "a" }] }, /message 1: it has no role/],
  ["no content", { messages: [{ role: "user" }] }, /the content is not text/],
  ["no assistant", { messages: [{ role: "user", content: "a" }] }, /no message is by the assistant/],
  [
    "a silent assistant",
    {
      messages: [
        { role: "user", content: "a" },
        { role: "assistant", content: " " },
      ],
    },
    /message 2: the assistant says nothing/,
  ],
  ["a picture", { messages: [{ role: "user", content: [{ type: "image_url" }] }] }, /a part that is not text/],
  ["a tool call", { messages: [{ role: "assistant", content: "a", tool_calls: [{}] }] }, /calls tools/],
  ["tools", { messages: [{ role: "assistant", content: "a" }], tools: [{}] }, /defines tools/],
];

test(`${badChats.length} bad conversations are left out by number and reason`, async () => {
  for (const [name, row, reason] of badChats) {
    const result = await verdict("chat.jsonl", `${chat}\n${JSON.stringify(row)}\n${chat}`);
    assert.ok(Array.isArray(result), `${name}: ${result}`);
    assert.deepEqual([result[0], result[1].length], [2, 1], name);
    assert.match(result[1][0], new RegExp(`^2 .*${reason.source}`), name);
  }
});

const wholeFiles: Array<[string, string, string | Uint8Array, string | number]> = [
  ["empty", "a.jsonl", "", "data/empty-file"],
  ["only a byte order mark", "a.jsonl", "\ufeff", "data/no-usable-row"],
  ["only blank lines", "a.jsonl", "\n \n\r\n\t\n", "data/no-usable-row"],
  ["rows of an unknown layout", "a.jsonl", '{"a":1}\n{"a":2}\n', "data/no-usable-row"],
  ["NUL bytes", "a.jsonl", new Uint8Array(5000), "data/no-usable-row"],
  ["random bytes", "a.jsonl", Uint8Array.from({ length: 5000 }, (_, i) => (i * i * 31 + i) % 251), "data/no-usable-row"],
  ["two bad rows of four", "a.jsonl", `${good}\n{\n{\n${good}`, "data/too-many-bad-rows"],
  ["no line feed at the end", "a.jsonl", good, 1],
  ["CRLF, blank lines and a byte order mark", "a.jsonl", `\ufeff\r\n${good}\r\n\r\n${good}\r\n`, 2],
  ["UTF-16", "a.jsonl", Buffer.from(`\ufeff${good}`, "utf16le"), "data/unsupported-file"],
  ["a Git LFS pointer", "a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "data/unsupported-file"],
  ["gzip", "a.jsonl", Uint8Array.of(0x1f, 0x8b, 8, 0), "data/unsupported-file"],
  ["zip", "a.jsonl", "PK\x03\x04rest", "data/unsupported-file"],
  ["Parquet", "a.jsonl", "PAR1rest", "data/unsupported-file"],
  ["an unknown extension", "a.doc", good, "data/unsupported-file"],
  ["an array that does not end", "a.json", `[${good}`, "data/unreadable"],
  ["an array with a trailing comma", "a.json", `[${good},]`, "data/unreadable"],
  ["an array in Latin-1", "a.json", Buffer.from('[{"prompt":"\xe9"}]', "latin1"), "data/unreadable"],
  ["an empty array", "a.json", "[]", "data/no-usable-row"],
  ["an array of lists", "a.json", "[[],[]]", "data/no-usable-row"],
  ["one indented object", "a.json", `{\n"prompt":"a","completion":"b"}`, 1],
  ["CSV with a header only", "a.csv", "prompt,completion\n", "data/no-usable-row"],
  ["CSV with an open quote", "a.csv", 'prompt,completion\na,"b\n', "data/no-usable-row"],
  ["CSV in Latin-1", "a.csv", Buffer.from("prompt,completion\n\xe9,b\n", "latin1"), "data/unreadable"],
  ["CSV with one short record", "a.csv", "prompt,completion\na,b\nc\nd,e\n", 2],
  ["CSV with other columns", "a.csv", "x,y\n1,2\n", "data/no-usable-row"],
  ["text in Latin-1", "a.txt", Buffer.from("caf\xe9", "latin1"), "data/unreadable"],
  ["text with NUL bytes", "a.txt", "a\0b", "data/unreadable"],
];

test(`${wholeFiles.length} whole files give their verdict`, async () => {
  for (const [name, file, content, expected] of wholeFiles) {
    const result = await verdict(file, content);
    if (typeof expected === "string") assert.equal(result, expected, name);
    else assert.equal(result[0], expected, `${name}: ${result}`);
  }
});

test("bad rows and rows without targets are named apart: many of one kind hide none of the other", async () => {
  const long = JSON.stringify({ prompt: "p".repeat(200), completion: "b" });
  const file = path.join(folder, "mixed.jsonl");
  const load = (bad: number) => {
    const lines = [...Array<string>(25).fill(long), good, ...Array<string>(bad).fill("nope"), ...Array<string>(20).fill(good)];
    return writeFile(file, lines.join("\n")).then(() => loadData({ ...defaults, train: file, sequenceLength: 128 }, tokenizer, byteConfig));
  };
  const { notices, skipped, skippedRows } = await load(1);
  const messages = new Map(notices.map(({ code, message }) => [code, message]));
  assert.match(messages.get("data/bad-rows") ?? "", /^1 row of .* left out \(line 27: it is not valid JSON[^;]*\)\.$/);
  const without = messages.get("data/rows-without-targets") ?? "";
  assert.match(without, /^25 rows of .*is trained on \(line 1: its prompt fills all 128 tokens; line 2: .*; line 20: [^;]*; …\)\.$/);
  assert.deepEqual([skippedRows, skipped.length, skipped[0].line, skipped[20].line], [26, 21, 27, 20]);
  await assert.rejects(load(3), {
    code: "data/too-many-bad-rows",
    message: /^3 of 49 rows of .*\(line 27: it is not valid JSON.*; line 28: .*; line 29: [^;]*\)\.$/,
  });
});

test("missing files and folders are named", async () => {
  await mkdir(path.join(folder, "sub.jsonl"));
  await assert.rejects(loadData({ ...defaults, train: path.join(folder, "no.jsonl") }, tokenizer, byteConfig), { code: "data/missing-file" });
  await assert.rejects(loadData({ ...defaults, train: path.join(folder, "sub.jsonl") }, tokenizer, byteConfig), {
    code: "data/unreadable",
    message: /is a folder/,
  });
});

test("the JSON test suite as lines: what must parse, parses, the rest is left out", async (context) => {
  const suite = sharedData("malformed-json/test_parsing");
  if (suite === null) return context.skip("not run: no shared data");
  let refused = 0;
  for (const name of await readdir(suite)) {
    const value = await readFile(path.join(suite, name));
    if (value.includes(0x0a)) continue;
    const result = await verdict(
      "suite.jsonl",
      Buffer.concat([Buffer.from(`${good}\n{"prompt":"a","completion":"b","other":`), value, Buffer.from(`}\n${good}`)]),
    );
    assert.ok(Array.isArray(result), name);
    if (name.startsWith("y_")) assert.deepEqual(result, [3, []], name);
    // Some texts are no JSON alone and become JSON as a field among others.
    if (name.startsWith("n_") && result[0] === 2) refused++;
  }
  assert.ok(refused > 160, `${refused} refused`);
});
