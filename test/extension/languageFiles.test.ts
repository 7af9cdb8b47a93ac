/** Completion, hover and quick fixes of run files and comparisons, as far as they are plain text: where the cursor is, what belongs there, what a fix does. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { compareFileProblems, compareFileSchema } from "../../src/extension/compare/compareSchemaKeys.ts";
import { runFileProblems } from "../../src/extension/files/runFileDocument.ts";
import { applyChanges } from "../../src/extension/files/textPieces.ts";
import { cursorPlace, namedPlace } from "../../src/extension/language/fileCursor.ts";
import { fixOf } from "../../src/extension/language/fileFixes.ts";
import { FileSchema, fileChoiceOf, type KeyInfo } from "../../src/extension/language/fileSchema.ts";
import { runSchema } from "../../src/protocol/runSchema.ts";

const methods = runSchema.properties.method.anyOf.map(({ properties }) => properties.name.const);

const runFileSchema = new FileSchema(runSchema);
const keyAt: FileSchema["keyAt"] = (...given) => runFileSchema.keyAt(...given);

/** A text with `|` where the cursor is. */
function at(marked: string): { text: string; offset: number } {
  const offset = marked.indexOf("|");
  return { text: marked.slice(0, offset) + marked.slice(offset + 1), offset };
}

/** The keys or words that belong at the cursor, with the text that they replace. */
function proposals(marked: string, schema: FileSchema = runFileSchema): { kind: string; path: string; replaces: string; names: string[] } | null {
  const { text, offset } = at(marked);
  const place = cursorPlace(text, offset, (path, values) => schema.keysOf(path, values) !== null);
  if (!place) return null;
  const replaces = text.slice(place.start, place.end);
  if (place.kind === "key") {
    const keys = schema.keysOf(place.path, place.values) ?? [];
    return {
      kind: "key",
      path: place.path.join("."),
      replaces,
      names: keys.map(({ name }) => name).filter((name) => !place.siblings.includes(name)),
    };
  }
  const forms = schema.keyAt(place.path, place.values)?.forms ?? [];
  return { kind: "value", path: place.path.join("."), replaces, names: forms.flatMap((form) => (form.kind === "words" ? form.words : [form.kind])) };
}

test("keys belong where a line or an entry begins, those of the mapping around it that are still missing", () => {
  assert.deepEqual(proposals("|")?.names.slice(0, 3), ["model", "data", "method"]);
  assert.deepEqual(proposals("model: m\nda|"), {
    kind: "key",
    path: "",
    replaces: "da",
    names: ["data", "method", "train", "evaluate", "checkpoint", "device", "threads", "output"],
  });
  const cases: [string, string, string][] = [
    ["model: m\ntrain:\n  |\ndata: x\n", "train", "steps"],
    ["train:\n  steps: 3\n  |", "train", "epochs"],
    ["train:\n  steps: 3\n  b|\nmodel: m", "train", "epochs"],
    ["data: { train: t, | }", "data", "eval"],
    ["data: {|", "data", "train"],
    ["method: { name: smt, warmup: { st| } }", "method.warmup", "steps"],
    ["method:\n  name: smt\n  warmup:\n    |", "method.warmup", "steps"],
    ["train:\r\n  steps: 3\r\n  |\r\n", "train", "epochs"],
    ["train:\n  ste|ps: 3\n", "train", "steps"],
  ];
  for (const [marked, where, first] of cases) {
    const found = proposals(marked);
    assert.deepEqual([found?.kind, found?.path, found?.names[0]], ["key", where, first], marked);
  }
  assert.equal(cursorPlace(...(Object.values(at("train:\n  ste|ps: 3\n")) as [string, number]))?.colon, true);
});

