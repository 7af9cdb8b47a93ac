/** The vocabularies of Llama 2, Llama 3, Qwen 2 and GPT-2 against ids that llama.cpp and axolotl recorded from transformers. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { RowEncoder } from "../../../src/core/data/rowEncoder.ts";
import { applyTokenizerConfig } from "../../../src/core/data/tokenizer/tokenizerConfig.ts";
import { parseTokenizerFile } from "../../../src/core/data/tokenizer/tokenizerFile.ts";
import { Tokenizer } from "../../../src/core/data/tokenizer.ts";
import type { ModelConfig } from "../../../src/core/model/config.ts";
import { sharedData } from "../../support/sharedData.ts";
import { fromGpt2, fromLlama2Pieces, fromTiktoken, llama3Pattern, qwen2Pattern } from "./vocabularies.ts";

function build(json: object, settings: object = {}): Tokenizer {
  const file = parseTokenizerFile(json, "tokenizer.json");
  return new Tokenizer(file, applyTokenizerConfig(file, settings, null, "", "tokenizer_config.json"), "tokenizer.json");
}

const read = (name: string): Promise<string> => readFile(sharedData(name) as string, "utf8");

test("llama.cpp's 47 awkward texts with four real vocabularies", async (context) => {
  if (sharedData("tok-llama3-meta") === null) return context.skip("not run: no shared data");
  const vectors = JSON.parse(await read("golden-tokenizers/llamacpp.json")) as Record<string, Array<{ text: string; ids: number[] }>>;
  const tokenizers: Array<[string, Tokenizer]> = [
    ["llama-bpe", build(fromTiktoken(await read("tok-llama3-meta/tokenizer.model"), llama3Pattern, null))],
    ["qwen2", build(fromTiktoken(await read("tok-qwen/qwen.tiktoken"), qwen2Pattern, { type: "NFC" }))],
    ["gpt-2", build(fromGpt2(JSON.parse(await read("tok-gpt2/encoder.json")), await read("tok-gpt2/vocab.bpe")))],
    ["llama-spm", build(fromLlama2Pieces(await readFile(sharedData("tok-llama2-meta/tokenizer.bin") as string)))],
  ];
  for (const [name, tokenizer] of tokenizers) {
    assert.equal(vectors[name].length, 47);
    for (const { text, ids } of vectors[name]) assert.deepEqual(tokenizer.encode(text), ids, `${name} ${JSON.stringify(text)}`);
  }
});

const llama2Chat =
  "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

/** The system prompt axolotl puts before a conversation in this format. */
const llama2System =
  "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased and positive in nature.\n\nIf a question does not make any sense, or is not factually coherent, explain why instead of answering something not correct. If you don't know the answer to a question, please don't share false information.";

test("axolotl's conversation with the Llama 2 template: the same ids and labels", async (context) => {
  if (sharedData("data-axolotl-fixtures") === null) return context.skip("not run: no shared data");
  const tokenizer = build(fromLlama2Pieces(await readFile(sharedData("tok-llama2-meta/tokenizer.bin") as string)), {
    bos_token: "<s>",
    eos_token: "</s>",
  });
  const golden = JSON.parse(await read("data-axolotl-fixtures/conversation.tokenized_llama2chat.json")) as { input_ids: number[]; labels: number[] };
  const { conversations } = JSON.parse(await read("data-axolotl-fixtures/conversation.json")) as {
    conversations: Array<{ from: string; value: string }>;
  };
  const config = { vocabSize: 32000, maxPositions: 4096, eosTokenIds: [2] } as unknown as ModelConfig;
  const encoder = new RowEncoder(tokenizer, config, { template: llama2Chat, trainOnPrompt: false });
  const turns = conversations.map(({ from, value }) => ({ role: from === "human" ? ("user" as const) : ("assistant" as const), content: value }));
  const { ids, marks } = encoder.encode({ shape: "chat", messages: [{ role: "system", content: llama2System }, ...turns] });
  // The record goes on with a stray BOS and is filled up to 4096 with id 0.
  assert.equal(ids.length, golden.input_ids.lastIndexOf(2) + 1);
  assert.deepEqual(ids, golden.input_ids.slice(0, ids.length));
  const labels = ids.map((id, place) => (marks[place] % 2 === 1 ? id : -100));
  assert.deepEqual(labels, golden.labels.slice(0, ids.length));
});
