/** A tokenizer of single bytes with a few special tokens: every text has exactly one encoding, so that what is trained on can be read as text. */

import type { Documents } from "../../../src/core/data/documents.ts";
import { byteCharacters } from "../../../src/core/data/tokenizer/bytePairs.ts";
import { applyTokenizerConfig } from "../../../src/core/data/tokenizer/tokenizerConfig.ts";
import { parseTokenizerFile } from "../../../src/core/data/tokenizer/tokenizerFile.ts";
import { Tokenizer } from "../../../src/core/data/tokenizer.ts";
import type { ModelConfig } from "../../../src/core/model/config.ts";

const specials = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<unk>"];

/** Ids 0–255 are bytes, 256 BOS, 257 EOS, then the other special tokens. */
export function byteTokenizer(settings: object = {}): Tokenizer {
  const file = parseTokenizerFile(
    {
      model: { type: "BPE", vocab: Object.fromEntries(byteCharacters.map((character, byte) => [character, byte])), merges: [] },
      added_tokens: specials.map((content, index) => ({ id: 256 + index, content, special: true, normalized: false })),
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
      decoder: { type: "ByteLevel" },
      post_processor: {
        type: "TemplateProcessing",
        single: [{ SpecialToken: { id: "<s>" } }, { Sequence: { id: "A" } }],
        special_tokens: { "<s>": { ids: [256] } },
      },
    },
    "tokenizer.json",
  );
  const named = { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>", ...settings };
  return new Tokenizer(file, applyTokenizerConfig(file, named, null, "", "tokenizer_config.json"), "tokenizer.json");
}

export const byteConfig = { vocabSize: 262, maxPositions: 4096, eosTokenIds: [257] } as unknown as ModelConfig;

/** Every document as text, what counts in the loss between « and ». */
export function showLoss(documents: Documents, tokenizer: Tokenizer): string[] {
  return Array.from({ length: documents.count }, (_, document) => {
    const ids = documents.tokensOf(document);
    const marks = documents.marksOf(document);
    let text = "";
    for (let start = 0; start < ids.length; ) {
      let end = start;
      while (end < ids.length && marks[end] % 2 === marks[start] % 2) end++;
      const part = tokenizer.decode(ids.subarray(start, end));
      text += marks[start] % 2 === 1 ? `«${part}»` : part;
      start = end;
    }
    return text;
  });
}