test("the method's name decides which keys it has", () => {
  assert.deepEqual(proposals("method: { name: full, | }")?.names, ["sparse"]);
  assert.ok(proposals("method: { name: smt, | }")?.names.includes("ratio"));
  assert.deepEqual(proposals("method: { name: |")?.names, methods);
  for (const { properties } of runSchema.properties.method.anyOf) {
    const own = Object.keys(properties).filter((key) => key !== "name");
    assert.deepEqual(proposals(`method: { name: ${properties.name.const}, | }`)?.names, own);
  }
});

test("a key is described and defaulted as its method has it", () => {
  const key = (method: string, name: string) => keyAt(["method", name], { method: { name: method } });
  assert.deepEqual([key("lors", "alpha")?.defaultValue, key("lora", "alpha")?.defaultValue, key("sqft", "alpha")?.defaultValue], [16, 32, 64]);
  assert.match(key("lors", "alpha")?.description ?? "", /√rank/);
  assert.doesNotMatch(key("lora", "alpha")?.description ?? "", /√/);
  assert.equal(key("lora", "normGradient"), null);
  assert.equal(key("smt", "rank"), null);
});

test("a mapping with any keys proposes the usual matrices and knows every other; a mapping or null has the mapping's keys", () => {
  assert.deepEqual(proposals("method: { name: lora, ranks: { q_proj: 8, | } }")?.names.slice(0, 2), ["k_proj", "v_proj"]);
  const rank = keyAt(["method", "ranks", "model.layers.3.self_attn.q_proj"], { method: { name: "lora" } });
  assert.deepEqual(rank?.forms, [{ kind: "number", whole: true, from: 1, to: 65536, above: undefined, below: undefined }]);
  assert.equal(keyAt(["method", "ranks", "q_proj"], { method: { name: "spp" } }), null);
  assert.deepEqual(proposals("method:\n  name: sqft\n  quantize:\n    |")?.names, ["groupSize"]);
  assert.deepEqual(keyAt(["method", "quantize", "groupSize"], { method: { name: "sqft" } })?.defaultValue, 128);
});

test("values belong behind a colon, in a list and in quotes; the whole value is replaced", () => {
  const cases: [string, string, string, string][] = [
    ["train: { schedule: | }", "train.schedule", "", "constant"],
    ["train:\n  schedule: co|s # c\n", "train.schedule", "cos", "constant"],
    ["train:\n  schedule: |\n  steps: 3\n", "train.schedule", "", "constant"],
    ['train:\n  precision: "b|"\n', "train.precision", '"b"', "f32"],
    ["method: { name: smt, targets: [q_proj, |] }", "method.targets.1", "", "q_proj"],
    ["method:\n  name: smt\n  targets:\n    - q|\n", "method.targets.0", "q", "q_proj"],
    ["data: { train: t, packing: | }", "data.packing", "", "boolean"],
    ["model: ./my mod|els\n", "model", "./my models", "text"],
    ["method:\n  selection: |", "method.selection", "", "global"],
  ];
  for (const [marked, where, replaces, first] of cases) {
    const found = proposals(marked);
    assert.deepEqual([found?.kind, found?.path, found?.replaces, found?.names[0]], ["value", where, replaces, first], marked);
  }
});

test("nothing is proposed in a comment, behind a section or in a block of text", () => {
  for (const marked of ["# mo|del", "model: m # |", "data:\n  template: |\n    a".replace("|\n    a", "@\n    a|").replace("@", "|-")]) {
    const offset = marked.lastIndexOf("|");
    const found = cursorPlace(marked.slice(0, offset) + marked.slice(offset + 1), offset);
    assert.ok(!found || (keyAt(found.path, found.values) === null && found.kind === "value"), marked);
  }
  const section = proposals("train: |\n");
  assert.ok(section === null || section.names.every((name) => name === "section"));
});

