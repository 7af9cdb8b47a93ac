/**
 * tokenizer.json of real model families, made from their published vocabularies (tiktoken ranks, sentencepiece pieces, GPT-2's files) the way
 * transformers converts them: every split of a token into two tokens is a merge, ranked by the token it gives.
 */
import { byteCharacters } from "../../../src/core/data/tokenizer/bytePairs.ts";

const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: false };
const split = (Regex: string) => ({
  type: "Sequence",
  pretokenizers: [{ type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false }, byteLevel],
});

/** The pre-tokenizer expressions of Llama 3 and Qwen 2. */
export const llama3Pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
export const qwen2Pattern = llama3Pattern.replace("{1,3}", "");

/** `rankOf`: the lower, the earlier a token is formed; null for one that is never formed. */
function mergesOf(vocabulary: Record<string, number>, rankOf: (token: string, id: number) => number | null): string[][] {
  const ids = new Map(Object.entries(vocabulary));
  const merges: Array<{ pair: string[]; key: number[] }> = [];
  for (const [token, id] of ids) {
    const rank = rankOf(token, id);
    if (rank === null) continue;
    for (let cut = 1; cut < token.length; cut++) {
      const left = ids.get(token.slice(0, cut));
      const right = ids.get(token.slice(cut));
      if (left !== undefined && right !== undefined) merges.push({ pair: [token.slice(0, cut), token.slice(cut)], key: [rank, left, right] });
    }
  }
  merges.sort((a, b) => a.key[0] - b.key[0] || a.key[1] - b.key[1] || a.key[2] - b.key[2]);
  return merges.map(({ pair }) => pair);
}

/** From lines of base64 bytes and a rank. */
export function fromTiktoken(ranks: string, pattern: string, normalizer: object | null): object {
  const entries = ranks.split("\n").flatMap((line) => {
    const [token, rank] = line.split(" ");
    return rank === undefined ? [] : [[Array.from(Buffer.from(token, "base64"), (byte) => byteCharacters[byte]).join(""), Number(rank)] as const];
  });
  const vocab = Object.fromEntries(entries);
  const model = { type: "BPE", vocab, merges: mergesOf(vocab, (_, rank) => rank), ignore_merges: true };
  return { normalizer, model, pre_tokenizer: split(pattern), decoder: { type: "ByteLevel" } };
}

/** From GPT-2's encoder.json and vocab.bpe. */
export function fromGpt2(vocab: Record<string, number>, merges: string): object {
  const lines = merges.split("\n").filter((line) => line !== "" && !line.startsWith("#version"));
  return { model: { type: "BPE", vocab, merges: lines }, pre_tokenizer: { ...byteLevel, use_regex: true }, decoder: { type: "ByteLevel" } };
}

/** From llama2.c's tokenizer.bin: the longest length, then (score f32, length i32, bytes) of each piece, with spaces for ▁. */
export function fromLlama2Pieces(bytes: Buffer): object {
  const vocab: Record<string, number> = {};
  const scores: number[] = [];
  for (let place = 4, id = 0; place < bytes.length; id++) {
    const length = bytes.readInt32LE(place + 4);
    const piece = bytes.toString("utf8", place + 8, place + 8 + length);
    vocab[id < 3 ? ["<unk>", "<s>", "</s>"][id] : piece.replaceAll(" ", "▁")] = id;
    // Runs of spaces have the lowest score, whatever their id.
    scores.push(bytes.readFloatLE(place));
    place += 8 + length;
  }
  const special = (id: number, content: string) => ({ id, content, special: true, normalized: false });
  return {
    added_tokens: [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    model: {
      type: "BPE",
      vocab,
      merges: mergesOf(vocab, (token, id) => (/^<.*>$/.test(token) ? null : -scores[id])),
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: true,
    },
    decoder: {
      type: "Sequence",
      decoders: [{ type: "Replace", pattern: { String: "▁" }, content: " " }, { type: "ByteFallback" }, { type: "Fuse" }],
    },
  };
}
