/** What the form asks of the run file, and when the file's answer may replace what stands in a control. The table of fields follows the run file's schema. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Value } from "typebox/value";
import { type FormView, fromPanelSchemas } from "../../src/protocol/panelProtocol.ts";
import { parseRunFile } from "../../src/protocol/runConfig.ts";
import { runSchema, scoreNames, selectionScopes } from "../../src/protocol/runSchema.ts";
import {
  budgetKeyOf,
  chosenTargets,
  EntrySync,
  type FormChange,
  numberEntry,
  parseNumber,
  pathEntry,
  removeKey,
  setKey,
  targetsEntry,
  valueAt,
} from "../../webview/panel/formEdits.ts";
import { budgetKeys, fieldGroups, methodNames, projections, ratioSteps } from "../../webview/panel/formFields.ts";
import { methodChoice } from "../../webview/panel/methodTexts.ts";
import { comparable, entryOf, keyOf, shownText } from "../../webview/panel/typedEntries.ts";

const count = { integer: true, emptyIsNull: false };
const fields = fieldGroups.flatMap((group) => group.fields);
const configOf = (method: string) => parseRunFile(`model: m\ndata: { train: t.jsonl }\nmethod: ${method}\n`, "/run.sparse-tuner.yaml");
/** A configuration in which the field's key stands: of its first method, quantised where that is what it is about. */
const configWith = ({ methods, path }: (typeof fields)[number]) =>
  configOf(`{ name: ${methods?.[0] ?? "smt"}${path.startsWith("method.quantize.") ? ", quantize: { groupSize: 128 }" : ""} }`);

/** The edit message is one that the host accepts. */
function accepted(changes: FormChange[]): void {
  assert.ok(Value.Check(fromPanelSchemas.edit, { kind: "edit", changes }), JSON.stringify(changes));
}

test("every field names a key that a run file has", () => {
  for (const field of fields) assert.notEqual(valueAt(configWith(field), field.path), undefined, field.path);
  assert.equal(new Set(fields.map(({ path }) => path)).size, fields.length);
});

/** Keys of a method as its schema has them, those of inner mappings by their paths. */
function keysOf(method: string): string[] {
  const { properties } = runSchema.properties.method.anyOf.find((branch) => branch.properties.name.const === method) ?? { properties: {} };
  return Object.keys(properties).flatMap((key) => {
    if (key === "warmup") return ["method.warmup.steps", "method.warmup.update"];
    return key === "quantize" ? ["method.quantize.groupSize"] : [`method.${key}`];
  });
}

test("each method shows exactly its own fields", () => {
  assert.deepEqual([...methodNames].sort(), runSchema.properties.method.anyOf.map(({ properties }) => String(properties.name.const)).sort());
  for (const method of methodNames) {
    const shown = fields.filter(({ path, methods }) => path.startsWith("method.") && (!methods || methods.includes(method)));
    const keys = shown.flatMap(({ path, entry }) => (entry.kind === "budget" ? budgetKeys.map((key) => `method.${key}`) : [path]));
    assert.deepEqual(keys.sort(), keysOf(method).sort(), method);
    assert.ok(methodChoice(method).startsWith(`${method}: `), "the choice begins with the run file's own word");
  }
});

test("every choice is one that a run file takes, and its default is among them", () => {
  const known: Record<string, readonly string[]> = { "method.score": scoreNames, "method.selection": selectionScopes };
  for (const field of fields) {
    const { path, entry, methods } = field;
    if (entry.kind !== "choice") continue;
    assert.ok(entry.choices.includes(valueAt(configWith(field), path) as string), `default of ${path}`);
    if (known[path]) assert.deepEqual(entry.choices, known[path]);
    for (const choice of entry.choices) {
      const [top, ...keys] = path.split(".");
      const inner = keys.reduceRight((value, key, depth) => {
        const name = top === "method" && depth === 0 ? `name: ${methods?.[0]}, ` : "";
        return `{ ${name}${key}: ${value} }`;
      }, String(choice));
      assert.doesNotThrow(
        () => parseRunFile(`model: m\ndata: { train: t.jsonl }\n${top}: ${inner}\n`, "/run.sparse-tuner.yaml"),
        `${path}: ${choice}`,
      );
    }
  }
  const targets = projections.join(", ");
  assert.doesNotThrow(() =>
    parseRunFile(`model: m\ndata: { train: t }\nmethod: { name: smt, ratio: ${ratioSteps[0]}, targets: [${targets}] }\n`, "/r.sparse-tuner.yaml"),
  );
});

