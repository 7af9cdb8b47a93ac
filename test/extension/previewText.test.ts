/** The preview of training data as text: what is in the loss, where it comes from, what was left out. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type PreviewWords, previewText } from "../../src/extension/data/previewText.ts";
import type { ServiceResults } from "../../src/protocol/serviceProtocol.ts";

const words: PreviewWords = {
  title: "First batch",
  summary: (rows, columns, filled, inLoss) => `${rows}×${columns}, ${filled}, ${inLoss}`,
  legend: ["legend"],
  row: (number) => `Row ${number}`,
  document: (line, counts, inLoss) => `Line ${line}: ${counts}, ${inLoss} in the loss`,
  role: (role, count) => `${count} ${role}`,
  padding: (count) => `${count} padding`,
  notices: "Notes",
  skipped: "Left out",
  more: (count) => `and ${count} more`,
};

const token = (text: string, loss: boolean, role = loss ? "response" : "prompt", id = 7) => ({ id, text, role, loss });

function preview(documents: ServiceResults["preview"]["rows"][number]["documents"]): ServiceResults["preview"] {
  return {
    batchSize: 1,
    sequenceLength: 8,
    unmaskedTokens: 2,
    tokens: 5,
    rows: [{ documents, padding: 3 }],
    notices: ["The template\nis none"],
    skipped: [{ file: "/data/a b.jsonl", line: 12, reason: "It is no JSON." }],
    skippedRows: 4,
  };
}

test("documents, loss, padding, notes and rows left out stand in the text", () => {
  const shown = previewText(
    preview([{ line: 3, tokens: [token("<s>", false), token(" Hi\n", false), token(" yo", true), token("\t</s>", true), token("x", false)] }]),
    "/data/t.jsonl",
    words,
  );
  assert.equal(
    shown.text,
    [
      "First batch",
      "1×8, 62.5 %, 2",
      "legend",
      "",
      "Row 1",
      "  Line 3: 3 prompt + 2 response, 2 in the loss",
      "    <s> Hi⏎",
      "    ⟦ yo→</s>⟧x",
      "  3 padding",
      "",
      "Notes",
      "  The template⏎is none",
      "",
      "Left out",
      "  /data/a b.jsonl:12: It is no JSON.",
      "  and 3 more",
      "",
    ].join("\n"),
  );
  const spans = (kind: string) => shown.spans.filter((span) => span.kind === kind).map(({ start, end }) => shown.text.slice(start, end));
  assert.deepEqual(spans("loss"), [" yo→</s>"]);
  assert.deepEqual(spans("context"), ["<s> Hi⏎", "x"]);
  assert.deepEqual(
    shown.links.map(({ start, end, file, line }) => [shown.text.slice(start, end), file, line]),
    [
      ["Line 3: 3 prompt + 2 response, 2 in the loss", "/data/t.jsonl", 3],
      ["/data/a b.jsonl:12", "/data/a b.jsonl", 12],
    ],
  );
  assert.deepEqual(previewText(preview([]), null, words).links.length, 1);
});

test("whatever the tokens hold, each keeps its place, in order, and no sign of the loss is lost", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.string({ unit: "binary", maxLength: 6 }), fc.boolean()), { maxLength: 20 }), (parts) => {
      const shown = previewText(preview([{ line: 1, tokens: parts.map(([text, loss]) => token(text, loss)) }]), null, words);
      assert.equal(shown.tokens.length, parts.length);
      let before = 0;
      for (const [i, { start, end, token: own }] of shown.tokens.entries()) {
        assert.ok(start >= before && end >= start);
        before = end;
        assert.equal(own.text, parts[i][0]);
        // No raw control character and no foreign line break reaches the editor.
        assert.doesNotMatch(shown.text.slice(start, end).replaceAll("\n    ", ""), /[\p{Cc}\u2028\u2029]/u);
      }
      let inside = false;
      for (const { start, end, kind } of shown.spans) {
        if (kind === "mark") inside = shown.text.slice(start, end).endsWith("⟦");
        else if (kind === "loss" || kind === "context") assert.equal(kind === "loss", inside);
      }
    }),
    { numRuns: 300 },
  );
});
