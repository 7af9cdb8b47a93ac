/** Names of runs: in any script, safe on every disk, and the same for the core that makes a folder and the window that looks for it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { nameInFolder, runNameOf, safeName } from "../../src/protocol/runName.ts";

test("a run is called as its file", () => {
  assert.equal(runNameOf("/w/tune.sparse-tuner.yaml"), "tune");
  assert.equal(runNameOf("/w/训练.sparse-tuner.yml"), "训练");
  assert.equal(runNameOf("run.yaml"), "run");
});

test("letters of every script stay; what a path could trip over does not", () => {
  const names = {
    训练: "训练",
    "微调 实验（二）": "微调-实验-二",
    かがみ: "かがみ",
    "Ünïcode Name": "Ünïcode-Name",
    हिन्दी: "हिन्दी",
    "../../etc/passwd": "etc-passwd",
    "..": "run",
    "": "run",
    "a/b\\c:d*e": "a-b-c-d-e",
    ".hidden": "hidden",
    "con\0trol\n": "con-trol",
    "\u202egnirts": "gnirts",
    "❤️🔥": "run",
    "\ud83d": "run",
    "\u0301\u0302": "run",
  };
  for (const [name, safe] of Object.entries(names)) assert.equal(safeName(name), safe, JSON.stringify(name));
});

test("a name takes 160 bytes at most, and no character is cut in two", () => {
  assert.equal(safeName("x".repeat(99)), "x".repeat(40));
  assert.equal(safeName("训".repeat(99)), "训".repeat(40));
  assert.equal(safeName("𠮷".repeat(99)), "𠮷".repeat(40));
  assert.equal(Buffer.byteLength(safeName("𠮷".repeat(99))), 160);
});

test("a run's folder is known by its file's name, also from a disk that decomposes characters", () => {
  for (const name of ["训练", "かがみ", "Ünïcode", "한국어", "tune"]) {
    const folder = `20260102-030405-${safeName(name)}`;
    for (const form of ["NFC", "NFD"] as const) assert.equal(nameInFolder(folder.normalize(form)), safeName(name.normalize(form)), `${name} ${form}`);
  }
});
