/** Run files edited by a form: the text that comes out, what it means, and that nothing else changed. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { parse } from "yaml";
import { editRunFile, type FormEdit, formView, runFileProblems } from "../../src/extension/files/runFileDocument.ts";
import { applyChanges, type TextChange } from "../../src/extension/files/textPieces.ts";
import { UserError } from "../../src/protocol/userError.ts";

function edited(text: string, ...changes: FormEdit[]): string {
  return applyChanges(text, editRunFile(text, changes));
}

const set = (key: string, value: FormEdit["value"]): FormEdit => ({ path: key.split("."), value });
const unset = (key: string): FormEdit => ({ path: key.split(".") });

const file = `# A run
model: ./model # the base
data: { train: a.jsonl, eval: b.jsonl } # two files

# What is trained
method:
  name: smt   # sparse
  ratio: 0.05
  targets:
    - q_proj # queries
    # a note
    - k_proj
    - v_proj
train:
  steps: 300

  learningRate: 5.0e-3   # high
  betas: [0.9, 0.95]
  mine: 1
`;

test("a value changes in its place and its comment stays", () => {
  assert.equal(edited(file, set("train.learningRate", 1e-4)), file.replace("5.0e-3", "0.0001"));
  assert.equal(edited(file, set("model", "/models/llama")), file.replace("./model", "/models/llama"));
  assert.equal(edited(file, set("data.eval", "c d.jsonl")), file.replace("b.jsonl", "c d.jsonl"));
  assert.equal(edited(file, set("data.eval", "c,d.jsonl")), file.replace("b.jsonl", '"c,d.jsonl"'));
  assert.equal(edited(file, set("model", "c,d")), file.replace("./model", "c,d"));
  assert.equal(edited(file, set("data.eval", null)), file.replace("b.jsonl", "null"));
});

test("the same value is no change", () => {
  assert.deepEqual(editRunFile(file, [set("train.learningRate", 0.005), set("train.betas", [0.9, 0.95]), unset("train.epochs")]), []);
});

test("quotes come where a text needs them, and stay where they were", () => {
  const cases: [string, string, string][] = [
    ["model: m", "true", 'model: "true"'],
    ["model: m", "1e3", 'model: "1e3"'],
    ["model: m", "a: b", 'model: "a: b"'],
    ["model: m", "a #b", 'model: "a #b"'],
    ["model: m", "it's", "model: it's"],
    ["model: m", " x", 'model: " x"'],
    ["model: m", "", 'model: ""'],
    ["model: m", "a\nb", 'model: "a\\nb"'],
    ["model: m", "模型/🦙", "model: 模型/🦙"],
    ["model: m", "C:\\models\\x", "model: C:\\models\\x"],
    ["model: m", "\u2028\ud800\u0085", 'model: "\\u2028\\ud800\\u0085"'],
    ["model: 'm' # c", "it's", "model: 'it''s' # c"],
    ['model: "m"', "n", 'model: "n"'],
    ["model: [m]", "]", 'model: "]"'],
  ];
  for (const [text, value, expected] of cases) assert.equal(edited(text, set("model", value)), expected);
});

test("a missing key comes after the last one of its mapping, a missing section at the end", () => {
  assert.equal(edited(file, set("train.seed", 7)), `${file}  seed: 7\n`);
  assert.equal(edited(file, set("data.packing", false)), file.replace("b.jsonl }", "b.jsonl, packing: false }"));
  assert.equal(edited(file, set("method.warmup.steps", 0)), file.replace("- v_proj\n", "- v_proj\n  warmup:\n    steps: 0\n"));
  assert.equal(edited(file, set("checkpoint.keep", 3)), `${file}checkpoint:\n  keep: 3\n`);
  assert.equal(edited(file.trimEnd(), set("device", "cpu")), `${file.trimEnd()}\ndevice: cpu`);
  assert.equal(edited("model: m\ndata: {}\n", set("data.train", "t")), "model: m\ndata: { train: t }\n");
  assert.equal(
    edited("model: m\ntrain: # later\n\ndata: {train: t}", set("train.steps", 5)),
    "model: m\ntrain: # later\n  steps: 5\n\ndata: {train: t}",
  );
  assert.equal(edited("train: null # c\nmodel: m\n", set("train.steps", 5)), "train: # c\n  steps: 5\nmodel: m\n");
  assert.equal(edited("# only a comment", set("model", "m")), "# only a comment\nmodel: m");
  assert.equal(edited("", set("train.steps", 5)), "train:\n  steps: 5\n");
});

test("the file's own indentation, line endings and JSON are followed", () => {
  assert.equal(
    edited("model: m\r\ntrain:\r\n    steps: 3 # c\r\ndata: x\r\n", set("train.seed", 1), set("evaluate.every", 2)),
    "model: m\r\ntrain:\r\n    steps: 3 # c\r\n    seed: 1\r\ndata: x\r\nevaluate:\r\n    every: 2\r\n",
  );
  assert.equal(
    edited('{"model": "m", "train": {"seed": 1}}', set("train.precision", "f32")),
    '{"model": "m", "train": {"seed": 1, "precision": "f32"}}',
  );
  assert.equal(edited('{"model": "m"}', set("train.steps", 3)), '{"model": "m", "train": { "steps": 3 }}');
  assert.equal(edited("train: { seed: 1,\n  steps: 2, # c\n}\n", set("train.epochs", 3)), "train: { seed: 1,\n  steps: 2, epochs: 3, # c\n}\n");
});

test("a key goes with its line, the last one with its section", () => {
  assert.equal(edited(file, unset("train.learningRate")), file.replace("  learningRate: 5.0e-3   # high\n", ""));
  assert.equal(edited(file, unset("method.targets")), file.replace(/ {2}targets:\n(.*-.*\n| {4}#.*\n)+/, ""));
  assert.equal(edited(file, unset("data.eval")), file.replace(", eval: b.jsonl", ""));
  assert.equal(edited(file, unset("data.train")), file.replace("train: a.jsonl, ", ""));
  assert.equal(edited("model: m\ntrain:\n  steps: 3 # c\nthreads: 2\n", unset("train.steps")), "model: m\nthreads: 2\n");
  assert.equal(edited("train: # how\n  steps: 3\nthreads: 2\n", unset("train.steps")), "train: # how\nthreads: 2\n");
  assert.equal(edited("train:\n  steps: 3\n  # more\nthreads: 2\n", unset("train.steps")), "train:\n  # more\nthreads: 2\n");
  assert.equal(edited("threads: 2\ntrain: { steps: 3 }", unset("train.steps")), "threads: 2\n");
  assert.equal(
    edited("train: {\n  seed: 1, # a\n  steps: 3, # b\n  epochs: 2 # c\n}\n", unset("train.steps")),
    "train: {\n  seed: 1, # a\n  epochs: 2 # c\n}\n",
  );
  assert.equal(edited("train: {\n  seed: 1, # a\n  epochs: 2 # c\n}\n", unset("train.epochs")), "train: {\n  seed: 1, # a\n}\n");
  assert.equal(edited("data:\n  template: |\n    a\n    b\n\n  train: t\n", unset("data.template")), "data:\n\n  train: t\n");
});

test("lists change item by item, so that the comments between them stay", () => {
  assert.equal(edited(file, set("train.betas", [0.9, 0.99])), file.replace("0.95", "0.99"));
  assert.equal(edited(file, set("method.targets", ["q_proj", "v_proj"])), file.replace("    - k_proj\n", ""));
  assert.equal(edited(file, set("method.targets", ["q_proj", "k_proj", "o_proj", "v_proj"])), file.replace("- k_proj\n", "- k_proj\n    - o_proj\n"));
  assert.equal(
    edited(file, set("method.targets", ["o_proj", "q_proj", "k_proj", "v_proj"])),
    file.replace("- q_proj # queries\n", "- o_proj # queries\n    - q_proj\n"),
  );
  assert.equal(edited(file, set("method.targets", "auto")), file.replace(/targets:\n(.*-.*\n| {4}#.*\n)+/, "targets: auto\n"));
  assert.equal(
    edited("method:\n  name: smt\n  targets: auto # c\n", set("method.targets", ["a", "b,c"])),
    'method:\n  name: smt\n  targets: [a, "b,c"] # c\n',
  );
});

test("a block of text is replaced without its neighbours", () => {
  const text = "data:\n  template: |\n    {{ a }}\n    {{ b }}\n\n  train: t # c\n";
  assert.equal(edited(text, set("data.template", "none")), "data:\n  template: none\n\n  train: t # c\n");
});

test("a change of the method brings its name and takes the other method's keys", () => {
  assert.equal(edited(file, set("method.name", "full")), file.replace(/ {2}ratio: .*?(?=train:\n)/s, "").replace("name: smt ", "name: full "));
  assert.equal(edited("model: m\n", set("method.blocks", 3)), "model: m\nmethod:\n  name: smt\n  blocks: 3\n");
  assert.equal(edited("model: m\n", set("method.name", "full")), "model: m\nmethod:\n  name: full\n");
  assert.equal(
    edited("method: { name: full, odd: 1 }", set("method.name", "smt"), set("method.ratio", 0.1)),
    "method: { name: smt, odd: 1, ratio: 0.1 }",
  );
  assert.equal(
    edited("method: { name: lora, rank: 8, alpha: 4, targets: [q_proj], ranks: { q_proj: 2 } } # c\n", set("method.name", "dora")),
    "method: { name: dora, rank: 8, alpha: 4, targets: [q_proj], ranks: { q_proj: 2 } } # c\n",
    "what means the same in both stays",
  );
  assert.equal(
    edited("method:\n  name: lora\n  rank: 8\n  alpha: 4 # twice\n  dropout: 0.1\n  targets: [q_proj]\n", set("method.name", "lors")),
    "method:\n  name: lors\n  rank: 8\n  targets: [q_proj]\n",
    "what counts otherwise goes back to the new method's default",
  );
  assert.equal(
    edited("method: { name: sqft, quantize: { groupSize: 64 }, neuralSearch: [8, 4] }\n", set("method.name", "smt")),
    "method: { name: smt }\n",
  );
  assert.equal(edited("method: { name: full }\nthreads: 1\n", unset("method.name")), "method: { name: smt }\nthreads: 1\n");
});

test("several changes come as one set that does not overlap", () => {
  const changes = editRunFile(file, [unset("method.ratio"), set("method.blocks", 128), set("train.steps", 10), set("model", "m")]);
  assert.deepEqual(
    changes.map(({ text }) => text),
    ["m", "", "  blocks: 128\n", "1"],
    "of 300 → 10 the last 0 stays",
  );
  for (const [i, { offset, length }] of changes.entries())
    assert.ok(i === 0 || offset >= changes[i - 1].offset + changes[i - 1].length, `${offset}+${length}`);
  assert.equal(edited(file, set("train.seed", 1), unset("train.seed")), file);
});

test("a file with syntax errors, and a change that would change more, are refused with the next action", () => {
  const refusals: [string, FormEdit, string][] = [
    ["model: m\nmodel: n\n", set("model", "x"), "runFile/broken"],
    ["model: [m\n", set("model", "x"), "runFile/broken"],
    ["train: &t { steps: 1 }\nevaluate: *t\n", set("train.steps", 2), "runFile/not-changed"],
    ["train: &t { steps: 1 }\nevaluate: *t\n", set("evaluate.every", 2), "runFile/not-changed"],
    ["train: fast\n", set("train.steps", 2), "runFile/not-changed"],
    ["- a\n", set("model", "m"), "runFile/not-changed"],
    ["model: !!str 3\n", set("model", 4), "runFile/not-changed"],
  ];
  for (const [text, change, code] of refusals) {
    assert.throws(
      () => editRunFile(text, [change]),
      (error) => error instanceof UserError && error.code === code && error.action !== "",
      text,
    );
  }
});

test("all errors come at once, each with the text it is about", () => {
  const text = "model: 3\ndata:\n  evel: x\n  # c\ntrain:\n  betas:\n    - 0.9\n  packing: true # c\n  steps: 1\n  epochs: 2\nthreads:\n";
  const found = runFileProblems(text).map(({ path: at, line, start, end, guess }) => [at, line, text.slice(start, end).trimEnd(), guess]);
  assert.deepEqual(found, [
    ["model", 1, "3", null],
    ["data.train", 3, "data", null],
    ["data.evel", 3, "evel", "eval"],
    ["train.betas", 7, "- 0.9", null],
    ["train.packing", 8, "packing", "data.packing"],
    ["train.epochs", 10, "epochs", null],
    ["threads", 11, "threads", null],
  ]);
  const broken = runFileProblems("model: [\n");
  assert.ok(broken.length > 0 && broken[0].message.startsWith("is not valid YAML"));
  assert.deepEqual(runFileProblems(readFileSync(path.resolve(import.meta.dirname, "../../media/demo/demo.sparse-tuner.yaml"), "utf8")), []);
});

test("the form shows values with defaults, which of them were given, and what is wrong as it stands", () => {
  const view = formView("model: m\ntrain: { steps: x, learningRate: 0.1 }\nodd: 1\n", "/a/run.yaml", true, ({ message }) => message.toUpperCase());
  const values = view.values as { train: Record<string, unknown>; method: Record<string, unknown>; checkpoint: unknown; odd: unknown };
  assert.deepEqual(
    [values.train.steps, values.train.learningRate, values.train.batchSize, values.method.ratio, values.checkpoint, values.odd],
    ["x", 0.1, 4, 0.0084, { every: 100, keep: 2 }, 1],
  );
  assert.deepEqual(view.given, ["model", "train", "train.steps", "train.learningRate", "odd"]);
  assert.deepEqual(
    view.problems.map(({ path: at, line, message }) => [at, line, message]),
    [
      ["data", 1, "IS MISSING"],
      ["train.steps", 2, 'MUST BE A WHOLE NUMBER FROM 1 TO 1000000000000000 OR NULL, NOT "X"'],
      ["odd", 3, "IS NOT A KNOWN KEY"],
    ],
  );
  assert.equal((formView("model: m\n", "/a", true, String).values.train as { steps: number }).steps, 500);
  for (const text of ["", "[", "- a", "model: {", "x".repeat(2_000_000), "a: &a [*a]"])
    assert.ok(formView(text, "/a", false, String).problems.length > 0);
});

// Random run files, written as a person might.
const scalars = { seed: [1, 2], steps: [5, null], precision: ["f32", "bf16"], learningRate: [0.1, 1e-5], "own key": ["a, b", "#", "x: y", "plain"] };
type Section = "train" | "evaluate" | "own";
const keys = Object.keys(scalars) as (keyof typeof scalars)[];

interface Draft {
  sections: { name: Section; style: "block" | "flow" | "lines"; keys: (keyof typeof scalars)[]; comments: boolean[]; blank: boolean }[];
  eol: string;
  indent: number;
  end: boolean;
}

const draft: fc.Arbitrary<Draft> = fc.record({
  sections: fc.uniqueArray(
    fc.record({
      name: fc.constantFrom<Section>("train", "evaluate", "own"),
      style: fc.constantFrom("block" as const, "flow" as const, "lines" as const),
      keys: fc.uniqueArray(fc.constantFrom(...keys), { minLength: 1, maxLength: 4 }),
      comments: fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
      blank: fc.boolean(),
    }),
    { selector: ({ name }) => name, maxLength: 3 },
  ),
  eol: fc.constantFrom("\n", "\r\n"),
  indent: fc.constantFrom(1, 2, 4),
  end: fc.boolean(),
});

function write({ sections, eol, indent, end }: Draft): string {
  const written = (key: keyof typeof scalars) => JSON.stringify(scalars[key][0]);
  const lines = ["# head", "model: m # the model"];
  for (const { name, style, keys: chosen, comments, blank } of sections) {
    const note = (i: number) => (comments[i] ? ` # ${name}${i}` : "");
    if (blank) lines.push("", `# about ${name}`);
    if (style === "flow") lines.push(`${name}: { ${chosen.map((key) => `${key}: ${written(key)}`).join(", ")} }${note(4)}`);
    else if (style === "lines") lines.push(`${name}: {`, ...chosen.map((key, i) => `  ${key}: ${written(key)},${note(i)}`), "}");
    else lines.push(`${name}:${note(4)}`, ...chosen.map((key, i) => `${" ".repeat(indent)}${key}: ${written(key)}${note(i)}`));
  }
  return lines.join(eol) + (end ? eol : "");
}

const change: fc.Arbitrary<FormEdit> = fc
  .tuple(
    fc.constantFrom<Section>("train", "evaluate", "own"),
    fc.constantFrom(...keys),
    fc.option(fc.oneof(fc.string({ unit: "grapheme" }), fc.double(), fc.boolean(), fc.constant(null), fc.array(fc.string(), { maxLength: 3 })), {
      nil: undefined,
    }),
  )
  .map(([section, key, value]) => ({ path: [section, key], value: Object.is(value, -0) || Number.isNaN(value) ? 0 : value }));

/** The values that a change should leave, emptied sections left out. */
function meant(text: string, { path: [section, key], value }: FormEdit): unknown {
  const values = structuredClone(parse(text)) as Record<string, Record<string, unknown>>;
  if (value !== undefined) values[section] = { ...values[section], [key]: value };
  else delete values[section]?.[key];
  return withoutEmpty(values);
}

