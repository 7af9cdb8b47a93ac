/** What the form asks of the run file, and when the file's answer may replace what stands in a control. The table of fields follows the run file's schema. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Value } from "typebox/value";
import { type FormView, fromPanelSchemas } from "../../src/protocol/panelProtocol.ts";
import { parseRunFile } from "../../src/protocol/runConfig.ts";
import { scoreNames, selectionScopes } from "../../src/protocol/runSchema.ts";
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
import { fieldGroups, projections, ratioSteps } from "../../webview/panel/formFields.ts";

const count = { integer: true, emptyIsNull: false };
const fields = fieldGroups.flatMap((group) => group.fields);
const config = parseRunFile("model: m\ndata: { train: t.jsonl }\n", "/run.sparse-tuner.yaml");

/** The edit message is one that the host accepts. */
function accepted(changes: FormChange[]): void {
  assert.ok(Value.Check(fromPanelSchemas.edit, { kind: "edit", changes }), JSON.stringify(changes));
}

test("every field names a key that a run file has", () => {
  for (const { path } of fields) assert.notEqual(valueAt(config, path), undefined, path);
  assert.equal(new Set(fields.map(({ path }) => path)).size, fields.length);
});

test("every choice is one that a run file takes, and its default is among them", () => {
  const known: Record<string, readonly string[]> = { "method.score": scoreNames, "method.selection": selectionScopes };
  for (const { path, entry } of fields) {
    if (entry.kind !== "choice") continue;
    assert.ok(entry.choices.includes(valueAt(config, path) as string), `default of ${path}`);
    if (known[path]) assert.deepEqual(entry.choices, known[path]);
    for (const choice of entry.choices) {
      const [top, key] = path.split(".");
      const inner = key ? `{ ${top === "method" ? "name: smt, " : ""}${key}: ${choice} }` : String(choice);
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