test("whatever the text and the cursor, an answer lies around the cursor on its line", () => {
  const token = fc.constantFrom(
    "train",
    "model",
    "method",
    ":",
    " ",
    "\n",
    "  ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    "- ",
    '"',
    "'",
    "|",
    "smt",
    "&a",
    "*a",
    "\r\n",
    "😀",
  );
  fc.assert(
    fc.property(fc.array(token, { maxLength: 25 }), fc.nat(), (tokens, seed) => {
      const text = tokens.join("");
      const offset = seed % (text.length + 1);
      const place = cursorPlace(text, offset);
      if (place) assert.ok(place.start <= offset && offset <= place.end && !text.slice(place.start, place.end).includes("\n"));
      const named = namedPlace(text, offset);
      if (named) assert.ok(named.start <= offset && offset < named.end);
    }),
    { numRuns: 1500 },
  );
});

test("a hover names the key of a key, of its value and of an item", () => {
  const text = "model: ./m # c\nmethod: { name: smt, targets: [q_proj] }\nodd: 1\n";
  const named = (word: string) => namedPlace(text, text.indexOf(word))?.path.join(".");
  assert.deepEqual(
    [named("model"), named("./m"), named("targets"), named("q_proj"), named("# c")],
    ["model", "model", "method.targets", "method.targets.0", undefined],
  );
  const odd = namedPlace(text, text.indexOf("odd"));
  assert.equal(odd && keyAt(odd.path, odd.values), null);
  const key = keyAt(["train", "learningRate"], {});
  assert.deepEqual([key?.defaultValue, key?.forms], [1e-4, [{ kind: "number", whole: false, from: 0, to: 10, above: undefined, below: undefined }]]);
  assert.deepEqual(fileChoiceOf(keyAt(["data", "train"], {})!)?.files.includes(".jsonl"), true);
});

test("a quick fix puts its error right and brings no other", () => {
  const cases: [string, string | null][] = [
    ["model: m\ndata: { train: t, evel: x } # c\n", "model: m\ndata: { train: t, eval: x } # c\n"],
    ['model: m\ndata: { train: t, "evel": x }\n', 'model: m\ndata: { train: t, "eval": x }\n'],
    ["model: m\ndata: { train: t }\ntrain:\n  schedule: cosin # c\n", "model: m\ndata: { train: t }\ntrain:\n  schedule: cosine # c\n"],
    ["model: m\ndata: { train: t }\ntrain:\n  packing: false\n  seed: 1\n", "model: m\ndata: { train: t, packing: false }\ntrain:\n  seed: 1\n"],
    ["model: m\ndata: { train: t, eval: e, evel: x }\n", null],
    ["model: m\ndata: { train: t }\ntrain: { packing: { a: 1 } }\n", null],
    ["model: m\ndata: { train: t }\nzzzzzz: 1\n", null],
  ];
  for (const [text, expected] of cases) {
    const [problem, ...others] = runFileProblems(text);
    assert.equal(others.length, 0);
    const fix = fixOf(text, problem, runFileProblems);
    assert.equal(fix && applyChanges(text, fix.changes), expected, text);
  }
});

test("the entries of a comparison's methods have the keys of the method that is named, and a label", () => {
  const inEntry = (marked: string) => proposals(marked, compareFileSchema);
  assert.deepEqual(inEntry("methods:\n  - |")?.names[0], "name");
  assert.deepEqual(inEntry("methods:\n  - name: full\n    |"), { kind: "key", path: "methods.0", replaces: "", names: ["label", "sparse"] });
  assert.deepEqual(inEntry("methods:\n  - name: full\n  - name: lora\n    r|")?.names.slice(0, 3), ["label", "rank", "alpha"]);
  assert.deepEqual(inEntry("methods: [{ name: full }, { name: spp, gr| }]")?.names.slice(0, 2), ["label", "groups"]);
  assert.deepEqual(inEntry("methods:\n  - name: |")?.names, methods);
  assert.deepEqual(inEntry("methods:\n  - { name: smt, warmup: { | } }")?.names, ["steps", "update"]);
  // An entry is a mapping, which begins with a brace in a flow list.
  assert.equal(inEntry("methods: [{ name: full }, |]")?.names.length ?? 0, 0);
  for (const { properties } of runSchema.properties.method.anyOf)
    assert.deepEqual(inEntry(`methods: [{ name: ${properties.name.const}, | }]`)?.names, [
      "label",
      ...Object.keys(properties).filter((key) => key !== "name"),
    ]);
});