function withoutEmpty(values: Record<string, unknown>): unknown {
  return Object.fromEntries(Object.entries(values ?? {}).filter(([, value]) => value !== null && JSON.stringify(value) !== "{}"));
}

const commentsOf = (text: string) =>
  text
    .split(/\r?\n/)
    .map((line) => /(?:^|\s)(# (?:head|the model|about|train\d|evaluate\d|own\d).*)$/.exec(line)?.[1])
    .filter(Boolean);

test("any change of any file leaves the old values with the change, and every other line and comment", () => {
  fc.assert(
    fc.property(draft, change, (content, edit) => {
      const text = write(content);
      const changes = editRunFile(text, [edit]);
      const result = applyChanges(text, changes);
      assert.deepEqual(withoutEmpty(parse(result)), meant(text, edit));
      const [before, after] = [text.split(content.eol), result.split(content.eol)];
      // Removing takes lines out of the text, adding puts lines into it, and of a line that stays nothing goes but the value.
      const kept = before.filter((line) => after.includes(line)).length;
      const section = content.sections.find(({ name }) => name === edit.path[0]);
      const gone = before.length - kept;
      const emptied = edit.value === undefined && section?.keys.length === 1;
      assert.ok(gone <= (emptied ? 3 : 1), `${gone} lines gone:\n${text}\n→\n${result}`);
      if (content.eol === "\r\n") assert.doesNotMatch(result, /[^\r]\n/);
      const lost = commentsOf(text).filter((comment) => !commentsOf(result).includes(comment));
      assert.ok(lost.length <= (edit.value === undefined ? 1 + Number(emptied) : 0), `${lost.join()} lost:\n${text}\n→\n${result}`);
    }),
    { numRuns: 600 },
  );
});

test("the inverse of the changes gives the file back, byte for byte, and setting the old value gives the old values", () => {
  fc.assert(
    fc.property(draft, fc.array(change, { minLength: 1, maxLength: 4 }), (content, edits) => {
      const text = write(content);
      const changes = editRunFile(text, edits);
      const result = applyChanges(text, changes);
      let moved = 0;
      const inverse: TextChange[] = changes.map(({ offset, length, text: added }) => {
        const back = { offset: offset + moved, length: added.length, text: text.slice(offset, offset + length) };
        moved += added.length - length;
        return back;
      });
      assert.equal(applyChanges(result, inverse), text);
      const old = parse(text) as Record<string, Record<string, FormEdit["value"]>>;
      const restored = edits.map(({ path: [section, key] }) => ({ path: [section, key], value: old[section]?.[key] }));
      assert.deepEqual(withoutEmpty(parse(edited(result, ...restored))), withoutEmpty(old));
    }),
    { numRuns: 300 },
  );
});
