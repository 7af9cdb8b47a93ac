/** Token ids and texts against the Rust tokenizers library, and the refusal of every damaged or foreign tokenizer.json. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { applyTokenizerConfig } from "../../../src/core/data/tokenizer/tokenizerConfig.ts";
import { parseTokenizerFile } from "../../../src/core/data/tokenizer/tokenizerFile.ts";
import { openTokenizer, Tokenizer } from "../../../src/core/data/tokenizer.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { sharedData } from "../../support/sharedData.ts";
import { byteTokenizer } from "./byteTokenizer.ts";

const fixtures = path.resolve(import.meta.dirname, "../../fixtures/tokenizers");
const story = path.resolve(import.meta.dirname, "../../../media/demo/model");

// biome-ignore lint/suspicious/noExplicitAny: files are damaged in every place on purpose
type Json = Record<string, any>;

async function readJson(file: string): Promise<Json> {
  return JSON.parse(await readFile(file, "utf8"));
}

function build(json: Json, config: Json = {}): Tokenizer {
  const file = parseTokenizerFile(json, "tokenizer.json");
  return new Tokenizer(file, applyTokenizerConfig(file, config, null, "", "tokenizer_config.json"), "tokenizer.json");
}

/** The library's decode leaves out special tokens, but knows them by their content: a normalised one stays. */
function withoutSpecial(tokenizer: Tokenizer, ids: number[]): number[] {
  return ids.filter((id) => !tokenizer.specialTexts.includes(tokenizer.tokenText(id) ?? ""));
}

for (const name of ["llama-story-2m", "tiny_bpe", "gemma_cropped", "torchtitan"]) {
  test(`tokenizer ${name}: ids and text as the Rust library's`, async () => {
    const goldens = await readJson(path.join(fixtures, "goldens.json"));
    const tokenizer = build(await readJson(name === "llama-story-2m" ? path.join(story, "tokenizer.json") : path.join(fixtures, `${name}.json`)));
    assert.equal(goldens[name].length, goldens.texts.length);
    for (const [index, [ids, decoded]] of goldens[name].entries()) {
      const text = goldens.texts[index];
      assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
      assert.equal(tokenizer.decode(withoutSpecial(tokenizer, tokenizer.encode(text, { addSpecialTokens: true }))), decoded, JSON.stringify(text));
    }
  });
}

test("every tokenizer.json at hand: 548 texts as the Rust library's", async (context) => {
  const folder = sharedData("golden-tokenizers");
  if (folder === null) return context.skip("not run: no shared data");
  const { sets } = await readJson(path.join(folder, "rust_tokenizers_goldens.json"));
  let checked = 0;
  for (const [name, { file, rows }] of Object.entries<Json>(sets)) {
    const where = sharedData(file);
    if (where === null) continue;
    const tokenizer = build(await readJson(where));
    for (const [text, withSpecial, without, decoded] of rows) {
      assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: true }), withSpecial, `${name} ${JSON.stringify(text)}`);
      assert.deepEqual(tokenizer.encode(text), without ?? withSpecial, `${name} ${JSON.stringify(text)}`);
      assert.equal(tokenizer.decode(withoutSpecial(tokenizer, withSpecial)), decoded, `${name} ${JSON.stringify(text)}`);
      checked++;
    }
  }
  assert.equal(checked, 7 * 548);
});

test("a model folder's settings: named tokens, chat template, hash", async () => {
  const tokenizer = await openTokenizer(story);
  assert.equal(tokenizer.vocabSize, 2048);
  assert.deepEqual([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.padTokenId], [1, 2, 0]);
  assert.equal(tokenizer.chatTemplate, null);
  assert.match(tokenizer.hash, /^[0-9a-f]{64}$/);
  assert.deepEqual(tokenizer.encode("Once", { addSpecialTokens: true })[0], 1);
  assert.equal(tokenizer.decode([1, ...tokenizer.encode("Once upon a time"), 2], { skipSpecial: true }), "Once upon a time");
});

