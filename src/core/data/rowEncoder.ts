/**
 * An example into ids and marks: prompt layouts, chat templates, BOS once, EOS once, loss on responses.
 * It reads no files and cuts nothing to length. The rule to keep: no token spans a prompt and its response, so a prompt's ids are those that
 * inference will give it; a response ends with exactly one trained EOS.
 */

import { UserError } from "../../protocol/userError.ts";
import type { ModelConfig } from "../model/config.ts";
import { ChatTemplate, type Segment } from "./chatTemplate.ts";
import { markOf } from "./documents.ts";
import type { Example, Message } from "./rowFormats.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface EncodedRow {
  ids: number[];
  marks: number[];
}

export interface EncoderOptions {
  /** `auto`, `none`, or the source of a template. */
  template: string;
  /** Count prompts in the loss as well. */
  trainOnPrompt: boolean;
}

const alpacaTask = "Below is an instruction that describes a task";
const alpacaRequest = "Write a response that appropriately completes the request.";

/**
 * The built-in layouts. promptCompletion: the prompt as it is, then the completion. questionAnswer: `Question: …\nAnswer:`, then a space and the
 * answer. alpaca: the prompt of Stanford Alpaca, with or without input. With template `none` the parts of the last two stand on lines of their own.
 */
export function layoutPrompt(example: Example & { shape: "response" }, plain: boolean): { prompt: string; response: string } {
  const { layout, prompt, input, response } = example;
  if (layout === "promptCompletion") return { prompt, response };
  if (plain) return { prompt: input === "" ? `${prompt}\n` : `${prompt}\n${input}\n`, response };
  if (layout === "questionAnswer") return { prompt: `Question: ${prompt}\nAnswer:`, response: ` ${response}` };
  const head =
    input === "" ? `${alpacaTask}. ${alpacaRequest}` : `${alpacaTask}, paired with an input that provides further context. ${alpacaRequest}`;
  const body = input === "" ? "" : `### Input:\n${input}\n\n`;
  return { prompt: `${head}\n\n### Instruction:\n${prompt}\n\n${body}### Response:\n`, response };
}

export class RowEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #options: EncoderOptions;
  readonly #eosId: number | null;
  /** The run file's own template, which then serves every layout. */
  readonly #given: ChatTemplate | null;
  #own: ChatTemplate | null = null;

  /** Throws UserError `template/invalid`. */
  constructor(tokenizer: Tokenizer, config: ModelConfig, options: EncoderOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#eosId = tokenizer.eosTokenId ?? config.eosTokenIds[0] ?? null;
    const given = options.template !== "auto" && options.template !== "none";
    this.#given = given ? this.#compile(options.template, "data.template") : null;
  }

  #compile(source: string, name: string): ChatTemplate {
    return new ChatTemplate(source, this.#tokenizer.namedTokens, this.#tokenizer.specialTexts, name);
  }

  /** Throws RenderProblem for a row its template refuses; UserError `template/missing` or `tokenizer/no-eos` for what no row can have. */
  encode(example: Example): EncodedRow {
    if (example.shape === "text") return this.#encodeText(example.text, true, !example.continues);
    if (example.shape === "chat") return this.#encodeChat(example.messages);
    if (this.#given !== null) return this.#encodeChat(asConversation(example));
    const { prompt, response } = layoutPrompt(example, this.#options.template === "none");
    const segments = [
      { text: prompt, response: false },
      { text: response, response: true },
    ];
    return this.#encodeSegments(segments, this.#tokenizer.prefixIds, true);
  }

  /** A piece of plain text; the first gets the tokenizer's BOS, the last an EOS where the tokenizer has one. All tokens count. */
  encodePiece(text: string, first: boolean, last: boolean): EncodedRow {
    return this.#encodeText(text, first, last);
  }

  #encodeText(text: string, first: boolean, last: boolean): EncodedRow {
    const ids = this.#tokenizer.encode(text);
    const row = this.#begin(first ? this.#tokenizer.prefixIds : [], ids, "text");
    for (const id of ids) push(row, id, markOf("text", true));
    if (last && this.#eosId !== null && row.ids.at(-1) !== this.#eosId) push(row, this.#eosId, markOf("text", true));
    return row;
  }

  #encodeChat(messages: Message[]): EncodedRow {
    const template = this.#given ?? this.#ownTemplate();
    const segments = template.segments(messages);
    // As in transformers' apply_chat_template: BOS stands in the template or nowhere.
    return this.#encodeSegments(segments, [], segments.at(-1)?.response === true || messages.at(-1)?.role === "assistant");
  }

  #ownTemplate(): ChatTemplate {
    if (this.#options.template === "none" || this.#tokenizer.chatTemplate === null) {
      throw new UserError(
        "template/missing",
        this.#options.template === "none"
          ? "Chat data cannot be used with data.template: none."
          : "The data are chats, but the model has no chat template.",
        "Set data.template to a .jinja file or a template.",
      );
    }
    this.#own ??= this.#compile(this.#tokenizer.chatTemplate, "the model");
    return this.#own;
  }

  /** `ends`: the last response is complete and gets an EOS, unless it ends with a special token already. */
  #encodeSegments(segments: readonly Segment[], prefixIds: readonly number[], ends: boolean): EncodedRow {
    const pieces = this.#tokenizer.encodeSegments(segments.map(({ text }) => text));
    const row = this.#begin(prefixIds, pieces.flat(), "prompt");
    const lastResponse = segments.findLastIndex(({ response }) => response);
    for (const [index, ids] of pieces.entries()) {
      const { response } = segments[index];
      const mark = response ? markOf("response", true) : markOf("prompt", this.#options.trainOnPrompt);
      for (const id of ids) push(row, id, mark);
      if (index !== lastResponse || !ends) continue;
      if (this.#endsTurn(ids.at(-1))) continue;
      if (this.#eosId === null) {
        throw new UserError(
          "tokenizer/no-eos",
          "Neither the tokenizer nor config.json names an end-of-sequence token.",
          "Add eos_token to tokenizer_config.json.",
        );
      }
      push(row, this.#eosId, mark);
    }
    return row;
  }

  /** A special token ends a turn; the unknown token, which stands for odd characters, does not. */
  #endsTurn(id: number | undefined): boolean {
    return id !== undefined && (id === this.#eosId || (this.#tokenizer.isSpecial(id) && id !== this.#tokenizer.unkTokenId));
  }

  /** A row with the prefix (usually BOS), unless the text brings it itself. */
  #begin(prefixIds: readonly number[], ids: readonly number[], role: "text" | "prompt"): EncodedRow {
    const row: EncodedRow = { ids: [], marks: [] };
    const brought = prefixIds.length > 0 && prefixIds.every((id, place) => ids[place] === id);
    if (!brought) for (const id of prefixIds) push(row, id, markOf(role, role === "text" || this.#options.trainOnPrompt));
    return row;
  }
}

function push(row: EncodedRow, id: number, mark: number): void {
  row.ids.push(id);
  row.marks.push(mark);
}

function asConversation({ prompt, input, response }: Example & { shape: "response" }): Message[] {
  return [
    { role: "user", content: input === "" ? prompt : `${prompt}\n\n${input}` },
    { role: "assistant", content: response },
  ];
}