test("a number is written as a number, and what is none is not written", () => {
  assert.deepEqual(["5", "-1", "1e-4", ".5", "2.", "1E3"].map(parseNumber), [5, -1, 1e-4, 0.5, 2, 1000]);
  for (const text of ["", "2e", "0x10", "1 000", "NaN", "Infinity", "1e999", "ten", "1,5"]) assert.equal(parseNumber(text), null, text);
  assert.deepEqual(numberEntry("train.steps", " 750 ", count, []), [{ path: ["train", "steps"], value: 750 }]);
  assert.equal(numberEntry("train.steps", "7.5", count, []), null);
  assert.equal(numberEntry("train.steps", "7x", count, []), null);
  assert.deepEqual(numberEntry("train.learningRate", "2e-4", { integer: false, emptyIsNull: false }, []), [setKey("train.learningRate", 2e-4)]);
});

test("an empty number takes the key out, or is null where that has a meaning", () => {
  assert.deepEqual(numberEntry("train.seed", "", count, []), [{ path: ["train", "seed"] }]);
  assert.deepEqual(numberEntry("checkpoint.every", " ", { integer: true, emptyIsNull: true }, []), [{ path: ["checkpoint", "every"], value: null }]);
  assert.ok(!("value" in removeKey("train.seed")), "left out, not undefined");
});

test("keys that exclude each other change in one edit", () => {
  const changes = numberEntry("method.blocks", "12", count, ["method", "method.name", "method.ratio", "train.epochs"]);
  assert.deepEqual(changes, [{ path: ["method", "ratio"] }, { path: ["method", "blocks"], value: 12 }]);
  assert.deepEqual(numberEntry("train.steps", "9", count, ["train.epochs"]), [{ path: ["train", "epochs"] }, { path: ["train", "steps"], value: 9 }]);
  assert.deepEqual(numberEntry("method.blocks", "12", count, ["method.blocks"]), [{ path: ["method", "blocks"], value: 12 }]);
  accepted(changes ?? []);
});

const fieldOf = (path: string) => fields.find((field) => field.path === path) as (typeof fields)[number];

test("a list of ranks is whole numbers with commas between; nothing means that none are drawn", () => {
  const field = fieldOf("method.neuralSearch");
  const entered = (text: string) => entryOf(field, text, { values: {}, given: [] });
  assert.deepEqual(entered("32, 24,16"), { changes: [setKey("method.neuralSearch", [32, 24, 16])], value: [32, 24, 16] });
  assert.deepEqual(entered(" "), { changes: [removeKey("method.neuralSearch")], value: undefined });
  for (const text of ["32 24", "32,", "32, x", "1.5", ","]) assert.equal(entered(text), null, text);
  assert.equal(shownText(field, [32, 24]), "32, 24");
  assert.equal(shownText(field, null), "");
  accepted(entered("32, 24")?.changes ?? []);
});

test("ranks of some matrices change one by one, whatever their names hold", () => {
  const field = fieldOf("method.ranks");
  const ranks = { q_proj: 8, "model.layers.3.self_attn.v_proj": 4 };
  const entered = (text: string) => entryOf(field, text, { values: { method: { ranks } }, given: [] });
  assert.equal(shownText(field, ranks), "q_proj: 8, model.layers.3.self_attn.v_proj: 4");
  assert.deepEqual(entered(shownText(field, ranks)), { changes: [], value: ranks });
  assert.deepEqual(entered("model.layers.3.self_attn.v_proj: 2, o_proj:6")?.changes, [
    { path: ["method", "ranks", "model.layers.3.self_attn.v_proj"], value: 2 },
    { path: ["method", "ranks", "o_proj"], value: 6 },
    { path: ["method", "ranks", "q_proj"] },
  ]);
  assert.deepEqual(entered(""), { changes: [{ path: ["method", "ranks"] }], value: undefined });
  for (const text of ["q_proj", "q_proj: ", "q_proj: 8,", "q_proj: 8, q_proj: 9", "q_proj: 1.5", "q_proj 8", ": 8"])
    assert.equal(entered(text), null, text);
  accepted(entered("model.layers.3.self_attn.v_proj: 2")?.changes ?? []);
  assert.deepEqual(comparable(field, { b: 1, a: 2 }), comparable(field, { a: 2, b: 1 }));
});

