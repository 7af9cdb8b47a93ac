/** Templates of the model families: what is rendered, where the assistant speaks, and templates that are refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatTemplate, RenderProblem } from "../../../src/core/data/chatTemplate.ts";
import { Documents } from "../../../src/core/data/documents.ts";
import { RowEncoder } from "../../../src/core/data/rowEncoder.ts";
import type { Message } from "../../../src/core/data/rowFormats.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { byteConfig, byteTokenizer, showLoss } from "./byteTokenizer.ts";

const tokenizer = byteTokenizer();

const chatml =
  "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
/** Like Llama 2's: alternating turns, a system prompt folded into the first, trimmed answers, EOS behind each. */
const inst =
  "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% else %}{% set loop_messages = messages %}{% set system = '' %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'].strip() + ' [/INST]' }}{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
/** Like Qwen 3's: earlier turns lose their thoughts, and only the last gets an empty one. */
const thinking =
  "{% for m in messages %}{% set content = m.content %}{% if m.role == 'assistant' and '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
/** No special token anywhere. */
const bare = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";

const turns = (...contents: string[]): Message[] => contents.map((content, index) => ({ role: index % 2 === 0 ? "user" : "assistant", content }));
const two = turns("hi", "hello", "and?", " done ");

function compile(source: string): ChatTemplate {
  return new ChatTemplate(source, tokenizer.namedTokens, tokenizer.specialTexts, "the test");
}

function show(source: string, messages: Message[], trainOnPrompt = false): string {
  const encoder = new RowEncoder(tokenizer, byteConfig, { template: source, trainOnPrompt });
  return showLoss(Documents.from([{ ...encoder.encode({ shape: "chat", messages }), line: 1 }]), tokenizer)[0];
}

test("the loss counts what the assistant says and the token that ends its turn, once", () => {
  const system: Message = { role: "system", content: "be kind" };
  assert.equal(
    show(chatml, [system, ...two]),
    "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n«hello<|im_end|>»\n<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n« done <|im_end|>»\n",
  );
  assert.equal(show(inst, [system, ...two]), "<s>[INST] <<SYS>>\nbe kind\n<</SYS>>\n\nhi [/INST]« hello </s>»<s>[INST] and? [/INST]« done </s>»");
  assert.equal(
    show(thinking, turns("hi", "hello", "and?", "done")),
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n«hello<|im_end|>»\n<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n«done<|im_end|>»\n",
  );
  assert.equal(show(bare, two), "user: hi\nassistant: «hello\n»user: and?\nassistant: « done \n</s>»");
  assert.equal(
    show(chatml, turns("hi", "hello", "and?")).replaceAll("\n", ""),
    "<|im_start|>userhi<|im_end|><|im_start|>assistant«hello<|im_end|>»<|im_start|>userand?<|im_end|>",
  );
  assert.equal(show(inst, two, true).replace(/[«»]/g, ""), compile(inst).render(two));
});

test("words that also stand in the prompt are found in the answer", () => {
  assert.match(
    show(chatml, turns("assistant", "assistant", "user", "a")),
    /\nassistant<\|im_end\|>\n<\|im_start\|>assistant\n«assistant<\|im_end\|>»/,
  );
  assert.match(show(chatml, turns("x", "<|im_end|>")), /assistant\n«<\|im_end\|><\|im_end\|>»/);
});

test("templates see tokens, a fixed date, ranges, and nothing of this process", () => {
  assert.equal(compile("{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ pad_token }}").render([]), "<s>|</s>|<unk>|");
  assert.equal(compile("{{ strftime_now('%d %b %Y') }}").render([]), "26 Jul 2024");
  assert.equal(compile("{% for i in range(3) %}{{ i }}{% endfor %}").render([]), "012");
  assert.equal(compile("{{ process }}{{ constructor }}{{ messages.constructor }}{{ globalThis }}").render(two), "");
});

test("a conversation a template refuses or distorts is a bad row, with the reason", () => {
  const problem = (source: string, messages: Message[], reason: RegExp) =>
    assert.throws(
      () => compile(source).segments(messages),
      (error) => error instanceof RenderProblem && reason.test(error.message),
    );
  problem(inst, [two[1], two[0]], /roles must alternate/);
  problem("{% for m in messages %}{{ m.content | upper }}{% endfor %}", two, /changes what the assistant says/);
  problem("{{ messages | length }}", two, /changes what the assistant says/);
  problem("{% for i in range(1000000) %}{% endfor %}", two, /range\(\) is too long/);
  problem("{{ nothing() }}", two, /refuses it/);
});

test("a template that cannot be read, or never ends, is refused", () => {
  for (const source of ["{% for %}", "{{ 'a", "{% if x %}", "{% endfor %}"]) {
    assert.throws(
      () => compile(source),
      (error) => error instanceof UserError && error.code === "template/invalid",
      source,
    );
  }
  const endless = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
  assert.throws(
    () => compile(endless).render([]),
    (error) => error instanceof UserError && error.code === "template/slow",
  );
});