test("tokens that only tokenizer_config.json names are matched as a whole", async () => {
  const json = await readJson(path.join(fixtures, "torchtitan.json"));
  const vocabulary = json.model.vocab;
  const id = vocabulary["<|im_end|>"];
  assert.ok(build(json).encode("a<|im_end|>").length > 2);
  const tokenizer = build(json, { eos_token: { content: "<|im_end|>" }, pad_token: "<|nowhere|>" });
  assert.deepEqual(tokenizer.encode("a<|im_end|>"), [vocabulary.a, id]);
  assert.equal(tokenizer.eosTokenId, id);
  assert.equal(tokenizer.padTokenId, null);
  assert.match(tokenizer.notices.join(), /pad_token "<\|nowhere\|>"/);
});

test("segments: no token across two, prefix spaces only where a section starts", async () => {
  const tokenizer = await openTokenizer(story);
  const [prompt, response] = tokenizer.encodeSegments(["Once upon", " a time"]);
  assert.deepEqual(prompt, tokenizer.encode("Once upon"));
  assert.equal(tokenizer.decode([...prompt, ...response]), "Once upon a time");
  assert.deepEqual(tokenizer.encodeSegments(["", "Once upon a time", ""]), [[], tokenizer.encode("Once upon a time"), []]);
  const gemma = build(await readJson(path.join(fixtures, "gemma_cropped.json")));
  // An added token is found even where two segments meet, and belongs to the one it begins in.
  assert.deepEqual(
    gemma.encodeSegments(["a<bo", "s>b"]).map((ids) => ids.includes(2)),
    [true, false],
  );
});

test("lone surrogates are read as U+FFFD", async () => {
  const tokenizer = await openTokenizer(story);
  assert.deepEqual(tokenizer.encode("a\ud83db"), tokenizer.encode("a\ufffdb"));
});

test("bytes that are no UTF-8 decode as the Rust library's do: one U+FFFD a byte, or one for a cut character", () => {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  const vocab = Object.fromEntries([...bytes, "▁a", "b"].map((token, id) => [token, id]));
  const fallback = build({ model: { type: "BPE", vocab, merges: [], byte_fallback: true }, decoder: { type: "ByteFallback" } });
  assert.equal(fallback.decode([256, 0xe2, 0x82, 257, 0xf0, 0x9f, 0x99, 0x82]), "▁a\ufffd\ufffdb🙂");
  assert.deepEqual(fallback.encode("b🙂"), [257, 0xf0, 0x9f, 0x99, 0x82]);
  assert.equal(byteTokenizer().decode([0x61, 0xe2, 0x82, 0x62, 0xff]), "a\ufffdb\ufffd");
});