test("a comparison's sections lack what it varies, and its own keys are there", () => {
  const keys = proposals("train: { | }", compareFileSchema)?.names ?? [];
  assert.ok(keys.includes("steps") && !keys.includes("learningRate") && !keys.includes("seed"), keys.join(", "));
  assert.deepEqual(proposals("keepCheckpoints: |", compareFileSchema)?.names, ["best", "all", "none"]);
  assert.deepEqual(proposals("task:\n  |", compareFileSchema)?.names, ["name", "data", "rows", "scoring", "batchSize"]);
  assert.ok(proposals("task: { name: | }", compareFileSchema)?.names.includes("boolq"));
  assert.deepEqual(proposals("task: { scoring: | }", compareFileSchema)?.names, ["auto", "logLikelihood", "generation"]);
  const key = compareFileSchema.keyAt(["methods", 1, "alpha"], { methods: [{ name: "smt" }, { name: "lors" }] });
  assert.deepEqual([key?.path, key?.defaultValue, key?.names.includes("method[lors].alpha")], ["methods.alpha", 16, true]);
  assert.ok(fileChoiceOf(compareFileSchema.keyAt(["methods", 0, "selection"], { methods: [{ name: "smt" }] }) as KeyInfo)?.files.includes(".json"));
});

test("a quick fix in an entry of a comparison puts its error right", () => {
  const text = "model: m\ndata: { train: t, eval: e }\nmethods:\n  - name: smt\n    blokSize: 16\n  - name: loraa\n";
  const problems = compareFileProblems(text);
  assert.deepEqual(
    problems.map(({ path, line }) => [path, line]),
    [
      ["methods[0].blokSize", 5],
      ["methods[1].name", 6],
    ],
  );
  const fixed = problems.map((problem) => fixOf(text, problem, compareFileProblems)).map((fix) => fix && applyChanges(text, fix.changes));
  assert.deepEqual(fixed, [text.replace("blokSize", "blockSize"), text.replace("loraa", "lora")]);
});

test("the descriptions that are translated are the schemas', all of them", () => {
  const source = readFileSync(path.resolve(import.meta.dirname, "../../src/extension/language/keyDescriptions.ts"), "utf8");
  const written = [...source.matchAll(/^ {4}(?:"([\w.[\]]+)"|(\w+)): vscode\.l10n\.t\(\s*("(?:[^"\\]|\\.)*"),?\s*\)/gm)];
  const translated = new Map(written.map(([, quoted, plain, text]) => [quoted ?? plain, JSON.parse(text)]));
  const described = new Map<string, string>();
  const walk = (schema: FileSchema, at: (string | number)[], values: unknown): void => {
    for (const key of schema.keysOf(at, values) ?? []) {
      const name = key.names.find((candidate) => translated.has(candidate)) ?? (key.names.at(-1) as string);
      assert.equal(described.get(name) ?? key.description, key.description, `${key.names[0]} needs a text of its own`);
      described.set(name, key.description);
      const free = key.names.includes("method.ranks");
      if (!free && key.forms.some(({ kind }) => kind === "section")) walk(schema, [...at, key.name], values);
      if (key.forms.some((form) => form.kind === "list" && form.sections)) walk(schema, [...at, key.name, 0], values);
    }
  };
  for (const name of methods) {
    walk(runFileSchema, [], { method: { name } });
    walk(compareFileSchema, [], { methods: [{ name }] });
  }
  assert.ok(described.size > 60);
  assert.deepEqual(Object.fromEntries(translated), Object.fromEntries(described));
});
