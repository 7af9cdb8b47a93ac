/** The strict JSON reader: all that JSON.parse accepts and nothing it refuses, less what may not pass in silence. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import fc from "fast-check";
import { decodeUtf8, JsonRefused, parseStrictJson } from "../../../src/core/files/strictJson.ts";
import { sharedData } from "../../support/sharedData.ts";

test("ordinary JSON comes back as JSON.parse reads it", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), fc.constantFrom(0, 2), (text, indentation) => {
      const value = JSON.parse(text);
      const spelled = JSON.stringify(value, null, indentation);
      if (/"__proto__"/.test(spelled) || /\p{Surrogate}/u.test(JSON.stringify(value)) || /\\ud[89a-f]/i.test(spelled)) return;
      assert.deepEqual(parseStrictJson(spelled), value);
    }),
    { numRuns: 1000, seed: 1 },
  );
});

test("a repeated key is refused at any level, however it is spelled; the same key in two objects is not", () => {
  const repeated = [
    '{"a":1,"a":2}',
    '{"x":[{"y":{"k":1,"b":{},"k":3}}]}',
    '{"a":1,"\\u0061":2}',
    '{"":1,"":2}',
    '{"a":"}","a":1}',
    '{"a\\"":1,"a\\"":1}',
    '[{},{"a":[],"a":[]}]',
  ];
  for (const text of repeated) assert.throws(() => parseStrictJson(text), /given twice/, text);
  const fine = [
    '{"a":{"a":{"a":1}}}',
    '[{"a":1},{"a":2}]',
    '{"a":"a","b":["a","a"]}',
    '{"a":"\\"a\\":1,\\"a\\":2"}',
    '{"a":[],"b":[{"a":1}],"c":{}}',
  ];
  for (const text of fine) assert.deepEqual(parseStrictJson(text), JSON.parse(text));
  assert.throws(() => parseStrictJson('{\n "a": 1,\n "a": 2}'), /line 3/);
});

test("__proto__, deep nesting, half surrogates and, on request, numbers are refused", () => {
  assert.throws(() => parseStrictJson('{"a":{"__proto__":{"b":1}}}'), JsonRefused);
  assert.throws(() => parseStrictJson('{"\\u005f_proto__":1}'), JsonRefused);
  assert.deepEqual(parseStrictJson('["__proto__"]'), ["__proto__"]);
  assert.doesNotThrow(() => parseStrictJson("[".repeat(64) + "]".repeat(64)));
  assert.throws(() => parseStrictJson("[".repeat(65) + "]".repeat(65)), /deeper/);
  assert.throws(() => parseStrictJson('"\\udc00"'), /surrogate/);
  assert.equal(parseStrictJson('"\\ud83d\\ude00"'), "😀");
  for (const number of ["-1", "-0", "1.0", "1e2", "1E2", "0.5", "18446744073709551616", "9".repeat(400)]) {
    assert.throws(() => parseStrictJson(`{"a":[${number}]}`, { unsignedIntegersOnly: true }), /whole number/, number);
    assert.doesNotThrow(() => parseStrictJson(`{"a":[${number}]}`));
  }
  for (const number of ["0", "7", "18446744073709551615", "9007199254740993"])
    assert.doesNotThrow(() => parseStrictJson(number, { unsignedIntegersOnly: true }));
  assert.doesNotThrow(() => parseStrictJson('{"-1e5":"-1.5"}', { unsignedIntegersOnly: true }), "strings are not numbers");
});

test("reading is linear in the length of the text", () => {
  const text = JSON.stringify(
    Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`model.layers.${i}.weight`, { dtype: "F32", shape: [1, 2], data_offsets: [i, i] }])),
  );
  const started = performance.now();
  parseStrictJson(text, { unsignedIntegersOnly: true });
  assert.ok(performance.now() - started < 10_000, `${text.length} characters in ${performance.now() - started} ms`);
});

test("JSON test suite: y_ is read, n_ is refused", (t) => {
  const suite = sharedData("malformed-json");
  if (!suite) return t.skip("not run: no shared data");
  // The suite wants these read; we refuse them on purpose.
  const stricter = new Set(["y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"]);
  for (const name of readdirSync(path.join(suite, "test_parsing"))) {
    const read = () => parseStrictJson(decodeUtf8(readFileSync(path.join(suite, "test_parsing", name))));
    if (name.startsWith("n_") || stricter.has(name)) assert.throws(read, JsonRefused, name);
    else if (name.startsWith("y_")) assert.doesNotThrow(read, name);
  }
});