/** What is wrong, how the file is changed, what the message must name, and the error's code. */
const damages: Array<[string, (json: Json) => void, RegExp, string?]> = [
  ["no model", (j) => delete j.model, /no model/],
  ["no vocabulary", (j) => delete j.model.vocab, /vocab is missing/],
  ["empty vocabulary", (j) => (j.model.vocab = {}), /vocabulary is empty/],
  ["vocabulary as a list", (j) => (j.model.vocab = [["a", 0]]), /vocab is missing or no object/],
  ["no merges", (j) => delete j.model.merges, /merges is missing/],
  ["a merge with three parts", (j) => j.model.merges.push("a b c"), /merge 1904 is not a pair/],
  ["a merge that is a number", (j) => j.model.merges.push(5), /merge 1904 is not a pair/],
  ["a merge of an unknown token", (j) => (j.model.merges[3] = "a zzzzz"), /merge 3 uses "zzzzz"/],
  ["a merge into an unknown token", (j) => (j.model.merges[3] = "z Ġ"), /merge 3 uses "zĠ"/],
  ["two tokens with one id", (j) => (j.model.vocab.twin = 7), /share the id 7/],
  ["a negative id", (j) => (j.model.vocab.odd = -1), /"odd" has the id -1/],
  ["a fractional id", (j) => (j.model.vocab.odd = 1.5), /"odd" has the id 1.5/],
  ["an id as text", (j) => (j.model.vocab.odd = "1"), /"odd" has the id "1"/],
  ["an enormous id", (j) => (j.model.vocab.odd = 4e9), /"odd" has the id 4000000000/],
  ["an added token whose id is not its place", (j) => (j.added_tokens[1].id = 5000), /states the id 5000, but its place is 2001/],
  ["an added token without content", (j) => delete j.added_tokens[0].content, /no content/],
  ["added tokens that are no list", (j) => (j.added_tokens = { a: 1 }), /added_tokens is no list/],
  ["an unknown token outside the vocabulary", (j) => (j.model.unk_token = "<nope>"), /unk_token "<nope>"/],
  ["another version", (j) => (j.version = "2.0"), /version "2.0"/, "tokenizer/unsupported"],
  ["a unigram model", (j) => (j.model.type = "Unigram"), /Unigram/, "tokenizer/unsupported"],
  ["a word-piece model", (j) => (j.model.type = "WordPiece"), /WordPiece/, "tokenizer/unsupported"],
  ["a continuing prefix", (j) => (j.model.continuing_subword_prefix = "##"), /continuing_subword_prefix/, "tokenizer/unsupported"],
  ["a word suffix", (j) => (j.model.end_of_word_suffix = "</w>"), /end_of_word_suffix/, "tokenizer/unsupported"],
  ["dropout", (j) => (j.model.dropout = 0.1), /dropout/, "tokenizer/unsupported"],
  ["an unknown normalizer", (j) => (j.normalizer = { type: "Precompiled" }), /normalizer Precompiled/, "tokenizer/unsupported"],
  ["a normalizer without type", (j) => (j.normalizer = { form: "NFC" }), /normalizer has no type/],
  ["an unknown pre-tokenizer", (j) => (j.pre_tokenizer = { type: "BertPreTokenizer" }), /BertPreTokenizer/, "tokenizer/unsupported"],
  ["a split before nothing", (j) => (j.pre_tokenizer.pretokenizers[0].behavior = "Shuffled"), /"Shuffled"/, "tokenizer/unsupported"],
  ["a pre-tokenizer behind ByteLevel", (j) => j.pre_tokenizer.pretokenizers.reverse(), /behind ByteLevel/, "tokenizer/unsupported"],
  ["a broken expression", (j) => (j.pre_tokenizer.pretokenizers[0].pattern.Regex = "(a"), /no JavaScript form/, "tokenizer/unsupported"],
  ["a runaway expression", (j) => (j.pre_tokenizer.pretokenizers[0].pattern.Regex = "(a+)+b"), /runs away/, "tokenizer/unsupported"],
  ["a case-insensitive class", (j) => (j.pre_tokenizer.pretokenizers[0].pattern.Regex = "(?i:\\p{L}+)"), /case-insensitive/, "tokenizer/unsupported"],
  ["an unknown decoder", (j) => (j.decoder = { type: "CTC" }), /decoder CTC/, "tokenizer/unsupported"],
  ["an unknown post-processor", (j) => (j.post_processor = { type: "BertProcessing" }), /BertProcessing/, "tokenizer/unsupported"],
  [
    "a post-processor with an undefined token",
    (j) => (j.post_processor = { type: "TemplateProcessing", single: [{ SpecialToken: { id: "<x>" } }], special_tokens: {} }),
    /does not define/,
  ],
];

test(`${damages.length} damaged or foreign tokenizer files are refused by name`, async () => {
  const json = await readJson(path.join(fixtures, "tiny_bpe.json"));
  build(structuredClone(json));
  for (const [name, damage, message, code = "tokenizer/invalid"] of damages) {
    const damaged = structuredClone(json);
    damage(damaged);
    assert.throws(
      () => build(damaged),
      (error) => error instanceof UserError && error.code === code && message.test(error.message),
      name,
    );
  }
});

test("a folder without tokenizer.json says what to do", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "tokenizer-"));
  try {
    const opens = (code: string, message: RegExp) =>
      assert.rejects(
        openTokenizer(folder),
        (error) => error instanceof UserError && error.code === code && message.test(`${error.message} ${error.action}`),
      );
    await opens("tokenizer/missing", /Point `model`/);
    await writeFile(path.join(folder, "tokenizer.model"), "x");
    await opens("tokenizer/missing", /has tokenizer.model, but no tokenizer.json.*use_fast/);
    await writeFile(path.join(folder, "tokenizer.json"), "version https://git-lfs.github.com/spec/v1\n");
    await opens("tokenizer/invalid", /Git LFS/);
    await writeFile(path.join(folder, "tokenizer.json"), '{"model": ');
    await opens("tokenizer/invalid", /JSON/);
    await writeFile(path.join(folder, "tokenizer.json"), Buffer.from([0x22, 0xff, 0x22]));
    await opens("tokenizer/invalid", /not usable|is not a usable/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