test("a 4-bit base goes with its whole section", () => {
  const field = fieldOf("method.quantize.groupSize");
  assert.equal(keyOf(field), "method.quantize");
  const form = { values: {}, given: [] };
  assert.deepEqual(entryOf(field, "64", form), { changes: [{ path: ["method", "quantize", "groupSize"], value: 64 }], value: 64 });
  assert.deepEqual(entryOf(field, "", form), { changes: [{ path: ["method", "quantize"] }], value: undefined });
});

test("an empty path takes its key out where there is a default, and else is left to be refused", () => {
  assert.deepEqual(pathEntry("data.eval", " ", true), [{ path: ["data", "eval"] }]);
  assert.deepEqual(pathEntry("model", "", false), [{ path: ["model"], value: "" }]);
  assert.deepEqual(pathEntry("model", " ../m ", false), [{ path: ["model"], value: "../m" }]);
});

test("targets go from auto to a list and back, and keep what else the file names", () => {
  assert.deepEqual(chosenTargets("auto"), { projections: [...projections], others: [] });
  assert.deepEqual(chosenTargets(["v_proj", "lm_head", "q_proj"]), { projections: ["q_proj", "v_proj"], others: ["lm_head"] });
  const less = targetsEntry("auto", "gate_proj", false);
  assert.deepEqual(less, [setKey("method.targets", ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"])]);
  assert.deepEqual(targetsEntry(less?.[0].value, "gate_proj", true), [setKey("method.targets", "auto")]);
  assert.deepEqual(targetsEntry(["lm_head"], "q_proj", true), [setKey("method.targets", ["q_proj", "lm_head"])]);
  assert.equal(targetsEntry(["q_proj"], "q_proj", false), null);
  accepted(less ?? []);
});

test("the budget's kind is the one that the file gives", () => {
  const form = (method: Record<string, unknown>, ...given: string[]): Pick<FormView, "values" | "given"> => ({ values: { method }, given });
  assert.equal(budgetKeyOf(form({ ratio: 0.0084, blocks: null })), "ratio");
  assert.equal(budgetKeyOf(form({ ratio: null, blocks: 12 }, "method.blocks")), "blocks");
  assert.equal(budgetKeyOf(form({ ratio: null, blocks: null, trainableParameters: 5 })), "trainableParameters");
  assert.equal(budgetKeyOf(form({ name: "full" })), "ratio");
});

test("a value is found only where it stands", () => {
  assert.equal(valueAt({ train: { steps: 5 } }, "train.steps"), 5);
  assert.equal(valueAt({ train: "five" }, "train.steps"), undefined);
  assert.equal(valueAt({}, "constructor.name"), undefined);
});

test("the file's answers do not fight a person's typing", () => {
  const sync = new EntrySync();
  assert.equal(sync.accepts(500, false, 0), true, "the first form fills the control");
  sync.sent(7, 1000);
  sync.sent(75, 1100);
  assert.equal(sync.accepts(500, true, 1150), false, "an older state of the file");
  assert.equal(sync.accepts(7, true, 1200), false, "the first answer, while more was typed");
  assert.equal(sync.accepts(7, false, 1210), false, "not even when the field was left");
  assert.equal(sync.accepts(75, true, 1300), false, "typed `75.` stays `75.`");
  assert.equal(sync.accepts(75, false, 1400), true, "once left, the field shows the file's spelling");
  assert.equal(sync.accepts(9, true, 1500), true, "what nobody here sent is news, even while the field has the focus");
});

test("an edit that the file never took gives way", () => {
  const sync = new EntrySync();
  sync.accepts("bf16", false, 0);
  sync.sent("f32", 100);
  assert.equal(sync.accepts("bf16", false, 200), false);
  assert.equal(sync.accepts("bf16", false, 5000), true);
});

test("after a default was asked for, the file's value comes back whatever it is", () => {
  const sync = new EntrySync();
  sync.accepts(4, false, 0);
  sync.forget();
  assert.equal(sync.accepts(4, true, 100), true);
});
