/** Lines of nvidia-smi as figures: whole lines only, no figure made up, whatever the machine's language and the driver's mood. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { choose } from "../../../../src/core/devices/cardMonitor/cardMonitor.ts";
import { parseCardLine, parseProcesses, type SmiCard } from "../../../../src/core/devices/cardMonitor/nvidiaSmi.ts";
import { recorded } from "../../../support/fakeNvidiaSmi.ts";

const mib = 2 ** 20;
const cardsOf = (name: string) =>
  recorded(name)
    .split("\n")
    .map(parseCardLine)
    .filter((card) => card !== null);
const figures = ({ totalBytes, usedBytes, utilisation, temperatureC }: SmiCard) => [totalBytes, usedBytes, utilisation, temperatureC];

test("a card's line, and several cards by their numbers", () => {
  assert.deepEqual(cardsOf("one-card")[1], {
    index: 0,
    uuid: "GPU-3f0c6a1e-5c55-7a30-91d4-0b6a2c8e4f10",
    totalBytes: 24564 * mib,
    usedBytes: 6021 * mib,
    utilisation: 0.93,
    temperatureC: 48,
    name: "NVIDIA GeForce RTX 4090",
  });
  assert.deepEqual(
    cardsOf("two-cards").map(({ index, usedBytes }) => [index, usedBytes]),
    [
      [0, 65211 * mib],
      [1, 3120 * mib],
      [0, 65215 * mib],
      [1, 9022 * mib],
    ],
  );
  assert.equal(cardsOf("two-kinds")[1].name, "NVIDIA RTX 4500, Ada Generation");
});

test("what the driver does not tell is null, and no 0", () => {
  assert.deepEqual(cardsOf("not-available").map(figures), [
    [null, null, 0.04, 36],
    [8192 * mib, 512 * mib, null, null],
  ]);
});

test("decimal commas, thousands separators and units change no figure", () => {
  assert.deepEqual(cardsOf("localised").map(figures), [
    [24564 * mib, 1311.5 * mib, 0.07, 41],
    [24564 * mib, 6021.25 * mib, 0.93, 48],
  ]);
});

test("half lines, messages and impossible figures are left out", () => {
  assert.deepEqual(cardsOf("garbage").map(figures), [
    [24564 * mib, 1311 * mib, 0.07, 41],
    [24564 * mib, 2000 * mib, null, null],
  ]);
  assert.deepEqual(cardsOf("driver-mismatch"), []);
  const whole = recorded("one-card").split("\n")[0];
  // All before the name's first letter is half a line; after it nobody can tell.
  for (let length = 0; length <= whole.indexOf("NVIDIA"); length++) assert.equal(parseCardLine(whole.slice(0, length)), null, whole.slice(0, length));
  const field = fc.oneof(fc.string(), fc.constantFrom("[N/A]", "0", "7", "1e9", "-5", "99999999999", ", ", "12,"));
  fc.assert(
    fc.property(fc.array(field, { maxLength: 9 }), (fields) => {
      const card = parseCardLine(fields.join(", "));
      if (!card) return;
      const { index, totalBytes, usedBytes, utilisation } = card;
      assert.ok(Number.isInteger(index) && card.name !== "");
      for (const bytes of [totalBytes, usedBytes]) assert.ok(bytes === null || (Number.isSafeInteger(bytes) && bytes >= 0));
      assert.ok(utilisation === null || (utilisation >= 0 && utilisation <= 1));
    }),
    { numRuns: 1000 },
  );
});

test("processes of every type and card, with and without their share", () => {
  const [first, second] = ["GPU-3f0c6a1e-5c55-7a30-91d4-0b6a2c8e4f10", "GPU-9b1d2e77-0a44-4c1f-b7a9-55e0d1c3aa02"];
  const told = (name: string) => parseProcesses(recorded(`${name}.processes`, "xml").replaceAll("OUR_PID", "77"));
  assert.match(recorded("one-card.processes", "xml"), /<pid>OUR_PID<\/pid>\s*<type>G<\/type>/);
  assert.deepEqual(told("one-card"), [
    { uuid: first, pid: 1, usedBytes: 900 * mib },
    { uuid: first, pid: 77, usedBytes: 4710 * mib },
  ]);
  assert.deepEqual(told("two-cards"), [
    { uuid: first, pid: 4242, usedBytes: 65100 * mib },
    { uuid: second, pid: 77, usedBytes: 3000 * mib },
  ]);
  assert.deepEqual(told("not-available"), [{ uuid: first, pid: 77, usedBytes: null }]);
});

test("of XML that is broken, cut or hostile only what is whole is told", () => {
  const [record, card] = [
    (fields: string) => `<process_info>${fields}</process_info>`,
    (text: string) => `<gpu id="0"><uuid>GPU-1</uuid>${text}</gpu>`,
  ];
  const shares = (xml: string) => parseProcesses(xml).map(({ pid, usedBytes }) => [pid, usedBytes]);
  const name = "<process_name>a<pid>8</pid><used_memory>1 MiB</used_memory></process_name>";
  assert.deepEqual(shares(card(record(`<pid>7</pid>${name}<used_memory>2 MiB</used_memory>`))), [[7, 2 * mib]]);
  for (const broken of [
    "",
    "<gpu>",
    "No devices were found",
    card(""),
    card(record("")),
    card(record("<pid>x</pid>")),
    `<gpus>${record("<pid>7</pid>")}`,
  ])
    assert.deepEqual(shares(broken), [], broken);
  assert.deepEqual(shares(card("<process_info><pid>7</pid><used_mem")), [[7, null]]);
  const part = fc.constantFrom(
    "<gpu>",
    "<uuid>",
    "GPU-1",
    "</uuid>",
    "<process_info>",
    "<pid>",
    "7",
    "</pid>",
    "<used_memory>",
    "1 MiB",
    "</used_memory>",
    "x",
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 40 }), (parts) => {
      for (const { pid, usedBytes } of parseProcesses(parts.join("")))
        assert.ok(Number.isSafeInteger(pid) && (usedBytes === null || Number.isSafeInteger(usedBytes)));
    }),
    { numRuns: 1000 },
  );
});

test("the card is the one with our process, else the device's by name, else a guess that says so", () => {
  const cards = cardsOf("two-kinds");
  const own = (uuid: string, usedBytes: number | null) => ({ uuid, pid: 1, usedBytes });
  const told = (...given: Parameters<typeof choose>) => {
    const { card, by, ownBytes } = choose(...given);
    return [card.index, by, ownBytes];
  };
  assert.deepEqual(told(cards, [own(cards[1].uuid, 5), own(cards[1].uuid, 6)], "webgpu: nvidia"), [1, "process", 11]);
  assert.deepEqual(told(cards, [own(cards[1].uuid, null)], "webgpu: nvidia"), [1, "process", null]);
  assert.deepEqual(told(cards, [own("GPU-other", 5)], "webgpu: nvidia ampere NVIDIA T600"), [0, "name", null]);
  assert.deepEqual(told(cards, [], "webgpu: nvidia"), [0, "guess", null]);
});
